//! Ctrl-C and its kin, and death without a word.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::place::{Place, Ran, qemu, template};

/// A QEMU that never says a word; its own process id is left in a file.
const SILENT: &str = "trap '' TERM; echo $$ >started; exec sleep 300";

fn started() -> (Place, Child, Pid) {
    let place = Place::new();
    place.write("t.toml", &template(&place));
    // Relative paths of a program are those of its parent.
    let script = SILENT.replace(">started", &format!(">'{}'", place.path("started").display()));
    place.program("qemu-system-x86_64", &qemu(&script));
    let mut command = place.command(&["build", "t.toml"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let machine = wait_for("the machine is started", || {
        let text = std::fs::read_to_string(place.path("started")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    });
    (place, child, machine)
}

fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited a minute, and not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    // Dead processes that nobody waited for do not count.
    stat.rfind(')').is_some_and(|end| !stat[end + 1..].trim_start().starts_with('Z'))
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn ended(place: &Place, child: Child) -> Ran {
    place.ran(child.wait_with_output().unwrap())
}

#[test]
fn the_first_signal_cleans_up() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (place, child, machine) = started();
        send(&child, signal);
        let ran = ended(&place, child);
        assert_eq!(ran.code, Some(130), "{signal:?}: {ran:?}");
        assert!(ran.err.contains("stopping: "), "{ran:?}");
        assert!(!ran.err.contains("not all was cleaned up"), "{ran:?}");
        assert!(!is_alive(machine), "{signal:?}");
        place.assert_nothing_left();
    }
}

#[test]
fn a_second_signal_is_quicker_than_the_grace() {
    let (place, child, machine) = started();
    send(&child, Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    let second = Instant::now();
    send(&child, Signal::INT);
    let ran = ended(&place, child);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(second.elapsed() < Duration::from_secs(3), "{:?}", second.elapsed());
    assert!(!is_alive(machine));
    place.assert_nothing_left();
}

#[test]
fn a_killed_build_takes_its_machine_along_and_the_next_one_cleans_up() {
    let (place, child, machine) = started();
    let killed = Instant::now();
    send(&child, Signal::KILL);
    ended(&place, child);
    wait_for("the machine is gone", || (!is_alive(machine)).then_some(()));
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert_ne!(place.files("home/.cache/dsimg/work"), [""; 0], "the dead build's files are still there");

    place.program("qemu-system-x86_64", &qemu("exit 1"));
    let ran = place.dsimg(&["build", "t.toml"]);
    assert!(ran.err.contains("left behind"), "{ran:?}");
    place.assert_nothing_left();
}
