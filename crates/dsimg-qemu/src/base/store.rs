//! The cache of bases: one folder each, named by what went into it, appearing whole by rename.
//!
//! `<cache>/bases/<key>/base.qcow2`, `base.json` and `SHA256SUMS` beside it; `<cache>/bases/<key>.lock` is held while one is made,
//! so that many builds make it once. The kernel drops the lock of a build that dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use dsimg_machine::{BaseImage, KnownBase, MachineError, RunContext};
use dsimg_plan::Digest;

pub(crate) const DISK: &str = "base.qcow2";
const DESCRIPTION: &str = "base.json";
/// As `sha256sum` reads it.
const SUMS: &str = "SHA256SUMS";
/// Between two looks whether another build is done with the same base.
const PAUSE: Duration = Duration::from_millis(200);

/// The place of one base, and the right to make it.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    bases: PathBuf,
    _lock: File,
}

/// What lies beside the disk; written last.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    base: BaseImage,
    /// Bytes of the file, and when it was last written: a base that was touched since is made anew.
    size: u64,
    modified: (i64, i64),
    /// As in the record of a base that was made here: what was ever written.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    used: Vec<(u64, u64)>,
}

impl Place {
    /// Waits until no other build makes this base. `key` is a file name.
    ///
    /// # Errors
    /// The folder can't be made or locked, or the build was cancelled.
    pub(crate) async fn lock(key: &str, run: &RunContext) -> Result<Self, MachineError> {
        let bases = run.cache.join("bases");
        std::fs::create_dir_all(&bases).map_err(|error| MachineError::file("cannot make", &bases, error))?;
        let path = bases.join(format!("{key}.lock"));
        let unlocked = |error: io::Error| MachineError::file("cannot lock", &path, error);
        let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(unlocked)?;
        let mut told = false;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(unlocked(error.into())),
            }
            if !told {
                run.info("another build is preparing the same base; waiting for it");
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = run.cancel.cancelled() => return Err(MachineError::Cancelled),
            }
        }
        let place = Self { folder: bases.join(key), bases, _lock: lock };
        place.sweep(key);
        Ok(place)
    }

    /// The base, if it was made before and nobody touched it since.
    pub(crate) fn find(&self) -> Option<BaseImage> {
        read(&self.folder).map(|known| known.image)
    }

    /// An empty folder on the same disk in which the base is put together; gone when dropped.
    pub(crate) fn workshop(&self) -> Result<tempfile::TempDir, MachineError> {
        let prefix = format!("{}{}.", PARTIAL, self.folder.file_name().unwrap_or_default().to_string_lossy());
        let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(&self.bases);
        made.map_err(|error| MachineError::file("cannot make a folder in", &self.bases, error))
    }

    /// Gives the workshop, which holds [`DISK`], its name. The base's path is set to where it ends up.
    pub(crate) fn publish(&self, workshop: tempfile::TempDir, base: BaseImage) -> Result<BaseImage, MachineError> {
        let known = KnownBase { image: base, written: Vec::new() };
        self.publish_known(workshop, known)
    }

    /// The same for one of which it is known what was ever written.
    pub(crate) fn publish_known(
        &self,
        workshop: tempfile::TempDir,
        known: KnownBase,
    ) -> Result<BaseImage, MachineError> {
        let failed = |error: io::Error| MachineError::file("cannot put a base into", &self.folder, error);
        let base = BaseImage { path: self.folder.join(DISK), ..known.image };
        seal(workshop.path(), &base, known.written).map_err(failed)?;
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        std::fs::rename(workshop.path(), &self.folder).map_err(failed)?;
        // It is not there any more under the name by which it would be removed.
        let _old_name = workshop.keep();
        File::open(&self.bases).and_then(|bases| bases.sync_all()).map_err(failed)?;
        Ok(base)
    }

    /// Removes what builds left that died while they held this lock.
    fn sweep(&self, key: &str) {
        let prefix = format!("{PARTIAL}{key}.");
        let entries = std::fs::read_dir(&self.bases).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            let _next_time = std::fs::remove_dir_all(entry.path());
        }
    }
}

