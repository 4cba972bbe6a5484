//! From an AMI that exists in one region to all that the template asks of it.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::Image;

use dsimg_machine::{Ami, MachineError, RunContext};
use dsimg_template::template::aws::AmiTable;

use crate::account::Account;

/// What an AMI is called, and what is to become of it.
#[derive(Debug)]
pub(crate) struct AmiJob<'a> {
    /// Of the region where it is made.
    pub(crate) account: &'a Account,
    pub(crate) table: &'a AmiTable,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// All tags of AMI and snapshots, dsimg's own among them.
    pub(crate) tags: BTreeMap<String, String>,
    /// The AMI that it was built on.
    pub(crate) source: Option<String>,
}

/// Nobody pays for a build that ends at a name which is taken: asked before anything is made, in all regions.
///
/// # Errors
/// It is taken in one of them and `replace` is not set, or AWS does not answer.
pub(crate) async fn check_name(_job: &AmiJob<'_>, _run: &RunContext) -> Result<(), MachineError> {
    unimplemented!("in work")
}

/// # Errors
/// It fails, goes away or takes too long, or the build is cancelled.
pub(crate) async fn wait_until_available(
    _account: &Account,
    _id: &str,
    _run: &RunContext,
) -> Result<Image, MachineError> {
    unimplemented!("in work")
}

/// Copies an available AMI to the other regions, tags and shares it, sets deprecation and protection, takes the
/// older one of its name away, and moves the parameter last.
///
/// # Errors
/// Not all was done; called again, it goes on.
pub(crate) async fn distribute(_job: &AmiJob<'_>, _id: &str, _run: &RunContext) -> Result<Vec<Ami>, MachineError> {
    unimplemented!("in work")
}
