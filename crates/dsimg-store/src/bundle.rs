//! One file with all that a build needs: an uncompressed tar of an OCI image layout, with one manifest.
//!
//! The manifest's layers are the members (a template's files, its lock), by their title, and the blobs, by digest. The
//! same content gives the same bytes: members and blobs are sorted, and no time or owner is in it. Whoever reads it
//! knows each byte before it comes, from the manifest's digest on, so a change anywhere is seen.

mod layout;
mod pack;
mod tar;
mod unpack;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use dsimg_plan::Digest;

pub use pack::pack;
pub use unpack::unpack;

use crate::error::StoreError;

/// Files by their path inside the bundle: relative, without `..`.
pub type Members = BTreeMap<String, Vec<u8>>;

/// A blob that goes along.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleBlob {
    pub digest: Digest,
    /// For people: `git_2.47_amd64.deb`.
    pub name: String,
    /// Packed by zstd: for what is not packed already, such as a disk.
    pub compress: bool,
    /// Where its bytes are; `None`: in the store.
    pub file: Option<PathBuf>,
}

/// Why a bundle could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{action} `{}`: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// It is something else, or its beginning is damaged.
    #[error("`{}` is no bundle of dsimg, or is damaged: {what}", path.display())]
    NotABundle { path: PathBuf, what: String },
    /// Nothing of it was taken over.
    #[error("the bundle `{}` is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("`{name}` can't be the name of a bundle's member")]
    Name { name: String },
    #[error("{name}: {source}")]
    Blob { name: String, source: StoreError },
    /// A file beside the store.
    #[error("`{}` is not what it was: its sha256 is not {digest}", path.display())]
    Changed { path: PathBuf, digest: Digest },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BundleError {
    /// What to do next, when something is known that helps.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotABundle { .. } | Self::Damaged { .. } => {
                Some("copy it anew, and compare its sha256 with that where it was made; do not use what is in it")
            }
            Self::Name { .. } => Some("members have relative paths, without `..`"),
            Self::Blob { source, .. } | Self::Store(source) => source.hint(),
            Self::Changed { .. } => Some(
                "if nobody changed it, the disk did; of a base `dsimg cache verify` says the same, and sets it aside",
            ),
            Self::File { .. } => None,
        }
    }

    fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}

/// Members' names come from outside when a bundle is read.
fn check_name(name: &str) -> Result<(), BundleError> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    match plain && !name.is_empty() && !name.contains(['\0', '\\']) && !name.ends_with('/') && !name.contains("//") {
        true => Ok(()),
        false => Err(BundleError::Name { name: name.escape_default().to_string() }),
    }
}
