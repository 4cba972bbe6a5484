//! Who has the name, in each region, and under which name a new AMI is made.

use aws_sdk_ec2::types::Image;
use futures_util::future::try_join_all;

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{MachineError, RunContext};

use super::{AmiJob, find};
use crate::account::Account;
use crate::tags;

/// AWS's limit.
const LONGEST: usize = 128;

/// What is known of an AMI that has the wanted name.
pub(super) enum Holder {
    Nobody,
    /// It is what would be made.
    Ours(Box<Image>),
    /// It may be taken away.
    Older(Box<Image>),
}

/// Nobody pays for a build that ends at a name which is taken: asked before anything is made, in all regions.
/// `same_release` lets an AMI pass that is of this image and version: it may turn out to be of the very disk.
pub(super) async fn check(job: &AmiJob<'_>, same_release: bool, run: &RunContext) -> Result<(), MachineError> {
    try_join_all(regions(job).iter().map(|account| async move {
        match find::by_name(account, &job.name, run).await? {
            Some(image) if same_release && is_same_release(&image, job) => {
                run.info(format!(
                    "an AMI `{}` of this image and version is there already: {} in {}",
                    job.name,
                    find::id(&image),
                    account.region
                ));
                Ok(())
            }
            found => judge(job, account, found).map(drop),
        }
    }))
    .await
    .map(drop)
}

/// The own one first.
pub(super) fn regions(job: &AmiJob<'_>) -> Vec<Account> {
    let copies = job.table.copies.keys().filter(|region| **region != job.account.region);
    [job.account.clone()].into_iter().chain(copies.map(|region| job.account.in_region(region))).collect()
}

pub(super) async fn holder(job: &AmiJob<'_>, account: &Account, run: &RunContext) -> Result<Holder, MachineError> {
    judge(job, account, find::by_name(account, &job.name, run).await?)
}

/// The name to make an AMI under: the wanted one, or one to wait under while an older AMI has it.
pub(super) async fn to_make(job: &AmiJob<'_>, account: &Account, run: &RunContext) -> Result<String, MachineError> {
    Ok(match holder(job, account, run).await? {
        Holder::Nobody | Holder::Ours(_) => job.name.clone(),
        Holder::Older(_) => stand_in(&job.name, &run.build_id),
    })
}

fn judge(job: &AmiJob<'_>, account: &Account, found: Option<Image>) -> Result<Holder, MachineError> {
    let Some(image) = found else { return Ok(Holder::Nobody) };
    if tags::names_the_same(&image, &job.tags) {
        return Ok(Holder::Ours(Box::new(image)));
    }
    let (id, region) = (find::id(&image), &account.region);
    if !job.table.replace {
        let hint = if tags::of(image.tags(), AWS_NAME_TAG).is_some() {
            "it was left by a build that did not end well: `dsimg gc --aws` removes it"
        } else {
            "choose another `name` or raise the image's version; `replace = true` takes the older one away"
        };
        return Err(MachineError::refused(format!("the name `{}` is taken in {region}, by {id}", job.name), hint));
    }
    if image.deregistration_protection().is_some_and(|protection| protection.starts_with("enabled")) {
        return Err(MachineError::refused(
            format!("{id} in {region} has the name `{}` and is protected from deregistration", job.name),
            format!("`aws ec2 disable-image-deregistration-protection --region {region} --image-id {id}` lets it go"),
        ));
    }
    Ok(Holder::Older(Box::new(image)))
}

fn is_same_release(image: &Image, job: &AmiJob<'_>) -> bool {
    [tags::IMAGE, tags::VERSION]
        .iter()
        .all(|key| job.tags.get(*key).is_some_and(|value| tags::of(image.tags(), key) == Some(value)))
}

/// Different for each build, because a stand-in that was left behind holds its name.
fn stand_in(name: &str, build_id: &str) -> String {
    let suffix: String = format!(" new {build_id}")
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || " -_.".contains(*letter))
        .collect();
    let room = LONGEST.saturating_sub(suffix.len());
    let kept: String = name.chars().take(room).collect();
    format!("{kept}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_has_a_name_that_aws_takes() {
        assert_eq!(stand_in("ds-hub-1", "20261121-1-ab"), "ds-hub-1 new 20261121-1-ab");
        assert_eq!(stand_in(&"x".repeat(128), "1").len(), 128);
    }
}
