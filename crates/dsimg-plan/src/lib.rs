//! A checked template and its gathered inputs → a [`Plan`].
//!
//! Pure: no async, no network, no clock, no environment. Only `inputs.rs` reads files, and only reads.

pub mod digest;
pub mod plan;

pub use digest::Digest;
pub use plan::{Plan, Stage, Step};
