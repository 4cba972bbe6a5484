//! A verified download into the cache.
//!
//! [`fetch`] gives a file that has the digest it was asked for: from the cache, from the disk, or from the network,
//! where it goes on after an interruption. [`fetch_bytes`] is for what is small and read at once: a checksum file,
//! an index page. [`expected_digest`] reads the checksum a template names. [`Access::door`] is for who hands on what
//! comes while it comes.

mod access;
mod attempt;
mod checksums;
mod digest;
mod door;
mod failure;
mod fetch;
mod partial;
mod retry;
mod small;
mod writer;

pub use access::{Access, ProxyEnvironment};
pub use checksums::{Checksums, expected_digest, parse_checksums};
pub use digest::Expected;
pub use door::{Answer, Door, Question, Trouble};
pub use fetch::{Download, fetch};
pub use small::{Small, SmallRequest, fetch_bytes};
