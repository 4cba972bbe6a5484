//! `dsimg cache prune`: what is of no use, old, or over the budget goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dsimg_checkpoint::{Checkpoint, Eviction, Listing, Policy, Store, StoreError, evict};
use jiff::{SignedDuration, Timestamp};

use super::{du, failure, in_a_line, list, stage};
use crate::arguments::CachePrune;
use crate::environment;
use crate::failure::Failure;
use crate::ui::output::{print, say};
use crate::ui::text::{bytes, printable};

pub(super) fn run(cache: &Path, arguments: &CachePrune) -> Result<(), Failure> {
    let policy = policy(arguments)?;
    let store = Store::new(cache);
    if arguments.dry_run {
        return print(&printable(&foretell(&store, cache, &policy).map_err(failure)?));
    }
    let mut cleared = Cleared::default();
    let ended = clear(&store, policy, &mut cleared).and_then(|()| sweep(&store, cache, &mut cleared));
    for (id, error) in &cleared.stayed {
        let what = match error {
            StoreError::InUse { .. } => format!("checkpoint {id} stays: it is in use by a build or a shell\n"),
            error => format!("warning: checkpoint {id} stays: {}\n", in_a_line(error)),
        };
        say(&printable(&what));
    }
    print(&printable(&cleared.describe("removed", "freed")))?;
    ended.map_err(failure)
}

/// Makes room at the end of a build; `keep` is what it used and made. What is worth saying comes back: a cache that
/// can't be pruned is no failure of a build.
pub(crate) fn keep_within_budget(cache: &Path, keep: &BTreeSet<String>) -> Vec<String> {
    let budget = match environment::cache_budget() {
        Ok(budget) => budget.0,
        Err(failure) => return vec![format!("the cache is not pruned: {}", failure.summary())],
    };
    let store = Store::new(cache);
    let mut cleared = Cleared::default();
    let policy = Policy { budget: Some(budget), older_than: None, keep: keep.clone() };
    let ended = evict_all(&store, policy, &mut cleared).and_then(|()| sweep(&store, cache, &mut cleared));
    let mut messages = Vec::new();
    if !cleared.gone.is_empty() {
        let freed = bytes(cleared.freed());
        messages.push(format!("the cache was over its budget or held what is of no use: {freed} freed"));
    }
    // What others use goes another time.
    let failed = cleared.stayed.iter().filter(|(_, error)| !matches!(error, StoreError::InUse { .. }));
    messages.extend(failed.map(|(id, error)| format!("checkpoint {id} can't be removed: {}", in_a_line(error))));
    if let Err(error) = ended {
        messages.push(format!("the cache can't be pruned: {}", in_a_line(&error)));
    }
    messages
}

fn policy(arguments: &CachePrune) -> Result<Policy, Failure> {
    if arguments.all {
        // Older than what is yet to come: also those of a size of 0, and those from a clock that was ahead.
        return Ok(Policy { older_than: Some(SignedDuration::MIN), ..Policy::default() });
    }
    let budget = match arguments.budget {
        Some(budget) => budget.0,
        None => environment::cache_budget()?.0,
    };
    // More than it can count is as good as no limit.
    let older_than = arguments.older_than.and_then(|age| SignedDuration::try_from(age.as_duration()).ok());
    Ok(Policy { budget: Some(budget), older_than, keep: BTreeSet::new() })
}

/// What went and what did not.
#[derive(Debug, Default)]
struct Cleared {
    /// In words, with bytes.
    gone: Vec<(String, u64)>,
    stayed: Vec<(String, StoreError)>,
}

impl Cleared {
    fn freed(&self) -> u64 {
        self.gone.iter().map(|(_, bytes)| bytes).sum()
    }

    fn describe(&self, removed: &str, freed: &str) -> String {
        if self.gone.is_empty() {
            return "nothing to remove\n".to_owned();
        }
        let lines: String =
            self.gone.iter().map(|(what, size)| format!("{removed} {what}, {}\n", bytes(*size))).collect();
        format!("{lines}{freed} {}\n", bytes(self.freed()))
    }

