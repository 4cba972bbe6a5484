//! The tree's inodes, directories, links and attributes; of files, only the places of their contents.

use std::collections::HashMap;

use super::contents::Job;
use super::directory::{self, Name};
use super::extent_tree;
use super::new_inode::NewInode;
use super::skeleton::Skeleton;
use super::space::Space;
use super::target::TargetPartition;
use super::xattr_bytes;
use crate::bytes::put;
use crate::entry::{Entry, Kind};
use crate::error::Fault;
use crate::ext4::{BlockMap, Extent, FileSystem, InodeKind, ROOT_INODE, flags};
use crate::tree::Tree;

/// e2fsck needs room in it for what it finds: as much as mke2fs gives it, in bytes.
const LOST_AND_FOUND: (&[u8], u64) = (b"/lost+found", 16 << 10);
/// A shorter target is in the inode.
const LONG_TARGET: usize = 60;
/// Directories with more are said to have one.
const MAX_LINKS: usize = 64_998;

/// Returns the contents to copy.
pub(super) fn write(
    files: &FileSystem<'_>,
    tree: &Tree,
    skeleton: &mut Skeleton<'_>,
    space: &mut Space,
    target: &TargetPartition<'_>,
) -> Result<Vec<Job>, Fault> {
    let nodes = Nodes::number(tree, skeleton)?;
    let mut jobs = Vec::new();
    for (entry, old) in tree.with_inodes().filter(|(entry, _)| entry.same_as.is_none()) {
        let mut writer = Writer { files, nodes: &nodes, skeleton, space, target };
        jobs.extend(writer.write(entry, old)?);
    }
    Ok(jobs)
}

/// The new numbers.
struct Nodes<'t> {
    /// By the old ones.
    numbers: HashMap<u32, u32>,
    links: HashMap<u32, usize>,
    /// By the path of their directory.
    names: HashMap<&'t [u8], Vec<Name<'t>>>,
}

impl<'t> Nodes<'t> {
    fn number(tree: &'t Tree, skeleton: &mut Skeleton<'_>) -> Result<Self, Fault> {
        let mut nodes = Self { numbers: HashMap::new(), links: HashMap::new(), names: HashMap::new() };
        for (entry, old) in tree.with_inodes() {
            let number = match nodes.numbers.get(&old) {
                Some(number) => *number,
                None if old == ROOT_INODE => ROOT_INODE,
                None => skeleton.take_inode()?,
            };
            nodes.numbers.insert(old, number);
            *nodes.links.entry(old).or_default() += 1;
            if let Some((parent, name)) = split(&entry.path) {
                let name = Name { name, inode: number, kind: kind(entry) };
                nodes.names.entry(parent).or_default().push(name);
            }
        }
        Ok(nodes)
    }
}

struct Writer<'w, 's> {
    files: &'w FileSystem<'w>,
    nodes: &'w Nodes<'w>,
    skeleton: &'w mut Skeleton<'s>,
    space: &'w mut Space,
    target: &'w TargetPartition<'w>,
}

