//! The tree of extents of a new file.

use super::new_inode::{high, low, seed, word_of};
use super::space::Space;
use super::target::TargetPartition;
use crate::bytes::put;
use crate::error::Fault;
use crate::ext4::extents::{HEADER, MAGIC};
use crate::ext4::{Extent, Superblock, checksum};

/// Entries in the inode.
const IN_INODE: usize = 4;

/// The first logical block of what an entry is for, and the entry.
type Entry = (u32, [u8; HEADER]);

/// Writes the levels that do not fit into the inode. Returns the inode's part, and how many blocks were written.
pub(super) fn write(
    number: u32,
    extents: &[Extent],
    at: &Superblock,
    space: &mut Space,
    target: &TargetPartition<'_>,
) -> Result<([u8; 60], u64), Fault> {
    let mut level = extents.iter().map(leaf).collect::<Result<Vec<Entry>, Fault>>()?;
    let mut depth = 0;
    let mut blocks = 0;
    while level.len() > IN_INODE {
        let room = (at.block_length() - HEADER) / HEADER;
        let mut above = Vec::new();
        for entries in level.chunks(room) {
            let mut bytes = node(entries, room, depth, at.block_length());
            let end = HEADER * (room + 1);
            let sum = checksum::of(seed(at, number), &bytes[..end]);
            put(&mut bytes, end, &sum.to_le_bytes());
            let block = space.take_next()?;
            target.write(&bytes, block, 0)?;
            blocks += 1;
            above.push((entries[0].0, index(entries[0].0, block)));
        }
        level = above;
        depth += 1;
    }
    let mut map = [0; 60];
    map.copy_from_slice(&node(&level, IN_INODE, depth, 60));
    Ok((map, blocks))
}

fn leaf(extent: &Extent) -> Result<Entry, Fault> {
    let logical = u32::try_from(extent.logical).map_err(|_| Fault::unsupported("a file has more than 2^32 blocks"))?;
    let mut bytes = [0; HEADER];
    put(&mut bytes, 0, &logical.to_le_bytes());
    put(&mut bytes, 4, &low(word_of(extent.blocks)).to_le_bytes());
    put(&mut bytes, 6, &low(high(extent.physical)).to_le_bytes());
    put(&mut bytes, 8, &word_of(extent.physical).to_le_bytes());
    Ok((logical, bytes))
}

fn index(logical: u32, block: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    put(&mut bytes, 0, &logical.to_le_bytes());
    put(&mut bytes, 4, &word_of(block).to_le_bytes());
    put(&mut bytes, 8, &low(high(block)).to_le_bytes());
    bytes
}

fn node(entries: &[Entry], room: usize, depth: u16, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let count = |value: usize| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
    put(&mut bytes, 0, &MAGIC.to_le_bytes());
    put(&mut bytes, 2, &count(entries.len()));
    put(&mut bytes, 4, &count(room));
    put(&mut bytes, 6, &depth.to_le_bytes());
    for (place, (_, entry)) in entries.iter().enumerate() {
        put(&mut bytes, HEADER * (place + 1), entry);
    }
    bytes
}
