//! An inode that is written.

use crate::bytes::put;
use crate::entry::Time;
use crate::ext4::{Superblock, checksum};

/// Bytes behind the old 128 that have a meaning: up to the project number.
const EXTRA: usize = 32;
const OLD_SIZE: usize = 128;
/// Where extended attributes begin.
pub(super) const REST: usize = OLD_SIZE + EXTRA;

#[derive(Debug, Clone)]
pub(super) struct NewInode {
    pub(super) number: u32,
    /// With the kind in the upper four bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) links: u16,
    pub(super) flags: u32,
    /// All four: the content is as old as the file.
    pub(super) time: Time,
    pub(super) map: [u8; 60],
    /// All that belong to it.
    pub(super) blocks: u64,
    pub(super) xattr_block: u64,
    /// What is behind the fields.
    pub(super) rest: Vec<u8>,
}

impl NewInode {
    pub(super) fn encode(&self, at: &Superblock) -> Vec<u8> {
        let mut bytes = vec![0; at.inode_size];
        let sectors = self.blocks * (at.block_size / 512);
        let (seconds, more) = encode_time(self.time);
        let mut half = |place: usize, value: u16| put(&mut bytes, place, &value.to_le_bytes());
        half(0, self.mode);
        half(0x02, low(self.uid));
        half(0x18, low(self.gid));
        half(0x1a, self.links);
        half(0x74, low(high(sectors)));
        half(0x76, low(high(self.xattr_block)));
        half(0x78, low(self.uid >> 16));
        half(0x7a, low(self.gid >> 16));
        half(0x80, EXTRA as u16);
        let mut word = |place: usize, value: u32| put(&mut bytes, place, &value.to_le_bytes());
        word(0x04, word_of(self.size));
        word(0x1c, word_of(sectors));
        word(0x20, self.flags);
        word(0x68, word_of(self.xattr_block));
        word(0x6c, high(self.size));
        for place in [0x08, 0x0c, 0x10, 0x90] {
            word(place, seconds);
        }
        for place in [0x84, 0x88, 0x8c, 0x94] {
            word(place, more);
        }
        put(&mut bytes, 0x28, &self.map);
        put(&mut bytes, REST, &self.rest);
        let sum = checksum::of(seed(at, self.number), &bytes);
        put(&mut bytes, 0x7c, &low(sum).to_le_bytes());
        put(&mut bytes, 0x82, &low(sum >> 16).to_le_bytes());
        bytes
    }
}

/// What checksums of what belongs to an inode begin with. The generation, which is part of it, is 0.
pub(super) fn seed(at: &Superblock, number: u32) -> u32 {
    checksum::of(checksum::of(at.seed, &number.to_le_bytes()), &[0; 4])
}

/// The seconds' lower 32 bits, and the word with nanoseconds and two more bits of the seconds.
fn encode_time(time: Time) -> (u32, u32) {
    let bits = time.seconds.to_le_bytes();
    let seconds = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    let epochs = (time.seconds - i64::from(seconds.cast_signed())) >> 32;
    (seconds, time.nanoseconds << 2 | u32::try_from(epochs & 3).unwrap_or(0))
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
pub(super) fn low(value: u32) -> u16 {
    value as u16
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
pub(super) fn word_of(value: u64) -> u32 {
    value as u32
}

pub(super) fn high(value: u64) -> u32 {
    word_of(value >> 32)
}
