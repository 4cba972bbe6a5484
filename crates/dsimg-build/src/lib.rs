//! Carries out a [`Plan`](dsimg_plan::Plan) on any builder and records what came out.
//!
//! Start reading at [`execute`].

pub mod error;
pub mod execute;
mod fetch;
mod freeze;
mod guest;
pub mod network;
pub mod outlook;
mod output;
mod prepare;
mod record;
mod save;
mod stages;
pub mod start;
mod timings;
pub mod tools;
pub mod upload;

pub use error::BuildError;
pub use execute::{BuildReport, Job, OnFailure, execute};
pub use output::unchanged;
pub use record::record_published;
pub use start::{Opened, Policy, open_checkpoint};
pub use upload::Sources;
