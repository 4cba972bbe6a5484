//! The base that a lock names, by its digest.

use dsimg_machine::{BaseImage, KnownBase, RunContext};
use dsimg_plan::Digest;
use dsimg_store::{Store, StoreError};
use tokio::task::spawn_blocking;

use crate::error::BuildError;
use crate::execute::Job;

/// The base that the job's lock names, if this host has it, or a bundle brought it; `None` where it is to be made or
/// downloaded. A base that is made from packages anew is another one when one of them was updated.
///
/// # Errors
/// The build is offline and there is no such base, or what the bundle brought was changed since.
pub(crate) async fn of_lock(job: &Job<'_>, run: &RunContext) -> Result<Option<BaseImage>, BuildError> {
    let Some(sha256) = job.lock.and_then(|kept| Digest::parse(&kept.lock.base.sha256)) else { return Ok(None) };
    let find = || job.builder.find_base(&job.plan.base, &sha256, &run.cache);
    let Some(carried) = job.offline else { return Ok(find()?.map(|known| known.image)) };
    let store = Store::open(&run.cache)?;
    if let Some(found) = find()? {
        // A disk is not kept twice.
        store.remove(&sha256)?;
        return Ok(Some(found.image));
    }
    let absent = || BuildError::NoBase { sha256: sha256.clone() };
    let known = carried.bases.iter().find(|known| known.image.sha256 == sha256).ok_or_else(absent)?;
    match verified(&store, &sha256).await {
        Ok(path) => {
            let image = BaseImage { path, ..known.image.clone() };
            job.builder.adopt_base(&KnownBase { image, ..known.clone() }, run).await?;
        }
        // Another build of this command may have been quicker.
        Err(BuildError::Packages(StoreError::Missing { .. })) => {}
        Err(error) => return Err(error),
    }
    find()?.map(|known| Some(known.image)).ok_or_else(absent)
}

async fn verified(store: &Store, sha256: &Digest) -> Result<std::path::PathBuf, BuildError> {
    let (store, sha256) = (store.clone(), sha256.clone());
    Ok(spawn_blocking(move || store.verified(&sha256)).await.map_err(|_| BuildError::Cancelled)??)
}
