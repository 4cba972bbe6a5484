//! Blobs by their digest: putting, finding, checking.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dsimg_plan::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::StoreError;
use crate::writer::{Expected, Writer};

/// <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>
pub(crate) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The store's own index names nothing: what belongs together is said by locks, and by bundles.
const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
pub(crate) const BUFFER: usize = 1 << 18;

/// `<cache>/store`; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// What was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl Store {
    /// Makes what is missing of it.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(cache: &Path) -> Result<Self, StoreError> {
        let store = Self { folder: cache.join("store") };
        for folder in [store.blobs(), store.urls(), store.incoming(), store.damaged()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|source| StoreError::file("cannot make", &folder, source))?;
        }
        for (name, text) in [("oci-layout", LAYOUT), ("index.json", INDEX)] {
            let path = store.folder.join(name);
            if !path.exists() {
                store.write_whole(&path, text.as_bytes())?;
            }
        }
        Ok(store)
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the blob is, if it is there; its bytes are not looked at.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.path_of(digest);
        path.is_file().then_some(path)
    }

    /// Bytes of the blob, if it is there.
    #[must_use]
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path_of(digest)).ok().filter(fs::Metadata::is_file).map(|about| about.len())
    }

    /// Reads the blob back. One that differs is set aside, so that it is missing from now on and is fetched anew.
    ///
    /// # Errors
    /// It is missing or damaged, or can't be read.
    pub fn verified(&self, digest: &Digest) -> Result<PathBuf, StoreError> {
        self.read_through(digest, |_| ())
    }

    /// The bytes of the blob, checked as [`Self::verified`] does.
    ///
    /// # Errors
    /// It is missing or damaged, or can't be read.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.read_through(digest, |part| bytes.extend_from_slice(part))?;
        Ok(bytes)
    }

    fn read_through(&self, digest: &Digest, mut see: impl FnMut(&[u8])) -> Result<PathBuf, StoreError> {
        let path = self.path_of(digest);
        let cannot_read = |source| StoreError::file("cannot read", &path, source);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: digest.clone() });
            }
            Err(error) => return Err(cannot_read(error)),
        };
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer).map_err(cannot_read)? {
                0 => break,
                length => {
                    hasher.update(&buffer[..length]);
                    see(&buffer[..length]);
                }
            }
        }
        let found = Digest::of_hasher(hasher);
        if found == *digest {
            return Ok(path);
        }
        let aside = self.damaged().join(digest.as_str());
        fs::rename(&path, &aside).map_err(|source| StoreError::file("cannot set aside", &path, source))?;
        Err(StoreError::Damaged { digest: digest.clone(), found, path })
    }

    /// # Errors
    /// It can't be written.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Stored, StoreError> {
        let digest = Digest::of_bytes(bytes);
        let size = bytes.len() as u64;
        if self.size_of(&digest) == Some(size) {
            self.mark_used(&digest);
            return Ok(Stored { digest, size });
        }
        let mut writer = self.writer()?;
        writer.write(bytes)?;
        writer.finish(&Expected { sha256: Some(digest), size: Some(size) })
    }

    /// A copy of the file's bytes.
    ///
    /// # Errors
    /// It can't be read or written, or is not what was expected.
    pub fn put_file(&self, path: &Path, expected: &Expected) -> Result<Stored, StoreError> {
        let cannot_read = |source| StoreError::file("cannot read", path, source);
        let mut file = File::open(path).map_err(cannot_read)?;
        let mut writer = self.writer()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer).map_err(cannot_read)? {
                0 => return writer.finish(expected),
                length => writer.write(&buffer[..length])?,
            }
        }
    }

    /// For what comes piece by piece.
    ///
    /// # Errors
    /// No file can be made.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        Writer::start(self)
    }

    /// Takes the blob out of the store, if it is there.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path_of(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::file("cannot remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Now is the time of its last use. A blob that went away meanwhile has none.
    pub fn mark_used(&self, digest: &Digest) {
        // Only the order in which blobs are pruned hangs on it.
        let _stays_as_old = File::options()
            .append(true)
            .open(self.path_of(digest))
            .and_then(|file| file.set_modified(SystemTime::now()));
    }

    pub(crate) fn path_of(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.as_str())
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs/sha256")
    }

    pub(crate) fn urls(&self) -> PathBuf {
        self.folder.join("urls")
    }

    pub(crate) fn incoming(&self) -> PathBuf {
        self.folder.join(".incoming")
    }

    pub(crate) fn damaged(&self) -> PathBuf {
        self.folder.join(".damaged")
    }

    /// A small file of the store's own: it appears whole or not at all.
    pub(crate) fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let cannot_write = |source| StoreError::file("cannot write", path, source);
        let mut file = tempfile::NamedTempFile::new_in(self.incoming()).map_err(cannot_write)?;
        file.write_all(bytes).map_err(cannot_write)?;
        file.persist(path).map_err(|error| cannot_write(error.error))?;
        Ok(())
    }
}
