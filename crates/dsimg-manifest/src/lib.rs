//! The manifest of an image: pure data and its forms.

pub mod diff;
pub mod freeze;
pub mod inspect;
pub mod inventory;
pub mod lock;
pub mod manifest;
mod names;
pub mod outputs;
pub mod sbom;
pub mod versions;

pub use freeze::{Frozen, attribute, parse_frozen};
pub use inventory::Inventory;
pub use lock::{Lock, LockFile};
pub use manifest::{Manifest, ManifestError, Package};
pub use names::normal_name;
