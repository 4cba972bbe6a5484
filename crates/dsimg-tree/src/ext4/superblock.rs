//! The superblock: sizes and features.

use super::checksum;
use crate::bytes::{u16_at, u32_at, wide};
use crate::error::Fault;

/// From the start of the partition, in bytes.
pub(crate) const PLACE: u64 = 1024;
pub(crate) const SIZE: usize = 1024;
pub(crate) const MAGIC: [u8; 2] = [0x53, 0xef];

/// Bits of the three words of features.
pub(crate) mod features {
    pub(crate) const JOURNAL: u32 = 0x4;
    pub(crate) const RESIZE_INODE: u32 = 0x10;
    pub(crate) const ORPHAN_FILE: u32 = 0x1000;

    pub(crate) const FILETYPE: u32 = 0x2;
    pub(crate) const RECOVER: u32 = 0x4;
    pub(crate) const META_BG: u32 = 0x10;
    pub(crate) const EXTENTS: u32 = 0x40;
    pub(crate) const WIDE: u32 = 0x80;
    pub(crate) const FLEX_BG: u32 = 0x200;
    pub(crate) const SEED: u32 = 0x2000;
    pub(crate) const LARGE_DIR: u32 = 0x4000;
    pub(crate) const INLINE_DATA: u32 = 0x8000;
    pub(crate) const ENCRYPT: u32 = 0x1_0000;

    pub(crate) const SPARSE_SUPER: u32 = 0x1;
    pub(crate) const BIGALLOC: u32 = 0x200;
    pub(crate) const CHECKSUMS: u32 = 0x400;
    pub(crate) const ORPHANS_PRESENT: u32 = 0x1_0000;
}

use features as f;

/// Those without which a reader goes wrong: names carry types, extents, large and small things of all kinds.
const READABLE: u32 = f::FILETYPE
    | f::META_BG
    | f::EXTENTS
    | f::WIDE
    | f::FLEX_BG
    | f::SEED
    | f::LARGE_DIR
    | f::INLINE_DATA
    | f::ENCRYPT
    // Large extended attributes in inodes of their own, multiple mount protection: harmless until they are used.
    | 0x400
    | 0x100;

/// 128 TiB in the usual groups: no disk of a cloud is as large.
const MAX_GROUPS: u64 = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    pub(crate) bytes: [u8; SIZE],
    pub(crate) compatible: u32,
    pub(crate) incompatible: u32,
    pub(crate) read_only: u32,
    pub(crate) block_size: u64,
    pub(crate) blocks: u64,
    pub(crate) first_block: u64,
    pub(crate) blocks_per_group: u64,
    pub(crate) inodes: u32,
    pub(crate) inodes_per_group: u32,
    pub(crate) inode_size: usize,
    pub(crate) descriptor_size: usize,
    /// Of checksums.
    pub(crate) seed: u32,
}

impl Superblock {
    /// `size` is that of the partition, in bytes.
    pub(crate) fn parse(bytes: [u8; SIZE], size: u64) -> Result<Self, Fault> {
        let (half, word) = (|at| u16_at(&bytes, at), |at| u32_at(&bytes, at));
        let (compatible, incompatible, read_only) = (word(0x5c), word(0x60), word(0x64));
        if bytes[56..58] != MAGIC || word(0x18) > 6 {
            return Err(Fault::damaged("the superblock of the file system is none"));
        }
        check_state(half(0x3a), incompatible, read_only, word(0xe8))?;
        if incompatible & !READABLE != 0 || incompatible & f::FILETYPE == 0 {
            return Err(Fault::unsupported(format!("the ext4 has features (incompatible {incompatible:#x})")));
        }
        if read_only & f::BIGALLOC != 0 {
            return Err(Fault::unsupported("the ext4 allocates in clusters (bigalloc)"));
        }
        let is_wide = incompatible & f::WIDE != 0;
        let at = Self {
            compatible,
            incompatible,
            read_only,
            block_size: 1024 << word(0x18),
            blocks: wide(word(4), if is_wide { word(0x150) } else { 0 }),
            first_block: u64::from(word(0x14)),
            blocks_per_group: u64::from(word(0x20)),
            inodes: word(0),
            inodes_per_group: word(0x28),
            inode_size: if word(0x4c) == 0 { 128 } else { usize::from(half(0x58)) },
            descriptor_size: if is_wide { usize::from(half(0xfe)) } else { 32 },
            seed: if incompatible & f::SEED != 0 { word(0x270) } else { checksum::of(!0, &bytes[0x68..0x78]) },
            bytes,
        };
        at.check(size)?;
        Ok(at)
    }

