//! A new AMI takes over the name of an older one.
//!
//! A name belongs to one AMI, and no AMI can be given another name. So the new one is made as a stand-in under a name
//! of its own, becomes available, is copied, tagged and shared, all while the older one has the name. Then, in each
//! region:
//!
//! 1. the stand-in is declared finished: from here on no clean-up takes it, so there is one whole AMI at any moment;
//! 2. the older AMI's snapshots are declared leftovers, which can't be removed while it is there;
//! 3. the older AMI is deregistered;
//! 4. the stand-in's snapshots are registered once more, under the name: RegisterImage takes seconds, where a copy
//!    would move all blocks again;
//! 5. when that is available and shared, the stand-in is deregistered, and the older one's snapshots are deleted.
//!
//! Between 3 and 4 nobody has the name, for as long as two calls take. If dsimg dies there, the next run finds the
//! stand-in by its tags and goes on. What points to the name by the SSM parameter sees the new one after 5.

use aws_sdk_ec2::types::{Image, ResourceType};

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{AwsKind, MachineError, RunContext};

use super::name::Holder;
use super::{AmiJob, dress, find, finish, name, register};
use crate::account::Account;
use crate::custody::{Custody, resource};
use crate::patience::ask;
use crate::tags;

/// The AMI that has the wanted name in the end.
pub(super) async fn take_name(
    job: &AmiJob<'_>,
    stand_in: Image,
    account: &Account,
    custody: &Custody<'_>,
) -> Result<Image, MachineError> {
    if stand_in.name() == Some(&job.name) {
        return Ok(stand_in);
    }
    refuse_billed(&stand_in, account)?;
    let (named, older) = match named_one(job, &stand_in, account, custody.run).await? {
        Holder::Ours(image) => (*image, Vec::new()),
        Holder::Nobody => (register_again(job, &stand_in, account, custody.run).await?, Vec::new()),
        Holder::Older(old) => {
            finish::finish(&stand_in, account, custody).await?;
            let left = declare_left(&old, account, custody).await?;
            // The first Ctrl-C does not stop here, where nobody would have the name; the second one does.
            let run = RunContext { cancel: custody.run.hurry.clone(), ..custody.run.clone() };
            deregister(&old, account, &run).await?;
            (register_again(job, &stand_in, account, &run).await?, left)
        }
    };
    dress::dress(job, &named, account, custody.run).await?;
    deregister(&stand_in, account, custody.run).await?;
    for (id, name) in older {
        delete_snapshot(&id, account, custody.run).await?;
        custody.is_finished(&resource(account, AwsKind::Snapshot, &name))?;
    }
    Ok(named)
}

/// A run that died after step 4 has left both: they have the same snapshots.
async fn named_one(
    job: &AmiJob<'_>,
    stand_in: &Image,
    account: &Account,
    run: &RunContext,
) -> Result<Holder, MachineError> {
    match find::by_name(account, &job.name, run).await? {
        Some(image) if find::snapshots(&image) == find::snapshots(stand_in) => Ok(Holder::Ours(Box::new(image))),
        _ => name::holder(job, account, run).await,
    }
}

/// Registering anew loses what marketplaces and licensed systems bill by.
fn refuse_billed(image: &Image, account: &Account) -> Result<(), MachineError> {
    if image.product_codes().is_empty() && image.usage_operation().is_none_or(|operation| operation == "RunInstances") {
        return Ok(());
    }
    Err(MachineError::refused(
        format!(
            "{} in {} is of a system that AWS bills for, and can't be given another name",
            find::id(image),
            account.region
        ),
        "build it under a name that is free, without `replace`",
    ))
}

/// Its snapshots that dsimg made, with their names in the ledger. Others may be somebody's.
async fn declare_left(
    old: &Image,
    account: &Account,
    custody: &Custody<'_>,
) -> Result<Vec<(String, String)>, MachineError> {
    let snapshots = crate::upload::snapshot::describe(&find::snapshots(old), account, custody.run).await?;
    let mut left = Vec::new();
    for snapshot in snapshots {
        let id = snapshot.snapshot_id().unwrap_or_default().to_owned();
        if !snapshot.tags().iter().any(|tag| tag.key().is_some_and(|key| key.starts_with("dsimg:"))) {
            custody.run.warn(format!("{id} in {} of the older AMI was not made by dsimg and stays", account.region));
            continue;
        }
        let name = format!("replaced-{id}");
        custody.will_make(&resource(account, AwsKind::Snapshot, &name))?;
        let tag = tags::with(&tags::Tags::new(), AWS_NAME_TAG, &name);
        let call = account.ec2.create_tags().resources(&id).set_tags(Some(tags::for_ec2(&tag))).send();
        ask("tag the older AMI's snapshot", account, custody.run, call).await?;
        left.push((id, name));
    }
    Ok(left)
}

async fn register_again(
    job: &AmiJob<'_>,
    stand_in: &Image,
    account: &Account,
    run: &RunContext,
) -> Result<Image, MachineError> {
    let root = find::snapshots(stand_in).into_iter().next().unwrap_or_default();
    // Finished already: it is the same as the stand-in, which is whole.
    let mut lasting = job.tags.clone();
    if let Some(source) = tags::of(stand_in.tags(), tags::COPY_OF) {
        lasting = tags::with(&lasting, tags::COPY_OF, source);
    }
    let call = register::like(stand_in, account);
    let call = call.tag_specifications(tags::specification(ResourceType::Image, &lasting));
    let id =
        register::register(call, &job.name, &root, account, run).await.map_err(|error| still_there(error, stand_in))?;
    find::wait_until_available(account, &id, run).await.map_err(|error| still_there(error, stand_in))
}

fn still_there(error: MachineError, stand_in: &Image) -> MachineError {
    if matches!(error, MachineError::Cancelled) {
        return error;
    }
    let (name, id) = (stand_in.name().unwrap_or_default(), find::id(stand_in));
    MachineError::try_again(
        format!("{error}; the older AMI is gone, and the new one is there as `{name}` ({id})"),
        "run the same again: it gives that one the name",
    )
}

pub(super) async fn deregister(image: &Image, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let call = account.ec2.deregister_image().image_id(find::id(image)).send();
    gone_is_fine(ask(&format!("deregister {}", find::id(image)), account, run, call).await, "InvalidAMIID.")
}

pub(super) async fn delete_snapshot(id: &str, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let call = account.ec2.delete_snapshot().snapshot_id(id).send();
    match gone_is_fine(ask(&format!("delete {id}"), account, run, call).await, "InvalidSnapshot.NotFound") {
        // Another AMI is made of it, too.
        Err(error) if error.to_string().contains("InvalidSnapshot.InUse") => {
            run.info(format!("{id} in {} stays: it is in use", account.region));
            Ok(())
        }
        done => done,
    }
}

fn gone_is_fine<T>(done: Result<T, MachineError>, code: &str) -> Result<(), MachineError> {
    match done {
        Err(MachineError::Refused { what, .. }) if what.contains(code) => Ok(()),
        done => done.map(drop),
    }
}
