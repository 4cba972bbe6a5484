//! The package store, in `dsimg cache prune` and at the end of builds.

use std::path::Path;
use std::time::{Duration, SystemTime};

use dsimg_build::BuildError;
use dsimg_build::bundle::sweep;
use dsimg_store::{Pruned, Pruning, Store};

use crate::arguments::CachePrune;
use crate::environment;
use crate::failure::Failure;

/// At the end of a build, what was used within this time stays: others may be at work with it.
const IN_USE: Duration = Duration::from_hours(24);

/// As the command line asks for it.
///
/// # Errors
/// The environment names no size.
pub(super) fn pruning(arguments: &CachePrune) -> Result<Pruning, Failure> {
    let budget = arguments.packages.map_or_else(environment::packages_budget, Ok)?.0;
    // Older than it can count is older than all there is.
    let older_than = arguments.older_than.and_then(|age| SystemTime::now().checked_sub(age.as_duration()));
    Ok(Pruning { budget, older_than, keep_since: None })
}

/// # Errors
/// The store can't be read.
pub(super) fn foretell(cache: &Path, pruning: &Pruning) -> Result<Pruned, Failure> {
    match open(cache)? {
        Some(store) => Ok(store.foretell(pruning).map_err(BuildError::from)?),
        None => Ok(Pruned::default()),
    }
}

/// Also removes what builds from bundles left that died.
///
/// # Errors
/// The store can't be read, or something of it not removed.
pub(super) fn prune(cache: &Path, pruning: &Pruning) -> Result<Pruned, Failure> {
    sweep(cache);
    match open(cache)? {
        Some(store) => Ok(store.prune(pruning).map_err(BuildError::from)?),
        None => Ok(Pruned::default()),
    }
}

/// At the end of a build.
///
/// # Errors
/// As of [`prune`], or the environment names no size.
pub(super) fn keep_within_budget(cache: &Path) -> Result<Pruned, Failure> {
    let budget = environment::packages_budget()?.0;
    prune(cache, &Pruning { budget, older_than: None, keep_since: SystemTime::now().checked_sub(IN_USE) })
}

/// What went, in words and bytes; `None`: nothing.
pub(super) fn describe(pruned: Pruned) -> Option<(String, u64)> {
    let what = format!("{} of the package store", super::counted(pruned.blobs, "file"));
    (pruned.blobs > 0).then_some((what, pruned.bytes))
}

/// To look makes no store.
fn open(cache: &Path) -> Result<Option<Store>, Failure> {
    if !cache.join("store").is_dir() {
        return Ok(None);
    }
    Ok(Some(Store::open(cache).map_err(BuildError::from)?))
}
