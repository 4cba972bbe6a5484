//! The folders on the disk: each appears whole by rename, and goes the same way.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dsimg_plan::Digest;
use jiff::Timestamp;

use crate::checkpoint::{Checkpoint, FORMAT, FileFacts};
use crate::digest;
use crate::listing::Listing;
use crate::locks::{Hold, StageLock};
use crate::packing::Packing;

mod memory;
mod record;
mod sweep;

pub use memory::Compressed;
use record::{Stored, Unread};
pub use sweep::Leftover;

const DISK: &str = "disk.qcow2";
const MEMORY: &str = "memory";
const ACCESS: &str = "access.json";
const RECORD: &str = "checkpoint.json";
/// Its time is that of the last use.
const USED: &str = "used";
const LOCKS: &str = ".locks";
/// How the names of the locks of stages begin.
const STAGE: &str = "stage-";
const TRASH: &str = ".trash-";
const DAMAGED: &str = ".damaged-";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("checkpoint {id} is gone")]
    Gone { id: String },
    #[error("checkpoint {id} is in use by a build or a shell")]
    InUse { id: String },
    #[error("{0}")]
    Damaged(#[from] Damage),
}

/// A file that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of checkpoint {id} {what}", file)]
pub struct Damage {
    pub id: String,
    pub file: String,
    /// Completes the sentence: "is missing".
    pub what: String,
}

impl Damage {
    fn of_record(id: &str, unread: &Unread) -> Self {
        Self { id: id.to_owned(), file: RECORD.to_owned(), what: unread.what() }
    }

    /// The disk is good without it.
    #[must_use]
    pub fn is_of_memory(&self) -> bool {
        self.file == MEMORY || self.file == memory::PACKED
    }
}

/// `<cache>/checkpoints`
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A checkpoint that is being put together, in the build's work folder: if the build dies, it goes with it.
#[derive(Debug)]
pub struct Draft {
    folder: tempfile::TempDir,
}

