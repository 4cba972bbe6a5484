//! Extended attributes, in the inode and in a block of their own.

use super::{FileSystem, Inode, checksum};
use crate::bytes::{put, u16_at, u32_at};
use crate::entry::Xattr;
use crate::error::Fault;

pub(crate) const MAGIC: u32 = 0xea02_0000;
/// Of the block.
pub(crate) const HEADER: usize = 32;
/// Of an attribute, without its name.
pub(crate) const ENTRY: usize = 16;

/// Index and prefix. `system.data` is content, and is not listed.
const PREFIXES: [(u8, &str); 7] = [
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
    (7, "system."),
    (8, "system.richacl"),
];
const INLINE_DATA: &str = "system.data";

/// The index and the rest of a name. `None` for a name that ext4 can't keep.
pub(crate) fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    // The longest first: `system.posix_acl_access` is not `posix_acl_access` below `system.`.
    let mut found: Option<(u8, &[u8], usize)> = None;
    for (index, prefix) in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix.as_bytes())
            && found.is_none_or(|(_, _, length)| prefix.len() > length)
        {
            found = Some((index, rest, prefix.len()));
        }
    }
    found.map(|(index, rest, _)| (index, rest))
}

/// Sorted by name.
pub(super) fn read(files: &FileSystem<'_>, inode: &Inode) -> Result<Vec<Xattr>, Fault> {
    let mut all = read_all(files, inode)?;
    all.retain(|xattr| xattr.name != INLINE_DATA.as_bytes());
    all.sort();
    if all.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return Err(Fault::damaged(format!("inode {} has an extended attribute twice", inode.number)));
    }
    Ok(all)
}

/// What of a small file's content is behind the first 60 bytes.
pub(super) fn inline_data(files: &FileSystem<'_>, inode: &Inode) -> Result<Vec<u8>, Fault> {
    let all = read_all(files, inode)?;
    let value = all.into_iter().find(|xattr| xattr.name == INLINE_DATA.as_bytes());
    Ok(value.map(|xattr| xattr.value).unwrap_or_default())
}

fn read_all(files: &FileSystem<'_>, inode: &Inode) -> Result<Vec<Xattr>, Fault> {
    let mut xattrs = Vec::new();
    let rest = inode.rest();
    if rest.len() >= 8 && u32_at(rest, 0) == MAGIC {
        let rest = &rest[4..];
        parse(inode, rest, rest, &mut xattrs)?;
    }
    let place = inode.xattr_block();
    if place != 0 {
        let block = files.read_block(place)?;
        check_block(files, inode, place, &block)?;
        parse(inode, &block[HEADER..], &block, &mut xattrs)?;
    }
    Ok(xattrs)
}

/// `values` is what places of values count from.
fn parse(inode: &Inode, entries: &[u8], values: &[u8], xattrs: &mut Vec<Xattr>) -> Result<(), Fault> {
    let bad = |what: &str| Fault::damaged(format!("an extended attribute of inode {} {what}", inode.number));
    let mut at = 0;
    while at + 4 <= entries.len() && u32_at(entries, at) != 0 {
        if at + ENTRY > entries.len() {
            return Err(bad("is cut off"));
        }
        let entry = &entries[at..];
        let (length, index) = (usize::from(entry[0]), entry[1]);
        if ENTRY + length > entry.len() {
            return Err(bad("has no end"));
        }
        let rest = &entry[ENTRY..ENTRY + length];
        let prefix = PREFIXES.iter().find(|(number, _)| *number == index);
        let (_, prefix) = prefix.ok_or_else(|| bad(&format!("has the prefix number {index}")))?;
        let name = [prefix.as_bytes(), rest].concat();
        if u32_at(entry, 4) != 0 {
            let shown = String::from_utf8_lossy(&name).into_owned();
            let what = format!("inode {} has `{shown}` in an inode of its own", inode.number);
            return Err(Fault::unsupported(what));
        }
        let (from, size) = (usize::from(u16_at(entry, 2)), u32_at(entry, 8) as usize);
        let value = from.checked_add(size).and_then(|end| values.get(from..end));
        xattrs.push(Xattr { name, value: value.ok_or_else(|| bad("has no value"))?.to_vec() });
        at += (ENTRY + length).next_multiple_of(4);
    }
    Ok(())
}

fn check_block(files: &FileSystem<'_>, inode: &Inode, place: u64, block: &[u8]) -> Result<(), Fault> {
    let at = files.superblock();
    let mut cleared = block.to_vec();
    put(&mut cleared, 16, &[0; 4]);
    let sum = || checksum::of(checksum::of(at.seed, &place.to_le_bytes()), &cleared);
    if u32_at(block, 0) != MAGIC || at.has_checksums() && sum() != u32_at(block, 16) {
        return Err(Fault::damaged(format!("the extended attributes of inode {}", inode.number)));
    }
    Ok(())
}
