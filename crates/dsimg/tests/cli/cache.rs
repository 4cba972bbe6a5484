//! `dsimg cache` on a small store.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Stdio;
use std::time::Duration;

use dsimg_checkpoint::{Base, Checkpoint, FileFacts, Kind, Memory, Store};
use dsimg_plan::Digest;

use crate::place::{Place, Ran};

const CACHE: &str = "home/.cache/dsimg";

fn store(place: &Place) -> Store {
    Store::new(&place.path(CACHE))
}

/// With a disk of 200 KB, and a memory of 1 MB. The checkpoint is made and used at this second.
fn publish(place: &Place, id: &str, parent: Option<&str>, kind: Kind, second: i64) -> Checkpoint {
    publish_with(place, id, parent, kind, second, &[9; 1_000_000])
}

fn publish_with(place: &Place, id: &str, parent: Option<&str>, kind: Kind, second: i64, memory: &[u8]) -> Checkpoint {
    let store = store(place);
    let work = place.path(&format!("{CACHE}/work"));
    fs::create_dir_all(&work).unwrap();
    let draft = store.draft(&work).unwrap();
    fs::write(draft.path().join("disk.qcow2"), vec![7; 200_000]).unwrap();
    fs::write(draft.path().join("memory"), memory).unwrap();
    fs::write(draft.path().join("access.json"), "{}").unwrap();
    let file = FileFacts { size: 0, allocated: 0, sha256: Digest::of_bytes(b"") };
    let made = jiff::Timestamp::from_second(second).unwrap();
    let checkpoint = Checkpoint {
        format: 1,
        id: id.to_owned(),
        parent: parent.map(str::to_owned),
        base: Base { path: "bases/b/base.qcow2".to_owned(), sha256: Digest::of_bytes(b"base") },
        depth: 1,
        key: Digest::of_bytes(id.as_bytes()),
        locked_key: None,
        kind,
        label: id.rsplit('-').next().unwrap().to_owned(),
        image: "ds".to_owned(),
        inputs: serde_json::json!({}),
        disk: file.clone(),
        memory: Some(Memory { key: Digest::of_bytes(b"fit"), facts: BTreeMap::new(), file: file.clone() }),
        access: file,
        made,
        notes: serde_json::Value::Null,
    };
    let published = store.publish(draft, checkpoint).unwrap();
    let used = fs::File::options().write(true).open(store.folder_of(id).join("used")).unwrap();
    used.set_modified(made.into()).unwrap();
    published
}

/// boot ◄ apt ◄ pip, and boot ◄ r, which was used last.
fn filled() -> Place {
    let place = Place::new();
    let now = jiff::Timestamp::now().as_second();
    publish(&place, "b1-boot", None, Kind::Boot, now - 400);
    publish(&place, "b1-apt", Some("b1-boot"), Kind::Stage, now - 300);
    publish(&place, "b1-pip", Some("b1-apt"), Kind::Stage, now - 200);
    publish(&place, "b2-r", Some("b1-boot"), Kind::Failed, now - 100);
    place
}

fn ids(place: &Place) -> Vec<String> {
    store(place).list().unwrap().checkpoints.iter().map(|checkpoint| checkpoint.id.clone()).collect()
}

