//! Trees of real file systems: made by `mke2fs` and `debugfs`, checked by `e2fsck`.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

mod damage;
mod diff;
mod formats;
mod listing;
mod rig;
mod seal;
