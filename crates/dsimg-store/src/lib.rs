//! The package store: everything that a build fetched, by its sha256.
//!
//! `<cache>/store/` is an OCI image layout, so that any registry could hold it:
//!
//! ```text
//! oci-layout, index.json
//! blobs/sha256/HEX        the bytes; the file's time is that of the last use
//! urls/HEX.json           what is known about a URL: which blob it gave, and how to ask whether it changed
//! .incoming/              what is being written; a blob appears by rename, whole and on the disk
//! .damaged/               blobs that were not what their names say
//! ```
//!
//! All of it is private to the user: what a company's mirror hands out may be nobody else's business. Everything here
//! blocks; who has other things to do meanwhile calls it on a thread.

mod bundle;
mod error;
mod known;
mod store;
mod upkeep;
mod writer;

pub use bundle::{BundleBlob, BundleError, Members, pack, unpack};
pub use error::StoreError;
pub use known::Known;
pub use store::{Store, Stored};
pub use upkeep::{Pruned, Pruning, Usage};
pub use writer::{Expected, Writer};
