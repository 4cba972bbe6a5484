use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dsimg_tree::{Fault, SealSettings, Times, seal};

use crate::rig::{EPOCH, Rig, check_clean, digest, full_tree, run, sha256sum, tree};

const SETTINGS: SealSettings = SealSettings { epoch: EPOCH, hash_seed: [9; 16] };
const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn sealed(rig: &Rig, image: &Path, name: &str) -> PathBuf {
    let target = rig.path(name);
    let sealed = seal(image, &target, &SETTINGS).unwrap();
    let wanted = tree(image).unwrap().clamped(i64::from(EPOCH)).digest(Times::Included);
    assert_eq!(sealed.digest, wanted);
    assert_eq!(digest(&target), wanted);
    target
}

#[test]
fn every_kind_of_file_and_file_system_is_written_anew() {
    let rig = Rig::new();
    let mut commands = full_tree(&rig);
    // More islands than extents fit into an inode, and into one block of 1 KiB.
    let islands = fs::File::create(rig.path("tree/islands")).unwrap();
    for place in 0..1500_u64 {
        std::os::unix::fs::FileExt::write_all_at(&islands, b"island", place * 16384).unwrap();
    }
    commands += "cd /\nmkdir new\nsif new mode 0041777\n";
    for (number, options) in [
        &[][..],
        &["-b", "1024"],
        &["-b", "2048", "-O", "^64bit,^flex_bg,^resize_inode"],
        &["-O", "metadata_csum_seed,orphan_file", "-G", "4", "-L", "root"],
        &["-O", "^has_journal", "-I", "512", "-N", "40000"],
        &["-O", "inline_data,^sparse_super,^resize_inode", "-b", "1024"],
        &["-b", "1024", "-g", "1024", "-G", "8", "-J", "size=4"],
    ]
    .into_iter()
    .enumerate()
    {
        let image = rig.image(&format!("image{number}"), options, &commands);
        check_clean(&sealed(&rig, &image, &format!("sealed{number}")));
    }
}

#[test]
fn another_layout_gives_the_same_bytes() {
    let rig = Rig::new();
    let commands = full_tree(&rig);
    let options = ["-U", UUID];
    let still = "sif / mtime @1\nsif / mtime_extra 0\nsif lost+found mtime @1\nsif lost+found mtime_extra 0\n";
    let devices = "sif usr/bin/pipe mtime @1\nsif usr/bin/tty mtime @1\nsif usr/bin/disk mtime @1\n";
    let one = rig.image("one", &options, &format!("{commands}cd /\n{devices}{still}"));
    // Blocks and inodes that files were in and that are free again, so that all others lie elsewhere.
    let ballast = rig.path("ballast");
    fs::write(&ballast, vec![0xee; 3_000_000]).unwrap();
    for name in ["0ballast", "etc/0ballast", "usr/0ballast"] {
        rig.file(name, vec![0xee; 500_000]);
    }
    let remove = "rm 0ballast\nrm etc/0ballast\nrm usr/0ballast\n";
    let mut other = String::from(remove) + &format!("write {} more\nrm more\n", ballast.display());
    other += &format!("{commands}cd /\nmkdir gone\nrmdir gone\n{devices}{still}");
    let other = rig.image("other", &options, &other);
    run(Command::new("sh").args(["-c", "e2fsck -fyD \"$1\" || [ $? -eq 1 ]", "sh"]).arg(&other));
    rig.debugfs(&other, &format!("sif many mtime @1700000000\nsif many mtime_extra 0\n{still}"));
    assert_ne!(sha256sum(&one), sha256sum(&other));
    assert_eq!(digest(&one), digest(&other));
    let (one, other) = (sealed(&rig, &one, "sealed one"), sealed(&rig, &other, "sealed other"));
    assert_eq!(sha256sum(&one), sha256sum(&other));
    // And again, of what was sealed before and is a qcow2 now.
    let qcow2 = rig.path("sealed.qcow2");
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2", "-c"]).arg(&one).arg(&qcow2));
    assert_eq!(sha256sum(&sealed(&rig, &qcow2, "sealed again")), sha256sum(&one));
}

#[test]
fn what_differs_in_the_tree_differs_in_the_disk() {
    let rig = Rig::new();
    rig.file("a", "a");
    let still = "sif / mtime @1\nsif / mtime_extra 0\nsif lost+found mtime @1\nsif lost+found mtime_extra 0\n";
    let one = rig.image("one", &["-U", UUID], still);
    let other = rig.image("other", &["-U", UUID], &format!("{still}sif a gid 1\n"));
    assert_ne!(sha256sum(&sealed(&rig, &one, "sealed one")), sha256sum(&sealed(&rig, &other, "sealed other")));
}

#[test]
fn the_rest_of_the_disk_is_copied() {
    let rig = Rig::new();
    rig.file("a", "a");
    let root = fs::read(rig.image("root", &[], "")).unwrap();
    let mut disk = vec![0xb0; 1 << 20];
    disk[446..510].fill(0);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[446 + 4] = 0x83;
    disk[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&u32::try_from(root.len() / 512).unwrap().to_le_bytes());
    disk.extend_from_slice(&root);
    disk.resize(disk.len() + (1 << 20) + 512, 0);
    disk.extend_from_slice(b"the end");
    let path = rig.path("disk");
    fs::write(&path, &disk).unwrap();
    let bytes = fs::read(sealed(&rig, &path, "sealed")).unwrap();
    assert_eq!(bytes.len(), disk.len());
    assert_eq!(bytes[..1 << 20], disk[..1 << 20]);
    let end = (1 << 20) + root.len();
    assert_eq!(bytes[end..], disk[end..]);
    assert_ne!(bytes[1 << 20..end], root[..]);
}

#[test]
fn what_can_not_be_sealed_leaves_nothing() {
    let rig = Rig::new();
    rig.file("a", "a");
    let target = rig.path("sealed");
    let unclean = rig.image("unclean", &[], "feature needs_recovery\n");
    assert!(matches!(seal(&unclean, &target, &SETTINGS).unwrap_err().fault, Fault::Unclean(_)));
    assert!(!target.exists());
    let quota = rig.image("quota", &["-O", "quota"], "");
    let error = seal(&quota, &target, &SETTINGS).unwrap_err();
    assert!(matches!(error.fault, Fault::Unsupported(_)), "{error}");
    assert!(!target.exists());
    fs::write(&target, "mine").unwrap();
    let good = rig.image("good", &[], "");
    assert!(matches!(seal(&good, &target, &SETTINGS).unwrap_err().fault, Fault::Io(_)));
    assert_eq!(fs::read(&target).unwrap(), b"mine");
}
