//! A host without a network: dsimg in a network namespace that has nothing but its loopback.

use std::path::Path;
use std::process::Command;

use crate::command::{Outcome, dsimg, run};

/// dsimg with a cache and a state of its own in `place`, where it also runs.
///
/// # Panics
/// This host gives no network namespace: that needs root, or namespaces for users, and iproute2.
pub fn without_network(arguments: &[&str], place: &Path) -> Outcome {
    let can = unshare().args(["ip", "link", "set", "lo", "up"]).status();
    assert!(can.is_ok_and(|can| can.success()), "there is no network namespace to be had: the test can't be made");
    let program = dsimg(arguments);
    let mut command = unshare();
    let script = "ip link set lo up && test -z \"$(ip route show)\" && exec \"$@\"";
    command.args(["sh", "-ec", script, "sh"]).arg(program.get_program()).args(program.get_args());
    command.current_dir(place);
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("DSIMG_CACHE_DIR", place.join("cache")).env("DSIMG_STATE_DIR", place.join("state"));
    run(&mut command)
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if run(Command::new("id").arg("--user")).stdout.trim() != "0" {
        command.args(["--user", "--map-root-user"]);
    }
    command
}
