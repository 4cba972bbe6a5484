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
mod store;

pub use checkpoint::{Base, Checkpoint, FileFacts, Kind, Memory};
pub use differences::differences;
pub use eviction::{Eviction, Policy, evict};
pub use listing::{Damaged, Listing};
pub use locks::{Hold, StageLock};
pub use store::{Damage, Draft, Store, StoreError};
