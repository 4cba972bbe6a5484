//! The store of checkpoints: machines saved after their stages, found again by what is in them.
//!
//! `<cache>/checkpoints/<id>/` holds a layer of a disk, often a memory, and `checkpoint.json`, which is written last.
//! Start reading at [`Store`]; what is decided without touching a file is in [`Listing`] and [`evict`].

mod checkpoint;
mod differences;
mod digest;
mod eviction;
mod listing;
mod locks;
mod packing;
mod store;

pub use checkpoint::{Base, Checkpoint, FileFacts, Kind, Memory};
pub use differences::differences;
pub use eviction::{Eviction, Policy, evict, to_compress};
pub use listing::{Listing, Newer};
pub use locks::{Hold, StageLock};
pub use packing::Packing;
pub use store::{Compressed, Damage, Draft, Leftover, Store, StoreError};
