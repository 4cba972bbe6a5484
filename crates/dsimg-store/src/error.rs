//! Why the store could not give or take something.

use std::io;
use std::path::{Path, PathBuf};

use dsimg_plan::Digest;

/// What failed and why; the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{action} `{}`: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the package store has no blob {digest}")]
    Missing { digest: Digest },
    /// It was set aside: it is missing from now on.
    #[error("blob {digest} of the package store (`{}`) is damaged: its bytes have the sha256 {found}", path.display())]
    Damaged { digest: Digest, found: Digest, path: PathBuf },
    #[error("what was written is not what was expected: its sha256 is {found}, not {expected}")]
    WrongDigest { expected: Digest, found: Digest },
    #[error("what was written is not what was expected: it has {found} bytes, not {expected}")]
    WrongSize { expected: u64, found: u64 },
}

impl StoreError {
    /// What to do next, when something is known that helps.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room, or put the cache on a larger disk")
            }
            Self::File { .. } => None,
            Self::Missing { .. } => Some("build once with a network, or unpack a bundle that has it"),
            Self::Damaged { .. } => {
                Some("it was set aside; a build with a network fetches it anew. If it happens again, check the disk")
            }
            Self::WrongDigest { .. } | Self::WrongSize { .. } => {
                Some("the file may have been replaced where it comes from: find out why before you trust it")
            }
        }
    }

    /// `action` is a phrase that the path completes: "cannot write".
    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}
