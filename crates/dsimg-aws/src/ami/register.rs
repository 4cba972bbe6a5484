//! RegisterImage, which knows no client token: the name, which only one AMI can have, is what makes it safe to repeat.

use aws_sdk_ec2::operation::register_image::builders::RegisterImageFluentBuilder;
use aws_sdk_ec2::types::Image;

use dsimg_machine::{MachineError, RunContext};

use super::find;
use crate::account::Account;
use crate::failure::{code, explain, may_be_done};
use crate::pace::{Pace, until_cancelled};
use crate::patience::NOT_SEEN_YET;

/// Sends the call; whatever its answer, an AMI of this name with this root snapshot is the one that it made.
///
/// # Errors
/// AWS refuses, the name is another AMI's, or the build is cancelled.
pub(crate) async fn register(
    call: RegisterImageFluentBuilder,
    name: &str,
    root_snapshot: &str,
    account: &Account,
    run: &RunContext,
) -> Result<String, MachineError> {
    let error = match until_cancelled(&run.cancel, call.name(name).send()).await? {
        Ok(answer) => match answer.image_id() {
            Some(id) => return Ok(id.to_owned()),
            None => return find_made(name, root_snapshot, account, run).await?.ok_or_else(|| unknown(name)),
        },
        Err(error) => error,
    };
    if (may_be_done(&error) || code(&error) == Some("InvalidAMIName.Duplicate"))
        && let Some(id) = find_made(name, root_snapshot, account, run).await?
    {
        return Ok(id);
    }
    Err(explain(&format!("register the AMI `{name}`"), account, error))
}

async fn find_made(
    name: &str,
    root_snapshot: &str,
    account: &Account,
    run: &RunContext,
) -> Result<Option<String>, MachineError> {
    let mut pace = Pace::within(NOT_SEEN_YET / 4);
    loop {
        if let Some(image) = find::by_name(account, name, run).await? {
            let is_ours = find::snapshots(&image).first().is_some_and(|snapshot| snapshot == root_snapshot);
            return Ok(is_ours.then(|| find::id(&image).to_owned()));
        }
        if !pace.next(&run.cancel).await? {
            return Ok(None);
        }
    }
}

fn unknown(name: &str) -> MachineError {
    MachineError::try_again(format!("AWS registered the AMI `{name}` and did not say its id"), "run the same again")
}

/// The call that makes an AMI like this one, of the same snapshots.
pub(super) fn like(image: &Image, account: &Account) -> RegisterImageFluentBuilder {
    account
        .ec2
        .register_image()
        .set_description(image.description().map(ToOwned::to_owned))
        .set_architecture(image.architecture().cloned())
        .set_virtualization_type(image.virtualization_type().map(|kind| kind.as_str().to_owned()))
        .set_root_device_name(image.root_device_name().map(ToOwned::to_owned))
        .set_ena_support(image.ena_support())
        .set_sriov_net_support(image.sriov_net_support().map(ToOwned::to_owned))
        .set_boot_mode(image.boot_mode().cloned())
        .set_tpm_support(image.tpm_support().cloned())
        .set_imds_support(image.imds_support().cloned())
        .set_block_device_mappings(Some(
            image.block_device_mappings().iter().cloned().map(without_encryption).collect(),
        ))
}

/// It comes with the snapshot, and saying so is an error.
fn without_encryption(mut mapping: aws_sdk_ec2::types::BlockDeviceMapping) -> aws_sdk_ec2::types::BlockDeviceMapping {
    if let Some(ebs) = mapping.ebs.as_mut().filter(|ebs| ebs.snapshot_id.is_some()) {
        ebs.encrypted = None;
        ebs.kms_key_id = None;
    }
    mapping
}
