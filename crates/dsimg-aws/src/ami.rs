//! From an AMI that exists in one region to all that the template asks of it.

mod copy;
mod dress;
mod find;
mod finish;
mod name;
mod parameter;
mod register;
mod replace;

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Image, ImageState};
use futures_util::future::join_all;

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{Ami, AwsKind, MachineError, RunContext};
use dsimg_template::template::aws::AmiTable;

use self::finish::{finish, remove};
use crate::account::Account;
use crate::custody::{Custody, resource};
use crate::tags::{self, SHA256};

pub(crate) use find::wait_until_available;
pub(crate) use register::register;

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
pub(crate) async fn check_name(job: &AmiJob<'_>, run: &RunContext) -> Result<(), MachineError> {
    name::check(job, false, run).await
}

/// The same where building costs nothing, so that an AMI of this very release may be there already.
///
/// # Errors
/// As [`check_name`].
pub(crate) async fn check_name_or_same_release(job: &AmiJob<'_>, run: &RunContext) -> Result<(), MachineError> {
    name::check(job, true, run).await
}

/// The name to make the AMI under: another one while an AMI that is to be replaced has the wanted one. [`distribute`]
/// brings the two together.
///
/// # Errors
/// The name is taken, or AWS does not answer.
pub(crate) async fn name_to_make(job: &AmiJob<'_>, run: &RunContext) -> Result<String, MachineError> {
    name::to_make(job, job.account, run).await
}

/// An AMI of the very disk that the job's tags name, which an earlier try made, whatever it is called. One that failed
/// is deregistered.
///
/// # Errors
/// AWS does not answer, or the build is cancelled.
pub(crate) async fn find_made(job: &AmiJob<'_>, custody: &Custody<'_>) -> Result<Option<String>, MachineError> {
    let Some(sha256) = job.tags.get(SHA256) else { return Ok(None) };
    let filter = format!("tag:{SHA256}");
    let mut found = None;
    for image in find::own(job.account, [(filter.as_str(), sha256.as_str())], custody.run).await? {
        let is_named = image.name() == Some(&job.name);
        let waits = tags::of(image.tags(), tags::STANDS_FOR) == Some(&job.name);
        if !tags::names_the_same(&image, &job.tags) || !(is_named || waits) {
            continue;
        }
        match image.state() {
            // A stand-in beside the one that took the name over comes first: it still has to go.
            Some(ImageState::Available | ImageState::Pending) if found.is_some() && !waits => {}
            Some(ImageState::Available | ImageState::Pending) => found = Some(find::id(&image).to_owned()),
            // Its snapshot is good: the next AMI is made of it.
            _ if tags::of(image.tags(), AWS_NAME_TAG).is_some() => {
                replace::deregister(&image, job.account, custody.run).await?;
                let name = image.name().unwrap_or_default();
                custody.is_finished(&resource(job.account, AwsKind::Image, name))?;
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Copies an available AMI to the other regions, tags and shares it, sets deprecation and protection, takes the
/// older one of its name away, and moves the parameter last.
///
/// # Errors
/// Not all was done; called again, it goes on.
pub(crate) async fn distribute(job: &AmiJob<'_>, id: &str, run: &RunContext) -> Result<Vec<Ami>, MachineError> {
    distribute_in(job, id, &Custody::of_ledger(run)).await
}

/// The same, with a say in who answers for unfinished copies.
///
/// # Errors
/// Not all was done; called again, it goes on.
pub(crate) async fn distribute_in(job: &AmiJob<'_>, id: &str, custody: &Custody<'_>) -> Result<Vec<Ami>, MachineError> {
    let source = find::wait_until_available(job.account, id, custody.run).await?;
    let regions = name::regions(job);
    // In no region does anything older go before the new one is whole in all.
    let whole = all(regions.iter().map(|account| make_whole(job, &source, account, custody)).collect()).await?;
    let settled = regions.iter().zip(whole).map(|(account, image)| settle(job, image, account, custody));
    let mut amis = all(settled.collect()).await?;
    amis.sort();
    Ok(amis)
}

/// There, available, tagged and shared.
async fn make_whole(
    job: &AmiJob<'_>,
    source: &Image,
    account: &Account,
    custody: &Custody<'_>,
) -> Result<Image, MachineError> {
    let is_home = account.region == job.account.region;
    let image = if is_home { source.clone() } else { copy::bring(job, source, account, custody).await? };
    dress::dress(job, &image, account, custody.run).await?;
    Ok(image)
}

/// The AMI loses its temporary tag before the parameter points to it: a parameter must never name what a clean-up may
/// take away.
async fn settle(job: &AmiJob<'_>, image: Image, account: &Account, custody: &Custody<'_>) -> Result<Ami, MachineError> {
    let image = replace::take_name(job, image, account, custody).await?;
    dress::protect(job, &image, account, custody.run).await?;
    finish(&image, account, custody).await?;
    if let Some(parameter) = &job.table.parameter {
        parameter::point(parameter, find::id(&image), account, custody.run).await?;
    }
    Ok(Ami {
        region: account.region.clone(),
        id: find::id(&image).to_owned(),
        name: job.name.clone(),
        snapshots: find::snapshots(&image),
        source: job.source.clone(),
        parameter: job.table.parameter.clone(),
    })
}

/// Each goes as far as it can; then all that went wrong is told at once.
async fn all<T>(work: Vec<impl Future<Output = Result<T, MachineError>>>) -> Result<Vec<T>, MachineError> {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for result in join_all(work).await {
        match result {
            Ok(one) => done.push(one),
            Err(MachineError::Cancelled) => return Err(MachineError::Cancelled),
            Err(error) => failed.push(error),
        }
    }
    match failed.len() {
        0 => Ok(done),
        1 => Err(failed.remove(0)),
        _ => {
            let hint = failed.iter().find_map(|error| error.hint().map(ToOwned::to_owned));
            let what = failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Err(match failed.iter().all(|error| matches!(error, MachineError::TryAgain { .. })) {
                true => MachineError::TryAgain { what, hint },
                false => MachineError::Refused { what, hint },
            })
        }
    }
}
