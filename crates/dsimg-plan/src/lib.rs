//! A checked template and its gathered inputs → a [`Plan`].
//!
//! Pure: no async, no network, no clock, no environment. Only `inputs.rs` reads files, and only reads.

pub mod digest;
pub mod inputs;
mod key_inputs;
pub mod make;
pub mod parameters;
pub mod plan;

pub use digest::Digest;
pub use inputs::{InputError, Inputs, gather_inputs};
pub use make::{PlanError, make_plans};
pub use plan::{Plan, Stage, Step};
