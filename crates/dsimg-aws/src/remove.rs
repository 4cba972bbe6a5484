//! Takes away what carries dsimg's tag, by the name that it was made under. All of it may be gone already.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{Filter, InstanceStateName, VolumeState};
use tokio_util::sync::CancellationToken;

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{AwsKind, MachineError};

use crate::account::Account;
use crate::checkpoint::CHECKPOINT_TAG;
use crate::failure::{code, explain};
use crate::pace::Pace;
use crate::place::filter;

/// EC2 lets a guest go down in good order first.
const TERMINATED_LIMIT: Duration = Duration::from_secs(600);
const VOLUMES_LIMIT: Duration = Duration::from_secs(180);
/// A security group is in use until the network interface of a terminated instance is gone, a minute or two later.
const GROUP_LIMIT: Duration = Duration::from_secs(300);
const SNAPSHOTS_LIMIT: Duration = Duration::from_secs(120);

/// # Errors
/// Something of the name is still there.
pub(crate) async fn remove(
    account: &Account,
    what: AwsKind,
    name: &str,
    cancel: &CancellationToken,
) -> Result<(), MachineError> {
    match what {
        AwsKind::Instance => end_instances(account, name, None, cancel).await,
        AwsKind::Volume => delete_volumes(account, name, cancel).await,
        AwsKind::Image => delete_images(account, tagged(name), name, cancel).await,
        AwsKind::Snapshot => delete_snapshots(account, (BTreeSet::new(), tagged(name)), name, cancel).await,
        AwsKind::SecurityGroup => delete_groups(account, name, cancel).await,
        AwsKind::KeyPair => delete_keys(account, name).await,
    }
}

pub(crate) fn tagged(name: &str) -> Filter {
    filter(&format!("tag:{AWS_NAME_TAG}"), name)
}

/// Instances of the name and the one that is known, which lists may not show yet; then their volumes.
///
/// # Errors
/// One of them is not terminated in time.
pub(crate) async fn end_instances(
    account: &Account,
    name: &str,
    known: Option<&str>,
    cancel: &CancellationToken,
) -> Result<(), MachineError> {
    if let Some(id) = known {
        terminate(account, &[id.to_owned()]).await?;
    }
    let mut left = living(account, name).await?;
    if left.iter().any(|id| Some(id.as_str()) != known) {
        terminate(account, &left).await?;
    }
    left.extend(known.filter(|id| !left.iter().any(|each| each == id)).map(str::to_owned));
    if !left.is_empty() {
        wait_until_terminated(account, &left, cancel).await?;
    }
    delete_volumes(account, name, cancel).await
}

async fn living(account: &Account, name: &str) -> Result<Vec<String>, MachineError> {
    let states = ["pending", "running", "shutting-down", "stopping", "stopped"];
    let state =
        Filter::builder().name("instance-state-name").set_values(Some(states.map(str::to_owned).to_vec())).build();
    let found = account.ec2.describe_instances().filters(tagged(name)).filters(state).send().await;
    let found = found.map_err(|error| explain(&format!("look for the instance of {name}"), account, error))?;
    let instances = found.reservations().iter().flat_map(|reservation| reservation.instances());
    Ok(instances.filter_map(|instance| instance.instance_id().map(str::to_owned)).collect())
}

async fn terminate(account: &Account, ids: &[String]) -> Result<(), MachineError> {
    let ended = account.ec2.terminate_instances().set_instance_ids(Some(ids.to_vec())).send().await;
    match ended {
        Err(error) if code(&error) != Some("InvalidInstanceID.NotFound") => {
            Err(explain(&format!("terminate {}", ids.join(", ")), account, error))
        }
        _ => Ok(()),
    }
}

async fn wait_until_terminated(
    account: &Account,
    ids: &[String],
    cancel: &CancellationToken,
) -> Result<(), MachineError> {
    let mut pace = Pace::within(TERMINATED_LIMIT);
    loop {
        let found = account.ec2.describe_instances().set_instance_ids(Some(ids.to_vec())).send().await;
        let found = match found {
            Err(error) if code(&error) == Some("InvalidInstanceID.NotFound") => return Ok(()),
            found => found.map_err(|error| explain(&format!("look at {}", ids.join(", ")), account, error))?,
        };
        let states = found.reservations().iter().flat_map(|reservation| reservation.instances());
        let states: Vec<_> = states.filter_map(|instance| instance.state()?.name()).collect();
        if states.iter().all(|state| **state == InstanceStateName::Terminated) {
            return Ok(());
        }
        if !pace.next(cancel).await? {
            let what = format!("{} is not terminated after {} s", ids.join(", "), pace.seconds());
            return Err(MachineError::TryAgain { what, hint: None });
        }
    }
}

/// They go with their instance; what is left of one that did not start in good order is deleted here.
async fn delete_volumes(account: &Account, name: &str, cancel: &CancellationToken) -> Result<(), MachineError> {
    let mut pace = Pace::within(VOLUMES_LIMIT);
    loop {
        let found = account.ec2.describe_volumes().filters(tagged(name)).send().await;
        let found = found.map_err(|error| explain(&format!("look for volumes of {name}"), account, error))?;
        let mut left = Vec::new();
        for volume in found.volumes().iter().filter(|volume| volume.state() != Some(&VolumeState::Deleted)) {
            let id = volume.volume_id().unwrap_or_default();
            if volume.state() == Some(&VolumeState::Available) {
                match account.ec2.delete_volume().volume_id(id).send().await {
                    Ok(_) => continue,
                    Err(error) if is_gone(code(&error)) => continue,
                    Err(error) if code(&error) == Some("VolumeInUse") => {}
                    Err(error) => return Err(explain(&format!("delete {id}"), account, error)),
                }
            }
            left.push(id.to_owned());
        }
        if left.is_empty() {
            return Ok(());
        }
        if !pace.next(cancel).await? {
            let what = format!("{} is still there after {} s", left.join(", "), pace.seconds());
            return Err(MachineError::TryAgain { what, hint: None });
        }
    }
}

