//! The manifest of an image: pure data and its forms.

pub mod freeze;
pub mod inspect;
pub mod manifest;
pub mod outputs;

pub use freeze::{Frozen, attribute, parse_frozen};
pub use manifest::{Manifest, ManifestError, Package};