const PARTIAL: &str = ".partial-";

/// What is known of the base in a folder, if nobody touched it since.
pub(crate) fn read(folder: &Path) -> Option<KnownBase> {
    let text = std::fs::read(folder.join(DESCRIPTION)).ok()?;
    let description: Description = serde_json::from_slice(&text).ok()?;
    let path = folder.join(DISK);
    let metadata = path.metadata().ok()?;
    let untouched =
        metadata.len() == description.size && (metadata.mtime(), metadata.mtime_nsec()) == description.modified;
    // The cache may have been moved as a whole.
    let image = BaseImage { path, ..description.base };
    untouched.then_some(KnownBase { image, written: description.used })
}

fn seal(folder: &Path, base: &BaseImage, used: Vec<(u64, u64)>) -> io::Result<()> {
    let disk = folder.join(DISK);
    std::fs::set_permissions(&disk, PermissionsExt::from_mode(0o444))?;
    File::open(&disk)?.sync_all()?;
    let metadata = disk.metadata()?;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let description = Description { base: base.clone(), size: metadata.len(), modified, used };
    write_record(folder, &description, &base.sha256)?;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))
}

/// `base.json`, and the digests of all that is in the folder: by them `dsimg cache verify` finds what is damaged.
pub(crate) fn write_record(folder: &Path, record: &impl Serialize, disk: &Digest) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(record)?;
    let sums = format!("{}  {DESCRIPTION}\n{disk}  {DISK}\n", Digest::of_bytes(&text));
    for (name, content) in [(DESCRIPTION, text), (SUMS, sums.into_bytes())] {
        let path = folder.join(name);
        std::fs::write(&path, content)?;
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRun;

    fn base() -> BaseImage {
        BaseImage {
            path: PathBuf::new(),
            id: None,
            sha256: Digest::of_bytes(b"disk"),
            description: "a test".to_owned(),
            virtual_size: 4,
            user: "debian".to_owned(),
        }
    }

    async fn made(run: &TestRun) -> BaseImage {
        let place = Place::lock("key", &run.context).await.unwrap();
        let workshop = place.workshop().unwrap();
        std::fs::write(workshop.path().join(DISK), b"disk").unwrap();
        place.publish(workshop, base()).unwrap()
    }

    #[tokio::test]
    async fn a_base_is_found_again_unless_it_was_touched() {
        let run = TestRun::new();
        assert_eq!(Place::lock("key", &run.context).await.unwrap().find(), None);
        let published = made(&run).await;
        assert_eq!(published.path, run.context.cache.join("bases/key/base.qcow2"));
        assert_eq!(Place::lock("key", &run.context).await.unwrap().find(), Some(published.clone()));
        std::fs::set_permissions(&published.path, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(&published.path, b"disc").unwrap();
        assert_eq!(Place::lock("key", &run.context).await.unwrap().find(), None);
        assert_eq!(made(&run).await, published);
        let names: Vec<_> = std::fs::read_dir(run.context.cache.join("bases")).unwrap().collect();
        assert_eq!(names.len(), 2, "the base and its lock: {names:?}");
    }

    #[tokio::test]
    async fn a_second_build_waits_for_the_first() {
        let run = TestRun::new();
        let first = Place::lock("key", &run.context).await.unwrap();
        let second = tokio::spawn({
            let context = run.context.clone();
            async move { Place::lock("key", &context).await.map(drop) }
        });
        tokio::time::sleep(PAUSE * 2).await;
        assert!(!second.is_finished());
        assert!(run.messages()[0].contains("another build"));
        drop(first);
        second.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_a_dead_build_left_is_swept() {
        let run = TestRun::new();
        let left = run.context.cache.join("bases/.partial-key.abc");
        std::fs::create_dir_all(&left).unwrap();
        let other = run.context.cache.join("bases/.partial-key2.abc");
        std::fs::create_dir_all(&other).unwrap();
        let place = Place::lock("key", &run.context).await.unwrap();
        assert!(!left.exists());
        assert!(other.exists());
        drop(place);
    }
}
