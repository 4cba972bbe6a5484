//! A builder on EC2, and the publishing of a local disk as an AMI. The only crate that links an AWS SDK.

mod access;
mod account;
mod ami;
mod attempts;
mod builder;
mod caller;
mod capacity;
mod checkpoint;
mod console;
mod door;
mod failure;
mod image;
mod launch;
mod leftovers;
mod machine;
mod marks;
mod pace;
mod place;
mod policy;
mod prepared;
mod reach;
mod reclaim;
mod remove;
mod request;
mod source;
mod start;
mod user_data;
mod watch;

pub use builder::AwsBuilder;
pub use leftovers::{Leftover, leftovers, remove};
pub use policy::policy_for;
