//! One inode.

use super::checksum;
use super::superblock::Superblock;
use crate::bytes::{put, u16_at, u32_at, wide};
use crate::entry::Time;
use crate::error::Fault;

pub(crate) mod flags {
    /// What `chattr` sets and a copy should keep: synchronous, immutable, append-only, no dump, no access times,
    /// synchronous directory, top of a hierarchy.
    pub(crate) const KEPT: u32 = 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x1_0000 | 0x2_0000;
    pub(crate) const EXTENTS: u32 = 0x8_0000;
    pub(super) const ENCRYPTED: u32 = 0x800;
    pub(super) const INLINE_DATA: u32 = 0x1000_0000;
    pub(super) const CASE_FOLDED: u32 = 0x4000_0000;
    pub(super) const VERITY: u32 = 0x10_0000;
}

/// The part of an inode that every ext2 had.
pub(crate) const OLD_SIZE: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InodeKind {
    Fifo,
    CharacterDevice,
    Directory,
    BlockDevice,
    File,
    Symlink,
    Socket,
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) number: u32,
    pub(crate) kind: InodeKind,
    /// Of checksums of what belongs to the inode.
    pub(super) seed: u32,
    pub(super) bytes: Vec<u8>,
    /// Bytes of the inode behind the old part that have a meaning.
    extra: usize,
}

impl Inode {
    pub(super) fn parse(number: u32, bytes: Vec<u8>, at: &Superblock) -> Result<Self, Fault> {
        let bad = |what: &str| Fault::damaged(format!("inode {number} {what}"));
        let extra = if bytes.len() > OLD_SIZE { usize::from(u16_at(&bytes, 0x80)) } else { 0 };
        if OLD_SIZE + extra > bytes.len() || extra % 4 != 0 {
            return Err(bad("has an impossible size"));
        }
        let seed = checksum::of(checksum::of(at.seed, &number.to_le_bytes()), &bytes[0x64..0x68]);
        if at.has_checksums() && !has_right_checksum(&bytes, seed, extra) {
            return Err(bad("has a wrong checksum"));
        }
        let kind = match u16_at(&bytes, 0) >> 12 {
            0x1 => InodeKind::Fifo,
            0x2 => InodeKind::CharacterDevice,
            0x4 => InodeKind::Directory,
            0x6 => InodeKind::BlockDevice,
            0x8 => InodeKind::File,
            0xa => InodeKind::Symlink,
            0xc => InodeKind::Socket,
            other => return Err(bad(&format!("is of no kind ({other})"))),
        };
        let inode = Self { number, kind, seed, bytes, extra };
        for (flag, what) in [
            (flags::ENCRYPTED, "encrypted"),
            (flags::VERITY, "sealed by fs-verity"),
            (flags::CASE_FOLDED, "blind to upper and lower case"),
        ] {
            if inode.flags() & flag != 0 {
                return Err(Fault::unsupported(format!("inode {number} is {what}")));
            }
        }
        if inode.links() == 0 {
            return Err(bad("is named in a directory, but removed"));
        }
        let has_content = matches!(kind, InodeKind::File | InodeKind::Directory);
        if has_content && !inode.has_inline_data() && inode.flags() & flags::EXTENTS == 0 && inode.has_blocks() {
            return Err(Fault::unsupported(format!("inode {number} has a block map, as ext3 had")));
        }
        Ok(inode)
    }

    pub(crate) fn permissions(&self) -> u16 {
        u16_at(&self.bytes, 0) & 0o7777
    }

    pub(crate) fn uid(&self) -> u32 {
        u32::from(u16_at(&self.bytes, 2)) | u32::from(u16_at(&self.bytes, 0x78)) << 16
    }

    pub(crate) fn gid(&self) -> u32 {
        u32::from(u16_at(&self.bytes, 0x18)) | u32::from(u16_at(&self.bytes, 0x7a)) << 16
    }

    /// In bytes.
    pub(crate) fn size(&self) -> u64 {
        wide(u32_at(&self.bytes, 4), u32_at(&self.bytes, 0x6c))
    }

    pub(crate) fn links(&self) -> u16 {
        u16_at(&self.bytes, 0x1a)
    }

    pub(crate) fn flags(&self) -> u32 {
        u32_at(&self.bytes, 0x20)
    }

    pub(crate) fn mtime(&self) -> Time {
        let seconds = i64::from(u32_at(&self.bytes, 0x10).cast_signed());
        if self.extra < 0x8c - OLD_SIZE {
            return Time { seconds, nanoseconds: 0 };
        }
        let more = u32_at(&self.bytes, 0x88);
        Time { seconds: seconds + (i64::from(more & 3) << 32), nanoseconds: (more >> 2).min(999_999_999) }
    }

    /// Major and minor.
    pub(crate) fn device(&self) -> (u32, u32) {
        let old = u32_at(self.map(), 0);
        if old != 0 {
            return (old >> 8 & 0xff, old & 0xff);
        }
        let new = u32_at(self.map(), 4);
        ((new & 0xf_ff00) >> 8, new & 0xff | new >> 12 & 0xf_ff00)
    }

    pub(super) fn has_inline_data(&self) -> bool {
        self.flags() & flags::INLINE_DATA != 0
    }

    fn has_blocks(&self) -> bool {
        self.map().iter().any(|byte| *byte != 0)
    }

    /// Map of blocks, root of the tree of extents, target of a symlink, device, or the first bytes of content.
    pub(super) fn map(&self) -> &[u8] {
        &self.bytes[0x28..0x64]
    }

    pub(super) fn xattr_block(&self) -> u64 {
        wide(u32_at(&self.bytes, 0x68), u32::from(u16_at(&self.bytes, 0x76)))
    }

    /// What is behind the fields.
    pub(super) fn rest(&self) -> &[u8] {
        if self.bytes.len() > OLD_SIZE { &self.bytes[OLD_SIZE + self.extra..] } else { &[] }
    }
}

fn has_right_checksum(bytes: &[u8], seed: u32, extra: usize) -> bool {
    let mut cleared = bytes.to_vec();
    put(&mut cleared, 0x7c, &[0, 0]);
    let low = u32::from(u16_at(bytes, 0x7c));
    if extra < 4 {
        return checksum::of(seed, &cleared) & 0xffff == low;
    }
    put(&mut cleared, 0x82, &[0, 0]);
    checksum::of(seed, &cleared) == low | u32::from(u16_at(bytes, 0x82)) << 16
}
