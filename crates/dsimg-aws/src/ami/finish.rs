//! What is finished is no longer anybody's to clean up.

use aws_sdk_ec2::types::{Image, Snapshot};

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{AwsKind, MachineError};

use super::{find, replace};
use crate::account::Account;
use crate::custody::{Custody, resource};
use crate::patience::ask;
use crate::tags;
use crate::upload::snapshot::describe;

/// Takes the temporary tag off the AMI and its snapshots, and strikes their lines.
pub(super) async fn finish(image: &Image, account: &Account, custody: &Custody<'_>) -> Result<(), MachineError> {
    let ids = find::snapshots(image);
    let snapshots = describe(&ids, account, custody.run).await?;
    let resources = [find::id(image).to_owned()].into_iter().chain(ids);
    let call = account.ec2.delete_tags().set_resources(Some(resources.collect()));
    let call = call.set_tags(Some(tags::passing())).send();
    ask("take the temporary tag away", account, custody.run, call).await?;

    for snapshot in snapshots.iter().filter_map(temporary_name) {
        custody.is_finished(&resource(account, AwsKind::Snapshot, snapshot))?;
    }
    custody.is_finished(&resource(account, AwsKind::Image, image.name().unwrap_or_default()))
}

/// An AMI that came to nothing, with its snapshots.
pub(super) async fn remove(image: &Image, account: &Account, custody: &Custody<'_>) -> Result<(), MachineError> {
    let ids = find::snapshots(image);
    let snapshots = describe(&ids, account, custody.run).await?;
    replace::deregister(image, account, custody.run).await?;
    for snapshot in snapshots {
        replace::delete_snapshot(snapshot.snapshot_id().unwrap_or_default(), account, custody.run).await?;
        if let Some(name) = temporary_name(&snapshot) {
            custody.is_finished(&resource(account, AwsKind::Snapshot, name))?;
        }
    }
    custody.is_finished(&resource(account, AwsKind::Image, image.name().unwrap_or_default()))
}

fn temporary_name(snapshot: &Snapshot) -> Option<&str> {
    tags::of(snapshot.tags(), AWS_NAME_TAG)
}
