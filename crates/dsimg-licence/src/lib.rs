//! The licence that a package's own file says it has, as an SPDX expression where that is certain.
//!
//! Beside it, what a Debian package says of itself. Files are read as streams, up to the one that is looked for. Nothing is ever guessed from a licence's text.

mod archive;
mod deb;
mod debian_names;
mod fields;
mod names;
mod python;
mod r;

use std::io;
use std::path::{Path, PathBuf};

/// What a package says of its licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Licence {
    /// A valid SPDX expression; terms that SPDX does not list are a `LicenseRef-…`.
    Expression(String),
    /// The package's own words, whose meaning is not certain.
    Name(String),
}

impl Licence {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Expression(text) | Self::Name(text) => text,
        }
    }
}

/// Which form a file has; the package store's names do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Deb,
    /// A wheel or a source distribution.
    Python,
    /// A source or binary tarball of R.
    R,
}

/// A file that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("the package `{}` can't be read: {reason}", file.display())]
pub struct LicenceError {
    pub file: PathBuf,
    pub reason: String,
}

impl LicenceError {
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "its bytes are not those of such a package: remove it from the package store, and it is fetched again"
    }
}

/// `None`: the package says nothing that a machine can read.
///
/// # Errors
/// The file can't be read, or is of another form.
pub fn licence_of(kind: Kind, file: &Path) -> Result<Option<Licence>, LicenceError> {
    let found = match kind {
        Kind::Deb => deb::copyright(file).map(|text| text.and_then(|text| deb::licence(&text))),
        Kind::Python => python::metadata(file).map(|text| python::licence(&text)),
        Kind::R => r::description(file).map(|text| r::licence(&text)),
    };
    found.map_err(|error| of_another_form(file, &error))
}

/// The control file of a Debian package: what lists of packages are made of.
///
/// # Errors
/// The file can't be read, or is of another form.
pub fn control_of(file: &Path) -> Result<String, LicenceError> {
    let found = deb::control(file).and_then(|text| text.ok_or_else(|| io::Error::other("it has no control file")));
    found.map_err(|error| of_another_form(file, &error))
}

fn of_another_form(file: &Path, error: &io::Error) -> LicenceError {
    LicenceError { file: file.to_owned(), reason: error.to_string() }
}