async fn delete_groups(account: &Account, name: &str, cancel: &CancellationToken) -> Result<(), MachineError> {
    let request = account.ec2.describe_security_groups().filters(tagged(name)).filters(filter("group-name", name));
    let found = request.send().await;
    let found = found.map_err(|error| explain(&format!("look for the security group {name}"), account, error))?;
    for group in found.security_groups() {
        delete_group(account, group.group_id().unwrap_or_default(), cancel).await?;
    }
    Ok(())
}

async fn delete_group(account: &Account, id: &str, cancel: &CancellationToken) -> Result<(), MachineError> {
    let mut pace = Pace::within(GROUP_LIMIT);
    loop {
        match account.ec2.delete_security_group().group_id(id).send().await {
            Ok(_) => return Ok(()),
            Err(error) if is_gone(code(&error)) => return Ok(()),
            Err(error) if code(&error) == Some("DependencyViolation") => {
                if !pace.next(cancel).await? {
                    return Err(explain(
                        &format!("delete the security group {id}, which is still in use"),
                        account,
                        error,
                    ));
                }
            }
            Err(error) => return Err(explain(&format!("delete the security group {id}"), account, error)),
        }
    }
}

async fn delete_keys(account: &Account, name: &str) -> Result<(), MachineError> {
    let request = account.ec2.describe_key_pairs().filters(tagged(name)).filters(filter("key-name", name));
    let found =
        request.send().await.map_err(|error| explain(&format!("look for the key pair {name}"), account, error))?;
    if !found.key_pairs().is_empty() {
        match account.ec2.delete_key_pair().key_name(name).send().await {
            Err(error) if !is_gone(code(&error)) => {
                return Err(explain(&format!("delete the key pair {name}"), account, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An AMI that was kept to start from again.
///
/// # Errors
/// It is still there.
pub(crate) async fn remove_checkpoint(
    account: &Account,
    name: &str,
    cancel: &CancellationToken,
) -> Result<(), MachineError> {
    delete_images(account, filter(&format!("tag:{CHECKPOINT_TAG}"), name), name, cancel).await
}

/// Images that carry the tag, and all snapshots that do, or did before the images went: a call of a killed build may still
/// be under way that takes the tags off.
async fn delete_images(
    account: &Account,
    tag: Filter,
    name: &str,
    cancel: &CancellationToken,
) -> Result<(), MachineError> {
    let mut snapshots = snapshots_with(account, &tag, name).await?;
    let found = account.ec2.describe_images().owners("self").filters(tag.clone()).send().await;
    let found = found.map_err(|error| explain(&format!("look for the AMI {name}"), account, error))?;
    if found.images().is_empty() {
        // The tags may be off by now: then these belong to an AMI that is to stay.
        snapshots.clear();
    }
    for image in found.images() {
        let id = image.image_id().unwrap_or_default();
        match account.ec2.deregister_image().image_id(id).send().await {
            Err(error) if !is_gone(code(&error)) && code(&error) != Some("InvalidAMIID.Unavailable") => {
                return Err(explain(&format!("deregister {id}"), account, error));
            }
            _ => {}
        }
    }
    delete_snapshots(account, (snapshots, tag), name, cancel).await
}

/// Those that are known and those that carry the tag.
async fn delete_snapshots(
    account: &Account,
    (known, tag): (BTreeSet<String>, Filter),
    name: &str,
    cancel: &CancellationToken,
) -> Result<(), MachineError> {
    let mut pace = Pace::within(SNAPSHOTS_LIMIT);
    let mut left = known;
    loop {
        left.extend(snapshots_with(account, &tag, name).await?);
        let mut in_use = None;
        for id in std::mem::take(&mut left) {
            match account.ec2.delete_snapshot().snapshot_id(&id).send().await {
                Ok(_) => {}
                Err(error) if is_gone(code(&error)) => {}
                // Its image was deregistered a moment ago.
                Err(error) if code(&error) == Some("InvalidSnapshot.InUse") => {
                    in_use = Some((id.clone(), error));
                    left.insert(id);
                }
                Err(error) => return Err(explain(&format!("delete {id}"), account, error)),
            }
        }
        let Some((id, error)) = in_use else { return Ok(()) };
        if !pace.next(cancel).await? {
            return Err(explain(&format!("delete {id}"), account, error));
        }
    }
}

/// The ids of snapshots that carry the tag.
async fn snapshots_with(account: &Account, tag: &Filter, name: &str) -> Result<BTreeSet<String>, MachineError> {
    let found = account.ec2.describe_snapshots().owner_ids("self").filters(tag.clone()).send().await;
    let found = found.map_err(|error| explain(&format!("look for snapshots of {name}"), account, error))?;
    Ok(found.snapshots().iter().filter_map(|snapshot| snapshot.snapshot_id().map(str::to_owned)).collect())
}

/// `InvalidGroup.NotFound`, `InvalidVolume.NotFound` and all the others.
fn is_gone(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.ends_with(".NotFound"))
}
