//! The session against OpenSSH's own server and against one that misbehaves on purpose.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

mod commands;
mod ending;
mod files;
mod lead_back;
mod login;
mod misbehaving;
mod sshd;
mod terminal;
