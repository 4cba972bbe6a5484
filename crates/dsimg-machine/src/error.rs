//! Why a machine could not be had, kept or saved.

use std::path::PathBuf;

use crate::session::SessionError;

/// What failed, why, and what to do next; the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The host lacks something: a program, memory, disk space, a permission. Exit code 3.
    #[error("{what}")]
    HostNotReady { what: String, hint: Option<String> },
    /// What the template asks for can't be had as it stands: a wrong checksum, a suite that is no more.
    #[error("{what}")]
    Refused { what: String, hint: Option<String> },
    /// The outside failed in a way that may pass: a mirror, a download. Exit code 75.
    #[error("{what}")]
    TryAgain { what: String, hint: Option<String> },
    /// The machine did not come up, or went away; with the last lines of its console.
    #[error("{what}")]
    Machine { what: String, hint: Option<String>, console: String },
    /// What a saved machine stands on is not there any more: it is made anew from what is before it.
    #[error("{what}")]
    Missing { what: String },
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("cancelled")]
    Cancelled,
}

impl MachineError {
    /// `action` is a phrase that the path completes: "cannot write".
    #[must_use]
    pub fn file(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    #[must_use]
    pub fn host(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::HostNotReady { what: what.into(), hint: Some(hint.into()) }
    }

    #[must_use]
    pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: Some(hint.into()) }
    }

    #[must_use]
    pub fn try_again(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::TryAgain { what: what.into(), hint: Some(hint.into()) }
    }

    /// What to do next, when something is known that helps.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::HostNotReady { hint, .. }
            | Self::Refused { hint, .. }
            | Self::TryAgain { hint, .. }
            | Self::Machine { hint, .. } => hint.as_deref(),
            Self::Missing { .. } | Self::File { .. } | Self::Session(_) | Self::Cancelled => None,
        }
    }
}
