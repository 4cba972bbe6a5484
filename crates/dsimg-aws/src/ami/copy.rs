//! A copy in another region, found again by its tag after a failure.

use aws_sdk_ec2::types::{Image, ImageState, ResourceType};
use dsimg_plan::Digest;

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{AwsKind, MachineError};

use super::name::Holder;
use super::{AmiJob, find, name};
use crate::account::Account;
use crate::custody::{Custody, resource};
use crate::patience::ask;
use crate::tags::{self, COPY_OF};

/// The copy in the account's region, available.
pub(super) async fn bring(
    job: &AmiJob<'_>,
    source: &Image,
    account: &Account,
    custody: &Custody<'_>,
) -> Result<Image, MachineError> {
    let id = match earlier(job, source, account, custody).await? {
        Some(id) => id,
        None => copy(job, source, account, custody).await?,
    };
    find::wait_until_available(account, &id, custody.run).await
}

async fn earlier(
    job: &AmiJob<'_>,
    source: &Image,
    account: &Account,
    custody: &Custody<'_>,
) -> Result<Option<String>, MachineError> {
    let tag = format!("tag:{COPY_OF}");
    let found = find::own(account, [(tag.as_str(), root(source).as_str())], custody.run).await?;
    let mut usable = None;
    for image in found {
        if matches!(image.state(), Some(ImageState::Available | ImageState::Pending)) {
            // A stand-in beside the one that took the name over comes first: it still has to go.
            if usable.is_none() || image.name() != Some(&job.name) {
                usable = Some(find::id(&image).to_owned());
            }
        } else if tags::of(image.tags(), AWS_NAME_TAG).is_some() {
            custody.run.info(format!("the copy {} in {} failed and is made again", find::id(&image), account.region));
            super::remove(&image, account, custody).await?;
        }
    }
    if usable.is_none()
        && let Holder::Ours(image) = name::holder(job, account, custody.run).await?
    {
        usable = Some(find::id(&image).to_owned());
    }
    Ok(usable)
}

async fn copy(
    job: &AmiJob<'_>,
    source: &Image,
    account: &Account,
    custody: &Custody<'_>,
) -> Result<String, MachineError> {
    let run = custody.run;
    let name = name::to_make(job, account, run).await?;
    let kms_key = job.table.copies.get(&account.region).cloned().flatten();
    let resource = resource(account, AwsKind::Image, &name);
    let mut tags = tags::with(&tags::temporary(&job.tags, &name, run), COPY_OF, &root(source));
    if name != job.name {
        tags = tags::with(&tags, tags::STANDS_FOR, &job.name);
    }
    custody.will_make(&resource)?;
    let call = account
        .ec2
        .copy_image()
        .source_image_id(find::id(source))
        .source_region(&job.account.region)
        .name(&name)
        .set_description(job.description.clone())
        .set_encrypted(kms_key.is_some().then_some(true))
        .set_kms_key_id(kms_key)
        // The same for each try within a build: a lost answer makes no second copy.
        .client_token(Digest::of_value(&(&root(source), &account.region, &name, &run.build_id)).short())
        .tag_specifications(tags::specification(ResourceType::Image, &tags))
        .tag_specifications(tags::specification(ResourceType::Snapshot, &tags))
        .send();
    let copied = ask(&format!("copy {} from {}", find::id(source), job.account.region), account, run, call).await?;
    custody.is_there(&resource)?;
    copied.image_id().map(ToOwned::to_owned).ok_or_else(|| {
        MachineError::try_again("AWS copied the AMI and did not say the copy's id", "run the same again")
    })
}

/// What names an AMI's content whatever it is called: the same after it took over another name.
fn root(image: &Image) -> String {
    find::snapshots(image).into_iter().next().unwrap_or_default()
}
