//! The tree of extents of a file.

use super::{FileSystem, Inode, checksum};
use crate::bytes::{u16_at, u32_at, wide};
use crate::error::Fault;

pub(crate) const MAGIC: u16 = 0xf30a;
pub(crate) const HEADER: usize = 12;
/// A longer extent is one that is allocated but not written.
pub(crate) const MAX_BLOCKS: u64 = 32768;
const MAX_DEPTH: u16 = 5;

/// A run of blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) logical: u64,
    pub(crate) physical: u64,
    pub(crate) blocks: u64,
    /// Otherwise it reads as zeros.
    pub(crate) written: bool,
}

/// In the order in which they lie in the file, without overlaps.
pub(super) fn read(files: &FileSystem<'_>, inode: &Inode) -> Result<Vec<Extent>, Fault> {
    let mut extents = Vec::new();
    node(files, inode, inode.map(), None, &mut extents)?;
    let mut end = 0;
    for extent in &extents {
        if extent.logical < end {
            return Err(Fault::damaged(format!("inode {} has extents that overlap", inode.number)));
        }
        end = extent.logical + extent.blocks;
        files.check_blocks(extent.physical, extent.blocks)?;
    }
    Ok(extents)
}

fn node(
    files: &FileSystem<'_>,
    inode: &Inode,
    bytes: &[u8],
    wanted_depth: Option<u16>,
    extents: &mut Vec<Extent>,
) -> Result<(), Fault> {
    let bad = |what: &str| Fault::damaged(format!("the extents of inode {}: {what}", inode.number));
    let (entries, room, depth) = (u16_at(bytes, 2), u16_at(bytes, 4), u16_at(bytes, 6));
    let has_room = HEADER * (usize::from(room) + 1) <= bytes.len();
    if u16_at(bytes, 0) != MAGIC || entries > room || !has_room || depth > MAX_DEPTH {
        return Err(bad("no header"));
    }
    // Each level is one nearer to the leaves, so that no loop is possible.
    if wanted_depth.is_some_and(|wanted| wanted != depth) {
        return Err(bad("a level is missing"));
    }
    for entry in bytes[HEADER..].chunks_exact(HEADER).take(usize::from(entries)) {
        let logical = u64::from(u32_at(entry, 0));
        if depth == 0 {
            let length = u64::from(u16_at(entry, 4));
            let physical = wide(u32_at(entry, 8), u32::from(u16_at(entry, 6)));
            let written = length <= MAX_BLOCKS;
            let blocks = if written { length } else { length - MAX_BLOCKS };
            if blocks == 0 {
                return Err(bad("an empty one"));
            }
            extents.push(Extent { logical, physical, blocks, written });
            if extents.len() as u64 > files.superblock().blocks {
                return Err(bad("more than there are blocks"));
            }
        } else {
            let below = files.read_block(wide(u32_at(entry, 4), u32::from(u16_at(entry, 8))))?;
            check(files, inode, &below).map_err(|()| bad("a checksum is wrong"))?;
            node(files, inode, &below, Some(depth - 1), extents)?;
        }
    }
    Ok(())
}

fn check(files: &FileSystem<'_>, inode: &Inode, block: &[u8]) -> Result<(), ()> {
    let tail = HEADER * (usize::from(u16_at(block, 4)) + 1);
    if !files.superblock().has_checksums() {
        return Ok(());
    }
    let sum = (tail + 4 <= block.len()).then(|| u32_at(block, tail));
    if sum == Some(checksum::of(inode.seed, &block[..tail.min(block.len())])) { Ok(()) } else { Err(()) }
}
