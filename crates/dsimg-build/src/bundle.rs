//! What is in a bundle: one file with which a template is built where there is no network.
//!
//! Its members are the template and its lock, at their places; `.dsimg/bundle.json`, which says what else there is; and
//! `.dsimg/variables.toml` with the values that variables had. Its blobs are all that the lock names, the bases, and the
//! files of the host that the template names, at their places relative to the template.

mod blobs;
mod files;
mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use dsimg_machine::KnownBase;
use dsimg_plan::InputError;
use dsimg_store::{BundleError, StoreError};
use serde::{Deserialize, Serialize};

pub use blobs::{blob_of_base, blobs_of, missing};
pub use files::{CarriedFile, HostFiles, gather};
pub use open::{BUNDLES, Unpacked, open, sweep};

/// The version of the form; a reader refuses others.
pub const FORMAT: u32 = 1;

/// The member that is an [`About`].
pub const ABOUT: &str = ".dsimg/bundle.json";

/// The member with values for variables, in the form of a `--var-file`.
pub const VARIABLES: &str = ".dsimg/variables.toml";

/// What a bundle is, beside its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub format: u32,
    /// The version that made it.
    pub dsimg: String,
    /// The template's place in it; its lock is beside it.
    pub template: String,
    /// The builders that were named; empty: those that are not on request.
    pub only: Vec<String>,
    /// The builds that it was made for, by run name.
    pub runs: BTreeSet<String>,
    pub bases: Vec<KnownBase>,
    /// Sensitive variables that had a value from outside the template. The values are not in the bundle.
    pub secrets: BTreeSet<String>,
    /// By their places.
    pub files: BTreeMap<String, CarriedFile>,
    /// Files that the template names and that are not in the bundle, as it names them: nothing is made of them any more.
    pub spared: BTreeSet<PathBuf>,
}

/// Why a bundle can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BundleFault {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("{action} `{}`", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` can't go into a bundle: its place on another host is not known", path.display())]
    Place { path: PathBuf },
    #[error("the lock's entry of {name} has no sha256")]
    NoDigest { name: String },
    #[error("the bundle `{}` was made by a newer dsimg ({made_by})", path.display())]
    Newer { path: PathBuf, made_by: String },
    /// Its bytes are those that were packed, and do not make sense.
    #[error("`{}` is a bundle of something else: {why}", path.display())]
    Foreign { path: PathBuf, why: String },
}

impl BundleFault {
    /// What to do next, when something is known that helps.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bundle(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Place { .. } => Some("name it by a path relative to the template, such as `../common/setup.sh`"),
            Self::NoDigest { .. } => Some("make the lock anew with `dsimg lock --upgrade`"),
            Self::Newer { .. } => Some("use the dsimg that made it"),
            Self::Foreign { .. } => Some("make it anew with `dsimg bundle`"),
            Self::Input(_) | Self::File { .. } => None,
        }
    }

    fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }
}
