//! Bases in the cache: `bases/<key>/base.qcow2` with `base.json`, whole or not there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use dsimg_machine::{BaseImage, MachineError, Resource, RunContext};
use dsimg_plan::Digest;

use super::recipe::Recipe;
use crate::base::store::write_record;

const DISK: &str = "base.qcow2";
pub(super) const RECORD: &str = "base.json";

/// `base.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Version of this form; 1.
    pub(super) format: u32,
    pub(super) recipe: Recipe,
    /// Of the file.
    pub(super) sha256: Digest,
    /// Bytes of the file.
    pub(super) size: u64,
    pub(super) virtual_size: u64,
    /// The day it was made.
    pub(super) made: jiff::civil::Date,
    pub(super) kernel: String,
    /// How many packages are in it.
    pub(super) packages: usize,
    /// From and to, in bytes of the disk: what was ever written.
    #[serde(default)]
    pub(super) used: Vec<(u64, u64)>,
}

/// One base's place in the cache.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    lock: PathBuf,
}

/// Holds others off the making of the same base.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock is the open file")] File);

impl Place {
    pub(super) fn new(run: &RunContext, key: &Digest) -> Result<Self, MachineError> {
        let bases = run.cache.join("bases");
        std::fs::create_dir_all(&bases).map_err(|error| MachineError::file("cannot make the folder", &bases, error))?;
        Ok(Self { folder: bases.join(key.as_str()), lock: bases.join(format!("{key}.lock")) })
    }

    /// The base, if it is there and whole.
    pub(super) fn find(&self) -> Option<(Record, BaseImage)> {
        read(&self.folder)
    }

    /// Waits for other builds that make the same base, and says so.
    pub(super) async fn lock(&self, run: &RunContext) -> Result<Lock, MachineError> {
        let failed = |error: io::Error| MachineError::file("cannot lock", &self.lock, error);
        let file = File::options().create(true).truncate(false).write(true).open(&self.lock).map_err(failed)?;
        let mut told = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(file)),
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(failed(error.into())),
            }
            if !std::mem::replace(&mut told, true) {
                run.info("another build is making the same base: waiting for it");
            }
            tokio::select! {
                () = run.cancel.cancelled() => return Err(MachineError::Cancelled),
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }

    /// A folder beside the place for the base in the making. What a dead build left under this key goes first:
    /// the lock says that nobody works on it.
    pub(super) fn begin(&self, run: &RunContext) -> Result<Unfinished, MachineError> {
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.folder.with_file_name(format!(".{name}.{}.partial", run.build_id));
        let failed = |error| MachineError::file("cannot make the folder", &folder, error);
        run.ledger.will_make(Resource::Folder { path: folder.clone() }).map_err(failed)?;
        std::fs::create_dir(&folder).map_err(failed)?;
        Ok(Unfinished { folder })
    }

    /// Moves the finished base to its place.
    pub(super) fn finish(&self, unfinished: Unfinished, record: &Record, run: &RunContext) -> Result<(), MachineError> {
        let from = &unfinished.folder;
        write_record(from, record, &record.sha256)
            .and_then(|()| File::open(from.join(DISK))?.sync_all())
            .map_err(|error| MachineError::file("cannot write the base into", from, error))?;
        // There only if it is not whole, see `find`.
        let cleared = std::fs::remove_dir_all(&self.folder);
        if let Err(error) = cleared
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(MachineError::file("cannot remove", &self.folder, error));
        }
        std::fs::rename(from, &self.folder)
            .and_then(|()| File::open(self.folder.parent().unwrap_or(Path::new("/")))?.sync_all())
            .map_err(|error| MachineError::file("cannot rename the finished base to", &self.folder, error))?;
        gone(from, run)
    }
}

/// What is known of the base in a folder, if it is whole.
pub(super) fn read(folder: &Path) -> Option<(Record, BaseImage)> {
    let record: Record = serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()?;
    let path = folder.join(DISK);
    // Its bytes were hashed when it was made, and nothing writes to it since.
    if record.format != 1 || path.metadata().ok()?.len() != record.size {
        return None;
    }
    let image = BaseImage {
        description: format!("{} {}, made {}", record.recipe.distro_key(), record.recipe.suite, record.made),
        sha256: record.sha256.clone(),
        virtual_size: record.virtual_size,
        user: record.recipe.user().to_owned(),
        path,
        id: None,
    };
    Some((record, image))
}

/// A base in the making.
#[derive(Debug)]
pub(super) struct Unfinished {
    folder: PathBuf,
}

