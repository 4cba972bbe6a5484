//! What a file system is but for its tree: superblock, descriptors of groups, bitmaps, and places for inodes.

mod superblock;

use super::SealSettings;
use super::new_inode::{NewInode, high, low, word_of};
use super::space::Space;
use super::target::TargetPartition;
use crate::bytes::{put, u32_at};
use crate::error::Fault;
use crate::ext4::{Superblock, checksum, features};

use superblock::Counts;

/// Inodes below it are of the file system itself. That of the root is one of them.
const FIRST_INODE: usize = 0x54;

const INODES_UNUSED: u16 = 1;
const BLOCKS_UNUSED: u16 = 2;
const TABLE_IS_ZEROED: u16 = 4;

#[derive(Debug, Clone, Copy)]
struct Group {
    block_bitmap: u64,
    inode_bitmap: u64,
    table: u64,
    directories: u32,
}

#[derive(Debug)]
pub(super) struct Skeleton<'a> {
    pub(super) at: &'a Superblock,
    pub(super) settings: SealSettings,
    groups: Vec<Group>,
    next_inode: u32,
    /// The journal's inode as the superblock keeps a copy of it: its map, and its size.
    pub(super) journal: Option<([u8; 60], u64)>,
    pub(super) orphan_file: u32,
}

impl<'a> Skeleton<'a> {
    /// Finds places for the file system's own structures, and takes them.
    pub(super) fn place(at: &'a Superblock, settings: &SealSettings) -> Result<(Self, Space), Fault> {
        superblock::check_features(at)?;
        let mut space = Space::new(at)?;
        for group in 0..at.groups() {
            space.take(at.group_start(group), copies(at, group));
        }
        let groups = place_groups(at, &mut space)?;
        let next_inode = u32_at(&at.bytes, FIRST_INODE);
        let skeleton = Self { at, settings: *settings, groups, next_inode, journal: None, orphan_file: 0 };
        Ok((skeleton, space))
    }

    /// The next inode that is free.
    pub(super) fn take_inode(&mut self) -> Result<u32, Fault> {
        let number = self.next_inode;
        if number > self.at.inodes {
            return Err(Fault::Full(format!("all {} inodes are taken", self.at.inodes)));
        }
        self.next_inode += 1;
        Ok(number)
    }

    pub(super) fn write_inode(&mut self, inode: &NewInode, target: &TargetPartition<'_>) -> Result<(), Fault> {
        const DIRECTORY: u16 = 4;
        let index = inode.number - 1;
        let group = &mut self.groups[(index / self.at.inodes_per_group) as usize];
        if inode.mode >> 12 == DIRECTORY {
            group.directories += 1;
        }
        let offset = u64::from(index % self.at.inodes_per_group) * self.at.inode_size as u64;
        target.write(&inode.encode(self.at), group.table, offset)
    }

    /// Writes all that follows from what is taken by now.
    pub(super) fn write(&self, space: &Space, target: &TargetPartition<'_>) -> Result<(), Fault> {
        let mut descriptors = Vec::new();
        let mut free_blocks = 0;
        for (number, group) in (0..).zip(&self.groups) {
            let (descriptor, free) = self.write_group(number, group, space, target)?;
            descriptors.extend(descriptor);
            free_blocks += free;
        }
        let free_inodes = self.at.inodes - (self.next_inode - 1);
        let superblock = superblock::Fields {
            at: self.at,
            settings: &self.settings,
            counts: Counts { free_blocks, free_inodes },
            journal: self.journal.as_ref(),
            orphan_file: self.orphan_file,
        };
        for group in (0..self.at.groups()).filter(|group| self.at.has_copy(*group)) {
            let start = self.at.group_start(group);
            let offset = if start == 0 { crate::ext4::superblock::PLACE } else { 0 };
            target.write(&superblock.encode(group), start, offset)?;
            target.write(&descriptors, start + 1, 0)?;
        }
        Ok(())
    }

