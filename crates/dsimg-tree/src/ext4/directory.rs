//! The names in a directory. A hash tree (htree) hides its nodes in entries that a linear reader takes for unused, so
//! all directories are read linearly.

use super::{FileSystem, Inode, checksum};
use crate::bytes::{u16_at, u32_at};
use crate::error::Fault;

/// Calls `take` with each name and its inode; `.` and `..` are left out.
pub(super) fn read(
    files: &FileSystem<'_>,
    inode: &Inode,
    mut take: impl FnMut(Vec<u8>, u32) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if inode.has_inline_data() {
        // The parent's number comes first.
        parse(inode, &inode.map()[4..], &mut take)?;
        return parse(inode, &super::xattrs::inline_data(files, inode)?, &mut take).map(drop);
    }
    for extent in super::extents::read(files, inode)?.iter().filter(|extent| extent.written) {
        for block in extent.physical..extent.physical + extent.blocks {
            let bytes = files.read_block(block)?;
            let last = parse(inode, &bytes, &mut take)?;
            check(files, inode, &bytes, last)?;
        }
    }
    Ok(())
}

/// Returns where the last entry begins.
fn parse(
    inode: &Inode,
    bytes: &[u8],
    take: &mut impl FnMut(Vec<u8>, u32) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let bad = |what: &str| Fault::damaged(format!("the directory in inode {} {what}", inode.number));
    let (mut at, mut last) = (0, 0);
    while at < bytes.len() {
        last = at;
        let entry = &bytes[at..];
        if entry.len() < 8 {
            return Err(bad("has an entry without an end"));
        }
        let number = u32_at(entry, 0);
        let length = match u16_at(entry, 4) {
            // A block of 64 KiB that is one entry.
            0 | 0xffff if entry.len() == 1 << 16 => 1 << 16,
            length => usize::from(length),
        };
        let name_length = usize::from(entry[6]);
        if length < 8 || length % 4 != 0 || length > entry.len() || 8 + name_length > length {
            return Err(bad("has an entry of an impossible size"));
        }
        let name = &entry[8..8 + name_length];
        if number != 0 && name != b"." && name != b".." {
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                return Err(bad("has a name that no file can have"));
            }
            take(name.to_vec(), number)?;
        }
        at += length;
    }
    Ok(last)
}

/// Blocks of names end with a checksum in what looks like an unused entry. Nodes of a hash tree are one long entry to the
/// end, have theirs elsewhere, and are not read here.
fn check(files: &FileSystem<'_>, inode: &Inode, block: &[u8], last: usize) -> Result<(), Fault> {
    const TAIL: usize = 12;
    let tail = &block[last..];
    let is_tail = tail.len() == TAIL && u32_at(tail, 0) == 0 && u16_at(tail, 4) == 12 && tail[6..8] == [0, 0xde];
    if !files.superblock().has_checksums() || !is_tail {
        return Ok(());
    }
    if u32_at(tail, 8) != checksum::of(inode.seed, &block[..last]) {
        return Err(Fault::damaged(format!("a checksum of the directory in inode {} is wrong", inode.number)));
    }
    Ok(())
}