impl Unfinished {
    pub(super) fn disk(&self) -> PathBuf {
        self.folder.join(DISK)
    }

    /// Nothing of it is left.
    pub(super) fn abandon(self, run: &RunContext) -> Result<(), MachineError> {
        std::fs::remove_dir_all(&self.folder)
            .map_err(|error| MachineError::file("cannot remove", &self.folder, error))?;
        gone(&self.folder, run)
    }
}

fn gone(folder: &Path, run: &RunContext) -> Result<(), MachineError> {
    let gone = Resource::Folder { path: folder.to_owned() };
    run.ledger.is_gone(gone).map_err(|error| MachineError::file("cannot write", run.ledger.path(), error))
}

/// The file's digest and size.
pub(super) async fn digest(path: PathBuf) -> Result<(Digest, u64), MachineError> {
    let named = path.clone();
    let read = tokio::task::spawn_blocking(move || dsimg_plan::inputs::hash_file(&path));
    read.await.map_err(io::Error::other).flatten().map_err(|error| MachineError::file("cannot read", named, error))
}

#[cfg(test)]
mod tests {
    use dsimg_template::template::Distro;
    use jiff::civil::date;

    use super::super::recipe::tests::{bootstrap, recipe};
    use super::*;
    use crate::testing::TestRun;

    fn record(size: u64) -> Record {
        Record {
            format: 1,
            recipe: recipe(&bootstrap(Distro::Debian, "trixie")).unwrap(),
            sha256: Digest::of_bytes(b"disk"),
            size,
            virtual_size: 1 << 30,
            made: date(2026, 11, 21),
            kernel: "6.12.1".to_owned(),
            packages: 230,
            used: vec![(4096, 8192)],
        }
    }

    fn make(place: &Place, run: &RunContext, size: u64) {
        let unfinished = place.begin(run).unwrap();
        std::fs::write(unfinished.disk(), b"disk").unwrap();
        place.finish(unfinished, &record(size), run).unwrap();
    }

    #[test]
    fn a_finished_base_is_found_and_nothing_stays_in_the_ledger() {
        let run = TestRun::new();
        let place = Place::new(&run.context, &record(4).recipe.key()).unwrap();
        assert!(place.find().is_none());
        make(&place, &run.context, 4);
        let (found, image) = place.find().unwrap();
        assert_eq!(found, record(4));
        assert_eq!(image.description, "debian trixie, made 2026-11-21");
        assert_eq!(image.user, "debian");
        assert_eq!(run.context.ledger.open_entries().unwrap(), []);
    }

    #[test]
    fn a_base_that_is_not_whole_is_made_again() {
        let run = TestRun::new();
        let place = Place::new(&run.context, &record(4).recipe.key()).unwrap();
        make(&place, &run.context, 5);
        assert!(place.find().is_none());
        make(&place, &run.context, 4);
        assert!(place.find().is_some());
    }

    #[test]
    fn an_abandoned_base_leaves_nothing() {
        let run = TestRun::new();
        let place = Place::new(&run.context, &record(4).recipe.key()).unwrap();
        let unfinished = place.begin(&run.context).unwrap();
        std::fs::write(unfinished.disk(), b"di").unwrap();
        unfinished.abandon(&run.context).unwrap();
        assert_eq!(std::fs::read_dir(run.context.cache.join("bases")).unwrap().count(), 0);
        assert_eq!(run.context.ledger.open_entries().unwrap(), []);
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_says_so() {
        let run = TestRun::new();
        let place = Place::new(&run.context, &record(4).recipe.key()).unwrap();
        let first = place.lock(&run.context).await.unwrap();
        let second = async { place.lock(&run.context).await.map(drop) };
        let release = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(second, release);
        second.unwrap();
        assert_eq!(run.messages(), ["another build is making the same base: waiting for it"]);
    }

    #[tokio::test]
    async fn a_cancelled_build_does_not_wait() {
        let run = TestRun::new();
        let place = Place::new(&run.context, &record(4).recipe.key()).unwrap();
        let _first = place.lock(&run.context).await.unwrap();
        run.context.cancel.cancel();
        assert!(matches!(place.lock(&run.context).await, Err(MachineError::Cancelled)));
    }

    #[tokio::test]
    async fn the_digest_is_of_the_whole_file() {
        let run = TestRun::new();
        let path = run.context.work.join("file");
        std::fs::write(&path, vec![5; 3 << 20]).unwrap();
        assert_eq!(digest(path).await.unwrap(), (Digest::of_bytes(&vec![5; 3 << 20]), 3 << 20));
    }
}
