//! Extended attributes of a new inode: in it, as far as they fit, and in a block.

use super::new_inode::REST;
use crate::bytes::{put, u32_at};
use crate::entry::Xattr;
use crate::error::Fault;
use crate::ext4::Superblock;
use crate::ext4::checksum;
use crate::ext4::xattrs::{ENTRY, HEADER, MAGIC, split_name};

/// Of the list of entries.
const END: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Packed {
    /// What follows the inode's fields.
    pub(super) in_inode: Vec<u8>,
    /// Without its checksum, which needs its place.
    pub(super) block: Option<Vec<u8>>,
}

struct Attribute<'a> {
    index: u8,
    name: &'a [u8],
    value: &'a [u8],
}

impl Attribute<'_> {
    fn size(&self) -> usize {
        (ENTRY + self.name.len()).next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }
}

pub(super) fn pack(xattrs: &[Xattr], at: &Superblock) -> Result<Packed, Fault> {
    let room = at.inode_size - REST;
    let mut attributes = Vec::new();
    for xattr in xattrs {
        let (index, name) =
            split_name(&xattr.name).ok_or_else(|| Fault::unsupported("an extended attribute's name"))?;
        attributes.push(Attribute { index, name, value: &xattr.value });
    }
    // In the order that ext4 wants in blocks.
    attributes.sort_by_key(|attribute| (attribute.index, attribute.name.len(), attribute.name));
    let mut left = room.saturating_sub(4 + END);
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for attribute in attributes {
        match left.checked_sub(attribute.size()) {
            Some(rest) => {
                left = rest;
                inside.push(attribute);
            }
            None => outside.push(attribute),
        }
    }
    let mut packed = Packed::default();
    if !inside.is_empty() {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend(area(&inside, room - 4, 0, false));
        packed.in_inode = bytes;
    }
    if !outside.is_empty() {
        packed.block = Some(block(&outside, at)?);
    }
    Ok(packed)
}

fn block(attributes: &[Attribute<'_>], at: &Superblock) -> Result<Vec<u8>, Fault> {
    let size = at.block_length();
    if attributes.iter().map(Attribute::size).sum::<usize>() + HEADER + END > size {
        return Err(Fault::unsupported("a file has more extended attributes than one block takes"));
    }
    let mut bytes = vec![0; HEADER];
    bytes.extend(area(attributes, size - HEADER, HEADER, true));
    let hash = attributes.iter().fold(0_u32, |hash, attribute| hash.rotate_left(16) ^ hash_of(attribute));
    for (place, value) in [(0, MAGIC), (4, 1), (8, 1), (12, hash)] {
        put(&mut bytes, place, &value.to_le_bytes());
    }
    Ok(bytes)
}

/// Puts in the checksum of a block of attributes, which is in block `place`.
pub(super) fn finish(block: &mut [u8], place: u64, at: &Superblock) {
    let sum = checksum::of(checksum::of(at.seed, &place.to_le_bytes()), block);
    put(block, 16, &sum.to_le_bytes());
}

/// Entries from the front, values from the end. Places of values count from `before` bytes ahead of the area.
fn area(attributes: &[Attribute<'_>], size: usize, before: usize, is_hashed: bool) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let (mut front, mut back) = (0, size);
    for attribute in attributes {
        back -= attribute.value.len().next_multiple_of(4);
        put(&mut bytes, back, attribute.value);
        let place = if attribute.value.is_empty() { 0 } else { back + before };
        bytes[front] = u8::try_from(attribute.name.len()).unwrap_or(u8::MAX);
        bytes[front + 1] = attribute.index;
        put(&mut bytes, front + 2, &u16::try_from(place).unwrap_or(u16::MAX).to_le_bytes());
        put(&mut bytes, front + 8, &u32::try_from(attribute.value.len()).unwrap_or(u32::MAX).to_le_bytes());
        if is_hashed {
            put(&mut bytes, front + 12, &hash_of(attribute).to_le_bytes());
        }
        put(&mut bytes, front + ENTRY, attribute.name);
        front += (ENTRY + attribute.name.len()).next_multiple_of(4);
    }
    bytes
}

fn hash_of(attribute: &Attribute<'_>) -> u32 {
    let of_name = attribute.name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    let mut padded = attribute.value.to_vec();
    padded.resize(padded.len().next_multiple_of(4), 0);
    padded.chunks_exact(4).fold(of_name, |hash, word| hash.rotate_left(16) ^ u32_at(word, 0))
}
