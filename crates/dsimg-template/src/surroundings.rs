//! What a template depends on beside its own text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The values around a template, gathered by the caller; reading a template changes nothing.
pub struct Surroundings<'a> {
    /// What `{{ env.X }}` may name.
    pub environment: BTreeMap<String, String>,
    /// Values for `[variables]`: of each name the one that wins (flag, then file, then environment).
    pub variables: BTreeMap<String, GivenVariable>,
    /// `date`, `time` and `id` of `{{ build.… }}`.
    pub build: BTreeMap<String, String>,
    /// What is at a path on this host; asked for files that the template names.
    pub probe: &'a dyn Fn(&Path) -> PathKind,
}

impl fmt::Debug for Surroundings<'_> {
    /// Names only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

/// A variable's value from outside the template.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenVariable {
    /// As text; of a list its TOML form (`["a", "b"]`) or its elements with commas between them.
    pub value: String,
    pub source: VariableSource,
}

impl fmt::Debug for GivenVariable {
    /// The value may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GivenVariable(… from {})", self.source)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableSource {
    /// `--var`
    Flag,
    /// `--var-file`, with the path as given.
    File(String),
    /// `DSIMG_VAR_name`
    Environment,
}

impl fmt::Display for VariableSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("`--var`"),
            Self::File(path) => write!(f, "`{path}`"),
            Self::Environment => f.write_str("the environment (`DSIMG_VAR_…`)"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    File,
    Folder,
    /// Something that cannot be read as a file, such as a device or a file without permission.
    Unreadable,
    Missing,
}

impl PathKind {
    /// Asks the disk of this host: the probe of a real build.
    #[must_use]
    pub fn on_disk(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Self::Folder,
            Ok(metadata) if metadata.is_file() && std::fs::File::open(path).is_ok() => Self::File,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::Missing,
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Unreadable,
        }
    }
}
