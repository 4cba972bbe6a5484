use serde_json::Value;

use crate::place::{Place, qemu};

#[test]
fn a_host_without_qemu_is_not_ready() {
    let place = Place::new();
    // Not even the programs of this host.
    let output = place.command(&["doctor"]).env("PATH", place.path("bin")).output().unwrap();
    let ran = place.ran(output);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    for expected in ["MISSING  qemu-system-x86_64", "MISSING  qemu-img", "nstall what is not there"] {
        assert!(ran.out.contains(expected), "{expected}: {}", ran.out);
    }
    assert!(ran.err.starts_with("error: this host is not ready: qemu-system-x86_64, qemu-img"), "{ran:?}");
    assert_eq!(place.files("home/.local/state/dsimg/ledger"), [""; 0]);
}

#[test]
fn every_part_is_there_for_programs() {
    let place = Place::new();
    // It answers no more than its version, so that no test machine is started.
    place.program("qemu-system-x86_64", &qemu("echo 'no machine here' >&2; exit 1"));
    place.program("qemu-img", "echo 'qemu-img version 7.2.17 (test)'");
    let ran = place.dsimg(&["doctor", "--format", "json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["format"], 1);
    assert_eq!(report["ready"], ran.code == Some(0));
    let check = |what: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["what"] == what).unwrap().clone()
    };
    assert_eq!(
        (check("qemu-system-x86_64")["state"].as_str(), check("KVM")["state"].as_str()),
        (Some("ok"), Some("note"))
    );
    let image_tool = check("qemu-img");
    assert_eq!(image_tool["state"], "note", "of another version than the emulator: {image_tool}");
    assert!(image_tool["hint"].as_str().unwrap().contains("the same suite"));
    for what in ["mmdebstrap", "Debian's archive keys", "user namespaces", "memory", "room in the cache"] {
        assert_eq!(check(what)["needed"], true, "{what}");
    }
}
