//! `dsimg cache prune`: what is of no use, old, or over the budget goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dsimg_checkpoint::{
    Checkpoint, Compressed, Damage, Eviction, Listing, Policy, Store, StoreError, evict, to_compress,
};
use dsimg_store::Pruned;
use jiff::{SignedDuration, Timestamp};

use super::{du, failure, in_a_line, list, packages, stage};
use crate::arguments::CachePrune;
use crate::environment;
use crate::failure::Failure;
use crate::ui::output::{print, say};
use crate::ui::text::{bytes, printable};

pub(super) fn run(cache: &Path, arguments: &CachePrune) -> Result<(), Failure> {
    let (policy, pruning) = (policy(arguments)?, packages::pruning(arguments)?);
    let store = Store::new(cache);
    if arguments.dry_run {
        let packages = packages::foretell(cache, &pruning)?;
        return print(&printable(&foretell(&store, cache, &policy, arguments.all, packages).map_err(failure)?));
    }
    let mut cleared = Cleared::default();
    let ended = clear(&store, policy, arguments.all, &mut cleared).and_then(|()| sweep(&store, cache, &mut cleared));
    let pruned = packages::prune(cache, &pruning);
    cleared.gone.extend(pruned.as_ref().ok().and_then(|pruned| packages::describe(*pruned)));
    for (id, error) in &cleared.stayed {
        let what = match error {
            StoreError::InUse { .. } => format!("checkpoint {id} stays: it is in use by a build or a shell\n"),
            error => format!("warning: checkpoint {id} stays: {}\n", in_a_line(error)),
        };
        say(&printable(&what));
    }
    print(&printable(&cleared.describe("removed", "freed")))?;
    ended.map_err(failure)?;
    pruned.map(drop)
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
    let ended = compress(&store, &policy, Patience::Little, &mut cleared)
        .and_then(|()| evict_all(&store, policy, &mut cleared))
        // Before more is set aside, which stays until the next time.
        .and_then(|()| sweep(&store, cache, &mut cleared))
        .and_then(|()| store.set_damaged_aside());
    let mut messages = Vec::new();
    if !cleared.compressed.is_empty() {
        let saved = bytes(cleared.compressed.iter().map(|(_, saved)| saved).sum());
        messages.push(format!("memories that nobody used for a day are compressed: {saved} freed"));
    }
    if !cleared.gone.is_empty() {
        let freed = bytes(cleared.gone.iter().map(|(_, bytes)| bytes).sum());
        messages.push(format!("the cache was over its budget or held what is of no use: {freed} freed"));
    }
    for damage in ended.iter().flatten() {
        let memory = damage.is_of_memory();
        let becomes = if memory { "its machine will boot from its disk" } else { "it is set aside" };
        messages.push(format!("{damage}: {becomes}"));
    }
    // What others use goes another time.
    let failed = cleared.stayed.iter().filter(|(_, error)| !matches!(error, StoreError::InUse { .. }));
    messages.extend(failed.map(|(id, error)| format!("checkpoint {id} stays as it is: {}", in_a_line(error))));
    if let Err(error) = ended {
        messages.push(format!("the cache can't be pruned: {}", in_a_line(&error)));
    }
    match packages::keep_within_budget(cache).map(packages::describe) {
        Ok(None) => {}
        Ok(Some((what, size))) => {
            messages.push(format!("packages were over their budget: {what}, {} freed", bytes(size)))
        }
        Err(failure) => messages.push(format!("the package store can't be pruned: {}", failure.summary())),
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
    /// In words, with the bytes that are saved.
    compressed: Vec<(String, u64)>,
    /// In words, with bytes.
    gone: Vec<(String, u64)>,
    stayed: Vec<(String, StoreError)>,
}

impl Cleared {
    fn freed(&self) -> u64 {
        self.compressed.iter().chain(&self.gone).map(|(_, bytes)| bytes).sum()
    }

    fn describe(&self, removed: &str, freed: &str) -> String {
        if self.compressed.is_empty() && self.gone.is_empty() {
            return "nothing to remove\n".to_owned();
        }
        let compressed =
            self.compressed.iter().map(|(what, saved)| format!("compressed {what}, {} less\n", bytes(*saved)));
        let gone = self.gone.iter().map(|(what, size)| format!("{removed} {what}, {}\n", bytes(*size)));
        let lines: String = compressed.chain(gone).collect();
        format!("{lines}{freed} {}\n", bytes(self.freed()))
    }

    fn done(&mut self, result: Result<(), StoreError>, id: &str, what: (String, u64)) {
        match result {
            Ok(()) => self.gone.push(what),
            Err(error) => self.stayed.push((id.to_owned(), error)),
        }
    }

    fn note(&mut self, eviction: &Eviction, listing: &Listing) {
        let (id, memory) = match eviction {
            Eviction::DropMemory(id) => (id, true),
            Eviction::Remove(id) => (id, false),
        };
        let Some(checkpoint) = listing.get(id) else { return };
        self.gone.push(match &checkpoint.memory {
            Some(state) if memory => (memory_name(checkpoint), state.file.allocated),
            _ => (format!("checkpoint {id} ({} of {})", stage(checkpoint), checkpoint.image), checkpoint.allocated()),
        });
    }
}

/// What would go, as far as nothing of it is in use.
fn foretell(store: &Store, cache: &Path, policy: &Policy, all: bool, packages: Pruned) -> Result<String, StoreError> {
    let mut listing = list(store)?;
    let mut cleared = Cleared::default();
    if all {
        let newer = std::mem::take(&mut listing.newer);
        cleared.gone.extend(newer.into_iter().map(|newer| (newer_name(&newer.id), size_of(store, &newer.id))));
    }
    let used = store.last_used(&listing);
    let to_compress = worth_compressing(&listing, &used, policy);
    for eviction in evict(&listing, &used, Timestamp::now(), policy) {
        cleared.note(&eviction, &listing);
    }
    cleared.gone.extend(listing.damaged.iter().map(|damage| (damaged_name(damage), damaged_size(store, damage))));
    cleared.gone.extend(store.leftovers().into_iter().map(|it| (it.path.display().to_string(), it.allocated)));
    let aside = set_aside(&cache.join("bases"));
    cleared.gone.extend(aside.into_iter().map(|(path, size)| (path.display().to_string(), size)));
    cleared.gone.extend(packages::describe(packages));
    let compressed = to_compress.iter().map(|checkpoint| {
        let size = checkpoint.memory.as_ref().map_or(0, |memory| memory.file.allocated);
        format!("would compress {}, {} now, if that saves a fifth of it\n", memory_name(checkpoint), bytes(size))
    });
    let compressed: String = compressed.collect();
    Ok(match cleared.gone.is_empty() && !compressed.is_empty() {
        true => compressed,
        false => format!("{compressed}{}", cleared.describe("would remove", "would free")),
    })
}

fn clear(store: &Store, policy: Policy, all: bool, cleared: &mut Cleared) -> Result<(), StoreError> {
    if all {
        for newer in list(store)?.newer {
            let size = size_of(store, &newer.id);
            cleared.done(store.remove(&newer.id), &newer.id, (newer_name(&newer.id), size));
        }
    }
    compress(store, &policy, Patience::Endless, cleared)?;
    evict_all(store, policy, cleared)?;
    for damage in list(store)?.damaged {
        let size = damaged_size(store, &damage);
        let done = match list(store)?.get(&damage.id) {
            Some(checkpoint) if damage.is_of_memory() => store.drop_memory(checkpoint),
            _ => store.remove(&damage.id),
        };
        cleared.done(done, &damage.id, (damaged_name(&damage), size));
    }
    Ok(())
}

/// How much time there is to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// As at the end of a build, for which somebody waits.
    Little,
    Endless,
}

