//! How large the store is, and making it smaller.

use std::fs::{self, DirEntry, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use dsimg_plan::Digest;
use rustix::fs::{FlockOperation, flock};

use crate::error::StoreError;
use crate::known::Known;
use crate::store::Store;

/// What is younger may not be locked by its writer yet.
const NEW: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub blobs: usize,
    /// As they take place on the disk: holes are free.
    pub bytes: u64,
}

/// What went away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub blobs: usize,
    /// As they took place on the disk.
    pub bytes: u64,
}

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruning {
    /// Bytes on the disk that may be left; what was not used for longest goes first.
    pub budget: u64,
    /// What was used last before then goes in any case.
    pub older_than: Option<SystemTime>,
    /// What was used since then stays in any case: a build that runs may need it.
    pub keep_since: Option<SystemTime>,
}

struct Blob {
    digest: Digest,
    used: SystemTime,
    bytes: u64,
}

impl Store {
    /// # Errors
    /// The folder of blobs can't be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let blobs = self.list()?;
        Ok(Usage { blobs: blobs.len(), bytes: blobs.iter().map(|blob| blob.bytes).sum() })
    }

    /// Removes blobs. Damaged ones and what dead writers left go as well.
    ///
    /// # Errors
    /// A folder can't be read, or a blob not removed.
    pub fn prune(&self, pruning: &Pruning) -> Result<Pruned, StoreError> {
        self.sweep()?;
        let blobs = self.to_prune(pruning)?;
        for blob in &blobs {
            let path = self.path_of(&blob.digest);
            fs::remove_file(&path).map_err(|source| StoreError::file("cannot remove", &path, source))?;
        }
        self.forget_urls_without_blobs()?;
        Ok(Pruned::of(&blobs))
    }

    /// What [`Self::prune`] would remove now.
    ///
    /// # Errors
    /// The folder of blobs can't be read.
    pub fn foretell(&self, pruning: &Pruning) -> Result<Pruned, StoreError> {
        Ok(Pruned::of(&self.to_prune(pruning)?))
    }

    fn to_prune(&self, pruning: &Pruning) -> Result<Vec<Blob>, StoreError> {
        let mut blobs = self.list()?;
        blobs.sort_by(|one, other| (one.used, &one.digest).cmp(&(other.used, &other.digest)));
        let mut left: u64 = blobs.iter().map(|blob| blob.bytes).sum();
        blobs.retain(|blob| {
            let is_kept = pruning.keep_since.is_some_and(|since| blob.used >= since);
            let is_old = pruning.older_than.is_some_and(|then| blob.used < then);
            let goes = !is_kept && (is_old || left > pruning.budget);
            left -= if goes { blob.bytes } else { 0 };
            goes
        });
        Ok(blobs)
    }

    fn list(&self) -> Result<Vec<Blob>, StoreError> {
        let blobs = entries(&self.blobs())?.into_iter().filter_map(|entry| {
            let digest = Digest::parse(entry.file_name().to_str()?)?;
            // It may have been removed since the folder was read.
            let about = entry.metadata().ok()?;
            Some(Blob { digest, used: about.modified().ok()?, bytes: about.blocks() * 512 })
        });
        Ok(blobs.collect())
    }

    fn sweep(&self) -> Result<(), StoreError> {
        for entry in entries(&self.damaged())?.into_iter().chain(entries(&self.incoming())?) {
            let path = entry.path();
            let dead = File::open(&path).is_ok_and(|file| {
                let written = file.metadata().and_then(|about| about.modified()).ok();
                let is_new = written.and_then(|then| then.elapsed().ok()).is_none_or(|age| age < NEW);
                !is_new && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            });
            if dead {
                // Its writer may have ended just now, and taken it away.
                let _gone_already = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
        Ok(())
    }

    fn forget_urls_without_blobs(&self) -> Result<(), StoreError> {
        for entry in entries(&self.urls())? {
            let path = entry.path();
            let known: Option<Known> = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            let has_blob = known.is_some_and(|known| self.size_of(&known.sha256) == Some(known.size));
            if !has_blob {
                let _gone_already = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

impl Pruned {
    fn of(blobs: &[Blob]) -> Self {
        Self { blobs: blobs.len(), bytes: blobs.iter().map(|blob| blob.bytes).sum() }
    }
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>, StoreError> {
    let read = fs::read_dir(folder).and_then(Iterator::collect);
    read.map_err(|source| StoreError::file("cannot read", folder, source))
}
