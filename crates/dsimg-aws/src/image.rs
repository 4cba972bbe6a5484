//! An instance that is off becomes an AMI.

use std::time::Duration;

use aws_sdk_ec2::types::{AttributeValue, BootModeOverrideValues, Image, ImdsSupportValues, ResourceType};
use tokio_util::sync::CancellationToken;

use dsimg_machine::{Ami, AwsKind, MachineError, RunContext};
use dsimg_plan::Plan;
use dsimg_template::template::aws::{AwsEbsTable, BootMode};

use crate::account::Account;
use crate::ami::{self, AmiJob};
use crate::custody::{is_gone, will_make};
use crate::failure::{code, explain, may_be_done};
use crate::marks::Marks;
use crate::pace::{Pace, in_time, until_cancelled};
use crate::place::filter;
use crate::remove::{remove, tagged};
use crate::tags;

/// For what is left of an image that did not come about.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(180);

/// What the finished AMI is to be.
pub(crate) fn job<'a>(
    account: &'a Account,
    table: &'a AwsEbsTable,
    plan: &Plan,
    source: &crate::source::SourceImage,
    marks: &Marks,
) -> AmiJob<'a> {
    let name = table.ami.name_for(&plan.image.name, &plan.image.version);
    let mut tags = table.tags.clone();
    tags.extend(table.ami.tags.clone());
    tags.entry("Name".to_owned()).or_insert_with(|| name.clone());
    tags.insert(tags::IMAGE.to_owned(), plan.image.name.clone());
    tags.insert(tags::VERSION.to_owned(), plan.image.version.clone());
    let tags = tags::lasting(&marks.for_image(&name, &tags).tags);
    let description = table.ami.description.clone().or_else(|| plan.image.summary.clone());
    AmiJob { account, table: &table.ami, name, description, tags, source: Some(source.id.clone()) }
}

/// An instance of which an image is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken<'a> {
    pub(crate) account: &'a Account,
    pub(crate) instance: &'a str,
    /// It is not stopped: its disks are at rest without that, or are taken as they are.
    pub(crate) as_it_is: bool,
    pub(crate) marks: &'a Marks,
}

/// Makes the AMI, waits until it is there, and brings it where the template wants it. Until it is there whole, it is
/// marked as temporary: what fails leaves nothing of it, and what is finished is never taken for a leftover.
///
/// # Errors
/// It did not come about, or not all that was to become of it; it says what is there.
pub(crate) async fn make(
    taken: Taken<'_>,
    job: &AmiJob<'_>,
    boot_mode: Option<BootMode>,
    run: &RunContext,
) -> Result<Vec<Ami>, MachineError> {
    let account = taken.account;
    let name = ami::name_to_make(job, run).await?;
    let mut tags = job.tags.clone();
    if name != job.name {
        tags.insert(tags::STANDS_FOR.to_owned(), job.name.clone());
    }
    let marks = taken.marks.for_image(&name, &tags);
    will_make(account, AwsKind::Image, &name, run)?;
    let id = match make_whole(taken, job, &marks, boot_mode, run).await {
        Ok(id) => {
            is_gone(account, AwsKind::Image, &name, run);
            id
        }
        Err(error) => {
            clean_up(account, &name, run).await;
            return Err(error);
        }
    };
    run.info(format!("{id} ({name}) is there"));
    ami::distribute(job, &id, run).await.map_err(|error| with_what_is_there(error, &id, account, run))
}

async fn make_whole(
    taken: Taken<'_>,
    job: &AmiJob<'_>,
    marks: &Marks,
    boot_mode: Option<BootMode>,
    run: &RunContext,
) -> Result<String, MachineError> {
    let account = taken.account;
    let made = create(taken, (&marks.name, job.description.as_deref()), marks, boot_mode, run);
    let id = until_cancelled(&run.hurry, made).await??;
    let image = ami::wait_until_available(account, &id, run).await?;
    if job.table.require_imds_v2 {
        require_imds_v2(account, &image).await?;
    }
    finish(account, &id, &image).await?;
    Ok(id)
}

