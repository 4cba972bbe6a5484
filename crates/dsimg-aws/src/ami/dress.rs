//! What an AMI has beside its content: tags, description, who may use it, until when.

use aws_sdk_ec2::types::{
    AttributeValue, CreateVolumePermission, CreateVolumePermissionModifications, Image, ImdsSupportValues,
    LaunchPermission, LaunchPermissionModifications, OperationType, SnapshotAttributeName,
};
use aws_smithy_types::DateTime;

use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::aws::Share;

use super::{AmiJob, find};
use crate::account::Account;
use crate::patience::ask;
use crate::tags;

/// Each of it may be there already.
pub(super) async fn dress(
    job: &AmiJob<'_>,
    image: &Image,
    account: &Account,
    run: &RunContext,
) -> Result<(), MachineError> {
    tag(job, image, account, run).await?;
    describe(job, image, account, run).await?;
    require_imds_v2(job, image, account, run).await?;
    share(&job.table.share, image, account, run).await?;
    deprecate(job, image, account, run).await
}

async fn tag(job: &AmiJob<'_>, image: &Image, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    if job.tags.is_empty() {
        return Ok(());
    }
    let resources = [find::id(image).to_owned()].into_iter().chain(find::snapshots(image));
    let call = account.ec2.create_tags().set_resources(Some(resources.collect()));
    let call = call.set_tags(Some(tags::for_ec2(&job.tags))).send();
    ask("tag the AMI", account, run, call).await.map(drop)
}

async fn describe(job: &AmiJob<'_>, image: &Image, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let Some(wanted) = job.description.as_ref().filter(|wanted| image.description() != Some(wanted)) else {
        return Ok(());
    };
    let value = AttributeValue::builder().value(wanted).build();
    let call = account.ec2.modify_image_attribute().image_id(find::id(image)).description(value).send();
    ask("describe the AMI", account, run, call).await.map(drop)
}

async fn require_imds_v2(
    job: &AmiJob<'_>,
    image: &Image,
    account: &Account,
    run: &RunContext,
) -> Result<(), MachineError> {
    if !job.table.require_imds_v2 || image.imds_support() == Some(&ImdsSupportValues::V20) {
        return Ok(());
    }
    let value = AttributeValue::builder().value(ImdsSupportValues::V20.as_str()).build();
    let call = account.ec2.modify_image_attribute().image_id(find::id(image)).imds_support(value).send();
    ask("require IMDSv2 of the AMI", account, run, call).await.map(drop)
}

/// Snapshots first: who may launch an AMI finds them readable then.
async fn share(share: &Share, image: &Image, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    if share.is_empty() {
        return Ok(());
    }
    let explained = |error: MachineError| match is_encrypted(image) {
        true => explain_encrypted(error, account),
        false => error,
    };
    for snapshot in find::snapshots(image) {
        share_snapshot(share, &snapshot, account, run).await.map_err(explained)?;
    }
    let call = account.ec2.modify_image_attribute().image_id(find::id(image));
    let call = call.launch_permission(launch_permissions(share)).send();
    ask("share the AMI", account, run, call).await.map(drop).map_err(explained)
}

/// Only accounts: organisations and their units get at snapshots through the AMI.
async fn share_snapshot(share: &Share, id: &str, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    if share.accounts.is_empty() {
        return Ok(());
    }
    let added = share.accounts.iter().map(|user| CreateVolumePermission::builder().user_id(user).build());
    let permissions = CreateVolumePermissionModifications::builder().set_add(Some(added.collect())).build();
    let call = account
        .ec2
        .modify_snapshot_attribute()
        .snapshot_id(id)
        .attribute(SnapshotAttributeName::CreateVolumePermission)
        .operation_type(OperationType::Add)
        .create_volume_permission(permissions)
        .send();
    ask(&format!("share the snapshot {id}"), account, run, call).await.map(drop)
}

fn launch_permissions(share: &Share) -> LaunchPermissionModifications {
    let accounts = share.accounts.iter().map(|user| LaunchPermission::builder().user_id(user).build());
    let organizations = share.organizations.iter().map(|arn| LaunchPermission::builder().organization_arn(arn).build());
    let units = share.units.iter().map(|arn| LaunchPermission::builder().organizational_unit_arn(arn).build());
    LaunchPermissionModifications::builder().set_add(Some(accounts.chain(organizations).chain(units).collect())).build()
}

fn is_encrypted(image: &Image) -> bool {
    image.block_device_mappings().iter().any(|mapping| mapping.ebs().and_then(|ebs| ebs.encrypted()) == Some(true))
}

fn explain_encrypted(error: MachineError, account: &Account) -> MachineError {
    let MachineError::Refused { what, .. } = error else { return error };
    MachineError::refused(
        format!("{what} (the AMI in {} is encrypted)", account.region),
        "what is encrypted with the account's own key can't be shared: name a KMS key of yours for that region, and let \
         the other accounts use it in the key's policy",
    )
}

async fn deprecate(job: &AmiJob<'_>, image: &Image, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let Some(after) = job.table.deprecate_after.filter(|_| image.deprecation_time().is_none()) else {
        return Ok(());
    };
    let at = DateTime::from_secs(jiff::Timestamp::now().as_second().saturating_add_unsigned(after.seconds));
    let call = account.ec2.enable_image_deprecation().image_id(find::id(image)).deprecate_at(at).send();
    ask("set the AMI's deprecation date", account, run, call).await.map(drop)
}

pub(super) async fn protect(
    job: &AmiJob<'_>,
    image: &Image,
    account: &Account,
    run: &RunContext,
) -> Result<(), MachineError> {
    let is_protected = image.deregistration_protection().is_some_and(|state| state.starts_with("enabled"));
    if !job.table.deregistration_protection || is_protected {
        return Ok(());
    }
    let call = account.ec2.enable_image_deregistration_protection().image_id(find::id(image)).send();
    ask("protect the AMI from deregistration", account, run, call).await.map(drop)
}
