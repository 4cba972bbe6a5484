//! Small disks with known files.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::place::Place;

/// The files that a disk is made of.
pub(crate) struct Tree {
    folder: PathBuf,
}

impl Tree {
    pub(crate) fn new(place: &Place, folder: &str) -> Self {
        Self { folder: place.path(folder) }
    }

    pub(crate) fn file(&self, path: &str, content: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// `disk.raw` in the folder `image`, an ext4 of 16 MiB with the files of the folder `tree`.
pub(crate) fn image(place: &Place, tree: &str, image: &str) {
    fs::create_dir_all(place.path(image)).unwrap();
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
        .arg(place.path(tree))
        .arg(place.path(image).join("disk.raw"))
        .arg("16M")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output();
    assert!(made.unwrap().status.success(), "these tests need mke2fs (Debian: e2fsprogs)");
}
