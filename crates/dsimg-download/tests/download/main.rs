//! Downloads from servers that do what servers do on bad days.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

mod bad_days;
mod door;
mod plain;
mod resume;
mod rig;
mod server;
mod tls;
