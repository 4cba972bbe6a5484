//! The commands, one file each; every `run` reads as a list.

pub mod build;
pub mod completions;
pub mod inspect;
pub mod plan;
pub mod schema;
pub mod validate;
