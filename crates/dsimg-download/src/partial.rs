//! The file that a download grows in, locked for as long as it grows.
//!
//! The lock is the kernel's, on the file itself: it is gone with the process that held it, however that ended.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dsimg_machine::{MachineError, RunContext};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::digest::Expected;
use crate::writer::Content;

const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The other download has its own limits; this one is for what nobody thought of.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// An unfinished download that nobody else works on.
pub(crate) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: File,
}

/// Where the beginning came from, kept beside it for the next run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) url: String,
    /// Only a strong one, as it is meant for `If-Range`.
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    /// Bytes of the whole.
    pub(crate) total: Option<u64>,
}

impl Partial {
    /// Waits for whoever downloads the same thing; `None` when the finished file is there.
    pub(crate) async fn claim(target: &Path, shown: &str, run: &RunContext) -> Result<Option<Self>, MachineError> {
        let path = with_suffix(target, ".partial");
        let until = Instant::now() + LONGEST_WAIT;
        let mut said = false;
        while Instant::now() < until {
            if target.exists() {
                return Ok(None);
            }
            let file = open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, &path) => return Ok(Some(Self { target: target.to_owned(), path, file })),
                // Finished or thrown away by another while it was being locked.
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    if !std::mem::replace(&mut said, true) {
                        run.info(format!("waiting for another build that downloads `{shown}`"));
                    }
                    tokio::select! {
                        () = run.cancel.cancelled() => return Err(MachineError::Cancelled),
                        () = sleep(LOOK_AGAIN) => {}
                    }
                }
                Err(error) => return Err(MachineError::file("cannot lock", path, error.into())),
            }
        }
        let what = format!("another build has been downloading `{shown}` for 6 hours (it holds `{}`)", path.display());
        Err(MachineError::try_again(what, "see what that build is doing, or end it"))
    }

    /// What an earlier try left, hashed.
    pub(crate) async fn read_back(&self, expected: &Expected) -> Result<Content, MachineError> {
        let mut file = self.second_handle()?;
        let expected = expected.clone();
        let content = tokio::task::spawn_blocking(move || Content::read_back(&mut file, &expected)).await;
        let content = content.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        content.map_err(|source| MachineError::file("cannot read", &self.path, source))
    }

    /// Shares the lock and the position.
    pub(crate) fn second_handle(&self) -> Result<File, MachineError> {
        self.file.try_clone().map_err(|source| MachineError::file("cannot use", &self.path, source))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) async fn origin(&self) -> Origin {
        match tokio::fs::read(self.origin_path()).await {
            // Without it the beginning is still good for a try: the digest decides.
            Ok(json) => serde_json::from_slice(&json).unwrap_or_default(),
            Err(_) => Origin::default(),
        }
    }

    pub(crate) async fn set_origin(&self, origin: &Origin) -> Result<(), MachineError> {
        let json = serde_json::to_vec(origin).expect("an origin is made of texts and numbers");
        let path = self.origin_path();
        tokio::fs::write(&path, json).await.map_err(|source| MachineError::file("cannot write", path, source))
    }

    /// An early word where the rest won't fit.
    pub(crate) fn check_room(&self, needed: u64) -> Result<(), MachineError> {
        let about = rustix::fs::fstatvfs(&self.file)
            .map_err(|error| MachineError::file("cannot find the free space beside", &self.path, error.into()))?;
        let free = about.f_bavail.saturating_mul(about.f_frsize);
        if needed <= free {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(&self.path).display();
        let what = format!("`{folder}` has {free} bytes free, and a download needs {needed} more");
        Err(MachineError::host(what, "make room there, or put the cache on a larger disk"))
    }

    /// On disk, under its final name; the lock goes with `self`.
    pub(crate) async fn finish(self) -> Result<PathBuf, MachineError> {
        let origin = self.origin_path();
        let Self { target, path, file } = self;
        let (from, to) = (path.clone(), target.clone());
        let done = tokio::task::spawn_blocking(move || {
            file.sync_all()?;
            std::fs::rename(&from, &to)?;
            // A name that is lost with the power only costs another download.
            let _not_synced = to.parent().map(|folder| File::open(folder).and_then(|folder| folder.sync_all()));
            Ok(())
        });
        let done = done.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        done.map_err(|source| MachineError::file("cannot write", &path, source))?;
        let _was_never_written = tokio::fs::remove_file(origin).await;
        Ok(target)
    }

    /// Its content is good for nothing.
    pub(crate) async fn discard(self) -> Result<(), MachineError> {
        let _was_never_written = tokio::fs::remove_file(self.origin_path()).await;
        tokio::fs::remove_file(&self.path)
            .await
            .map_err(|source| MachineError::file("cannot remove", &self.path, source))
    }

    fn origin_path(&self) -> PathBuf {
        with_suffix(&self.path, ".origin")
    }
}

fn open(path: &Path) -> Result<File, MachineError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| MachineError::file("cannot write", path, source))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