impl Patience {
    /// With little, none is begun after this.
    const TIME: Duration = Duration::from_secs(2);
    /// With little, larger ones wait for `dsimg cache prune`: this takes some seconds.
    const SIZE: u64 = 1 << 30;

    fn is_for(self, checkpoint: &Checkpoint, start: Instant) -> bool {
        let size = checkpoint.memory.as_ref().map_or(0, |memory| memory.file.allocated);
        self == Self::Endless || (start.elapsed() < Self::TIME && size <= Self::SIZE)
    }
}

/// Memories that nobody used for long. What can't be compressed stays as it is.
fn compress(store: &Store, policy: &Policy, patience: Patience, cleared: &mut Cleared) -> Result<(), StoreError> {
    let listing = list(store)?;
    let start = Instant::now();
    for checkpoint in worth_compressing(&listing, &store.last_used(&listing), policy) {
        if !patience.is_for(checkpoint, start) {
            continue;
        }
        let name = memory_name(checkpoint);
        if patience == Patience::Endless {
            say(&printable(&format!("compressing {name}\n")));
        }
        match store.compress_memory(&checkpoint.id) {
            Ok(Compressed::Saved(saved)) => cleared.compressed.push((name, saved)),
            Ok(Compressed::NotWorthwhile | Compressed::NothingToDo) | Err(StoreError::InUse { .. }) => {}
            // It would be found again and again.
            Err(StoreError::Damaged(damage)) if damage.is_of_memory() => {
                let size = checkpoint.memory.as_ref().map_or(0, |memory| memory.file.allocated);
                cleared.done(store.drop_memory(checkpoint), &checkpoint.id, (damaged_name(&damage), size));
            }
            Err(error) => cleared.stayed.push((checkpoint.id.clone(), error)),
        }
    }
    Ok(())
}

