//! What is of no use: what was set aside, and what a crash has left.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::memory::{PACKED, PACKED_NEW};
use super::record::{self, RECORD_NEW, Unread};
use super::{DAMAGED, Damage, LOCKS, Look, MEMORY, STAGE, Store, StoreError, TRASH, file_error};
use crate::locks;
use crate::packing::Packing;

/// A folder or a file that a sweep removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub path: PathBuf,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
    /// Whose lock keeps it.
    id: String,
}

impl Store {
    /// What was set aside, what a removal left half done, and files that their checkpoint does not name. A part of it may
    /// be in use.
    #[must_use]
    pub fn leftovers(&self) -> Vec<Leftover> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(rest) = name.strip_prefix(TRASH).or_else(|| name.strip_prefix(DAMAGED)) {
                // What follows a dot tells it from others that had the same name.
                let id = rest.split('.').next().unwrap_or(rest).to_owned();
                found.push(Leftover { allocated: allocated(&entry.path()), path: entry.path(), id });
            } else if !name.starts_with('.') {
                found.extend(self.strays(&name));
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// Files in the folder of a checkpoint that its record does not name. Those of other names are not ours.
    fn strays(&self, id: &str) -> Vec<Leftover> {
        let folder = self.folder_of(id);
        let Ok(stored) = record::read(&folder, id) else { return Vec::new() };
        let named = match (&stored.checkpoint.memory, stored.packing) {
            (None, _) => None,
            (Some(_), Packing::Zstd { .. }) => Some(PACKED),
            (Some(_), Packing::Plain | Packing::NotWorthwhile) => Some(MEMORY),
        };
        let names = [MEMORY, PACKED, PACKED_NEW, RECORD_NEW].into_iter().filter(|name| Some(*name) != named);
        let there = names.map(|name| folder.join(name)).filter(|path| path.is_file());
        there.map(|path| Leftover { allocated: allocated(&path), path, id: id.to_owned() }).collect()
    }

    /// Removes what is left over and not in use any more, and the files of locks that nobody needs.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn sweep(&self) -> Result<Vec<Leftover>, StoreError> {
        let mut swept = Vec::new();
        for leftover in self.leftovers() {
            // A machine may still stand on what was found damaged, and a file may be in the making.
            let Ok(_lock) = self.lock_for_removal(&leftover.id) else { continue };
            let name = leftover.path.file_name().unwrap_or_default().to_string_lossy();
            // It was in the making, and is named by now.
            if !name.starts_with('.') && !self.strays(&leftover.id).contains(&leftover) {
                continue;
            }
            remove_all(&leftover.path).map_err(|error| file_error("cannot remove", &leftover.path, error))?;
            swept.push(leftover);
        }
        self.sweep_locks()?;
        Ok(swept)
    }

    /// Those of stages that nobody makes, and of checkpoints that are gone.
    fn sweep_locks(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(self.folder.join(LOCKS)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(STAGE) || !self.folder_of(&name).exists() {
                locks::remove_unheld(&entry.path())
                    .map_err(|error| file_error("cannot remove", &entry.path(), error))?;
            }
        }
        Ok(())
    }

    /// Sets aside what is damaged beyond doubt and not in use, and drops memories that are: what has come back is told.
    ///
    /// # Errors
    /// The store can't be read, or something can't be renamed.
    pub fn set_damaged_aside(&self) -> Result<Vec<Damage>, StoreError> {
        let mut aside = Vec::new();
        for damage in self.list()?.damaged {
            let Ok(lock) = self.lock_for_removal(&damage.id) else { continue };
            match self.look(&damage.id) {
                // Another host, or a sudo, may read it.
                Some(Look::Unread(Unread::Damaged(_)) | Look::Damaged(_)) => self.set_aside(&damage.id)?,
                Some(Look::WithoutMemory(stored, _)) => {
                    drop(lock);
                    match self.drop_memory(&stored.checkpoint) {
                        Err(StoreError::InUse { .. }) => continue,
                        dropped => dropped?,
                    }
                }
                _ => continue,
            }
            aside.push(damage);
        }
        Ok(aside)
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// With all that lies in it.
fn allocated(path: &Path) -> u64 {
    let own = fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
    let inner = fs::read_dir(path).into_iter().flatten().flatten();
    own + inner.map(|entry| allocated(&entry.path())).sum::<u64>()
}
