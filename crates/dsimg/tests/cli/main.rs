//! The program as its users run it, where no machine is needed: words, files and exit codes.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

mod audit;
mod build;
mod bundle;
mod cache;
mod diff;
mod disks;
mod doctor;
mod help;
mod inspect;
mod place;
#[path = "../../../dsimg-manifest/tests/sample/mod.rs"]
mod sample;
mod sbom;
mod stopping;
mod templates;
mod verify;
