//! Which parts of a base's disk are in use. All others were never written, but nobody can see that in the base's file: a
//! qcow2 that was made of it has holes wherever there are zeros, written or not.
//!
//! The places are those of the kernel's documentation, "ext4 Data Structures and Algorithms".

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;

use dsimg_machine::WrittenParts;

use super::disk::ROOT_START;
use super::store::RECORD;

const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xef53;
/// The group's bitmap of blocks was not made yet: but for what belongs to the file system itself, all is free.
const BLOCK_UNINIT: u16 = 2;
const META_BG: u32 = 0x10;
const WIDE: u32 = 0x80;
const BIGALLOC: u32 = 0x200;

/// Of a finished disk. A file system with features that are not known here counts as used all over.
///
/// # Errors
/// The disk can't be read.
pub(super) fn used_parts(disk: &File) -> io::Result<WrittenParts> {
    let size = disk.metadata()?.len();
    let Some(root) = Ext4::read(disk, ROOT_START)? else { return Ok(WrittenParts::of(size, [(0, size)])) };
    let mut used = root.used(disk, ROOT_START)?;
    used.extend([(0, ROOT_START), (ROOT_START + root.blocks * root.block, size)]);
    Ok(WrittenParts::of(size, used))
}

/// Of the base with this disk; `None` for one that is none of dsimg's own, or an older one.
pub(crate) fn used_parts_of(disk: &Path) -> Option<Vec<(u64, u64)>> {
    #[derive(Deserialize)]
    struct Known {
        used: Vec<(u64, u64)>,
    }
    let record = std::fs::read(disk.with_file_name(RECORD)).ok()?;
    serde_json::from_slice::<Known>(&record).ok().map(|known| known.used).filter(|used| !used.is_empty())
}

#[derive(Debug)]
struct Ext4 {
    /// Bytes of a block.
    block: u64,
    blocks: u64,
    first_block: u64,
    blocks_per_group: u64,
    /// Blocks of each group's table of inodes.
    table: u64,
    /// Bytes of a group's descriptor.
    descriptor: u64,
    /// Blocks of superblock, descriptors and their reserve, in groups that have a copy.
    head: u64,
}

impl Ext4 {
    fn read(disk: &File, start: u64) -> io::Result<Option<Self>> {
        let mut bytes = [0; 1024];
        disk.read_exact_at(&mut bytes, start + SUPERBLOCK)?;
        let (half, word) = (|at| u16_at(&bytes, at), |at| u32_at(&bytes, at));
        let (incompatible, read_only) = (word(96), word(100));
        if half(56) != MAGIC || incompatible & META_BG != 0 || read_only & BIGALLOC != 0 {
            return Ok(None);
        }
        let wide = incompatible & WIDE != 0;
        let block = 1024 << word(24);
        let blocks = u64::from(word(4)) | if wide { u64::from(word(0x150)) << 32 } else { 0 };
        let first_block = u64::from(word(20));
        let blocks_per_group = u64::from(word(32));
        let descriptor = if wide { u64::from(half(254)) } else { 32 };
        let groups = (blocks - first_block).div_ceil(blocks_per_group);
        let table = (u64::from(word(40)) * u64::from(half(88))).div_ceil(block);
        let head = 1 + (groups * descriptor).div_ceil(block) + u64::from(half(206));
        Ok(Some(Self { block, blocks, first_block, blocks_per_group, table, descriptor, head }))
    }

    /// In bytes of the disk.
    fn used(&self, disk: &File, start: u64) -> io::Result<Vec<(u64, u64)>> {
        let groups = (self.blocks - self.first_block).div_ceil(self.blocks_per_group);
        let mut descriptors = vec![0; usize::try_from(groups * self.descriptor).map_err(io::Error::other)?];
        disk.read_exact_at(&mut descriptors, start + (self.first_block + 1) * self.block)?;
        let mut used = vec![(0, self.first_block)];
        let size = usize::try_from(self.descriptor).map_err(io::Error::other)?;
        for (number, group) in (0..).zip(descriptors.chunks_exact(size)) {
            let high = |at: usize| if size >= 64 { u64::from(u32_at(group, at)) << 32 } else { 0 };
            let place = |low: usize, wide: usize| u64::from(u32_at(group, low)) | high(wide);
            let (bitmap, inodes, table) = (place(0, 0x20), place(4, 0x24), place(8, 0x28));
            used.extend([(bitmap, bitmap + 1), (inodes, inodes + 1), (table, table + self.table)]);
            let first = self.first_block + number * self.blocks_per_group;
            let count = self.blocks_per_group.min(self.blocks - first);
            if u16_at(group, 0x12) & BLOCK_UNINIT != 0 {
                used.push((first, first + self.head.min(count)));
            } else {
                let mut bits = vec![0; usize::try_from(self.block).map_err(io::Error::other)?];
                disk.read_exact_at(&mut bits, start + bitmap * self.block)?;
                used.extend(runs(&bits, count).into_iter().map(|(from, to)| (first + from, first + to)));
            }
        }
        Ok(used.into_iter().map(|(from, to)| (start + from * self.block, start + to * self.block)).collect())
    }
}

/// From and to of all bits that are set among the first `count`.
fn runs(bits: &[u8], count: u64) -> Vec<(u64, u64)> {
    let numbered = (0..count).zip(bits.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)));
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (number, _) in numbered.filter(|(_, is_set)| *is_set) {
        match runs.last_mut() {
            Some(last) if last.1 == number => last.1 += 1,
            _ => runs.push((number, number + 1)),
        }
    }
    runs
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn set_bits_are_joined() {
        assert_eq!(runs(&[0b1110_0110, 0b0000_0001], 16), [(1, 3), (5, 9)]);
        assert_eq!(runs(&[0xff, 0xff], 10), [(0, 10)]);
    }

    /// What is not in use may hold anything: `e2fsck` finds nothing wrong, and the files are the same.
    #[test]
    fn a_file_system_does_not_miss_what_is_not_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, path) = (folder.path().join("tree"), folder.path().join("disk"));
        std::fs::create_dir(&tree).unwrap();
        let content: Vec<u8> = (0..9_000_000_u32).map(|number| (number % 251) as u8).collect();
        std::fs::write(tree.join("file"), &content).unwrap();
        std::fs::write(tree.join("zeros"), vec![0; 5 << 20]).unwrap();
        let disk = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        disk.set_len(ROOT_START + (700 << 20)).unwrap();
        let options = format!("offset={ROOT_START},lazy_itable_init=0,nodiscard");
        let run = |command: &mut Command| {
            let done = command.output().unwrap();
            assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stdout));
            done.stdout
        };
        run(Command::new("/sbin/mke2fs").args(["-q", "-F", "-t", "ext4", "-E", &options, "-d"]).args([&tree, &path]));

        let used = used_parts(&disk).unwrap();
        assert!(used.bytes() < ROOT_START + (100 << 20), "{} bytes", used.bytes());
        for (from, to) in used.rest().parts {
            disk.write_all_at(&vec![0xa5; usize::try_from(to - from).unwrap()], from).unwrap();
        }
        let root = folder.path().join("root");
        run(Command::new("dd")
            .args(["bs=1M", "conv=sparse", "status=none", &format!("skip={}", ROOT_START >> 20)])
            .arg(format!("if={}", path.display()))
            .arg(format!("of={}", root.display())));
        run(Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(&root));
        let cat = |file: &str| run(Command::new("/sbin/debugfs").args(["-R", &format!("cat {file}")]).arg(&root));
        assert!(cat("/file") == content && cat("/zeros") == vec![0; 5 << 20]);
    }
}
