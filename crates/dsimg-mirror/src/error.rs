//! Why a mirror could not start or go on.

use std::io;

use dsimg_store::StoreError;

/// What failed and why; the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error("the mirror can't start: {source}")]
    Start { source: io::Error },
    /// A login is left out.
    #[error("`{address}` is no address of a mirror")]
    NoAddress { address: String },
    #[error("the mirror ended by itself")]
    Died,
    #[error("the machine was given a file that the package store could not keep: {why}")]
    Lost { why: String },
    /// Something that the lock names is not as it must be.
    #[error("{what}: {source}")]
    Store { what: String, source: StoreError },
    /// A package of a lock, which is in no store here.
    #[error("{shown} is in the lock and not in the package store: {why}")]
    Gone { shown: String, why: String },
    #[error("{what}")]
    Unreadable { what: String, hint: &'static str },
    #[error(transparent)]
    Outside(#[from] dsimg_machine::MachineError),
}

impl MirrorError {
    /// What to do next, when something is known that helps.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Start { .. } | Self::Died => None,
            Self::NoAddress { .. } => Some("write it like `https://mirror.example.org/debian`"),
            Self::Lost { .. } => Some("look whether the disk with the cache is full"),
            Self::Store { source, .. } => source.hint(),
            Self::Gone { .. } => {
                Some("take a store or a bundle (`dsimg bundle`) that has it, or run `dsimg lock` for what there is now")
            }
            Self::Unreadable { hint, .. } => Some(hint),
            Self::Outside(error) => error.hint(),
        }
    }
}
