//! What can go wrong with an image, in words.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What is wrong, and with which file.
#[derive(Debug, Error)]
#[error("{}: {fault}", image.display())]
pub struct TreeError {
    pub image: PathBuf,
    #[source]
    pub fault: Fault,
}

impl TreeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match &self.fault {
            Fault::Io(_) => None,
            Fault::Damaged(_) => Some("the image is not whole: compare its checksum, or copy or build it again"),
            Fault::Unclean(_) => {
                Some("boot the image and shut it down in order, or run `e2fsck` on its root partition")
            }
            Fault::Unsupported(_) => {
                Some("images that dsimg builds can be read; convert others with `qemu-img convert -O raw`")
            }
            Fault::NoRoot(_) => Some("give an image of a whole disk with an ext4 root file system"),
            Fault::Full(_) => Some("give the image a larger disk, or leave something out"),
        }
    }
}

/// What is wrong with an image.
#[derive(Debug, Error)]
pub enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It contradicts itself or its format.
    #[error("damaged: {0}")]
    Damaged(String),
    /// What is on the disk is not all that was written.
    #[error("the file system was not unmounted in order: {0}")]
    Unclean(String),
    #[error("{0}, which dsimg does not know")]
    Unsupported(String),
    #[error("no root file system: {0}")]
    NoRoot(String),
    /// A sealed file system has no room for its tree.
    #[error("the file system is too small for its tree: {0}")]
    Full(String),
}

impl Fault {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }

    pub(crate) fn of(self, image: &Path) -> TreeError {
        TreeError { image: image.to_owned(), fault: self }
    }
}
