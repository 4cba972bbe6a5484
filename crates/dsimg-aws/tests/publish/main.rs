//! Publishing against the EC2 rig of tests/ec2, without machines.
//!
//! `cargo test -p dsimg-aws --test publish -- WORD` runs the tests with the word in their names. The first process
//! starts the rig and itself again with the rig's environment: SDKs read it, and Rust has no safe way to change one's own.

#![allow(clippy::unwrap_used, reason = "a program of tests, though none that `cargo test` knows as such")]

mod delta;
mod distribute;
mod faults;
mod plain;
mod resume;
mod rig;
mod world;

use std::panic::AssertUnwindSafe;
use std::process::{Command, ExitCode};

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

/// Names one of the tests' processes.
const ROLE: &str = "DSIMG_PUBLISH_TEST";

type Test = (&'static str, fn() -> LocalBoxFuture<'static, ()>);

macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), || $module::$name().boxed_local())),*]
    };
}

const TESTS: &[Test] = tests![
    plain::a_disk_becomes_an_ami,
    plain::an_encrypted_disk_is_whole,
    plain::published_twice_it_is_made_once,
    plain::a_taken_name_is_told_before_anything_is_made,
    plain::a_publish_that_is_cancelled_keeps_its_upload,
    plain::settings_that_can_not_be_had_are_refused,
    resume::a_killed_upload_goes_on,
    resume::an_upload_that_aws_gave_up_begins_anew,
    resume::a_lost_upload_begins_anew,
    resume::an_overtaken_upload_is_handed_to_the_ledger,
    delta::a_second_release_sends_what_differs,
    delta::a_release_without_a_change_sends_nothing,
    delta::a_hole_over_old_data_becomes_zeros,
    delta::another_encryption_has_no_parent,
    delta::forgets_releases_that_are_gone,
    distribute::copies_are_shared_tagged_and_named,
    distribute::a_copy_that_fails_leaves_the_others_and_is_made_again,
    distribute::an_older_ami_is_replaced,
    distribute::a_replacement_that_dies_is_finished_later,
    distribute::an_ami_that_fails_is_told_with_its_reason,
    distribute::a_protected_ami_is_not_replaced,
    faults::half_of_all_calls_are_throttled,
    faults::each_fault_at_each_call,
    faults::killed_after_each_call,
    faults::a_replacement_that_is_killed_at_each_call,
];

fn main() -> ExitCode {
    match std::env::var(ROLE).as_deref() {
        Err(_) => start_again_in_a_rig(),
        Ok("publish") => runtime().block_on(world::publish_as_told()),
        Ok(_) => run_tests(),
    }
}

fn start_again_in_a_rig() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    // What tools ask of test programs.
    if arguments.iter().any(|argument| argument == "--list" || argument == "--ignored") {
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("this program");
    let status = Command::new(program)
        .args(arguments)
        .envs(rig::start())
        .env(ROLE, "run")
        .status()
        .expect("the same program starts again");
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

fn run_tests() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = Vec::new();
    for (name, test) in TESTS.iter().filter(|(name, _)| words.iter().all(|word| name.contains(word.as_str()))) {
        let began = std::time::Instant::now();
        rig::post("reset", &serde_json::json!({}));
        let passed = runtime().block_on(AssertUnwindSafe(test()).catch_unwind()).is_ok();
        println!("test {name} ... {} ({:.1} s)", if passed { "ok" } else { "FAILED" }, began.elapsed().as_secs_f32());
        if !passed {
            failed.push(name);
        }
    }
    println!("\n{} failed {failed:?}", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