/// But for those that will be removed with their disk.
fn worth_compressing<'l>(
    listing: &'l Listing,
    used: &BTreeMap<String, Timestamp>,
    policy: &Policy,
) -> Vec<&'l Checkpoint> {
    let now = Timestamp::now();
    let evictions = evict(listing, used, now, policy);
    let stays = |checkpoint: &&Checkpoint| !evictions.contains(&Eviction::Remove(checkpoint.id.clone()));
    to_compress(listing, used, now).into_iter().filter(stays).collect()
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

/// What was set aside in the store and among the bases, and what a crash has left.
fn sweep(store: &Store, cache: &Path, cleared: &mut Cleared) -> Result<(), StoreError> {
    let swept = store.sweep()?;
    cleared.gone.extend(swept.into_iter().map(|it| (it.path.display().to_string(), it.allocated)));
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

fn size_of(store: &Store, id: &str) -> u64 {
    du::allocated(&store.folder_of(id))
}

fn damaged_size(store: &Store, damage: &Damage) -> u64 {
    match damage.is_of_memory() {
        true => du::allocated(&store.folder_of(&damage.id).join(&damage.file)),
        false => size_of(store, &damage.id),
    }
}

fn damaged_name(damage: &Damage) -> String {
    let of = if damage.is_of_memory() { "the memory of " } else { "" };
    format!("{of}checkpoint {} (damaged)", damage.id)
}

fn newer_name(id: &str) -> String {
    format!("checkpoint {id} (made by a newer dsimg)")
}

fn memory_name(checkpoint: &Checkpoint) -> String {
    format!("the memory of checkpoint {} ({} of {})", checkpoint.id, stage(checkpoint), checkpoint.image)
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

#[cfg(test)]
mod tests {
    use dsimg_checkpoint::{Base, FileFacts, Kind, Memory};
    use dsimg_plan::Digest;

    use super::*;

    /// A checkpoint that nobody used for two days, with a memory of 100 KB.
    fn publish(cache: &Path, id: &str) {
        let store = Store::new(cache);
        let draft = store.draft(cache).unwrap();
        for (name, size) in [("disk.qcow2", 10_000), ("access.json", 10), ("memory", 100_000)] {
            fs::write(draft.path().join(name), vec![7; size]).unwrap();
        }
        let unknown = || FileFacts { size: 0, allocated: 0, sha256: Digest::of_bytes(b"") };
        let checkpoint = Checkpoint {
            format: 0,
            id: id.to_owned(),
            parent: None,
            base: Base { path: "bases/b".to_owned(), sha256: Digest::of_bytes(b"base") },
            depth: 1,
            key: Digest::of_bytes(id.as_bytes()),
            locked_key: None,
            kind: Kind::Stage,
            label: "python".to_owned(),
            image: "ds".to_owned(),
            inputs: serde_json::Value::Null,
            disk: unknown(),
            memory: Some(Memory { key: Digest::of_bytes(b"fit"), facts: BTreeMap::new(), file: unknown() }),
            access: unknown(),
            made: Timestamp::now(),
            notes: serde_json::Value::Null,
        };
        store.publish(draft, checkpoint).unwrap();
        let used = fs::File::options().write(true).open(store.folder_of(id).join("used")).unwrap();
        used.set_modified(std::time::SystemTime::now() - Duration::from_secs(48 * 3600)).unwrap();
    }

    #[test]
    fn the_end_of_a_build_compresses_and_sets_aside() {
        let cache = tempfile::tempdir().unwrap();
        for id in ["old", "torn", "new", "memoryless"] {
            publish(cache.path(), id);
        }
        let store = Store::new(cache.path());
        fs::write(store.folder_of("torn").join("checkpoint.json"), "{").unwrap();
        let newer = r#"{"format":99}"#;
        let newer = format!(r#"{{"sha256": "{}", "checkpoint": {newer}}}"#, Digest::of_bytes(newer.as_bytes()));
        fs::write(store.folder_of("new").join("checkpoint.json"), newer).unwrap();
        fs::remove_file(store.folder_of("memoryless").join("memory")).unwrap();
        fs::create_dir(store.folder().join(".trash-gone")).unwrap();

        let told = keep_within_budget(cache.path(), &BTreeSet::new());
        assert!(told[0].starts_with("memories that nobody used for a day are compressed: "), "{told:?}");
        assert!(told[1].starts_with("the cache was over its budget or held what is of no use: "), "{told:?}");
        assert!(told[2].starts_with("checkpoint.json of checkpoint torn can't be understood: "), "{told:?}");
        assert!(told[2].ends_with(": it is set aside") && told.len() == 3, "{told:?}");
        let listing = store.list().unwrap();
        assert_eq!((listing.checkpoints.len(), listing.damaged.len(), listing.newer.len()), (2, 0, 1));
        assert!(store.is_compressed("old") && listing.get("memoryless").unwrap().memory.is_none());
        assert!(store.folder().join(".damaged-torn").exists() && !store.folder().join(".trash-gone").exists());
        // It stays until the next time.
        let told = keep_within_budget(cache.path(), &BTreeSet::new());
        assert!(told.len() == 1 && !store.folder().join(".damaged-torn").exists(), "{told:?}");
        assert_eq!(keep_within_budget(cache.path(), &BTreeSet::new()), [""; 0]);
    }

    #[test]
    fn at_the_end_of_a_build_there_is_little_time() {
        let file = |allocated| FileFacts { size: 0, allocated, sha256: Digest::of_bytes(b"") };
        let cache = tempfile::tempdir().unwrap();
        publish(cache.path(), "a");
        let mut checkpoint = Store::new(cache.path()).list().unwrap().checkpoints.remove(0);
        let (now, before) = (Instant::now(), Instant::now() - Duration::from_secs(3));
        assert!(Patience::Little.is_for(&checkpoint, now) && !Patience::Little.is_for(&checkpoint, before));
        checkpoint.memory.as_mut().unwrap().file = file(2 << 30);
        assert!(!Patience::Little.is_for(&checkpoint, now) && Patience::Endless.is_for(&checkpoint, before));
    }
}
