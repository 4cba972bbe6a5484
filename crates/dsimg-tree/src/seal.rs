//! The root file system written anew from its tree, so that equal trees give equal disks, to the bit.
//!
//! What a running system leaves in a file system beside its tree is gone: where blocks and inodes lie, times of access and
//! change, the journal, what was deleted. Geometry and features are the old ones, so whatever could mount, check, grow or boot
//! the old one can do so with the new one. No program of the host is used: which one there is, and its version, would be part of
//! the result.
//!
//! Everything of the new file system follows from the tree, the old superblock and the settings, in this order:
//!
//! 1. In groups that have them, copies of superblock and descriptors; then each flexible group's bitmaps and tables of inodes
//!    ([`skeleton`]).
//! 2. Journal, orphan file and the inode that keeps room for growing ([`special`]).
//! 3. The tree, sorted by path: inodes from the first free one on, and blocks from the first free one on ([`populate`]). What
//!    was a hole in a file stays one, as a swap file must have none.
//! 4. The contents ([`contents`]), and all of the disk that is not the root partition ([`outside`]). Zeros stay holes of the
//!    image.

mod contents;
mod directory;
mod extent_tree;
mod new_inode;
mod outside;
mod populate;
mod skeleton;
mod space;
mod special;
mod target;
mod xattr_bytes;

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::{Fault, TreeError};
use crate::listing::Times;
use crate::read::read_tree;
use crate::tree::{Digest, Tree};

use skeleton::Skeleton;
use target::Target;

/// What of a sealed disk does not come from its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealSettings {
    /// In seconds since 1970. No time in the file system is later.
    pub epoch: u32,
    /// What directories' hashes begin with. Any value will do, if it is the same for all images that are to be equal.
    pub hash_seed: [u8; 16],
}

/// A disk that was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub disk: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Of the tree, as it was read back from the sealed disk.
    pub digest: Digest,
}

/// Makes the raw disk `target` of `image`, with the same tree but for times after the epoch, which become the epoch. The
/// tree is read back and compared before this returns. What was begun is removed when it fails.
///
/// # Errors
/// The image can't be read, was not shut down in order, or has features that can't be made anew; `target` is there
/// already or can't be written.
pub fn seal(image: &Path, target: &Path, settings: &SealSettings) -> Result<Sealed, TreeError> {
    let disk = Disk::open(image)?;
    let tree = read_tree(&disk.root()?)?.clamped(i64::from(settings.epoch));
    let new = Target::create(target, disk.size()).map_err(|fault| fault.of(target))?;
    let digest =
        write(&disk, &tree, &new, settings).map_err(|fault| fault.of(image)).and_then(|()| verify(target, &tree));
    match digest {
        Ok(digest) => Ok(Sealed { disk: target.to_owned(), size: disk.size(), digest }),
        Err(error) => {
            // The cause is what the caller wants to know; a file that stays can be seen.
            drop(std::fs::remove_file(target));
            Err(error)
        }
    }
}

fn write(disk: &Disk, tree: &Tree, target: &Target, settings: &SealSettings) -> Result<(), Fault> {
    let partition = disk.root_partition()?;
    let files = disk.root_files()?;
    let target = target.partition(partition.start, files.superblock().block_size);
    let (mut skeleton, mut space) = Skeleton::place(files.superblock(), settings)?;
    special::write(&files, &mut skeleton, &mut space, &target)?;
    let jobs = populate::write(&files, tree, &mut skeleton, &mut space, &target)?;
    skeleton.write(&space, &target)?;
    contents::copy(&files, &jobs, &target)?;
    outside::copy(disk.source(), partition.start..partition.end, &target)?;
    target.sync()
}

fn verify(target: &Path, tree: &Tree) -> Result<Digest, TreeError> {
    let disk = Disk::open(target)?;
    let (wanted, found) = (tree.digest(Times::Included), read_tree(&disk.root()?)?.digest(Times::Included));
    if wanted == found {
        return Ok(found);
    }
    let what = format!("the tree read back from it has the digest {found}, and should have {wanted}");
    Err(Fault::damaged(what).of(target))
}
