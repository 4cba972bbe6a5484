use std::collections::BTreeMap;

use dsimg_manifest::lock::write_lock;
use dsimg_manifest::{Lock, LockFile, Manifest};

use crate::disks::{Tree, image};
use crate::place::Place;
use crate::sample;

fn lock_file(runs: &[(&str, Lock)]) -> String {
    let runs: BTreeMap<_, _> = runs.iter().map(|(name, lock)| ((*name).to_owned(), lock.clone())).collect();
    write_lock(&LockFile { runs })
}

fn later() -> Lock {
    let mut lock = sample::lock();
    lock.pypi[0].version = "2.4.0".to_owned();
    lock.deb.push(sample::deb("tmux", "3.5a-3", "tools"));
    lock
}

#[test]
fn locks_and_manifests_are_compared_by_their_packages() {
    let place = Place::new();
    place.write("a.lock", &lock_file(&[("kvm", sample::lock())]));
    place.write("b.lock", &lock_file(&[("kvm", later())]));
    place.write("b.json", &sample::manifest(&later()).to_json());
    let ran = place.dsimg(&["diff", "a.lock", "b.lock"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    insta::assert_snapshot!(ran.out);
    assert!(place.dsimg(&["diff", "a.lock", "b.json"]).out.contains("numpy  2.3.4 → 2.4.0"));
    assert!(place.dsimg(&["diff", "a.lock", "a.lock"]).out.contains("no difference"));
    let json = place.dsimg(&["diff", "a.lock", "b.lock", "--format", "json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["packages"].as_array().unwrap().len(), 2);
    let page = place.dsimg(&["diff", "a.lock", "b.lock", "--format", "html", "-o", "changes.html"]);
    assert_eq!((page.code, page.out.as_str()), (Some(0), ""));
    assert!(place.read("changes.html").starts_with("<!DOCTYPE html>"));
}

#[test]
fn of_a_lock_with_several_builds_one_is_chosen() {
    let place = Place::new();
    let both = lock_file(&[("kvm+small", sample::lock()), ("kvm+large", later())]);
    place.write("team.lock", &both);
    let ran = place.dsimg(&["diff", "team.lock", "team.lock"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("is of several builds"), "{}", ran.err);
    assert!(ran.err.contains("choose one with `--only`: kvm+large, kvm+small"), "{}", ran.err);
    let same = place.dsimg(&["diff", "team.lock", "team.lock", "--only", "kvm+small"]);
    assert!(same.out.contains("no difference"), "{same:?}");
    let other = place.dsimg(&["diff", "team.lock", "team.lock", "--only", "kvm+small", "--only", "kvm+large"]);
    assert!(other.out.contains("tmux:amd64"), "{other:?}");
    let wrong = place.dsimg(&["diff", "team.lock", "team.lock", "--only", "aws"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("has nothing for `aws`"), "{wrong:?}");
    place.write("changed.lock", &both.replace("2.4.0", "2.4.1"));
    let changed = place.dsimg(&["diff", "changed.lock", "team.lock", "--only", "kvm+small"]);
    assert_eq!(changed.code, Some(2));
    assert!(changed.err.contains("its content is not what was written"), "{changed:?}");
}

/// A system with one deb and one distribution.
fn system(place: &Place, folder: &str, numpy: &str, motd: &str) {
    let tree = Tree::new(place, folder);
    tree.file("usr/bin/git", "git");
    tree.file("etc/git.conf", "of git");
    tree.file("etc/motd", motd);
    let packages = "opt/ds/lib/python3.13/site-packages";
    tree.file(&format!("{packages}/numpy/__init__.py"), numpy);
    tree.file(&format!("{packages}/numpy/core_{numpy}.py"), numpy);
    let info = format!("{packages}/numpy-{numpy}.dist-info");
    tree.file(&format!("{info}/METADATA"), &format!("Name: numpy\nVersion: {numpy}\n"));
    tree.file(&format!("{info}/RECORD"), &format!("numpy/__init__.py,,\nnumpy/core_{numpy}.py,,\n"));
    let version = "1:2.47.3-0+deb13u1";
    let conffiles = "Conffiles:\n /etc/git.conf 0123";
    tree.file("var/lib/dpkg/info/git.list", "/.\n/usr\n/usr/bin\n/usr/bin/git\n/etc\n/etc/git.conf\n");
    tree.file("var/lib/dpkg/status", &format!("Package: git\nArchitecture: amd64\nVersion: {version}\n{conffiles}\n"));
}

fn manifest(lock: &Lock) -> Manifest {
    let mut manifest = sample::manifest(lock);
    manifest.build.artifacts[0].file = "disk.raw".to_owned();
    manifest.build.artifacts[0].format = "raw".to_owned();
    manifest
}

fn images(place: &Place) {
    system(place, "old", "2.3.4", "hello");
    image(place, "old", "images/hub-1");
    system(place, "new", "2.4.0", "hi");
    image(place, "new", "images/hub-2");
    place.write("images/hub-1/manifest.json", &manifest(&sample::lock()).to_json());
    let mut upgraded = sample::lock();
    upgraded.pypi[0].version = "2.4.0".to_owned();
    place.write("images/hub-2/manifest.json", &manifest(&upgraded).to_json());
}

#[test]
fn of_images_with_one_upgrade_and_one_changed_file_these_two_are_told() {
    let place = Place::new();
    images(&place);
    let ran = place.dsimg(&["diff", "images/hub-1", "images/hub-2"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    insta::assert_snapshot!("images", ran.out);
    let json = place.dsimg(&["diff", "images/hub-1", "images/hub-2", "--format", "json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["files"][0]["path"], "/etc/motd");
    assert_eq!(json["files"][0]["after"]["size"], 2);
    assert_eq!(json["packages"][0]["files"], 9);
}

#[test]
fn disks_alone_tell_their_packages_and_files() {
    let place = Place::new();
    images(&place);
    let ran = place.dsimg(&["diff", "images/hub-1/disk.raw", "images/hub-2/disk.raw"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    insta::assert_snapshot!("disks", ran.out);
    let beside = place.dsimg(&["diff", "images/hub-1/disk.raw", "images/hub-2/manifest.json"]);
    assert!(beside.out.contains("numpy  2.3.4 → 2.4.0"), "{beside:?}");
    assert!(beside.out.contains("files: that takes the disks of both"), "{beside:?}");
}

#[test]
fn what_can_not_be_read_is_named() {
    let place = Place::new();
    images(&place);
    let wrong = |path: &str| {
        let ran = place.dsimg(&["diff", "images/hub-1", path]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        ran.err
    };
    assert!(wrong("none").contains("there is no `none`\nhint: the images here are `images/hub-1`, `images/hub-2`"));
    assert!(wrong("images").contains("did you mean `images/hub-1`?"));
    let disk = std::fs::read(place.path("images/hub-1/disk.raw")).unwrap();
    std::fs::write(place.path("cut.raw"), &disk[..disk.len() / 2]).unwrap();
    assert!(wrong("cut.raw").contains("cannot read the files in `cut.raw`"));
    std::fs::write(place.path("zeros.raw"), vec![0; 4 << 20]).unwrap();
    assert!(wrong("zeros.raw").contains("hint: give an image of a whole disk"));
}
