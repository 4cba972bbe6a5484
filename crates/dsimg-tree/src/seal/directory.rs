//! The blocks of a new directory: names in order, without a hash tree, as mke2fs makes them.

use super::new_inode::seed;
use crate::bytes::put;
use crate::ext4::{InodeKind, Superblock, checksum};

/// Of the entry that keeps the checksum.
const TAIL: usize = 12;

#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    pub(super) kind: InodeKind,
}

/// At least `least` blocks, one after the other.
pub(super) fn blocks(number: u32, parent: u32, names: &[Name<'_>], least: usize, at: &Superblock) -> Vec<u8> {
    let size = at.block_length();
    let room = size - TAIL;
    let directory = |name, inode| Name { name, inode, kind: InodeKind::Directory };
    let all = [directory(b".", number), directory(b"..", parent)];
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    // The end of the block's last entry, and its beginning.
    let (mut end, mut last) = (room, 0);
    for name in all.iter().chain(names) {
        let length = (8 + name.name.len()).next_multiple_of(4);
        if end + length > room {
            close(blocks.last_mut(), last, room);
            blocks.push(vec![0; size]);
            end = 0;
        }
        if let Some(block) = blocks.last_mut() {
            put(block, end, &entry(name, length));
        }
        (last, end) = (end, end + length);
    }
    close(blocks.last_mut(), last, room);
    while blocks.len() < least {
        let mut block = vec![0; size];
        close(Some(&mut block), 0, room);
        blocks.push(block);
    }
    for block in &mut blocks {
        let sum = checksum::of(seed(at, number), &block[..room]);
        put(block, room, &[0, 0, 0, 0, 12, 0, 0, 0xde]);
        put(block, room + 8, &sum.to_le_bytes());
    }
    blocks.concat()
}

fn entry(name: &Name<'_>, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    put(&mut bytes, 0, &name.inode.to_le_bytes());
    put(&mut bytes, 4, &size_of_entry(length));
    // A name has at most 255 bytes, as it came from such a directory.
    bytes[6] = u8::try_from(name.name.len()).unwrap_or(u8::MAX);
    bytes[7] = match name.kind {
        InodeKind::File => 1,
        InodeKind::Directory => 2,
        InodeKind::CharacterDevice => 3,
        InodeKind::BlockDevice => 4,
        InodeKind::Fifo => 5,
        InodeKind::Socket => 6,
        InodeKind::Symlink => 7,
    };
    put(&mut bytes, 8, name.name);
    bytes
}

/// The last entry reaches to the end.
fn close(block: Option<&mut Vec<u8>>, last: usize, room: usize) {
    if let Some(block) = block {
        put(block, last + 4, &size_of_entry(room - last));
    }
}

fn size_of_entry(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}
