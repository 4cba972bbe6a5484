//! A builder on EC2, and the publishing of a local disk as an AMI. The only crate that links an AWS SDK.

mod account;
mod ami;
mod failure;