    /// Returns the descriptor, and how many blocks are free.
    fn write_group(
        &self,
        number: u64,
        group: &Group,
        space: &Space,
        target: &TargetPartition<'_>,
    ) -> Result<(Vec<u8>, u64), Fault> {
        let at = self.at;
        let (start, blocks) = extent_of(at, number);
        let free = space.free(start, blocks);
        let inodes = at.inodes_per_group;
        let first_inode = u64::from(inodes) * number + 1;
        let used = u64::from(self.next_inode).saturating_sub(first_inode).min(u64::from(inodes));
        let used = u32::try_from(used).unwrap_or(inodes);
        let mut flags = TABLE_IS_ZEROED;
        let mut sums = [0, 0];
        // What is not used is not written: a reader makes such bitmaps by itself.
        let is_middle = number != 0 && number + 1 != at.groups();
        if is_middle && free == blocks - copies(at, number).min(blocks) {
            flags |= BLOCKS_UNUSED;
        } else {
            let is_taken = |bit: u64| bit >= blocks || space.is_taken(start + bit);
            let bitmap = bitmap(at.block_length(), is_taken);
            let length = usize::try_from(at.blocks_per_group / 8).unwrap_or(bitmap.len());
            sums[0] = checksum::of(at.seed, &bitmap[..length]);
            target.write(&bitmap, group.block_bitmap, 0)?;
        }
        if used == 0 {
            flags |= INODES_UNUSED;
        } else {
            let bitmap = bitmap(at.block_length(), |bit| bit < u64::from(used) || bit >= u64::from(inodes));
            sums[1] = checksum::of(at.seed, &bitmap[..(inodes / 8) as usize]);
            target.write(&bitmap, group.inode_bitmap, 0)?;
        }
        Ok((self.descriptor(number, group, [word_of(free), inodes - used, inodes - used], flags, sums), free))
    }

    /// `counts` are free blocks, free inodes, and inodes at the end of the table that never were used.
    fn descriptor(&self, number: u64, group: &Group, counts: [u32; 3], flags: u16, sums: [u32; 2]) -> Vec<u8> {
        let mut bytes = vec![0; self.at.descriptor_size];
        let is_wide = bytes.len() >= 64;
        let mut halves = |place: usize, wide_place: usize, value: u32| {
            put(&mut bytes, place, &low(value).to_le_bytes());
            if is_wide {
                put(&mut bytes, wide_place, &low(value >> 16).to_le_bytes());
            }
        };
        halves(0x0c, 0x2c, counts[0]);
        halves(0x0e, 0x2e, counts[1]);
        halves(0x10, 0x30, group.directories);
        halves(0x18, 0x38, sums[0]);
        halves(0x1a, 0x3a, sums[1]);
        halves(0x1c, 0x32, counts[2]);
        let places = [(0, 0x20, group.block_bitmap), (4, 0x24, group.inode_bitmap), (8, 0x28, group.table)];
        for (place, wide_place, block) in places {
            put(&mut bytes, place, &word_of(block).to_le_bytes());
            if is_wide {
                put(&mut bytes, wide_place, &high(block).to_le_bytes());
            }
        }
        put(&mut bytes, 0x12, &flags.to_le_bytes());
        let sum = checksum::of(checksum::of(self.at.seed, &word_of(number).to_le_bytes()), &bytes);
        put(&mut bytes, 0x1e, &low(sum).to_le_bytes());
        bytes
    }
}

/// Each flexible group's bitmaps and tables follow each other from its start on, where no copies are.
fn place_groups(at: &Superblock, space: &mut Space) -> Result<Vec<Group>, Fault> {
    let groups = at.groups();
    let flexible = if at.incompatible & features::FLEX_BG == 0 { 1 } else { 1 << at.bytes[0x174].min(31) };
    let mut placed = Vec::new();
    for first in (0..groups).step_by(flexible) {
        let from = at.group_start(first);
        let members = first..groups.min(first + flexible as u64);
        let mut places =
            |count: u64| members.clone().map(|_| space.take_run(from, count)).collect::<Result<Vec<u64>, Fault>>();
        let (blocks, inodes, tables) = (places(1)?, places(1)?, places(at.table_blocks())?);
        for ((block_bitmap, inode_bitmap), table) in blocks.into_iter().zip(inodes).zip(tables) {
            placed.push(Group { block_bitmap, inode_bitmap, table, directories: 0 });
        }
    }
    Ok(placed)
}

/// First block and count.
fn extent_of(at: &Superblock, group: u64) -> (u64, u64) {
    let start = at.group_start(group);
    (start, at.blocks_per_group.min(at.blocks - start))
}

/// Blocks at a group's start with the copies of superblock and descriptors, and their reserve.
fn copies(at: &Superblock, group: u64) -> u64 {
    if at.has_copy(group) { 1 + at.descriptor_blocks() + at.reserved_descriptor_blocks() } else { 0 }
}

fn bitmap(size: usize, is_taken: impl Fn(u64) -> bool) -> Vec<u8> {
    (0..size as u64).map(|byte| (0..8).fold(0, |bits, bit| bits | u8::from(is_taken(byte * 8 + bit)) << bit)).collect()
}
