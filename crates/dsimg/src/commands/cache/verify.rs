//! `dsimg cache verify`: everything that builds would go on from, read back.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use dsimg_checkpoint::{Checkpoint, Damage, Store, StoreError};
use dsimg_plan::inputs::hash_file;
use rustix::fs::{FlockOperation, flock};

use super::{counted, failure, list, stage};
use crate::failure::{Code, Failure};
use crate::ui::output::{print, say};
use crate::ui::text::{bytes, printable};

/// The digests of a base's files, as the builder wrote them.
const SUMS: &str = "SHA256SUMS";
const BASE_FILES: [(&str, &str); 2] = [("base.json", "the record"), ("base.qcow2", "the disk")];

pub(super) fn run(cache: &Path) -> Result<(), Failure> {
    let store = Store::new(cache);
    let listing = list(&store).map_err(failure)?;
    let bases = bases(&cache.join("bases"))?;
    // What lacks only its memory is among the others, and is found with them.
    let damaged: Vec<_> = listing.damaged.iter().filter(|damage| !damage.is_of_memory()).collect();
    let count = listing.checkpoints.len() + damaged.len();
    for newer in &listing.newer {
        let format = newer.format;
        say(&printable(&format!("checkpoint {} was made by a newer dsimg (format {format}): not read\n", newer.id)));
    }
    if count + bases.len() + listing.newer.len() == 0 {
        return print(&printable(&format!("nothing to verify in {}\n", cache.display())));
    }
    let mut damages = Vec::new();
    for damage in damaged {
        progress(&format!("checkpoint {}", damage.id));
        store.set_aside(&damage.id).map_err(failure)?;
        damages.push(format!("{damage}; {}", consequence(listing.subtree(&damage.id).len() - 1)));
    }
    for checkpoint in &listing.checkpoints {
        let size = bytes(checkpoint.allocated());
        progress(&format!("checkpoint {} ({} of {}), {size}", checkpoint.id, stage(checkpoint), checkpoint.image));
        let above = listing.subtree(&checkpoint.id).len() - 1;
        damages.extend(verify_checkpoint(&store, checkpoint, above).map_err(failure)?);
    }
    for base in &bases {
        progress(&format!("base {}", name_of(base)));
        damages.extend(verify_base(base)?);
    }
    let checked = format!("{} and {}", counted(count, "checkpoint"), counted(bases.len(), "base"));
    if damages.is_empty() {
        return print(&format!("as they were written: {checked}\n"));
    }
    let lines: String = damages.iter().map(|damage| format!("damaged: {damage}\n")).collect();
    print(&printable(&lines))?;
    Err(Failure::new(Code::Build, format!("damage was found: {} in {checked}", damages.len()))
        .with_hint("the next build makes anew what it needs of it; see to the disk if this happens again"))
}

fn progress(what: &str) {
    say(&printable(&format!("verifying {what}\n")));
}

/// What becomes of it and of those that stand on it.
fn consequence(above: usize) -> String {
    match above {
        0 => "it is set aside, and a build that needs it makes it anew".to_owned(),
        1 => "it is set aside, and a build that needs it or the one that stands on it makes them anew".to_owned(),
        above => format!("it is set aside, and a build that needs it or the {above} that stand on it makes them anew"),
    }
}

/// What is damaged, in words. A memory alone is dropped; with anything else the checkpoint is set aside.
fn verify_checkpoint(store: &Store, checkpoint: &Checkpoint, above: usize) -> Result<Option<String>, StoreError> {
    let Some(damage) = find_damage(store, checkpoint)? else { return Ok(None) };
    if damage.is_of_memory() && store.drop_memory(checkpoint).is_ok() {
        let left = Checkpoint { memory: None, ..checkpoint.clone() };
        let words = format!("{damage}; the memory is removed, and the machine will boot from its disk");
        return Ok(Some(match find_damage(store, &left)? {
            None => words,
            Some(second) => {
                store.set_aside(&checkpoint.id)?;
                format!("{words}; {second}; {}", consequence(above))
            }
        }));
    }
    store.set_aside(&checkpoint.id)?;
    Ok(Some(format!("{damage}; {}", consequence(above))))
}

/// None where it is gone, or another took its memory away meanwhile.
fn find_damage(store: &Store, checkpoint: &Checkpoint) -> Result<Option<Damage>, StoreError> {
    let _held = match store.hold(&[checkpoint]) {
        Ok(held) => held,
        Err(StoreError::Gone { .. } | StoreError::InUse { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Err(damage) = store.verify(checkpoint) else { return Ok(None) };
    let now = store.list()?;
    let is_gone = !store.folder_of(&checkpoint.id).exists();
    Ok(match now.get(&checkpoint.id) {
        _ if is_gone => None,
        // It lost its memory before it was held.
        Some(changed) if changed != checkpoint => store.verify(changed).err(),
        _ => Some(damage),
    })
}

/// The folder of each base that is ready.
fn bases(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::file("cannot read", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        // Those in the making have names that begin with a dot.
        if !name_of(&path).starts_with('.') && path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is damaged, in words.
fn verify_base(folder: &Path) -> Result<Option<String>, Failure> {
    let Some(what) = find_base_damage(folder) else { return Ok(None) };
    // Replaced or removed since.
    if !folder.exists() {
        return Ok(None);
    }
    let name = name_of(folder);
    let becomes = match set_base_aside(folder) {
        Ok(true) => "it is set aside, and the next build makes it anew",
        Ok(false) => "a build is about to make or read it; verify again when that has ended",
        Err(error) => return Err(Failure::file("cannot set aside", folder, error)),
    };
    Ok(Some(format!("{what} of base {name}; {becomes}")))
}

fn find_base_damage(folder: &Path) -> Option<String> {
    let sums = match fs::read_to_string(folder.join(SUMS)) {
        Err(error) => return Some(format!("{SUMS} can't be read ({error}): the list")),
        Ok(sums) => sums,
    };
    let recorded = |name: &str| sums.lines().find_map(|line| line.strip_suffix(&format!("  {name}")));
    BASE_FILES.into_iter().find_map(|(name, what)| {
        let Some(recorded) = recorded(name) else { return Some(format!("{SUMS} has no digest of {name}: the list")) };
        match hash_file(&folder.join(name)) {
            Err(error) => Some(format!("{name} can't be read ({error}): {what}")),
            Ok((found, _)) if found.as_str() != recorded => {
                Some(format!("{name} is damaged (its digest is not that with which it was written): {what}"))
            }
            Ok(_) => None,
        }
    })
}

/// `false` while a build has its lock.
fn set_base_aside(folder: &Path) -> io::Result<bool> {
    let name = name_of(folder);
    let lock = OpenOptions::new().create(true).append(true).open(folder.with_file_name(format!("{name}.lock")))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let aside = folder.with_file_name(format!(".damaged-{name}"));
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(folder, aside)?;
    Ok(true)
}
