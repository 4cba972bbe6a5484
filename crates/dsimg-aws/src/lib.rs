//! A builder on EC2, and the publishing of a local disk as an AMI. The only crate that links an AWS SDK.

mod account;
mod ami;
mod custody;
mod encryption;
mod failure;
mod kept;
mod patience;
mod publisher;
mod tags;
mod upload;

pub use kept::everything as kept_resources;
pub use publisher::AwsPublisher;
