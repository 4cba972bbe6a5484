//! Who uses a checkpoint, and who makes a stage. The kernel drops the locks of the dead.
//!
//! The files of locks that nobody needs are removed, by whoever holds them exclusively: so whoever has got a lock sees
//! whether the path still names its file, and tries again where it does not.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// While this lives, the checkpoint is not removed.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "its life is the lock")] File);

/// While this lives, no other build makes this stage.
#[derive(Debug)]
pub struct StageLock(#[expect(dead_code, reason = "its life is the lock")] File);

impl Hold {
    pub(crate) fn shared(path: &Path) -> io::Result<Option<Self>> {
        Ok(try_lock(path, FlockOperation::NonBlockingLockShared)?.map(Self))
    }

    pub(crate) fn exclusive(path: &Path) -> io::Result<Option<Self>> {
        Ok(try_lock(path, FlockOperation::NonBlockingLockExclusive)?.map(Self))
    }
}

impl StageLock {
    pub(crate) fn take(path: &Path) -> io::Result<Option<Self>> {
        Ok(try_lock(path, FlockOperation::NonBlockingLockExclusive)?.map(Self))
    }
}

/// Removes the file if nobody has the lock.
pub(crate) fn remove_unheld(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if is_named(path, &file)? => fs::remove_file(path),
        // Another has removed it.
        Ok(()) | Err(Errno::WOULDBLOCK) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `None` when somebody has it.
fn try_lock(path: &Path, operation: FlockOperation) -> io::Result<Option<File>> {
    loop {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let locked = match flock(&file, operation) {
            Ok(()) => true,
            Err(Errno::WOULDBLOCK) => false,
            Err(error) => return Err(error.into()),
        };
        // Else it was removed since it was opened, and is no lock any more.
        if is_named(path, &file)? {
            return Ok(locked.then_some(file));
        }
    }
}

/// Whether this is the file that has the name.
fn is_named(path: &Path, file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_lock_that_is_held_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let shared = Hold::shared(&path).unwrap();
        assert!(shared.is_some());
        remove_unheld(&path).unwrap();
        assert!(path.exists() && Hold::exclusive(&path).unwrap().is_none());
        drop(shared);
        remove_unheld(&path).unwrap();
        assert!(!path.exists());
        remove_unheld(&path).unwrap();
    }

    #[test]
    fn while_locks_are_removed_no_two_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (inside, taken, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let sweepers = [(); 2].map(|()| {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        remove_unheld(&path).unwrap();
                    }
                })
            });
            let takers = [(); 4].map(|()| {
                scope.spawn(|| {
                    for _ in 0..3000 {
                        let Some(lock) = StageLock::take(&path).unwrap() else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                })
            });
            let ended = takers.map(thread::ScopedJoinHandle::join);
            done.store(true, Ordering::SeqCst);
            assert!(sweepers.into_iter().all(|sweeper| sweeper.join().is_ok()));
            assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        });
        assert!(taken.load(Ordering::SeqCst) > 0);
    }
}