    fn note(&mut self, eviction: &Eviction, listing: &Listing) {
        let (id, memory) = match eviction {
            Eviction::DropMemory(id) => (id, true),
            Eviction::Remove(id) => (id, false),
        };
        let Some(checkpoint) = listing.get(id) else { return };
        let name = format!("checkpoint {id} ({} of {})", stage(checkpoint), checkpoint.image);
        self.gone.push(match &checkpoint.memory {
            Some(memory_state) if memory => (format!("the memory of {name}"), memory_state.file.allocated),
            _ => (name, checkpoint.allocated()),
        });
    }
}

/// What would go, as far as nothing of it is in use.
fn foretell(store: &Store, cache: &Path, policy: &Policy) -> Result<String, StoreError> {
    let listing = list(store)?;
    let mut cleared = Cleared::default();
    for eviction in evict(&listing, &store.last_used(&listing), Timestamp::now(), policy) {
        cleared.note(&eviction, &listing);
    }
    cleared.gone.extend(damaged(store, &listing).into_iter().map(|(id, size)| (damaged_name(&id), size)));
    let aside = [set_aside(store.folder()), set_aside(&cache.join("bases"))].concat();
    cleared.gone.extend(aside.into_iter().map(|(path, size)| (path.display().to_string(), size)));
    Ok(cleared.describe("would remove", "would free"))
}

fn clear(store: &Store, policy: Policy, cleared: &mut Cleared) -> Result<(), StoreError> {
    evict_all(store, policy, cleared)?;
    for (id, size) in damaged(store, &list(store)?) {
        match store.remove(&id) {
            Ok(()) => cleared.gone.push((damaged_name(&id), size)),
            Err(error) => cleared.stayed.push((id, error)),
        }
    }
    Ok(())
}

/// What can't go now is kept with all that it stands on, and something else goes in its place.
fn evict_all(store: &Store, mut policy: Policy, cleared: &mut Cleared) -> Result<(), StoreError> {
    loop {
        let listing = list(store)?;
        let evictions = evict(&listing, &store.last_used(&listing), Timestamp::now(), &policy);
        let mut all_done = true;
        for eviction in &evictions {
            match carry_out(store, eviction, &listing) {
                Ok(()) => cleared.note(eviction, &listing),
                Err((id, error)) => {
                    policy.keep.insert(id.clone());
                    cleared.stayed.push((id, error));
                    all_done = false;
                    break;
                }
            }
        }
        if all_done {
            return Ok(());
        }
    }
}

fn carry_out(store: &Store, eviction: &Eviction, listing: &Listing) -> Result<(), (String, StoreError)> {
    let (id, done) = match eviction {
        Eviction::DropMemory(id) => (id, listing.get(id).map_or(Ok(()), |it: &Checkpoint| store.drop_memory(it))),
        Eviction::Remove(id) => (id, store.remove(id)),
    };
    done.map_err(|error| (id.clone(), error))
}

/// What was set aside in the store and among the bases.
fn sweep(store: &Store, cache: &Path, cleared: &mut Cleared) -> Result<(), StoreError> {
    let sizes: BTreeMap<_, _> = set_aside(store.folder()).into_iter().collect();
    for path in store.sweep()? {
        let size = sizes.get(&path).copied().unwrap_or(0);
        cleared.gone.push((path.display().to_string(), size));
    }
    for (path, size) in set_aside(&cache.join("bases")) {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::File { action: "cannot remove", path, source: error });
            }
            _ => cleared.gone.push((path.display().to_string(), size)),
        }
    }
    Ok(())
}

/// Folders whose record can't be trusted, with their bytes.
fn damaged(store: &Store, listing: &Listing) -> Vec<(String, u64)> {
    let sized = |id: &String| (id.clone(), du::allocated(&store.folder_of(id)));
    listing.damaged.iter().map(|damaged| sized(&damaged.id)).collect()
}

fn damaged_name(id: &str) -> String {
    format!("checkpoint {id} (damaged)")
}

/// Folders that are out of use until a sweep, with their bytes.
fn set_aside(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let aside = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(".damaged-") || name.starts_with(".trash-")
    });
    aside.map(|entry| (entry.path(), du::allocated(&entry.path()))).collect()
}