impl Writer<'_, '_> {
    fn write(&mut self, entry: &Entry, old: u32) -> Result<Option<Job>, Fault> {
        let at = self.skeleton.at;
        let mut inode = self.bare(entry, old);
        self.write_xattrs(entry, &mut inode)?;
        let mut job = None;
        match &entry.kind {
            Kind::Directory => self.write_directory(entry, &mut inode)?,
            Kind::File { size, .. } => {
                let map = self.files.block_map(&self.files.inode(old)?)?;
                let mut extents = Vec::new();
                for (first, blocks) in runs(&map, size.div_ceil(at.block_size), *size) {
                    self.space.take_extents(first, blocks, &mut extents)?;
                }
                self.put_extents(&mut inode, *size, &extents)?;
                job = Some(Job { map, size: *size, extents });
            }
            Kind::Symlink { target } if target.len() < LONG_TARGET => {
                inode.size = target.len() as u64;
                put(&mut inode.map, 0, target);
            }
            Kind::Symlink { target } => self.write_content(&mut inode, target)?,
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                inode.map = device_map(*major, *minor);
            }
            Kind::Fifo | Kind::Socket => {}
        }
        self.skeleton.write_inode(&inode, self.target)?;
        Ok(job)
    }

    /// Without content.
    fn bare(&self, entry: &Entry, old: u32) -> NewInode {
        let names = self.nodes.names.get(entry.path.as_slice());
        let subfolders = names.into_iter().flatten().filter(|name| name.kind == InodeKind::Directory).count();
        let links = if entry.kind == Kind::Directory { 2 + subfolders } else { self.nodes.links[&old] };
        NewInode {
            number: self.nodes.numbers[&old],
            mode: mode_of_kind(kind(entry)) | entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: 0,
            links: if links > MAX_LINKS { 1 } else { u16::try_from(links).unwrap_or(1) },
            flags: entry.flags,
            time: entry.mtime,
            map: [0; 60],
            blocks: 0,
            xattr_block: 0,
            rest: Vec::new(),
        }
    }

    fn write_xattrs(&mut self, entry: &Entry, inode: &mut NewInode) -> Result<(), Fault> {
        let at = self.skeleton.at;
        let packed = xattr_bytes::pack(&entry.xattrs, at)?;
        inode.rest = packed.in_inode;
        if let Some(mut bytes) = packed.block {
            inode.xattr_block = self.space.take_next()?;
            inode.blocks += 1;
            xattr_bytes::finish(&mut bytes, inode.xattr_block, at);
            self.target.write(&bytes, inode.xattr_block, 0)?;
        }
        Ok(())
    }

    fn write_directory(&mut self, entry: &Entry, inode: &mut NewInode) -> Result<(), Fault> {
        let at = self.skeleton.at;
        let parent = self.nodes.parent(&entry.path).unwrap_or(ROOT_INODE);
        let names = self.nodes.names.get(entry.path.as_slice()).map_or(&[][..], Vec::as_slice);
        let (path, room) = LOST_AND_FOUND;
        let least = if entry.path == path { room / at.block_size } else { 1 };
        let least = usize::try_from(least).unwrap_or(1);
        let blocks = directory::blocks(inode.number, parent, names, least, at);
        self.write_content(inode, &blocks)
    }

    fn write_content(&mut self, inode: &mut NewInode, content: &[u8]) -> Result<(), Fault> {
        let at = self.skeleton.at;
        let mut extents = Vec::new();
        self.space.take_extents(0, (content.len() as u64).div_ceil(at.block_size), &mut extents)?;
        for extent in &extents {
            let from = usize::try_from(extent.logical * at.block_size).unwrap_or(usize::MAX);
            let to = usize::try_from((extent.logical + extent.blocks) * at.block_size).unwrap_or(usize::MAX);
            self.target.write(&content[from..to.min(content.len())], extent.physical, 0)?;
        }
        self.put_extents(inode, content.len() as u64, &extents)
    }

    fn put_extents(&mut self, inode: &mut NewInode, size: u64, extents: &[Extent]) -> Result<(), Fault> {
        let (map, of_tree) = extent_tree::write(inode.number, extents, self.skeleton.at, self.space, self.target)?;
        inode.size = size;
        inode.map = map;
        inode.flags |= flags::EXTENTS;
        inode.blocks += extents.iter().map(|extent| extent.blocks).sum::<u64>() + of_tree;
        Ok(())
    }
}

impl Nodes<'_> {
    /// The number of the directory that a path is in.
    fn parent(&self, path: &[u8]) -> Option<u32> {
        let (parent, _) = split(path)?;
        let (above, name) = split(parent)?;
        let names = self.names.get(above)?;
        let index = names.binary_search_by(|other| other.name.cmp(name)).ok()?;
        Some(names[index].inode)
    }
}

/// Directory and name; the root has none.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path == b"/" {
        return None;
    }
    let end = path.iter().rposition(|byte| *byte == b'/')?;
    Some((&path[..end.max(1)], &path[end + 1..]))
}

/// First and count of the blocks of a file that are no hole, up to its end.
fn runs(map: &BlockMap, end: u64, size: u64) -> Vec<(u64, u64)> {
    match map {
        BlockMap::Inline(_) if size == 0 => Vec::new(),
        BlockMap::Inline(_) => vec![(0, end)],
        BlockMap::Extents(extents) => extents
            .iter()
            .filter(|extent| extent.logical < end)
            .map(|extent| (extent.logical, extent.blocks.min(end - extent.logical)))
            .collect(),
    }
}

fn kind(entry: &Entry) -> InodeKind {
    match entry.kind {
        Kind::Directory => InodeKind::Directory,
        Kind::File { .. } => InodeKind::File,
        Kind::Symlink { .. } => InodeKind::Symlink,
        Kind::CharacterDevice { .. } => InodeKind::CharacterDevice,
        Kind::BlockDevice { .. } => InodeKind::BlockDevice,
        Kind::Fifo => InodeKind::Fifo,
        Kind::Socket => InodeKind::Socket,
    }
}

fn mode_of_kind(kind: InodeKind) -> u16 {
    let number = match kind {
        InodeKind::Fifo => 0x1,
        InodeKind::CharacterDevice => 0x2,
        InodeKind::Directory => 0x4,
        InodeKind::BlockDevice => 0x6,
        InodeKind::File => 0x8,
        InodeKind::Symlink => 0xa,
        InodeKind::Socket => 0xc,
    };
    number << 12
}

/// As the kernel writes the numbers: small ones the old way.
fn device_map(major: u32, minor: u32) -> [u8; 60] {
    let mut map = [0; 60];
    if major < 256 && minor < 256 {
        put(&mut map, 0, &(major << 8 | minor).to_le_bytes());
    } else {
        put(&mut map, 4, &(minor & 0xff | major << 8 | (minor & !0xff) << 12).to_le_bytes());
    }
    map
}
