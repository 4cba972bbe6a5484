//! The content of an inode.

use super::inode::InodeKind;
use super::{Extent, FileSystem, Inode, directory, extents, xattrs};
use crate::entry::Xattr;
use crate::error::Fault;

/// What is read at once.
const PIECE: usize = 1 << 20;
/// The longest target of a symlink that the kernel takes.
const MAX_TARGET: u64 = 4096;

/// Where a file's content is.
#[derive(Debug)]
pub(crate) enum BlockMap {
    Inline(Vec<u8>),
    Extents(Vec<Extent>),
}

impl BlockMap {
    /// In blocks of the file system.
    pub(crate) fn allocated(&self) -> u64 {
        match self {
            Self::Inline(_) => 0,
            Self::Extents(extents) => extents.iter().map(|extent| extent.blocks).sum(),
        }
    }

    /// For reading in the order of the disk.
    pub(crate) fn first_block(&self) -> u64 {
        match self {
            Self::Inline(_) => 0,
            Self::Extents(extents) => extents.first().map_or(0, |extent| extent.physical),
        }
    }
}

impl FileSystem<'_> {
    pub(crate) fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>, Fault> {
        xattrs::read(self, inode)
    }

    pub(crate) fn names(
        &self,
        inode: &Inode,
        take: impl FnMut(Vec<u8>, u32) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        directory::read(self, inode, take)
    }

    pub(crate) fn block_map(&self, inode: &Inode) -> Result<BlockMap, Fault> {
        if !inode.has_inline_data() {
            // An ext4 without a tree of extents in an inode has nothing in it.
            let is_empty = inode.map().iter().all(|byte| *byte == 0);
            return Ok(BlockMap::Extents(if is_empty { Vec::new() } else { extents::read(self, inode)? }));
        }
        let mut content = inode.map().to_vec();
        content.extend(xattrs::inline_data(self, inode)?);
        let size = usize::try_from(inode.size()).ok().filter(|size| *size <= content.len());
        let size = size.ok_or_else(|| Fault::damaged(format!("inode {} has less content than size", inode.number)))?;
        content.truncate(size);
        Ok(BlockMap::Inline(content))
    }

    /// Calls `take` with each piece of the content that is on the disk, and its place in the file; what is not called
    /// for is zeros.
    pub(crate) fn each_piece(
        &self,
        map: &BlockMap,
        size: u64,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let extents = match map {
            BlockMap::Inline(content) => return take(0, content),
            BlockMap::Extents(extents) => extents,
        };
        let block_size = self.superblock().block_size;
        let mut buffer = Vec::new();
        for extent in extents.iter().filter(|extent| extent.written) {
            let from = extent.logical * block_size;
            let to = (from + extent.blocks * block_size).min(size);
            let mut at = from;
            while at < to {
                let length = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
                buffer.resize(length, 0);
                self.source().read_at(&mut buffer, self.place(extent.physical) + (at - from))?;
                take(at, &buffer)?;
                at += length as u64;
            }
        }
        Ok(())
    }

    /// The whole content; `None` when it is longer than `limit` bytes.
    pub(crate) fn content(&self, inode: &Inode, limit: usize) -> Result<Option<Vec<u8>>, Fault> {
        let Some(size) = usize::try_from(inode.size()).ok().filter(|size| *size <= limit) else { return Ok(None) };
        let mut content = vec![0; size];
        self.each_piece(&self.block_map(inode)?, inode.size(), |at, piece| {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            content[at..at + piece.len()].copy_from_slice(piece);
            Ok(())
        })?;
        Ok(Some(content))
    }

    pub(crate) fn target(&self, inode: &Inode) -> Result<Vec<u8>, Fault> {
        let size = inode.size();
        let bad = || Fault::damaged(format!("the symlink in inode {} has no target", inode.number));
        if inode.kind != InodeKind::Symlink || size == 0 || size > MAX_TARGET {
            return Err(bad());
        }
        let length = usize::try_from(size).map_err(|_| bad())?;
        let in_inode = !inode.has_inline_data() && length < inode.map().len();
        let target =
            if in_inode { inode.map()[..length].to_vec() } else { self.content(inode, length)?.ok_or_else(bad)? };
        if target.contains(&0) { Err(bad()) } else { Ok(target) }
    }
}
