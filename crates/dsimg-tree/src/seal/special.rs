//! The inodes of the file system itself: journal, orphan file, and the reserve for more descriptors.

use super::extent_tree;
use super::new_inode::{NewInode, seed, word_of};
use super::skeleton::Skeleton;
use super::space::Space;
use super::target::TargetPartition;
use crate::bytes::{put, u32_at};
use crate::entry::Time;
use crate::error::Fault;
use crate::ext4::{Extent, FileSystem, Superblock, checksum, features, flags};

const RESIZE_INODE: u32 = 7;
const JOURNAL_INODE: u32 = 8;
const ORPHAN_FILE: usize = 0x280;
const FILE_OF_ROOT: u16 = 0o100_600;
/// In which a block map keeps the block of blocks of blocks.
const DOUBLE: usize = 13;
/// The first twelve of a block map are blocks of the file itself.
const DIRECT: u64 = 12;

pub(super) fn write(
    files: &FileSystem<'_>,
    skeleton: &mut Skeleton<'_>,
    space: &mut Space,
    target: &TargetPartition<'_>,
) -> Result<(), Fault> {
    let at = skeleton.at;
    if at.compatible & features::RESIZE_INODE != 0 && at.reserved_descriptor_blocks() > 0 {
        write_resize_inode(skeleton, space, target)?;
    }
    if at.compatible & features::JOURNAL != 0 {
        let size = files.inode(JOURNAL_INODE)?.size();
        let (inode, extents) = file(JOURNAL_INODE, size, skeleton, space, target)?;
        target.write(&journal_superblock(at, size), extents.first().map_or(0, |extent| extent.physical), 0)?;
        skeleton.journal = Some((inode.map, size));
        skeleton.write_inode(&inode, target)?;
    }
    if at.compatible & features::ORPHAN_FILE != 0 {
        let size = files.inode(u32_at(&at.bytes, ORPHAN_FILE))?.size();
        let number = skeleton.take_inode()?;
        let (inode, extents) = file(number, size, skeleton, space, target)?;
        for block in extents.iter().flat_map(|extent| extent.physical..extent.physical + extent.blocks) {
            target.write(&orphan_block(at, number, block), block, 0)?;
        }
        skeleton.orphan_file = number;
        skeleton.write_inode(&inode, target)?;
    }
    Ok(())
}

fn file(
    number: u32,
    size: u64,
    skeleton: &Skeleton<'_>,
    space: &mut Space,
    target: &TargetPartition<'_>,
) -> Result<(NewInode, Vec<Extent>), Fault> {
    let at = skeleton.at;
    if size == 0 || !size.is_multiple_of(at.block_size) {
        return Err(Fault::damaged(format!("inode {number} of the file system itself has {size} bytes")));
    }
    let mut extents = Vec::new();
    space.take_extents(0, size / at.block_size, &mut extents)?;
    let (map, of_tree) = extent_tree::write(number, &extents, at, space, target)?;
    let mut inode = of_root(number, size, skeleton);
    (inode.flags, inode.map, inode.blocks) = (flags::EXTENTS, map, size / at.block_size + of_tree);
    Ok((inode, extents))
}

fn of_root(number: u32, size: u64, skeleton: &Skeleton<'_>) -> NewInode {
    NewInode {
        number,
        mode: FILE_OF_ROOT,
        uid: 0,
        gid: 0,
        size,
        links: 1,
        flags: 0,
        time: Time { seconds: i64::from(skeleton.settings.epoch), nanoseconds: 0 },
        map: [0; 60],
        blocks: 0,
        xattr_block: 0,
        rest: Vec::new(),
    }
}

/// It owns the reserved blocks: each in the first group is a list of its copies in the others, and all of them are
/// listed by one block. The kernel grows a mounted file system with it.
fn write_resize_inode(
    skeleton: &mut Skeleton<'_>,
    space: &mut Space,
    target: &TargetPartition<'_>,
) -> Result<(), Fault> {
    let at = skeleton.at;
    let per_block = at.block_size / 4;
    let copies: Vec<u64> = (1..at.groups()).filter(|group| at.has_copy(*group)).collect();
    let (first, reserved) = (at.descriptor_blocks(), at.reserved_descriptor_blocks());
    if copies.len() as u64 > per_block || reserved > per_block {
        return Err(Fault::unsupported("more reserved descriptors than one block can list"));
    }
    let mut list = vec![0; at.block_length()];
    for number in first..first + reserved {
        let block = at.first_block + 1 + number;
        let place = usize::try_from(number % per_block * 4).unwrap_or(0);
        put(&mut list, place, &word_of(block).to_le_bytes());
        let places = copies.iter().map(|group| word_of(block + group * at.blocks_per_group));
        target.write(&places.flat_map(u32::to_le_bytes).collect::<Vec<u8>>(), block, 0)?;
    }
    let block = space.take_next()?;
    target.write(&list, block, 0)?;
    let size = (per_block * per_block + per_block + DIRECT) * at.block_size;
    let mut inode = of_root(RESIZE_INODE, size, skeleton);
    put(&mut inode.map, DOUBLE * 4, &word_of(block).to_le_bytes());
    inode.blocks = 1 + reserved * (1 + copies.len() as u64);
    skeleton.write_inode(&inode, target)
}

/// Of an empty journal. Its numbers are big-endian; features are for the kernel to turn on.
fn journal_superblock(at: &Superblock, size: u64) -> Vec<u8> {
    const MAGIC: u32 = 0xc03b_3998;
    const SUPERBLOCK: u32 = 4;
    let mut bytes = vec![0; 1024];
    // Magic, kind of block; sizes of block and journal, first block, first transaction; users.
    let (block_size, blocks) = (word_of(at.block_size), word_of(size / at.block_size));
    for (place, value) in [(0, MAGIC), (4, SUPERBLOCK), (12, block_size), (16, blocks), (20, 1), (24, 1), (64, 1)] {
        put(&mut bytes, place, &value.to_be_bytes());
    }
    put(&mut bytes, 48, &at.bytes[0x68..0x78]);
    bytes
}

/// Without orphans. Ends with a magic number and a checksum.
fn orphan_block(at: &Superblock, number: u32, block: u64) -> Vec<u8> {
    const MAGIC: u32 = 0x0b10_ca04;
    let mut bytes = vec![0; at.block_length()];
    let end = bytes.len() - 8;
    let sum = checksum::of(checksum::of(seed(at, number), &block.to_le_bytes()), &bytes[..end]);
    put(&mut bytes, end, &MAGIC.to_le_bytes());
    put(&mut bytes, end + 4, &sum.to_le_bytes());
    bytes
}
