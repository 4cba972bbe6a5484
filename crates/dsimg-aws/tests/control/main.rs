//! The builder against the rig, without machines: the whole sequence of calls, with every fault at every call.
//!
//! The SDK reads where AWS is from the environment, which a test must not change for its process: so one test starts the
//! rig and runs the others, which are ignored otherwise, in a process of their own, one after another.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

mod build;
mod capacity;
mod checkpoints;
mod cleaning;
mod faults;
mod happy;
mod rig;

#[test]
fn in_the_rig() {
    let rig = rig::start(&["--no-machines", "--fast"]);
    let own = std::env::current_exe().unwrap();
    let mut tests = std::process::Command::new(own);
    tests.args(["--ignored", "--test-threads=1", "--nocapture"]).envs(rig);
    tests.args(std::env::var("DSIMG_RIG_TESTS").iter());
    assert!(tests.status().unwrap().success());
}
