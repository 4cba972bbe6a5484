//! The files of an image, read without booting it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::run;

/// Path without a leading slash → kind, mode, and where a link points to or the content's sha256.
pub type Tree = BTreeMap<String, String>;

/// All files of the root file system, the largest partition of a qcow2.
///
/// # Panics
/// It can't be read.
#[must_use]
pub fn read_tree(image: &Path) -> Tree {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let raw = folder.path().join("disk.raw");
    run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(image).arg(&raw)).expect_success();
    read_raw_tree(&raw)
}

/// The same of a raw disk.
///
/// # Panics
/// It can't be read.
#[must_use]
pub fn read_raw_tree(disk: &Path) -> Tree {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let root = folder.path().join("root");
    std::fs::create_dir(&root).expect("the folder is ours");
    let dump = format!("rdump / {}", root.display());
    run(Command::new("debugfs").args(["-R", &dump, &root_of(disk)])).expect_success();
    let found =
        run(Command::new("find").current_dir(&root).args([".", "-mindepth", "1", "-printf", "%P\\t%y %m %l\\n"]));
    let sums = "find . -type f -print0 | xargs -0 sha256sum";
    let sums = run(Command::new("sh").current_dir(&root).args(["-c", sums])).expect_success();
    let mut tree: Tree = lines(&found.expect_success().stdout, '\t').collect();
    for (sum, path) in lines(&sums.stdout, ' ') {
        let path = path.trim_start().trim_start_matches("./");
        tree.get_mut(path).unwrap_or_else(|| panic!("{path} was not found")).push_str(&sum);
    }
    tree
}

fn lines(text: &str, border: char) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(move |line| line.split_once(border)).map(|(a, b)| (a.to_owned(), b.to_owned()))
}

/// `e2fsck` has nothing to say against a raw disk's root file system.
///
/// # Panics
/// It has.
pub fn assert_clean(disk: &Path) {
    run(Command::new("e2fsck").args(["-f", "-n", &root_of(disk)])).expect_success();
}

/// As e2fsprogs open a part of a file.
fn root_of(disk: &Path) -> String {
    format!("{}?offset={}", disk.display(), offset_of_root(disk))
}

/// In bytes.
fn offset_of_root(disk: &Path) -> u64 {
    let table = run(Command::new("sfdisk").arg("-J").arg(disk)).expect_success().stdout;
    let table: Value = serde_json::from_str(&table).expect("sfdisk writes JSON");
    let partitions = table["partitiontable"]["partitions"].as_array().expect("a partition table");
    let largest = partitions.iter().max_by_key(|partition| partition["size"].as_u64()).expect("a partition");
    largest["start"].as_u64().expect("a number") * 512
}

/// Paths that are in one only, or not the same in both.
#[must_use]
pub fn differences(one: &Tree, other: &Tree) -> BTreeSet<String> {
    let paths = one.keys().chain(other.keys());
    paths.filter(|path| one.get(*path) != other.get(*path)).cloned().collect()
}