impl Draft {
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// One folder of the store, without its files being read.
#[derive(Debug)]
enum Look {
    Whole(Stored),
    /// Its memory is not there as the record says; the disk is.
    WithoutMemory(Stored, Damage),
    Damaged(Damage),
    Unread(Unread),
}

impl Store {
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self { folder: cache.join("checkpoints") }
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    #[must_use]
    pub fn folder_of(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// All that are there. A store that is missing has none.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let failed = |error| file_error("cannot read", &self.folder, error);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::default()),
            Err(error) => return Err(failed(error)),
        };
        let mut listing = Listing::default();
        for entry in entries {
            let id = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            // A file that lies among them is not theirs.
            if id.starts_with('.') || !self.folder_of(&id).is_dir() {
                continue;
            }
            match self.look(&id) {
                None => {}
                Some(Look::Whole(stored)) => listing.add(stored.checkpoint, stored.packing),
                Some(Look::WithoutMemory(stored, damage)) => {
                    listing.add(stored.checkpoint, stored.packing);
                    listing.damaged.push(damage);
                }
                Some(Look::Damaged(damage)) => listing.damaged.push(damage),
                Some(Look::Unread(Unread::Newer(newer))) => listing.newer.push(newer),
                Some(Look::Unread(unread)) => listing.damaged.push(Damage::of_record(&id, &unread)),
            }
        }
        listing.checkpoints.sort_by(|a, b| (a.made, &a.id).cmp(&(b.made, &b.id)));
        listing.damaged.sort_by(|a, b| a.id.cmp(&b.id));
        listing.newer.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listing)
    }

    /// `None` when it is gone.
    fn look(&self, id: &str) -> Option<Look> {
        let folder = self.folder_of(id);
        let mut before = None;
        loop {
            let stored = match record::read(&folder, id) {
                Ok(stored) => stored,
                // Removed since the store was read.
                Err(_) if !folder.exists() => return None,
                Err(unread) => return Some(Look::Unread(unread)),
            };
            let damage = find_missing(&folder, &stored);
            match damage {
                None => return Some(Look::Whole(stored)),
                // Else another may have removed what the record, which was read before, does not name any more.
                Some(damage) if before.as_ref() == Some(&stored) => {
                    return Some(match damage.is_of_memory() {
                        true => Look::WithoutMemory(stored, damage),
                        false => Look::Damaged(damage),
                    });
                }
                Some(_) => before = Some(stored),
            }
        }
    }

    /// A folder below `work`, which is on the same file system as the store.
    ///
    /// # Errors
    /// It can't be made.
    pub fn draft(&self, work: &Path) -> Result<Draft, StoreError> {
        let mode = fs::Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix("checkpoint-").permissions(mode).tempdir_in(work);
        made.map(|folder| Draft { folder }).map_err(|error| file_error("cannot make a folder in", work, error))
    }

    /// Brings the draft's files to the disk for sure, records them, and gives the folder its name. The facts of the
    /// files in `checkpoint` are filled in; its memory is left out when there is no such file.
    ///
    /// # Errors
    /// A file is missing or can't be brought to the disk; then nothing of it is left.
    pub fn publish(&self, draft: Draft, checkpoint: Checkpoint) -> Result<Checkpoint, StoreError> {
        let place = self.folder_of(&checkpoint.id);
        let failed = |error| file_error("cannot save a checkpoint as", &place, error);
        make_private_folder(&self.folder).map_err(failed)?;
        let folder = draft.path();
        let memory = match checkpoint.memory {
            Some(memory) => Some(crate::Memory { file: seal(&folder.join(MEMORY)).map_err(failed)?, ..memory }),
            None => None,
        };
        let checkpoint = Checkpoint {
            format: FORMAT,
            disk: seal(&folder.join(DISK)).map_err(failed)?,
            memory,
            access: seal(&folder.join(ACCESS)).map_err(failed)?,
            ..checkpoint
        };
        write_new(&folder.join(USED), b"").map_err(failed)?;
        let stored = Stored { checkpoint, packing: Packing::Plain };
        write_new(&folder.join(RECORD), &record::text(&stored)?).map_err(failed)?;
        sync_folder(folder).map_err(failed)?;
        if place.exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        fs::rename(folder, &place).map_err(failed)?;
        // It is not there any more under the name by which it would be removed.
        let _old_name = draft.folder.keep();
        sync_folder(&self.folder).map_err(failed)?;
        Ok(stored.checkpoint)
    }

    /// Reads all files back.
    ///
    /// # Errors
    /// The first that is not as it was written.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<(), Damage> {
        let folder = self.folder_of(&checkpoint.id);
        record::read(&folder, &checkpoint.id).map_err(|unread| Damage::of_record(&checkpoint.id, &unread))?;
        self.verify_disk(checkpoint)?;
        self.verify_memory(checkpoint)?;
        self.verify_file(&checkpoint.id, ACCESS, &checkpoint.access)
    }

    /// # Errors
    /// The layer is not as it was written.
    pub fn verify_disk(&self, checkpoint: &Checkpoint) -> Result<(), Damage> {
        self.verify_file(&checkpoint.id, DISK, &checkpoint.disk)
    }

    fn verify_file(&self, id: &str, name: &str, written: &FileFacts) -> Result<(), Damage> {
        let damage = |what: String| Damage { id: id.to_owned(), file: name.to_owned(), what };
        let path = self.folder_of(id).join(name);
        let found = File::open(path).and_then(|file| digest::facts(&file));
        match found {
            Err(error) => Err(damage(format!("can't be read: {error}"))),
            Ok(found) if found.size != written.size => {
                Err(damage(format!("has {} bytes and was written with {}", found.size, written.size)))
            }
            Ok(found) if found.sha256 != written.sha256 => {
                Err(damage("is damaged: its digest is not that with which it was written".to_owned()))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Takes a checkpoint out of the store; it is kept under another name until the next sweep.
    ///
    /// # Errors
    /// It can't be renamed.
    pub fn set_aside(&self, id: &str) -> Result<(), StoreError> {
        let from = self.folder_of(id);
        // One of this name may be left, and a machine may stand on it.
        let names = (1..).map(|number| match number {
            1 => format!("{DAMAGED}{id}"),
            more => format!("{DAMAGED}{id}.{more}"),
        });
        for to in names.map(|name| self.folder.join(name)) {
            return match fs::rename(&from, &to) {
                Err(error) if is_taken(&error) => continue,
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(file_error("cannot set aside", &from, error))
                }
                _ => Ok(()),
            };
        }
        Ok(())
    }

    /// Keeps a whole chain from being removed.
    ///
    /// # Errors
    /// One of it is gone or about to be.
    pub fn hold(&self, chain: &[&Checkpoint]) -> Result<Vec<Hold>, StoreError> {
        let hold = |checkpoint: &&Checkpoint| {
            let gone = || StoreError::Gone { id: checkpoint.id.clone() };
            let path = self.lock_path(&checkpoint.id)?;
            let hold = Hold::shared(&path).map_err(|error| file_error("cannot lock", &path, error))?;
            let hold = hold.ok_or_else(|| StoreError::InUse { id: checkpoint.id.clone() })?;
            if self.folder_of(&checkpoint.id).exists() { Ok(hold) } else { Err(gone()) }
        };
        chain.iter().map(hold).collect()
    }

    /// The right to make this stage; `None` while another build has it.
    ///
    /// # Errors
    /// The lock's file can't be made.
    pub fn lock_stage(&self, key: &Digest) -> Result<Option<StageLock>, StoreError> {
        let path = self.lock_path(&format!("{STAGE}{key}"))?;
        StageLock::take(&path).map_err(|error| file_error("cannot lock", &path, error))
    }

    fn lock_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        let locks = self.folder.join(LOCKS);
        make_private_folder(&self.folder)
            .and_then(|()| make_private_folder(&locks))
            .map_err(|error| file_error("cannot make", &locks, error))?;
        Ok(locks.join(name))
    }

    /// Notes that a checkpoint was used now.
    pub fn touch(&self, id: &str) {
        // A time that is not noted makes it older than it is, no more.
        let _noted = File::options()
            .write(true)
            .open(self.folder_of(id).join(USED))
            .and_then(|file| file.set_modified(std::time::SystemTime::now()));
    }

    /// When each was last used.
    #[must_use]
    pub fn last_used(&self, listing: &Listing) -> BTreeMap<String, Timestamp> {
        let used = |checkpoint: &Checkpoint| {
            let modified = fs::metadata(self.folder_of(&checkpoint.id).join(USED)).and_then(|file| file.modified());
            modified.ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(checkpoint.made)
        };
        listing.checkpoints.iter().map(|checkpoint| (checkpoint.id.clone(), used(checkpoint))).collect()
    }

    /// Removes one checkpoint. Those that stand on it must be removed before.
    ///
    /// # Errors
    /// It is in use, or can't be removed.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        let _lock = self.lock_for_removal(id)?;
        let (from, trash) = (self.folder_of(id), self.folder.join(format!("{TRASH}{id}")));
        // Of a removal that did not end.
        match fs::remove_dir_all(&trash) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error("cannot remove", &trash, error));
            }
            _ => {}
        }
        match fs::rename(&from, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(|error| file_error("cannot remove", &from, error))?,
        }
        fs::remove_dir_all(&trash).map_err(|error| file_error("cannot remove", &trash, error))
    }

    /// Nobody uses it while this lives.
    fn lock_for_removal(&self, id: &str) -> Result<Hold, StoreError> {
        let path = self.lock_path(id)?;
        let lock = Hold::exclusive(&path).map_err(|error| file_error("cannot lock", &path, error))?;
        lock.ok_or_else(|| StoreError::InUse { id: id.to_owned() })
    }
}

/// The first file that is not there, or not of its size.
fn find_missing(folder: &Path, stored: &Stored) -> Option<Damage> {
    let checkpoint = &stored.checkpoint;
    let memory = checkpoint.memory.as_ref().map(|memory| match stored.packing {
        Packing::Zstd { size } => (memory::PACKED, size),
        Packing::Plain | Packing::NotWorthwhile => (MEMORY, memory.file.size),
    });
    let files = [(DISK, checkpoint.disk.size), (ACCESS, checkpoint.access.size)].into_iter().chain(memory);
    let missing = files.map(|(file, size)| {
        let what = match fs::metadata(folder.join(file)) {
            Ok(found) if found.len() == size => return None,
            Ok(found) => format!("has {} bytes and was written with {size}", found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing".to_owned(),
            Err(error) => format!("can't be read: {error}"),
        };
        Some(Damage { id: checkpoint.id.clone(), file: file.to_owned(), what })
    });
    missing.flatten().next()
}

/// By a folder that is not empty.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Nobody writes to it any more, and it is on the disk.
fn seal(path: &Path) -> io::Result<FileFacts> {
    let file = File::open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o400))?;
    file.sync_all()?;
    digest::facts(&file)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// What lies in it may hold what a build's memory held.
fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
