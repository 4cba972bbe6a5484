//! The repositories that a build's machine installs from.
//!
//! A [`Mirror`] is an HTTP server on this host's loopback. Everything that provisioners fetch comes through it: from
//! outside, through the company's proxy and mirrors, into the package store and to the machine at once; or, with a lock,
//! from repositories that are made of the lock alone.

mod address;
mod age;
mod apt;
mod ask;
mod body;
mod desk;
mod error;
mod fetch;
mod mirror;
mod parts;
mod pins;
mod python;
mod r;
mod record;
mod refusal;
mod respond;
mod transfer;
mod upstream;

pub use error::MirrorError;
pub use mirror::{Mirror, MirrorSettings};
pub use parts::{DebName, DebPart, FilePart, ListedDeb, LockParts, lock_parts};
pub use pins::Pins;
pub use record::{Fetched, FetchedKind};
