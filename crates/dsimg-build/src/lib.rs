//! Carries out a [`Plan`](dsimg_plan::Plan) on any builder and records what came out.
//!
//! Start reading at [`execute`].

mod base;
pub mod bundle;
pub mod error;
pub mod execute;
mod fetch;
mod files;
mod freeze;
mod guest;
pub mod lock;
pub mod network;
pub mod outlook;
mod output;
mod prepare;
mod record;
mod save;
mod stages;
pub mod start;
mod supply;
mod timings;
pub mod tools;
pub mod upload;

pub use error::BuildError;
pub use execute::{BuildReport, Carried, Job, KeptLock, OnFailure, execute, take_stock};
pub use output::unchanged;
pub use record::{IMAGE_LOCK, record_published};
pub use start::{Opened, Policy, open_checkpoint};
pub use upload::Sources;
