//! AMIs of the own account, looked up by id, by name, by tag.

use std::time::Duration;

use aws_sdk_ec2::types::{Filter, Image, ImageState};

use dsimg_machine::{Event, MachineError, RunContext};

use crate::account::Account;
use crate::failure::{code, explain};
use crate::pace::{Pace, until_cancelled};
use crate::patience::{NOT_SEEN_YET, ask};
use crate::upload::snapshot::{bytes, bytes_done, describe as describe_snapshots};

/// A copy of some tens of gigabytes to the other end of the world takes its time.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// Disabled ones too: they hold their names.
pub(super) async fn by_name(account: &Account, name: &str, run: &RunContext) -> Result<Option<Image>, MachineError> {
    Ok(own(account, [("name", name)], run).await?.into_iter().next())
}

/// Newest first.
pub(super) async fn own<'a>(
    account: &Account,
    filters: impl IntoIterator<Item = (&'a str, &'a str)>,
    run: &RunContext,
) -> Result<Vec<Image>, MachineError> {
    let filters = filters.into_iter().map(|(name, value)| Filter::builder().name(name).values(value).build());
    let call = account.ec2.describe_images().owners("self").include_disabled(true);
    let call = call.set_filters(Some(filters.collect())).send();
    let answer = ask("look for AMIs", account, run, call).await?;
    let mut images = answer.images().to_vec();
    images.sort_by(|one, other| other.creation_date().cmp(&one.creation_date()));
    Ok(images)
}

/// Waits as long as AWS is at work on it.
///
/// # Errors
/// It fails, goes away or takes too long, or the build is cancelled.
pub(crate) async fn wait_until_available(account: &Account, id: &str, run: &RunContext) -> Result<Image, MachineError> {
    let what = format!("{id} in {}", account.region);
    let waited = watch(&what, account, id, run).await;
    run.report(&Event::ProgressEnded { what });
    waited
}

async fn watch(what: &str, account: &Account, id: &str, run: &RunContext) -> Result<Image, MachineError> {
    let mut pace = Pace::within(LIMIT);
    loop {
        let image = look(account, id, pace.passed() < NOT_SEEN_YET, run).await?;
        let last = match image {
            Some(image) if image.state() == Some(&ImageState::Available) => return Ok(image),
            Some(image) if !is_under_way(&image) => return Err(gone_wrong(account, id, &image)),
            Some(image) => how_far(what, &image, account, run).await?,
            None => "not to be seen".to_owned(),
        };
        if !pace.next(&run.cancel).await? {
            return Err(MachineError::try_again(
                format!("the AMI {id} in {} did not become available within four hours: it is {last}", account.region),
                "run the same again: it goes on waiting",
            ));
        }
    }
}

/// As far as its snapshots are.
async fn how_far(what: &str, image: &Image, account: &Account, run: &RunContext) -> Result<String, MachineError> {
    let snapshots = describe_snapshots(&snapshots(image), account, run).await?;
    let done: u64 = snapshots.iter().map(bytes_done).sum();
    let total: u64 = snapshots.iter().map(bytes).sum();
    run.report(&Event::Progress { what: what.to_owned(), done, total: Some(total).filter(|total| *total > 0) });
    Ok(format!("pending, {} %", (done * 100).checked_div(total).unwrap_or(0)))
}

/// `None`: it can't be seen, which right after it was made means nothing.
async fn look(
    account: &Account,
    id: &str,
    may_be_unseen: bool,
    run: &RunContext,
) -> Result<Option<Image>, MachineError> {
    let call = account.ec2.describe_images().image_ids(id).include_disabled(true).send();
    match until_cancelled(&run.cancel, call).await? {
        Ok(answer) => match answer.images().first() {
            None if !may_be_unseen => Err(vanished(account, id)),
            image => Ok(image.cloned()),
        },
        Err(error) if code(&error) == Some("InvalidAMIID.NotFound") && may_be_unseen => Ok(None),
        Err(error) if code(&error).is_some_and(|code| code.starts_with("InvalidAMIID.")) => Err(vanished(account, id)),
        Err(error) => Err(explain("look at the AMI", account, error)),
    }
}

fn is_under_way(image: &Image) -> bool {
    matches!(image.state(), Some(ImageState::Pending | ImageState::Transient) | None)
}

fn vanished(account: &Account, id: &str) -> MachineError {
    MachineError::try_again(
        format!("the AMI {id} in {} is gone", account.region),
        "somebody deregistered it; build again",
    )
}

fn gone_wrong(account: &Account, id: &str, image: &Image) -> MachineError {
    let state = image.state().map_or("in no state", ImageState::as_str);
    let why = image.state_reason().and_then(|reason| reason.message()).unwrap_or("AWS does not say why");
    MachineError::refused(
        format!("the AMI {id} in {} is {state}: {why}", account.region),
        "if a KMS key is named: may the caller use it in that region? Then run the same again",
    )
}

pub(super) fn id(image: &Image) -> &str {
    image.image_id().unwrap_or_default()
}

/// The root's first.
pub(super) fn snapshots(image: &Image) -> Vec<String> {
    let root = image.root_device_name();
    let (mut roots, others): (Vec<_>, Vec<_>) =
        image.block_device_mappings().iter().partition(|mapping| mapping.device_name() == root);
    roots.extend(others);
    let of = |mapping: &aws_sdk_ec2::types::BlockDeviceMapping| Some(mapping.ebs()?.snapshot_id()?.to_owned());
    roots.into_iter().filter_map(of).collect()
}
