use std::path::Path;

use serde_json::Value;

use crate::place::{Place, qemu, template};

/// A QEMU that can't start its machine, and says why.
const REFUSING: &str = "echo 'qemu-system-x86_64: no such device: hunter22hunter22' >&2; exit 1";

fn place_with(script: &str) -> Place {
    let place = Place::new();
    place.write("t.toml", &template(&place));
    place.program("qemu-system-x86_64", &qemu(script));
    place
}

#[test]
fn a_machine_that_does_not_start_is_told_with_its_log() {
    let place = place_with(REFUSING);
    let ran = place.dsimg(&["build", "t.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    let (progress, error) = ran.err.split_at(ran.err.find("error: ").unwrap());
    assert!(progress.contains("base") && progress.contains("boot"), "{progress}");
    assert!(error.contains("no such device: hunter22hunter22\n"), "{error}");
    let log = error.lines().find_map(|line| line.strip_prefix("log: [PLACE]/")).unwrap();
    assert!(place.read(log).contains("no such device"), "what is on the screen is in the log");
    place.assert_nothing_left();
}

#[test]
fn a_secret_is_covered_on_the_screen_and_in_the_log() {
    for how in [&["--progress", "plain"][..], &["--json"], &["--progress", "quiet"]] {
        let place = place_with(REFUSING);
        let arguments = [&["build", "t.toml", "--var", "token=hunter22hunter22"][..], how].concat();
        let ran = place.dsimg(&arguments);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("no such device: ***"), "{ran:?}");
        for text in [&ran.out, &ran.err, &place.log()] {
            assert!(!text.contains("hunter22"), "{text}");
        }
    }
}

#[test]
fn events_for_programs_begin_with_the_version_and_end_with_the_result() {
    let place = place_with(REFUSING);
    let ran = place.dsimg(&["build", "t.toml", "--json"]);
    assert_eq!(ran.code, Some(1));
    let events: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (events.first().unwrap(), events.last().unwrap());
    assert_eq!((&first["type"], &first["format"]), (&"version".into(), &1.into()));
    assert_eq!((&last["type"], &last["ok"], &last["exit_code"]), (&"result".into(), &false.into(), &1.into()));
    assert_eq!(last["builder"], "kvm");
    assert!(last["log"].as_str().unwrap().ends_with(".log"));
    assert!(events.iter().all(|event| event["time"].is_string()));
    let phases: Vec<_> = events.iter().filter(|event| event["event"] == "phase-started").map(|e| &e["phase"]).collect();
    assert_eq!(phases, ["base", "boot"]);
}

#[test]
fn programs_are_told_of_a_wrong_template_as_well() {
    let place = place_with(REFUSING);
    place.write("t.toml", "[image]\nname = 1\n");
    let ran = place.dsimg(&["build", "t.toml", "--json"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert_eq!((&lines[1]["type"], &lines[1]["exit_code"]), (&"result".into(), &2.into()));
    assert!(ran.err.contains("t.toml:2:8"), "{ran:?}");
}

#[test]
fn a_host_that_is_not_ready_gives_its_own_code() {
    let place = place_with("");
    place.program("qemu-system-x86_64", "echo 'QEMU emulator version 5.2.0 (test)'");
    let ran = place.dsimg(&["build", "t.toml"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("is version 5.2, and dsimg needs 7.2 or newer"), "{ran:?}");
    let mut command = place.command(&["build", "t.toml"]);
    let ran = place.ran(command.env("PATH", "/nonexistent").output().unwrap());
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("`dsimg doctor`"), "{ran:?}");
    place.assert_nothing_left();
}

#[test]
fn a_base_with_a_wrong_checksum_is_refused() {
    let place = place_with(REFUSING);
    let text = template(&place);
    let digest = &text[text.find("sha256:").unwrap() + 7..][..64];
    place.write("t.toml", &text.replace(digest, &"0".repeat(64)));
    let ran = place.dsimg(&["build", "t.toml"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains(digest), "it says what it found: {ran:?}");
    place.assert_nothing_left();
}

#[test]
fn an_image_that_is_there_is_not_replaced_unasked() {
    let place = place_with(REFUSING);
    place.write("images/ds-1/manifest.json", "{}");
    let ran = place.dsimg(&["build", "t.toml"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("images/ds-1` is there already") && ran.err.contains("`--force`"), "{ran:?}");
    // A failed build leaves the old one as it was.
    let ran = place.dsimg(&["build", "t.toml", "--force"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(place.files("images"), ["ds-1/manifest.json"]);
    // What dsimg did not make is not replaced at all.
    std::fs::remove_file(place.path("images/ds-1/manifest.json")).unwrap();
    place.write("images/ds-1/thesis.tex", "mine");
    let ran = place.dsimg(&["build", "t.toml", "--force"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(place.read("images/ds-1/thesis.tex"), "mine");
}

#[test]
fn each_builder_has_its_own_end() {
    let place = place_with(REFUSING);
    let text = template(&place);
    place.write("t.toml", &text.replacen("[[builder]]", "[[builder]]\nname = \"second\"\ntype = \"qemu\"\naccelerator = \"tcg\"\nmemory = \"256MiB\"\ndisk = \"2GiB\"\n\n[[builder]]", 1));
    let ran = place.dsimg(&["build", "t.toml"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for builder in ["second", "kvm"] {
        assert!(ran.err.contains(&format!("error: builder `{builder}`: ")), "{ran:?}");
    }
    assert_eq!(place.files("home/.local/state/dsimg/logs").len(), 2);
    let only = place.dsimg(&["build", "t.toml", "--only", "second"]);
    assert!(!only.err.contains("`kvm`"), "{only:?}");
    place.assert_nothing_left();
}

#[test]
fn each_combination_of_a_matrix_has_its_own_end() {
    let place = place_with(REFUSING);
    let matrix = "[matrix]\nr = [true, false]\n\n[base]";
    let text = template(&place).replace("[variables]\n", "[variables]\nr = true\n").replace("[base]", matrix);
    place.write("t.toml", &text);
    place.write("images/ds-r-1/manifest.json", "{}");
    let ran = place.dsimg(&["build", "t.toml"]);
    // The one is refused for its folder, the other fails.
    assert!(ran.err.contains("error: builder `kvm` with r=true: `images/ds-r-1` is there already"), "{ran:?}");
    assert!(ran.err.contains("error: builder `kvm` with r=false: "), "{ran:?}");
    assert!(ran.err.contains("error: 2 builds failed"), "{ran:?}");
    let mut logs = place.files("home/.local/state/dsimg/logs");
    logs.sort_by_key(|log| log.len());
    assert!(logs[0].ends_with("-kvm+r.log") && logs[1].ends_with("-kvm+no-r.log"), "{logs:?}");
    let one = place.dsimg(&["build", "t.toml", "--var", "r=true"]);
    assert_eq!(one.code, Some(2), "{one:?}");
    assert!(one.err.contains("error: `images/ds-r-1` is there already"), "{one:?}");
    std::fs::remove_dir_all(place.path("images/ds-r-1")).unwrap();
    place.assert_nothing_left();
}

#[test]
fn what_a_dead_build_left_is_removed_by_the_next() {
    let place = place_with(REFUSING);
    let left = place.path("home/.cache/dsimg/work/dead");
    place.write("home/.cache/dsimg/work/dead/.made-by-dsimg", "");
    place.write("home/.cache/dsimg/work/dead/disk.qcow2", "");
    let line = serde_json::json!({"made": {"kind": "folder", "path": left}});
    place.write("home/.local/state/dsimg/ledger/dead.jsonl", &format!("{line}\n"));
    let ran = place.dsimg(&["build", "t.toml"]);
    assert!(ran.err.contains("left behind: [PLACE]/home/.cache/dsimg/work/dead"), "{ran:?}");
    assert!(!left.exists());
    place.assert_nothing_left();
}

#[test]
fn folders_are_where_the_environment_says() {
    let place = place_with(REFUSING);
    let mut command = place.command(&["build", "t.toml"]);
    command.env("DSIMG_CACHE_DIR", place.path("c")).env("XDG_STATE_HOME", place.path("s")).env_remove("HOME");
    let ran = place.ran(command.output().unwrap());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(place.files("c").iter().any(|file| Path::new(file).starts_with("bases")));
    assert_eq!(place.files("s/dsimg/logs").len(), 1);
    let ran = place.ran(place.command(&["build", "t.toml"]).env("HOME", "").output().unwrap());
    // The system's own record of the user may name a home all the same.
    assert!(ran.code == Some(3) || ran.code == Some(1), "{ran:?}");
}
