//! Bytes on their way into the store: hashed while they are written, there when they are whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use dsimg_plan::Digest;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::error::StoreError;
use crate::store::{Store, Stored};

/// What is known before about what will be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    pub sha256: Option<Digest>,
    /// Bytes.
    pub size: Option<u64>,
}

/// A blob that is being written. Dropped unfinished, nothing is left of it; two writers of the same blob are no
/// trouble, since both bring the same bytes.
pub struct Writer {
    store: Store,
    file: NamedTempFile,
    hasher: Sha256,
    size: u64,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("file", &self.file.path()).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn start(store: &Store) -> Result<Self, StoreError> {
        let folder = store.incoming();
        // Made with mode 0600.
        let file = NamedTempFile::new_in(&folder);
        let file = file.map_err(|source| StoreError::file("cannot make a file in", &folder, source))?;
        // Who sweeps leftovers sees by it that the writer lives; no harm where the file system has no locks.
        let _unlocked = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
        Ok(Self { store: store.clone(), file, hasher: Sha256::new(), size: 0 })
    }

    /// # Errors
    /// The disk takes no more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(|source| StoreError::file("cannot write", self.file.path(), source))
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Of the bytes so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_hasher(self.hasher.clone())
    }

    /// Where the bytes so far can be read.
    ///
    /// # Errors
    /// The file can't be opened once more.
    pub fn reader(&self) -> Result<File, StoreError> {
        self.file.reopen().map_err(|source| StoreError::file("cannot read", self.file.path(), source))
    }

    /// Whether the bytes so far are what was expected.
    ///
    /// # Errors
    /// Size or digest differ.
    pub fn check(&self, expected: &Expected) -> Result<(), StoreError> {
        if let Some(expected) = expected.size.filter(|size| *size != self.size) {
            return Err(StoreError::WrongSize { expected, found: self.size });
        }
        match &expected.sha256 {
            Some(expected) if *expected != self.digest() => {
                Err(StoreError::WrongDigest { expected: expected.clone(), found: self.digest() })
            }
            _ => Ok(()),
        }
    }

    /// Puts the blob into the store, on the disk. What is not as expected leaves no trace.
    ///
    /// # Errors
    /// Size or digest differ, or the disk failed.
    pub fn finish(self, expected: &Expected) -> Result<Stored, StoreError> {
        self.check(expected)?;
        let stored = Stored { digest: self.digest(), size: self.size };
        let target = self.store.path_of(&stored.digest);
        let cannot_write = |source| StoreError::file("cannot write", &target, source);
        self.file.as_file().sync_all().map_err(cannot_write)?;
        self.file.persist(&target).map_err(|error| cannot_write(error.error))?;
        sync_folder(self.store.blobs());
        Ok(stored)
    }
}

/// A name that is lost with the power only costs another download.
pub(crate) fn sync_folder(folder: PathBuf) {
    let _not_synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
}
