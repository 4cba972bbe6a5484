use std::collections::BTreeSet;
use std::process::Command;

use dsimg_tree::{Kind, Times, parse_listing, write_listing};

use crate::rig::{Rig, full_tree, run, sha256sum, tree};

fn text(image: &std::path::Path, times: Times) -> String {
    let mut text = Vec::new();
    write_listing(&tree(image).unwrap(), times, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_tree_with_one_of_each_is_listed() {
    let rig = Rig::new();
    let commands = full_tree(&rig);
    let image = rig.image("image", &[], &commands);
    let text = text(&image, Times::Included);
    assert_eq!(text.lines().filter(|line| line.starts_with("/many/")).count(), 900);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("/many/")).collect();
    // What debugfs and mke2fs make at the time of the test.
    let of_today =
        |line: &&str| ["type=fifo", "type=char", "type=block", "/lost+found"].iter().any(|word| line.contains(word));
    let lines = lines.iter().map(|line| {
        if of_today(line) || line.starts_with("/ ") {
            line[..line.rfind("time=").unwrap()].to_owned()
        } else {
            (*line).to_owned()
        }
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn contents_have_the_digest_that_sha256sum_tells() {
    let rig = Rig::new();
    full_tree(&rig);
    let image = rig.image("image", &[], "");
    let listing = text(&image, Times::LeftOut);
    for path in ["etc/hosts", "etc/empty", "usr/bin/ping", "var/sparse", "opt/inline2"] {
        let digest = format!(" sha256={}\n", sha256sum(&rig.path("tree").join(path)));
        let line = listing.split_inclusive('\n').find(|line| line.starts_with(&format!("/{path} "))).unwrap();
        assert!(line.ends_with(&digest), "{line} {digest}");
    }
}

#[test]
fn other_sizes_and_features_give_the_same_tree() {
    let rig = Rig::new();
    full_tree(&rig);
    // The root's time is that of mke2fs, and lost+found's.
    let same = "sif / mtime @1700000000\nsif / mtime_extra 0\nsif lost+found mtime @1700000000\nsif lost+found mtime_extra 0\n";
    let plain = rig.image("plain", &[], same);
    let wanted = text(&plain, Times::Included);
    for (number, options) in [
        &["-b", "1024"][..],
        &["-b", "2048", "-O", "^64bit,^flex_bg"],
        &["-O", "inline_data"],
        &["-O", "^metadata_csum,^resize_inode,meta_bg", "-b", "1024"],
        &["-O", "^has_journal,^extra_isize", "-I", "512"],
        &["-O", "metadata_csum_seed,orphan_file"],
    ]
    .into_iter()
    .enumerate()
    {
        let image = rig.image(&format!("other{number}"), options, same);
        let mut others = only_in_one(&text(&image, Times::Included), &wanted);
        // mke2fs 1.47.0 leaves out the hole at a file's end when it makes inline data.
        others.retain(|line| !(options.contains(&"inline_data") && line.starts_with("/var/sparse ")));
        assert_eq!(others, [""; 0], "{options:?}");
    }
    // With hash trees.
    run(Command::new("sh").args(["-c", "e2fsck -fyD \"$1\" || [ $? -eq 1 ]", "sh"]).arg(&plain));
    let output = run(Command::new("debugfs").args(["-R", "htree_dump many"]).arg(&plain));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Root node"), "{output:?}");
    let has_other_times =
        |line: &String| !line.starts_with("/ ") && !line.starts_with("/lost+found") && !line.starts_with("/many ");
    let after = text(&plain, Times::Included);
    assert_eq!(only_in_one(&after, &wanted).into_iter().filter(has_other_times).collect::<Vec<_>>(), [""; 0]);
}

/// Lines that are not in both.
fn only_in_one(one: &str, other: &str) -> Vec<String> {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (one.lines().collect(), other.lines().collect());
    one.symmetric_difference(&other).map(|line| (*line).to_owned()).collect()
}

#[test]
fn a_listing_comes_back() {
    let rig = Rig::new();
    let commands = full_tree(&rig);
    let image = rig.image("image", &["-O", "inline_data"], &commands);
    for times in [Times::Included, Times::LeftOut] {
        let written = text(&image, times);
        let (back, found) = parse_listing(&written).unwrap();
        assert_eq!(found, times);
        let mut again = Vec::new();
        write_listing(&back, times, &mut again).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), written);
        assert_eq!(back.digest(times), tree(&image).unwrap().digest(times));
    }
}

#[test]
fn a_file_larger_than_its_file_system_does_not_take_for_ever() {
    let rig = Rig::new();
    let path = rig.file("lastlog", "");
    let make = |place: u64, name: &str| {
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(0).unwrap();
        file.set_len(300 << 30).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"login", place).unwrap();
        let image = rig.image(name, &[], "");
        let tree = tree(&image).unwrap();
        tree.get(b"/lastlog").unwrap().kind.clone()
    };
    let (one, other) = (make(200 << 30, "one"), make((200 << 30) + 4096, "other"));
    assert!(matches!(&one, Kind::File { size, content: dsimg_tree::Content::Sparse(_) } if *size == 300 << 30));
    assert_ne!(one, other);
}