    fn check(&self, size: u64) -> Result<(), Fault> {
        let bits = self.block_size * 8;
        let fits = self.blocks.checked_mul(self.block_size).is_some_and(|bytes| bytes <= size);
        let plausible = fits
            && self.first_block == u64::from(self.block_size == 1024)
            && self.blocks > self.first_block + 1
            && (256..=bits).contains(&self.blocks_per_group)
            && u64::from(self.inodes_per_group) <= bits
            && self.inodes_per_group >= 8
            && self.inode_size.is_power_of_two()
            && (128..=self.block_length()).contains(&self.inode_size)
            && self.descriptor_size.is_power_of_two()
            && (32..=1024).contains(&self.descriptor_size)
            && self.groups() <= MAX_GROUPS
            && self.groups() * u64::from(self.inodes_per_group) >= u64::from(self.inodes);
        if !plausible {
            return Err(Fault::damaged("the superblock of the file system has impossible sizes"));
        }
        if self.has_checksums() && checksum::of(!0, &self.bytes[..0x3fc]) != u32_at(&self.bytes, 0x3fc) {
            return Err(Fault::damaged("the checksum of the file system's superblock is wrong"));
        }
        Ok(())
    }

    pub(crate) fn has_checksums(&self) -> bool {
        self.read_only & f::CHECKSUMS != 0
    }

    pub(crate) fn block_length(&self) -> usize {
        1024 << u32_at(&self.bytes, 0x18)
    }

    pub(crate) fn groups(&self) -> u64 {
        (self.blocks - self.first_block).div_ceil(self.blocks_per_group)
    }

    pub(crate) fn group_start(&self, group: u64) -> u64 {
        self.first_block + group * self.blocks_per_group
    }

    /// Blocks of a group's table of inodes.
    pub(crate) fn table_blocks(&self) -> u64 {
        (u64::from(self.inodes_per_group) * self.inode_size as u64).div_ceil(self.block_size)
    }

    pub(crate) fn descriptor_blocks(&self) -> u64 {
        (self.groups() * self.descriptor_size as u64).div_ceil(self.block_size)
    }

    /// Behind the descriptors, for a file system that grows.
    pub(crate) fn reserved_descriptor_blocks(&self) -> u64 {
        u64::from(u16_at(&self.bytes, 0xce))
    }

    /// Whether a copy of the superblock and of the descriptors is in the group.
    pub(crate) fn has_copy(&self, group: u64) -> bool {
        let is_power = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group <= 1 || self.read_only & f::SPARSE_SUPER == 0 || [3, 5, 7].into_iter().any(is_power)
    }

    /// The block that holds the descriptor of this group, the first in it.
    pub(super) fn descriptor_block(&self, group: u64) -> u64 {
        let per_block = self.block_size / self.descriptor_size as u64;
        let number = group / per_block;
        let first_meta = u64::from(u32_at(&self.bytes, 0x104));
        if self.incompatible & f::META_BG == 0 || number < first_meta {
            return self.first_block + 1 + number;
        }
        let first = number * per_block;
        self.group_start(first) + u64::from(self.has_copy(first))
    }
}

fn check_state(state: u16, incompatible: u32, read_only: u32, orphans: u32) -> Result<(), Fault> {
    const ERRORS: u16 = 2;
    if incompatible & f::RECOVER != 0 {
        return Err(Fault::Unclean("its journal holds changes that are not in their places yet".to_owned()));
    }
    if read_only & f::ORPHANS_PRESENT != 0 || orphans != 0 {
        return Err(Fault::Unclean("files that were removed while in use still take room".to_owned()));
    }
    if state & ERRORS != 0 {
        return Err(Fault::Unclean("the kernel found errors in it".to_owned()));
    }
    Ok(())
}
