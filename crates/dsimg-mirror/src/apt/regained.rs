//! The lists of a lock, made of its packages: on a host whose store does not have those that the lock was made from.
//!
//! A lock travels without its store, by git. Its packages come by their addresses then, if they are still the same there, and
//! each says itself what a list says of it.

use std::collections::BTreeMap;

use dsimg_licence::control_of;
use dsimg_manifest::lock::{AptIndex, Artifact, Deb, Lock};
use dsimg_plan::Digest;
use dsimg_store::{Expected, Store, StoreError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::spawn_blocking;

use crate::apt::locked::LockedIndex;
use crate::apt::place::Repository;
use crate::apt::release::ReleaseFacts;
use crate::error::MirrorError;
use crate::fetch::Fetcher;
use crate::pins::Pin;
use crate::refusal::Refusal;
use crate::transfer::{Wanted, broken_thread};

/// As apt has it for one server, and a few servers.
const AT_A_TIME: usize = 8;

/// Whether what the lock's lists were made of is on this host.
#[must_use]
pub fn has_lists(lock: &Lock, store: &Store) -> bool {
    lock.indexes.iter().all(|index| is_here(index, store))
}

fn is_here(index: &AptIndex, store: &Store) -> bool {
    let is_stored = |digest: &str| Digest::parse(digest).is_some_and(|digest| store.find(&digest).is_some());
    is_stored(&index.in_release) && is_stored(&index.entries)
}

/// Those that are not in the store, by their ids.
///
/// # Errors
/// A package of them can't be had any more.
pub(crate) async fn regained(lock: &Lock, fetcher: &Fetcher) -> Result<BTreeMap<String, LockedIndex>, MirrorError> {
    let mut regained = BTreeMap::new();
    for index in lock.indexes.iter().filter(|index| !is_here(index, &fetcher.store)) {
        regained.insert(index.id.clone(), regain(index, lock, fetcher).await?);
    }
    Ok(regained)
}

async fn regain(index: &AptIndex, lock: &Lock, fetcher: &Fetcher) -> Result<LockedIndex, MirrorError> {
    let at = Repository::of_index(index);
    let of_index = |deb: &&Deb| deb.index.as_ref() == Some(&index.id);
    let debs: Vec<_> = lock.deb.iter().filter(of_index).filter_map(|deb| Some((deb, deb.artifact.as_ref()?))).collect();
    let stanzas = stream::iter(&debs).map(|(deb, artifact)| stanza(deb, artifact, &at, fetcher));
    let entries = stanzas.buffered(AT_A_TIME).try_collect::<String>().await?;
    let folder = at.folder();
    let beside = lock.indexes.iter().filter(|other| Repository::of_index(other).folder() == folder);
    let components = beside.map(|other| other.component.clone()).filter(|component| !component.is_empty()).collect();
    let origin = debs.iter().map(|(deb, _)| deb.origin.as_str()).find(|origin| !origin.is_empty());
    Ok(LockedIndex { release: ReleaseFacts::regained(index, origin, components), at, entries })
}

/// What a list would say of the package.
async fn stanza(deb: &Deb, artifact: &Artifact, at: &Repository, fetcher: &Fetcher) -> Result<String, MirrorError> {
    let pin = Pin::of(artifact, format!("{} {}", deb.name, deb.version))?;
    let gone = |refusal: Refusal| MirrorError::Gone { shown: pin.shown.clone(), why: refusal.reason };
    let expected = Expected { sha256: Some(pin.sha256.clone()), size: Some(pin.size) };
    let found = fetcher.find(Wanted { expected, ..Wanted::any(pin.address.clone()) }).await.map_err(&gone)?;
    let stored = found.whole().await.map_err(&gone)?;
    let store = fetcher.store.clone();
    let read = spawn_blocking(move || {
        // It was read through on its way.
        let missing = || Refusal::of_store(&StoreError::Missing { digest: stored.digest.clone() });
        let path = store.find(&stored.digest).ok_or_else(missing)?;
        control_of(&path).map_err(|error| Refusal::new(502, error.to_string()))
    });
    let text = read.await.map_err(|stopped| broken_thread(&stopped)).and_then(|text| text).map_err(gone)?;
    let Artifact { url, sha256, size } = artifact;
    let path = url.strip_prefix(&format!("{}/", at.uri)).unwrap_or(url);
    Ok(format!("{}\nFilename: {path}\nSize: {size}\nSHA256: {sha256}\n\n", text.trim_end()))
}