/// CreateImage takes no token: after an answer that did not come, or a name that is taken already, what is there
/// under the name is looked for.
///
/// # Errors
/// It is not there.
pub(crate) async fn create(
    taken: Taken<'_>,
    (name, description): (&str, Option<&str>),
    marks: &Marks,
    boot_mode: Option<BootMode>,
    run: &RunContext,
) -> Result<String, MachineError> {
    let Taken { account, instance, as_it_is, .. } = taken;
    let boot_mode = (boot_mode == Some(BootMode::Uefi)).then_some(BootModeOverrideValues::Uefi);
    let mut pace = Pace::within(Duration::from_secs(120));
    loop {
        let request = account
            .ec2
            .create_image()
            .instance_id(instance)
            .name(name)
            .set_description(description.map(str::to_owned))
            .set_boot_mode_override(boot_mode.clone())
            .no_reboot(as_it_is)
            .tag_specifications(marks.on(ResourceType::Image))
            .tag_specifications(marks.on(ResourceType::Snapshot));
        let error = match request.send().await {
            Ok(made) => return Ok(made.image_id().unwrap_or_default().to_owned()),
            Err(error) => error,
        };
        let is_taken = code(&error) == Some("InvalidAMIName.Duplicate");
        if (is_taken || may_be_done(&error))
            && let Some(id) = find(account, name, run).await?
        {
            return Ok(id);
        }
        // "Instance is not in state": stopped for one part of EC2, and not yet for another.
        let passes = matches!(code(&error), Some("IncorrectState" | "IncorrectInstanceState"));
        if !passes || !pace.next(&run.cancel).await? {
            return Err(explain(&format!("make an AMI of {instance}"), account, error));
        }
    }
}

/// An image that this build made under the name, which lists may not show at once.
async fn find(account: &Account, name: &str, run: &RunContext) -> Result<Option<String>, MachineError> {
    let mut pace = Pace::within(Duration::from_secs(15));
    loop {
        let request = account.ec2.describe_images().owners("self").filters(tagged(name)).filters(filter("name", name));
        let found =
            request.send().await.map_err(|error| explain(&format!("look for the AMI {name}"), account, error))?;
        let own = found.images().iter().find(|image| tags::of(image.tags(), tags::BUILD) == Some(&run.build_id));
        if let Some(id) = own.and_then(Image::image_id) {
            return Ok(Some(id.to_owned()));
        }
        if !pace.next(&run.cancel).await? {
            return Ok(None);
        }
    }
}

async fn require_imds_v2(account: &Account, image: &Image) -> Result<(), MachineError> {
    if image.imds_support() == Some(&ImdsSupportValues::V20) {
        return Ok(());
    }
    let id = image.image_id().unwrap_or_default();
    let value = AttributeValue::builder().value("v2.0").build();
    let modified = account.ec2.modify_image_attribute().image_id(id).imds_support(value).send().await;
    modified.map_err(|error| explain(&format!("make {id} ask for IMDSv2"), account, error))?;
    Ok(())
}

/// Takes the mark away by which the AMI and its snapshots would be taken for leftovers.
///
/// # Errors
/// It is still there.
pub(crate) async fn finish(account: &Account, id: &str, image: &Image) -> Result<(), MachineError> {
    let snapshots = image.block_device_mappings().iter().filter_map(|device| device.ebs()?.snapshot_id());
    let all = std::iter::once(id).chain(snapshots).map(str::to_owned).collect();
    let done = account.ec2.delete_tags().set_resources(Some(all)).set_tags(Some(tags::passing())).send().await;
    done.map_err(|error| explain(&format!("mark {id} as finished"), account, error))?;
    Ok(())
}

/// Whatever became of the build: with a limit of its own.
async fn clean_up(account: &Account, name: &str, run: &RunContext) {
    if run.hurry.is_cancelled() {
        return;
    }
    let removed = in_time(CLEAN_UP_LIMIT, remove(account, AwsKind::Image, name, &CancellationToken::new())).await;
    match removed {
        Some(Ok(())) => is_gone(account, AwsKind::Image, name, run),
        Some(Err(error)) => {
            run.warn(format!("the unfinished AMI `{name}` may be left: {error}; `dsimg gc --aws` removes it"))
        }
        None => run.warn(format!("the unfinished AMI `{name}` may be left; `dsimg gc --aws` removes it")),
    }
}

fn with_what_is_there(error: MachineError, id: &str, account: &Account, run: &RunContext) -> MachineError {
    let there = format!("the AMI {id} is in {} and stays", account.region);
    match error {
        MachineError::Refused { what, hint } => MachineError::Refused { what: format!("{what}; {there}"), hint },
        MachineError::TryAgain { what, hint } => MachineError::TryAgain { what: format!("{what}; {there}"), hint },
        // A cancel says nothing by itself, and whoever gave it has an AMI now.
        error => {
            run.warn(there);
            error
        }
    }
}
