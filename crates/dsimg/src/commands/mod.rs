//! The commands, one file each; every `run` reads as a list.

pub(crate) mod audit;
pub(crate) mod aws;
pub(crate) mod build;
pub(crate) mod bundle;
pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod gc;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod lock;
pub(crate) mod plan;
pub(crate) mod sbom;
pub(crate) mod schema;
pub(crate) mod shell;
pub(crate) mod validate;
pub(crate) mod verify;
