//! Who uses a checkpoint, and who makes a stage. The kernel drops the locks of the dead.

use std::fs::{File, OpenOptions};
use std::io;
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

/// `None` when somebody has it.
fn try_lock(path: &Path, operation: FlockOperation) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    match flock(&file, operation) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
