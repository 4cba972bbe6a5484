//! What a publish that failed, was cancelled or killed keeps on AWS for the next try, as a folder each on this host.
//!
//! Before a resource is made, the ledger has it: whatever happens, the next run finds and frees it. Once it is there
//! and its id is in this folder, the ledger is struck, because the next try of the same publish goes on with it in
//! place of making it anew. `dsimg gc` still finds it, by [`everything`] and by its tag. When all is done, or the image
//! was built anew in the meantime, the folder goes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use dsimg_machine::{Ledger, MachineError, Resource, RunContext};

use crate::encryption::Encryption;

const RECORD: &str = "kept.json";

/// A publish of one image to one region with the same settings. Locked while it lives.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    record: Mutex<Record>,
    _lock: File,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of this form; 1.
    pub(crate) format: u32,
    /// Of the account, the region and the image: what is another try, or another release, of the same.
    pub(crate) lineage: String,
    pub(crate) upload: Option<UploadRecord>,
    /// Made, and not finished.
    pub(crate) resources: Vec<Resource>,
}

/// The snapshot that the blocks go to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct UploadRecord {
    pub(crate) snapshot: String,
    pub(crate) volume_gib: u32,
    pub(crate) parent: Option<String>,
    pub(crate) encryption: Encryption,
    /// Its ledger line.
    pub(crate) resource: Resource,
}

impl Kept {
    /// Finds what an earlier try kept, or begins anew.
    ///
    /// # Errors
    /// Another dsimg is at the same, or the folder can't be made or read.
    pub(crate) fn open(folder: &Path, key: &str, lineage: &str) -> Result<Self, MachineError> {
        let path = folder.join(key);
        let failed = |source| MachineError::file("cannot write", &path, source);
        std::fs::create_dir_all(&path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(MachineError::try_again(
                "another dsimg is publishing this very image",
                format!("wait for it; {} is its folder", path.display()),
            ));
        }
        let record = read(&path).map_err(failed)?.unwrap_or_default();
        let record = Record { format: 1, lineage: lineage.to_owned(), ..record };
        Ok(Self { path, record: Mutex::new(record), _lock: lock })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn upload(&self) -> Option<UploadRecord> {
        self.lock().upload.clone()
    }

    /// # Errors
    /// The record can't be written.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), MachineError> {
        let mut record = self.lock();
        change(&mut record);
        write(&self.path, &record).map_err(|source| MachineError::file("cannot write", self.path.join(RECORD), source))
    }

    /// Whether there is nothing to go on with.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().clone().all().is_empty()
    }

    /// All is done, or all was handed back to the ledger.
    ///
    /// # Errors
    /// The folder can't be removed.
    pub(crate) fn remove(&self) -> Result<(), MachineError> {
        // First what names resources, so that a half-removed folder names none.
        drop(std::fs::remove_file(self.path.join(RECORD)));
        std::fs::remove_dir_all(&self.path).map_err(|source| MachineError::file("cannot remove", &self.path, source))
    }

    /// What is kept becomes a leftover: freed at the end of this run, or at the beginning of the next.
    ///
    /// # Errors
    /// The ledger or the folder can't be written.
    pub(crate) fn hand_back(&self, ledger: &Ledger) -> Result<(), MachineError> {
        for resource in self.lock().clone().all() {
            write_line(ledger, resource)?;
        }
        let fresh = Record { upload: None, resources: Vec::new(), ..self.lock().clone() };
        self.change(|record| *record = fresh)?;
        drop(std::fs::remove_file(self.file(crate::upload::JOURNAL)));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn all(self) -> Vec<Resource> {
        self.upload.map(|upload| upload.resource).into_iter().chain(self.resources).collect()
    }
}

pub(crate) fn write_line(ledger: &Ledger, resource: Resource) -> Result<(), MachineError> {
    ledger.will_make(resource).map_err(|source| MachineError::file("cannot write", ledger.path(), source))
}

/// Folders of the same lineage but with another key are of releases that were overtaken: what they kept is handed to
/// the ledger. Trouble with them is told and does not hold up this publish.
pub(crate) fn hand_back_overtaken(folder: &Path, key: &str, lineage: &str, run: &RunContext) {
    for name in names(folder).unwrap_or_default() {
        if name == key || !matches!(read(&folder.join(&name)), Ok(Some(record)) if record.lineage == lineage) {
            continue;
        }
        // Locked: somebody is at it now.
        let Ok(kept) = Kept::open(folder, &name, lineage) else { continue };
        run.info("an older release of this image was never published to its end; what it left goes away");
        if let Err(error) = kept.hand_back(&run.ledger).and_then(|()| kept.remove()) {
            run.warn(error.to_string());
        }
    }
}

/// All that unfinished publishes keep on AWS, for `dsimg gc`; `state` is dsimg's state folder.
///
/// # Errors
/// A record can't be read.
pub fn everything(state: &Path) -> io::Result<Vec<Resource>> {
    let folder = publishes(state);
    let mut found = Vec::new();
    for name in names(&folder)? {
        found.extend(read(&folder.join(name))?.map(Record::all).unwrap_or_default());
    }
    Ok(found)
}

/// Where the folders are.
pub(crate) fn publishes(state: &Path) -> PathBuf {
    state.join("aws/publishes")
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<Option<Record>> {
    match std::fs::read(path.join(RECORD)) {
        // A record of another form is as good as none: what it names has its tag.
        Ok(text) => Ok(serde_json::from_slice::<Record>(&text).ok().filter(|record| record.format == 1)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, record: &Record) -> io::Result<()> {
    let new = tempfile::NamedTempFile::new_in(path)?;
    serde_json::to_writer_pretty(&new, record)?;
    new.as_file().sync_all()?;
    new.persist(path.join(RECORD))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use dsimg_machine::AwsKind;

    use super::*;

    fn image(name: &str) -> Resource {
        Resource::Aws { region: "eu-west-1".to_owned(), profile: None, what: AwsKind::Image, name: name.to_owned() }
    }

    #[test]
    fn what_is_kept_is_found_and_handed_back() {
        let state = tempfile::tempdir().unwrap();
        let folder = publishes(state.path());
        assert_eq!(everything(state.path()).unwrap(), []);
        let kept = Kept::open(&folder, "key", "lineage").unwrap();
        kept.change(|record| record.resources.push(image("one"))).unwrap();
        assert!(Kept::open(&folder, "key", "lineage").is_err(), "it is locked");
        drop(kept);
        assert_eq!(everything(state.path()).unwrap(), [image("one")]);

        let ledger = Ledger::open(&state.path().join("ledger"), "run").unwrap();
        let kept = Kept::open(&folder, "key", "lineage").unwrap();
        kept.hand_back(&ledger).unwrap();
        assert_eq!(everything(state.path()).unwrap(), []);
        assert_eq!(ledger.open_entries().unwrap(), [image("one")]);
        kept.remove().unwrap();
    }
}