fn good(place: &Place, arguments: &[&str]) -> Ran {
    let ran = place.dsimg(arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

/// One byte of a file that is sealed.
fn flip(place: &Place, path: &str) {
    let path = place.path(&format!("{CACHE}/{path}"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x55], 100).unwrap();
}

#[test]
fn an_empty_cache_is_told_so() {
    let place = Place::new();
    assert_eq!(good(&place, &["cache", "ls"]).out, "no checkpoints in [PLACE]/home/.cache/dsimg/checkpoints\n");
    assert_eq!(good(&place, &["cache", "prune"]).out, "nothing to remove\n");
    assert_eq!(good(&place, &["cache", "prune", "--all"]).out, "nothing to remove\n");
    assert_eq!(good(&place, &["cache", "verify"]).out, "nothing to verify in [PLACE]/home/.cache/dsimg\n");
    assert!(good(&place, &["cache", "du"]).out.contains("total         0 bytes\nbudget       30.0 GiB"));
    let json: serde_json::Value =
        serde_json::from_str(&good(&place, &["cache", "ls", "--format", "json"]).out).unwrap();
    assert_eq!(json, serde_json::json!({ "format": 1, "checkpoints": [], "damaged": [], "newer": [] }));
    let ran = place.dsimg(&["cache", "rm", "x"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("error: there is no checkpoint `x`"), "{ran:?}");
    // To look changes nothing.
    assert!(!place.path(CACHE).exists());
}

#[test]
fn the_list_is_a_tree() {
    let place = filled();
    fs::create_dir(store(&place).folder_of("torn")).unwrap();
    let now = jiff::Timestamp::now().as_second();
    publish(&place, "b3-lost", Some("gone"), Kind::Stage, now);
    let shown = good(&place, &["cache", "ls"]).out;
    let starts: Vec<_> = shown.lines().map(|line| line.split("  ds").next().unwrap().trim_end()).collect();
    assert_eq!(starts[1], "b1-boot     boot");
    assert_eq!(starts[2], "  b1-apt    apt");
    assert_eq!(starts[3], "    b1-pip  pip");
    assert_eq!(starts[4], "  b2-r      r, failed");
    assert!(shown.contains("what they stand on is gone"), "{shown}");
    assert!(shown.contains("torn  its checkpoint.json is missing"), "{shown}");
    assert!(shown.ends_with("\n5 checkpoints, 5.7 MiB\n"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&good(&place, &["cache", "ls", "--format", "json"]).out).unwrap();
    assert_eq!(json["checkpoints"][1]["parent"], "b1-boot");
    assert_eq!(json["checkpoints"][3]["kind"], "failed");
    assert_eq!(json["checkpoints"][4]["usable"], false);
    assert_eq!(json["damaged"][0]["id"], "torn");
}

#[test]
fn the_room_is_told_by_its_parts() {
    let place = filled();
    place.write(&format!("{CACHE}/downloads/a"), &"x".repeat(50_000));
    place.write(&format!("{CACHE}/bases/k/base.qcow2"), &"x".repeat(90_000));
    let shown = good(&place, &["cache", "du"]).out;
    let json: serde_json::Value =
        serde_json::from_str(&good(&place, &["cache", "du", "--format", "json"]).out).unwrap();
    let part = |name: &str| json[name].as_u64().unwrap();
    assert!((4_000_000..4_200_000).contains(&part("memories")), "{json}");
    assert!((800_000..1_000_000).contains(&part("disks")), "{json}");
    assert!(part("bases") >= 90_000 && part("downloads") >= 50_000, "{json}");
    let parts =
        ["disks", "memories", "set_aside", "bases", "packages", "downloads", "tools", "bundles", "work", "other"];
    assert_eq!(parts.iter().map(|name| part(name)).sum::<u64>(), part("total"));
    assert_eq!((part("budget"), part("packages_budget")), (30 << 30, 20 << 30));
    assert!(shown.contains("memories      3.8 MiB  of checkpoints"), "{shown}");
    let wrong = place.command(&["cache", "du"]).env("DSIMG_CACHE_BUDGET", "lots").output().unwrap();
    assert_eq!(place.ran(wrong).code, Some(2));
}

#[test]
fn pruning_drops_memories_before_disks_and_stops_at_the_budget() {
    let place = filled();
    assert_eq!(good(&place, &["cache", "prune"]).out, "nothing to remove\n");
    let told = good(&place, &["cache", "prune", "--budget", "3MiB", "--dry-run"]).out;
    assert!(told.starts_with("would remove the memory of checkpoint b1-boot (boot of ds), "), "{told}");
    let all = store(&place).list().unwrap();
    assert!(all.checkpoints.iter().all(|checkpoint| checkpoint.memory.is_some()));
    let done = good(&place, &["cache", "prune", "--budget", "3MiB"]).out;
    assert_eq!(done, told.replace("would remove", "removed").replace("would free", "freed"));
    let left = store(&place).list().unwrap();
    let sum: u64 = left.checkpoints.iter().map(Checkpoint::allocated).sum();
    assert!(left.checkpoints.len() == 4 && sum <= 3 << 20, "{sum}");
    good(&place, &["cache", "prune", "--budget", "500kB"]);
    assert_eq!(ids(&place), ["b1-boot", "b2-r"]);
    good(&place, &["cache", "prune", "--older-than", "50s"]);
    assert_eq!(ids(&place), [""; 0]);
}

#[test]
fn packages_have_a_budget_of_their_own() {
    let place = filled();
    let packages = dsimg_store::Store::open(&place.path(CACHE)).unwrap();
    let put = |text: &str, age: u64| {
        let digest = packages.put_bytes(text.repeat(20_000).as_bytes()).unwrap().digest;
        let file = fs::File::options().append(true).open(packages.find(&digest).unwrap()).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        digest
    };
    let (old, new) = (put("old", 8 * 86400), put("new", 60));
    fs::create_dir_all(place.path(&format!("{CACHE}/bundles/left"))).unwrap();
    assert!(good(&place, &["cache", "du"]).out.contains("budget       20.0 GiB  for packages"));
    assert_eq!(good(&place, &["cache", "prune"]).out, "nothing to remove\n");
    assert!(!place.path(&format!("{CACHE}/bundles/left")).exists());
    let told = good(&place, &["cache", "prune", "--packages", "100kB", "--dry-run"]).out;
    assert_eq!(told, "would remove 1 file of the package store, 60.0 KiB\nwould free 60.0 KiB\n");
    let done = good(&place, &["cache", "prune", "--packages", "100kB"]).out;
    assert_eq!(done, told.replace("would remove", "removed").replace("would free", "freed"));
    assert!(packages.find(&old).is_none() && packages.find(&new).is_some());
    let old = put("old", 8 * 86400);
    good(&place, &["cache", "prune", "--older-than", "1w"]);
    assert!(packages.find(&old).is_none() && packages.find(&new).is_some());
    let wrong = place.command(&["cache", "prune"]).env("DSIMG_PACKAGES_BUDGET", "lots").output().unwrap();
    assert!(place.ran(wrong).err.contains("`DSIMG_PACKAGES_BUDGET`: "));
}

#[test]
fn what_is_in_use_stays_with_what_it_stands_on() {
    let place = filled();
    let listing = store(&place).list().unwrap();
    let held = store(&place).hold(&listing.chain("b1-apt").unwrap()).unwrap();
    let ran = good(&place, &["cache", "prune", "--all"]);
    assert_eq!(ids(&place), ["b1-boot", "b1-apt"]);
    assert_eq!(ran.err, "checkpoint b1-apt stays: it is in use by a build or a shell\n");
    let ran = place.dsimg(&["cache", "rm", "b1-boot"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("checkpoint b1-apt is in use"), "{ran:?}");
    assert_eq!(ids(&place), ["b1-boot", "b1-apt"]);
    drop(held);
    good(&place, &["cache", "prune", "--all"]);
    assert_eq!(ids(&place), [""; 0]);
}

#[test]
fn a_checkpoint_goes_with_all_that_stand_on_it() {
    let place = filled();
    let wrong = |given: &str| {
        let ran = place.dsimg(&["cache", "rm", given]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        ran.err
    };
    assert!(wrong("b1-bot").contains("did you mean `b1-boot`?"));
    assert!(wrong("b1").contains("give more of one of them: b1-boot, b1-apt, b1-pip"));
    assert!(wrong("").contains("there is no checkpoint ``"));
    // All are looked up before one is removed.
    assert_eq!(place.dsimg(&["cache", "rm", "b2-r", "nothing"]).code, Some(2));
    assert_eq!(ids(&place).len(), 4);
    let out = good(&place, &["cache", "rm", "apt", "b1-pip"]).out;
    let lines: Vec<_> = out.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(lines[..2], ["removed checkpoint b1-pip (pip of ds)", "removed checkpoint b1-apt (apt of ds)"]);
    assert!(lines[2].starts_with("freed 2.3 MiB"), "{out}");
    assert_eq!(ids(&place), ["b1-boot", "b2-r"]);
}

#[test]
fn a_flipped_byte_is_found_once() {
    let place = filled();
    place.write(&format!("{CACHE}/bases/k/base.qcow2"), &"x".repeat(5000));
    let sha256 = Digest::of_bytes("x".repeat(5000).as_bytes());
    place.write(&format!("{CACHE}/bases/k/base.json"), "{}");
    let sums = format!("{}  base.json\n{sha256}  base.qcow2\n", Digest::of_bytes(b"{}"));
    place.write(&format!("{CACHE}/bases/k/SHA256SUMS"), &sums);
    let ran = good(&place, &["cache", "verify"]);
    assert_eq!(ran.out, "as they were written: 4 checkpoints and 1 base\n");
    assert!(ran.err.contains("verifying checkpoint b1-apt (apt of ds), 1.1 MiB\n"), "{ran:?}");

    flip(&place, "checkpoints/b1-apt/disk.qcow2");
    flip(&place, "checkpoints/b2-r/memory");
    flip(&place, "bases/k/base.qcow2");
    let ran = place.dsimg(&["cache", "verify"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("damaged: disk.qcow2 of checkpoint b1-apt is damaged"), "{ran:?}");
    assert!(ran.out.contains("it or the one that stands on it makes them anew"), "{ran:?}");
    assert!(ran.out.contains("memory of checkpoint b2-r is damaged"), "{ran:?}");
    assert!(ran.out.contains("of base k; it is set aside, and the next build makes it anew"), "{ran:?}");
    assert!(ran.err.contains("error: damage was found: 3 in 4 checkpoints and 1 base\n"), "{ran:?}");
    // The disk of the one whose memory alone was damaged is there still.
    assert_eq!(ids(&place), ["b1-boot", "b1-pip", "b2-r"]);

    assert_eq!(good(&place, &["cache", "verify"]).out, "as they were written: 3 checkpoints and 0 bases\n");
    let out = good(&place, &["cache", "prune"]).out;
    assert!(out.contains("checkpoint b1-pip (pip of ds)") && out.contains(".damaged-b1-apt, "), "{out}");
    assert!(out.contains("bases/.damaged-k, "), "{out}");
    assert_eq!(ids(&place), ["b1-boot", "b2-r"]);
}

#[test]
fn a_record_that_is_damaged_is_set_aside_or_removed() {
    for command in ["verify", "prune"] {
        let place = filled();
        // What lies there by mistake is left alone.
        place.write(&format!("{CACHE}/checkpoints/notes.txt"), "mine");
        flip(&place, "checkpoints/b1-pip/checkpoint.json");
        let ran = place.dsimg(&["cache", command]);
        assert!(ran.out.contains("b1-pip"), "{ran:?}");
        assert_eq!(ids(&place), ["b1-boot", "b1-apt", "b2-r"]);
        assert!(!store(&place).folder_of("b1-pip").exists());
        assert_eq!(place.read(&format!("{CACHE}/checkpoints/notes.txt")), "mine");
        assert_eq!(good(&place, &["cache", "verify"]).out, "as they were written: 3 checkpoints and 0 bases\n");
    }
}

/// As if it was used for the last time so many hours ago.
fn age(place: &Place, id: &str, hours: u64) {
    let used = fs::File::options().write(true).open(store(place).folder_of(id).join("used")).unwrap();
    used.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600)).unwrap();
}

#[test]
fn memories_that_nobody_used_for_a_day_are_compressed() {
    let place = filled();
    age(&place, "b1-apt", 25);
    age(&place, "b1-pip", 23);
    let told = good(&place, &["cache", "prune", "--dry-run"]).out;
    assert!(told.starts_with("would compress the memory of checkpoint b1-apt (apt of ds), 980.0 KiB now,"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    let before = store(&place).list().unwrap();
    let ran = good(&place, &["cache", "prune"]);
    assert!(ran.err.contains("compressing the memory of checkpoint b1-apt (apt of ds)\n"), "{ran:?}");
    assert!(ran.out.starts_with("compressed the memory of checkpoint b1-apt (apt of ds), "), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    let after = store(&place).list().unwrap();
    let memory_of = |listing: &dsimg_checkpoint::Listing| listing.get("b1-apt").unwrap().memory.clone().unwrap().file;
    assert!(memory_of(&after).allocated < 20_000 && memory_of(&before).allocated >= 1_000_000);
    // It is shown with what it takes, and read back like any other.
    let json: serde_json::Value =
        serde_json::from_str(&good(&place, &["cache", "ls", "--format", "json"]).out).unwrap();
    assert_eq!(json["checkpoints"][1]["memory"], memory_of(&after).allocated);
    let compressed: Vec<_> = (0..4).map(|index| json["checkpoints"][index]["memory_compressed"] == true).collect();
    assert_eq!(compressed, [false, true, false, false]);
    let du: serde_json::Value = serde_json::from_str(&good(&place, &["cache", "du", "--format", "json"]).out).unwrap();
    assert!((3_000_000..3_200_000).contains(&du["memories"].as_u64().unwrap()), "{du}");
    assert_eq!(good(&place, &["cache", "verify"]).out, "as they were written: 4 checkpoints and 0 bases\n");
    assert_eq!(good(&place, &["cache", "prune"]).out, "nothing to remove\n");

    flip(&place, "checkpoints/b1-apt/memory.zst");
    let ran = place.dsimg(&["cache", "verify"]);
    assert!(ran.out.contains("damaged: memory.zst of checkpoint b1-apt "), "{ran:?}");
    assert!(ran.out.contains("the memory is removed, and the machine will boot from its disk"), "{ran:?}");
    assert_eq!(ids(&place).len(), 4);
    assert_eq!(good(&place, &["cache", "verify"]).out, "as they were written: 4 checkpoints and 0 bases\n");
}

#[test]
fn what_goes_anyway_is_not_compressed() {
    let place = filled();
    age(&place, "b1-pip", 100);
    let ran = good(&place, &["cache", "prune", "--older-than", "99h"]);
    assert!(ran.out.starts_with("removed checkpoint b1-pip (pip of ds)") && ran.err.is_empty(), "{ran:?}");
    assert_eq!(good(&place, &["cache", "prune", "--all"]).err, "");
}

#[test]
fn whenever_compressing_is_killed_the_memory_is_whole() {
    let place = Place::new();
    let second = jiff::Timestamp::now().as_second();
    for round in 0..10 {
        // Some seconds of work for a build that is not optimised.
        let words: Vec<u8> =
            (0..2_500_000_u32).flat_map(|word| (word.wrapping_mul(2_654_435_761) >> 12).to_le_bytes()).collect();
        publish_with(&place, "b1-boot", None, Kind::Boot, second, &words);
        age(&place, "b1-boot", 48);
        let mut prune = place.command(&["cache", "prune"]);
        let mut child = prune.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20 + round * 25));
        // To a process that has ended it does nothing.
        child.kill().unwrap();
        child.wait().unwrap();
        let listing = store(&place).list().unwrap();
        assert_eq!((listing.checkpoints.len(), listing.damaged.len()), (1, 0), "{round}");
        store(&place).verify(&listing.checkpoints[0]).unwrap();
        good(&place, &["cache", "prune"]);
        let listing = store(&place).list().unwrap();
        store(&place).verify(&listing.checkpoints[0]).unwrap();
        assert!(store(&place).is_compressed("b1-boot") && store(&place).leftovers().is_empty(), "{round}");
        good(&place, &["cache", "rm", "b1-boot"]);
    }
}

#[test]
fn what_a_crash_left_is_counted_and_removed() {
    let place = filled();
    place.write(&format!("{CACHE}/checkpoints/b1-apt/.memory.zst.new"), &"x".repeat(500_000));
    place.write(&format!("{CACHE}/checkpoints/b1-pip/memory.zst"), &"x".repeat(600_000));
    place.write(&format!("{CACHE}/checkpoints/.trash-b2-r/memory"), "x");
    let du: serde_json::Value = serde_json::from_str(&good(&place, &["cache", "du", "--format", "json"]).out).unwrap();
    assert!(du["memories"].as_u64().unwrap() > 5_000_000, "{du}");
    let told = good(&place, &["cache", "prune", "--dry-run"]).out;
    let done = good(&place, &["cache", "prune"]).out;
    assert_eq!(done, told.replace("would remove", "removed").replace("would free", "freed"));
    for name in ["b1-apt/.memory.zst.new, ", "b1-pip/memory.zst, ", ".trash-b2-r, "] {
        assert!(done.contains(name), "{done}");
    }
    assert_eq!(good(&place, &["cache", "prune"]).out, "nothing to remove\n");
    assert_eq!(good(&place, &["cache", "verify"]).out, "as they were written: 4 checkpoints and 0 bases\n");
}

#[test]
fn missing_files_are_seen_by_the_list() {
    let place = filled();
    fs::remove_file(place.path(&format!("{CACHE}/checkpoints/b1-pip/disk.qcow2"))).unwrap();
    fs::remove_file(place.path(&format!("{CACHE}/checkpoints/b2-r/memory"))).unwrap();
    let shown = good(&place, &["cache", "ls"]).out;
    assert!(shown.contains("  b1-pip  its disk.qcow2 is missing\n"), "{shown}");
    assert!(shown.contains("  b2-r  its memory is missing\n"), "{shown}");
    // The disk of that one is good.
    assert_eq!(ids(&place), ["b1-boot", "b1-apt", "b2-r"]);
    let told = good(&place, &["cache", "prune", "--dry-run"]).out;
    assert!(told.contains("would remove checkpoint b1-pip (damaged), "), "{told}");
    assert!(told.contains("would remove the memory of checkpoint b2-r (damaged), 0 bytes\n"), "{told}");
    let done = good(&place, &["cache", "prune"]).out;
    assert_eq!(done, told.replace("would remove", "removed").replace("would free", "freed"));
    assert_eq!(ids(&place), ["b1-boot", "b1-apt", "b2-r"]);
    assert_eq!(good(&place, &["cache", "verify"]).out, "as they were written: 3 checkpoints and 0 bases\n");
    fs::remove_file(place.path(&format!("{CACHE}/checkpoints/b1-boot/memory"))).unwrap();
    let ran = place.dsimg(&["cache", "verify"]);
    assert!(ran.out.contains("memory of checkpoint b1-boot can't be read"), "{ran:?}");
    assert!(ran.err.contains("damage was found: 1 in 3 checkpoints"), "{ran:?}");
    fs::remove_file(place.path(&format!("{CACHE}/checkpoints/b1-apt/access.json"))).unwrap();
    let ran = place.dsimg(&["cache", "verify"]);
    assert!(ran.out.contains("damaged: access.json of checkpoint b1-apt is missing; it is set aside"), "{ran:?}");
}

/// Its record as a later format may be.
fn make_newer(place: &Place, id: &str, parent: &str) {
    let checkpoint = serde_json::json!({ "format": 99, "parent": parent, "other": [1, 2] }).to_string();
    let sha256 = Digest::of_bytes(checkpoint.as_bytes());
    let record = format!("{CACHE}/checkpoints/{id}/checkpoint.json");
    place.write(&record, &format!("{{\"sha256\": \"{sha256}\", \"checkpoint\": {checkpoint}}}"));
}

#[test]
fn what_a_newer_dsimg_made_is_left_alone() {
    let place = filled();
    make_newer(&place, "b1-pip", "b1-apt");
    let there = || store(&place).list().unwrap().newer.len();
    let shown = good(&place, &["cache", "ls"]).out;
    assert!(shown.contains("made by a newer dsimg (`dsimg cache prune` leaves them alone):\n  b1-pip\n"), "{shown}");
    assert!(!shown.contains("damaged"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&good(&place, &["cache", "ls", "--format", "json"]).out).unwrap();
    assert_eq!(json["newer"], serde_json::json!([{ "id": "b1-pip", "format": 99 }]));
    let ran = good(&place, &["cache", "verify"]);
    assert_eq!(ran.out, "as they were written: 3 checkpoints and 0 bases\n");
    assert!(ran.err.contains("checkpoint b1-pip was made by a newer dsimg (format 99): not read\n"), "{ran:?}");
    // Nor goes what it stands on.
    good(&place, &["cache", "prune", "--budget", "1kB", "--older-than", "1s"]);
    assert_eq!((ids(&place), there()), (vec!["b1-boot".to_owned(), "b1-apt".to_owned()], 1));

    let told = good(&place, &["cache", "prune", "--all", "--dry-run"]).out;
    assert!(told.contains("would remove checkpoint b1-pip (made by a newer dsimg), 1.2 MiB\n"), "{told}");
    let done = good(&place, &["cache", "prune", "--all"]).out;
    assert_eq!(done, told.replace("would remove", "removed").replace("would free", "freed"));
    assert_eq!((ids(&place).len(), there()), (0, 0));

    let place = filled();
    make_newer(&place, "b1-pip", "b1-apt");
    let out = good(&place, &["cache", "rm", "b1-apt"]).out;
    assert!(out.starts_with("removed checkpoint b1-pip (made by a newer dsimg), 1.2 MiB\n"), "{out}");
    assert_eq!(
        (ids(&place), store(&place).list().unwrap().newer.len()),
        (vec!["b1-boot".to_owned(), "b2-r".to_owned()], 0)
    );
}

#[test]
fn every_option_is_in_the_docs() {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md")).unwrap();
    let (_, rest) = docs.split_once("\n## cache\n").unwrap();
    let own = rest.split("\n## ").next().unwrap();
    let place = Place::new();
    for command in ["ls", "du", "prune", "verify", "rm"] {
        assert!(own.contains(&format!("`dsimg cache {command}")), "{command}");
        let help = good(&place, &["cache", command, "-h"]).out;
        let options = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
        for option in options.filter(|option| !option.starts_with("--help")) {
            assert!(own.contains(option), "`{option}` of `cache {command}`");
        }
    }
}
