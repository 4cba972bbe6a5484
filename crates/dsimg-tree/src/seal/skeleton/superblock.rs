//! The new superblock: what the old one says of geometry, features and wishes, and nothing of what it says of its life.

use super::super::SealSettings;
use super::super::new_inode::{high, low, word_of};
use crate::bytes::{put, u32_at};
use crate::error::Fault;
use crate::ext4::superblock::SIZE;
use crate::ext4::{Superblock, checksum, features as f};

/// From and to of the fields that are taken over.
const KEPT: [(usize, usize); 16] = [
    // Inodes, blocks, blocks for root.
    (0x00, 0x0c),
    // First block; sizes of block and cluster; of each group, blocks, clusters, inodes.
    (0x14, 0x2c),
    // Mounts between checks, magic.
    (0x36, 0x3a),
    // What to do on errors.
    (0x3c, 0x3e),
    // Time between checks, creator, revision, owner of the blocks for root, first inode, size of one.
    (0x44, 0x5a),
    // Features, UUID, label.
    (0x5c, 0x88),
    // Reserved descriptors.
    (0xce, 0xd0),
    // Kind of hash, size of a descriptor, mount options, first meta group.
    (0xfc, 0xfd),
    (0xfe, 0x108),
    // Upper halves of blocks, and of those for root.
    (0x150, 0x158),
    // Sizes that inodes should have; flags.
    (0x15c, 0x164),
    // RAID's stride.
    (0x164, 0x166),
    // RAID's stripe, groups in a flexible one, kind of checksum.
    (0x170, 0x176),
    // Mount options as text.
    (0x200, 0x240),
    // Seed of checksums.
    (0x270, 0x274),
    // The journal's inode and device.
    (0xe0, 0xe8),
];

const COMPATIBLE: u32 = f::JOURNAL
    | f::RESIZE_INODE
    | f::ORPHAN_FILE
    // Preallocated directories, extended attributes, hash trees.
    | 0x1
    | 0x8
    | 0x20;
const INCOMPATIBLE: u32 = f::FILETYPE | f::EXTENTS | f::WIDE | f::FLEX_BG | f::SEED | f::LARGE_DIR | f::INLINE_DATA;
const READ_ONLY: u32 = f::SPARSE_SUPER
    | f::CHECKSUMS
    // Large files, huge files, many directories in one, large inodes.
    | 0x2
    | 0x8
    | 0x20
    | 0x40;

/// Whether a file system like this one can be made.
pub(super) fn check_features(at: &Superblock) -> Result<(), Fault> {
    let is_known =
        at.compatible & !COMPATIBLE == 0 && at.incompatible & !INCOMPATIBLE == 0 && at.read_only & !READ_ONLY == 0;
    let has_all = at.incompatible & f::EXTENTS != 0 && at.has_checksums() && at.inode_size >= 256;
    let has_own_journal = at.compatible & f::JOURNAL == 0 || u32_at(&at.bytes, 0xe0) == 8;
    let has_whole_bytes = at.blocks_per_group.is_multiple_of(8) && at.inodes_per_group.is_multiple_of(8);
    if is_known && has_all && has_own_journal && has_whole_bytes {
        return Ok(());
    }
    let Superblock { compatible, incompatible, read_only, .. } = at;
    let features = format!("{compatible:#x}, {incompatible:#x}, {read_only:#x}");
    Err(Fault::unsupported(format!("a root file system can't be sealed with the features {features}")))
}

pub(super) struct Counts {
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
}

pub(super) struct Fields<'a> {
    pub(super) at: &'a Superblock,
    pub(super) settings: &'a SealSettings,
    pub(super) counts: Counts,
    pub(super) journal: Option<&'a ([u8; 60], u64)>,
    pub(super) orphan_file: u32,
}

impl Fields<'_> {
    /// As it is in this group.
    pub(super) fn encode(&self, group: u64) -> [u8; SIZE] {
        const CLEAN: u16 = 1;
        const SIGNEDNESS: u32 = 3;
        const IN_INODE: u8 = 1;
        let mut bytes = [0; SIZE];
        for (from, to) in KEPT {
            put(&mut bytes, from, &self.at.bytes[from..to]);
        }
        let epoch = self.settings.epoch.to_le_bytes();
        // Written, checked, made.
        for place in [0x30, 0x40, 0x108] {
            put(&mut bytes, place, &epoch);
        }
        put(&mut bytes, 0x0c, &word_of(self.counts.free_blocks).to_le_bytes());
        put(&mut bytes, 0x158, &high(self.counts.free_blocks).to_le_bytes());
        put(&mut bytes, 0x10, &self.counts.free_inodes.to_le_bytes());
        put(&mut bytes, 0x3a, &CLEAN.to_le_bytes());
        put(&mut bytes, 0x5a, &low(word_of(group)).to_le_bytes());
        put(&mut bytes, 0xec, &self.settings.hash_seed);
        let flags = u32_at(&self.at.bytes, 0x160) & SIGNEDNESS;
        put(&mut bytes, 0x160, &flags.to_le_bytes());
        if let Some((map, size)) = self.journal {
            put(&mut bytes, 0xfd, &[IN_INODE]);
            put(&mut bytes, 0x10c, map);
            put(&mut bytes, 0x148, &high(*size).to_le_bytes());
            put(&mut bytes, 0x14c, &word_of(*size).to_le_bytes());
        }
        put(&mut bytes, 0x280, &self.orphan_file.to_le_bytes());
        let sum = checksum::of(!0, &bytes[..0x3fc]);
        put(&mut bytes, 0x3fc, &sum.to_le_bytes());
        bytes
    }
}
