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
pub(crate) async fn check_name(job: &AmiJob<'_>, _run: &RunContext) -> Result<(), MachineError> {
    // Minimal, for the builder's tests; the publisher's replaces it.
    let filter = aws_sdk_ec2::types::Filter::builder().name("name").values(&job.name).build();
    let found = job.account.ec2.describe_images().owners("self").filters(filter).send().await;
    let found = found.map_err(|error| crate::failure::explain("look for the name", job.account, error))?;
    match found.images().first().and_then(Image::image_id) {
        Some(id) if !job.table.replace => {
            Err(MachineError::refused(format!("`{}` is the name of {id}", job.name), "choose another name"))
        }
        _ => Ok(()),
    }
}

/// The name to make the AMI under: another one while an AMI that is to be replaced has the wanted one. [`distribute`]
/// brings the two together.
///
/// # Errors
/// The name is taken, or AWS does not answer.
pub(crate) async fn name_to_make(job: &AmiJob<'_>, _run: &RunContext) -> Result<String, MachineError> {
    // Minimal, for the builder's tests; the publisher's replaces it.
    Ok(job.name.clone())
}

/// # Errors
/// It fails, goes away or takes too long, or the build is cancelled.
pub(crate) async fn wait_until_available(account: &Account, id: &str, run: &RunContext) -> Result<Image, MachineError> {
    // Minimal, for the builder's tests; the publisher's replaces it.
    let mut pace = crate::pace::Pace::slow(std::time::Duration::from_secs(3600));
    loop {
        let found = account.ec2.describe_images().image_ids(id).send().await;
        let found = match found {
            Err(error) if crate::failure::code(&error) == Some("InvalidAMIID.NotFound") => None,
            found => found
                .map_err(|error| crate::failure::explain("look at the AMI", account, error))?
                .images()
                .first()
                .cloned(),
        };
        match found.as_ref().and_then(|image| Some(image.state()?.as_str().to_owned())).as_deref() {
            Some("available") => return Ok(found.expect("it has a state")),
            Some("pending") | None => {}
            Some(state) => return Err(MachineError::Refused { what: format!("{id} is {state}"), hint: None }),
        }
        if !pace.next(&run.cancel).await? {
            return Err(MachineError::Refused { what: format!("{id} is still pending"), hint: None });
        }
    }
}

/// Copies an available AMI to the other regions, tags and shares it, sets deprecation and protection, takes the
/// older one of its name away, and moves the parameter last.
///
/// # Errors
/// Not all was done; called again, it goes on.
pub(crate) async fn distribute(job: &AmiJob<'_>, id: &str, run: &RunContext) -> Result<Vec<Ami>, MachineError> {
    // Minimal, for the builder's tests; the publisher's replaces it.
    let image = wait_until_available(job.account, id, run).await?;
    let snapshots = image.block_device_mappings().iter().filter_map(|device| device.ebs()?.snapshot_id());
    Ok(vec![Ami {
        region: job.account.region.clone(),
        id: id.to_owned(),
        name: job.name.clone(),
        snapshots: snapshots.map(str::to_owned).collect(),
        source: job.source.clone(),
        parameter: None,
    }])
}
