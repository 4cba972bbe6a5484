use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dsimg_tree::{Disk, PartitionKind};

use crate::rig::{Rig, digest, full_tree, run, tree};

fn convert(from: &Path, to: &Path, options: &[&str]) {
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).args(options).arg(from).arg(to));
}

fn image(rig: &Rig) -> PathBuf {
    let commands = full_tree(rig);
    rig.image("raw", &[], &commands)
}

#[test]
fn every_kind_of_qcow2_holds_the_same_tree() {
    let rig = Rig::new();
    let raw = image(&rig);
    let wanted = digest(&raw);
    for options in [
        &[][..],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-o", "cluster_size=512"],
        &["-c", "-o", "cluster_size=2M"],
        &["-o", "compat=0.10"],
    ] {
        let path = rig.path("image.qcow2");
        convert(&raw, &path, options);
        assert_eq!(digest(&path), wanted, "{options:?}");
        assert_eq!(Disk::open(&path).unwrap().size(), 32 << 20);
    }
}

#[test]
fn a_layer_is_read_with_those_below_it() {
    let rig = Rig::new();
    let raw = image(&rig);
    let wanted = digest(&raw);
    convert(&raw, &rig.path("base.qcow2"), &["-c", "-o", "compression_type=zstd"]);
    for (name, below, format) in [("middle", "base.qcow2", "qcow2"), ("top", "middle", "qcow2"), ("flat", "raw", "raw")]
    {
        let create = ["create", "-q", "-f", "qcow2", "-F", format, "-b", below, name, "40M"];
        run(Command::new("qemu-img").args(create).current_dir(rig.path("")));
    }
    // The middle hides a part of the base: the second copy of the superblock's place, and the label in the first.
    let io = ["-c", "write -q -P 0x41 1144 16", "-c", "write -q -z 30M 1M"];
    run(Command::new("qemu-io").args(io).arg(rig.path("middle")));
    assert_eq!(digest(&rig.path("flat")), wanted);
    let error = Disk::open(&rig.path("top")).unwrap().root().unwrap_err().to_string();
    assert!(error.contains("the checksum of the file system's superblock is wrong"), "{error}");
    run(Command::new("qemu-io").args(["-c", "write -q -P 0 1144 16"]).arg(rig.path("top")));
    assert_eq!(digest(&rig.path("top")), wanted);
}

#[test]
fn images_that_are_cut_off_or_loop_are_errors() {
    let rig = Rig::new();
    let raw = image(&rig);
    let whole = rig.path("whole.qcow2");
    convert(&raw, &whole, &["-c"]);
    let bytes = fs::read(&whole).unwrap();
    let cut = rig.path("cut.qcow2");
    for length in [3, 40, 71, 103, 500, 70_000, 200_000, bytes.len() / 2] {
        fs::write(&cut, &bytes[..length]).unwrap();
        let error = tree(&cut).unwrap_err();
        assert!(error.to_string().contains("cut.qcow2"), "{error}");
    }
    let looped = rig.path("loop.qcow2");
    let create = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-u", "-b", "loop.qcow2", "other.qcow2", "1M"];
    run(Command::new("qemu-img").args(create).current_dir(rig.path("")));
    fs::rename(rig.path("other.qcow2"), &looped).unwrap();
    let error = Disk::open(&looped).unwrap_err().to_string();
    assert!(error.contains("stands on itself"), "{error}");
    let error = Disk::open(&rig.path("none")).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn the_root_is_the_largest_ext4_of_a_partition_table() {
    let rig = Rig::new();
    rig.file("etc/hostname", "small\n");
    let small = fs::read(rig.image("small", &[], "")).unwrap();
    rig.file("etc/hostname", "large\n");
    let large = fs::read(rig.image("large", &[], "")).unwrap();
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut add = |number: usize, content: &[u8], extra: usize| {
        let entry = 446 + 16 * number;
        let (first, count) = (disk.len() / 512, (content.len() + extra) / 512);
        disk[entry + 4] = 0x83;
        disk[entry + 8..entry + 12].copy_from_slice(&u32::try_from(first).unwrap().to_le_bytes());
        disk[entry + 12..entry + 16].copy_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
        disk.extend_from_slice(content);
        disk.resize(disk.len() + extra, 0);
    };
    add(0, &small, 0);
    add(1, &large, 1 << 20);
    add(3, &vec![0; 64 << 20], 0);
    let path = rig.path("disk");
    fs::write(&path, &disk).unwrap();
    let opened = Disk::open(&path).unwrap();
    let kinds: Vec<_> = opened.partitions().iter().map(|part| (part.number, part.kind)).collect();
    assert_eq!(kinds, [(1, PartitionKind::Other), (2, PartitionKind::Other), (4, PartitionKind::Other)]);
    assert_eq!(digest(&path), digest(&rig.path("large")));
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    let error = tree(&path).unwrap_err();
    assert!(error.to_string().contains("no root file system"), "{error}");
}
