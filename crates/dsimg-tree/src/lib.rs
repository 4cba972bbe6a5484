//! The file tree of a disk image, read without booting it and without root.
//!
//! [`Disk::open`] takes a qcow2 or raw image, [`Disk::root`] finds its root file system, [`read_tree`] reads every file of
//! it. A [`Tree`] has a digest and a listing, [`diff`] tells two apart, and [`seal`] writes the root file system anew so that
//! equal trees give equal disks.

mod bytes;
mod diff;
mod disk;
mod entry;
mod error;
mod escape;
mod ext4;
mod listing;
mod owners;
mod read;
mod seal;
mod tree;

pub use diff::{Aspect, Change, Difference, Texts, TreeDiff, diff, read_texts};
pub use disk::{Disk, Partition, PartitionKind};
pub use entry::{Content, Entry, Kind, Time, Xattr};
pub use error::{Fault, TreeError};
pub use ext4::FileSystem;
pub use listing::{ListingError, Times, parse_listing, write_listing};
pub use owners::{Ecosystem, Owner, Owners};
pub use read::read_tree;
pub use seal::{SealSettings, Sealed, seal};
pub use tree::{Digest, Tree};
