//! An ext4 file system, read from its partition. The places are those of the kernel's documentation, "ext4 Data
//! Structures and Algorithms".

pub(crate) mod checksum;
mod content;
mod directory;
pub(crate) mod extents;
mod inode;
pub(crate) mod superblock;
pub(crate) mod xattrs;

use std::path::Path;

use crate::bytes::{put, u16_at, u32_at, wide};
use crate::disk::{Disk, Source};
use crate::error::Fault;

pub(crate) use content::BlockMap;
pub(crate) use extents::Extent;
pub(crate) use inode::{Inode, InodeKind, flags};
pub(crate) use superblock::{Superblock, features};

pub(crate) const ROOT_INODE: u32 = 2;

/// An ext4 file system that is open for reading.
#[derive(Debug)]
pub struct FileSystem<'a> {
    image: &'a Path,
    source: &'a Source,
    start: u64,
    superblock: Superblock,
    /// First block of each group's table of inodes.
    tables: Vec<u64>,
}

/// Whether a partition begins with an ext2, ext3 or ext4.
pub(crate) fn is_ext4(source: &Source, start: u64, size: u64) -> Result<bool, Fault> {
    let mut magic = [0; 2];
    if size < 4096 {
        return Ok(false);
    }
    source.read_at(&mut magic, start + superblock::PLACE + 56)?;
    Ok(magic == superblock::MAGIC)
}

impl<'a> FileSystem<'a> {
    pub(crate) fn open(disk: &'a Disk, start: u64, size: u64) -> Result<Self, Fault> {
        let source = disk.source();
        let mut bytes = [0; superblock::SIZE];
        source.read_at(&mut bytes, start + superblock::PLACE)?;
        let superblock = Superblock::parse(bytes, size)?;
        let tables = Vec::new();
        let mut opened = Self { image: disk.path(), source, start, superblock, tables };
        opened.tables = opened.read_tables()?;
        Ok(opened)
    }

    pub(crate) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    pub(crate) fn source(&self) -> &'a Source {
        self.source
    }

    /// Of the image that it lies in.
    #[must_use]
    pub fn image(&self) -> &Path {
        self.image
    }

    /// Of a block in the disk, in bytes.
    pub(crate) fn place(&self, block: u64) -> u64 {
        self.start + block * self.superblock.block_size
    }

    pub(crate) fn read_block(&self, block: u64) -> Result<Vec<u8>, Fault> {
        self.check_blocks(block, 1)?;
        let mut bytes = vec![0; self.superblock.block_length()];
        self.source.read_at(&mut bytes, self.place(block))?;
        Ok(bytes)
    }

    pub(crate) fn check_blocks(&self, first: u64, count: u64) -> Result<(), Fault> {
        let end = first.checked_add(count).filter(|end| *end <= self.superblock.blocks);
        if first == 0 || end.is_none() {
            let what = format!("{count} blocks at {first} of a file system of {} blocks", self.superblock.blocks);
            return Err(Fault::damaged(what));
        }
        Ok(())
    }

    pub(crate) fn inode(&self, number: u32) -> Result<Inode, Fault> {
        let at = &self.superblock;
        let index = number.wrapping_sub(1);
        let group = index / at.inodes_per_group;
        if number == 0 || number > at.inodes || group as usize >= self.tables.len() {
            return Err(Fault::damaged(format!("inode {number} of {} is wanted", at.inodes)));
        }
        let offset = u64::from(index % at.inodes_per_group) * at.inode_size as u64;
        let mut bytes = vec![0; at.inode_size];
        self.source.read_at(&mut bytes, self.place(self.tables[group as usize]) + offset)?;
        Inode::parse(number, bytes, at)
    }

    /// From the groups' descriptors.
    fn read_tables(&self) -> Result<Vec<u64>, Fault> {
        let at = &self.superblock;
        let table_blocks = at.table_blocks();
        let per_block = at.block_size / at.descriptor_size as u64;
        let groups = at.groups();
        let mut tables = Vec::new();
        for first_group in (0..groups).step_by(usize::try_from(per_block).unwrap_or(1)) {
            let block = self.read_block(at.descriptor_block(first_group))?;
            for (group, bytes) in (first_group..groups).zip(block.chunks_exact(at.descriptor_size)) {
                check_descriptor(at, group, bytes)?;
                let high = if at.descriptor_size >= 64 { u32_at(bytes, 0x28) } else { 0 };
                let table = wide(u32_at(bytes, 8), high);
                self.check_blocks(table, table_blocks)?;
                tables.push(table);
            }
        }
        Ok(tables)
    }
}

fn check_descriptor(at: &Superblock, group: u64, bytes: &[u8]) -> Result<(), Fault> {
    if !at.has_checksums() {
        return Ok(());
    }
    let mut cleared = bytes.to_vec();
    put(&mut cleared, 0x1e, &[0, 0]);
    let number = u32::try_from(group).unwrap_or(u32::MAX).to_le_bytes();
    let sum = checksum::of(checksum::of(at.seed, &number), &cleared);
    if sum & 0xffff != u32::from(u16_at(bytes, 0x1e)) {
        return Err(Fault::damaged(format!("the checksum of the descriptor of block group {group} is wrong")));
    }
    Ok(())
}
