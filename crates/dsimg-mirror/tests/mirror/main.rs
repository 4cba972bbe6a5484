//! The mirror between a misbehaving outside and real clients.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

mod apt;
mod client;
mod open;
mod python;
mod r;
mod rig;
mod upstream;
