//! Where the tree is unpacked before it becomes a disk.
//!
//! Without root, the tree belongs to other user ids than ours, ids of the range in `/etc/subuid`, and those must be
//! able to walk to it: a home directory or a build's own folder is closed to them. So it gets a folder of its own,
//! which others can walk through and not list.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use dsimg_machine::ledger::FOLDER_MARKER;
use dsimg_machine::{MachineError, Resource, RunContext};

use crate::process::Tool;

#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// In `TMPDIR` or `/var/tmp` (`/tmp` may be too small, as it is often held in memory); for root, in the
    /// build's own folder.
    pub(super) fn make(run: &RunContext) -> Result<Self, MachineError> {
        let parent = if geteuid().is_root() {
            run.work.clone()
        } else {
            std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
        };
        let path = parent.join(format!("dsimg-base-{}", run.build_id));
        let failed = |error| MachineError::file("cannot make the folder", &path, error);
        run.ledger.will_make(Resource::Folder { path: path.clone() }).map_err(failed)?;
        std::fs::create_dir(&path).map_err(failed)?;
        let scratch = Self { path: path.clone() };
        std::fs::write(path.join(FOLDER_MARKER), "").map_err(failed)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o711)).map_err(failed)?;
        Ok(scratch)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file that mmdebstrap's user ids can read.
    pub(super) fn write(&self, name: &str, mode: u32, content: &[u8]) -> Result<PathBuf, MachineError> {
        let path = self.path.join(name);
        let failed = |error| MachineError::file("cannot write", &path, error);
        std::fs::write(&path, content).map_err(failed)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).map_err(failed)?;
        Ok(path)
    }

    /// Removes it with what mmdebstrap may have left in it.
    pub(super) async fn close(self, run: &RunContext) -> Result<(), MachineError> {
        remove(&self.path, run).await?;
        let gone = Resource::Folder { path: self.path.clone() };
        run.ledger.is_gone(gone).map_err(|error| MachineError::file("cannot write", run.ledger.path(), error))
    }
}

/// mmdebstrap removes its tree itself, unless it is killed. Then what is left may belong to its user ids, and only
/// they may remove it.
async fn remove(path: &Path, run: &RunContext) -> Result<(), MachineError> {
    let failed = |error| MachineError::file("cannot remove", path, error);
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => return Err(failed(error)),
        Err(_) => {}
        Ok(()) => return Ok(()),
    }
    // A cancelled build must clean up too.
    let run = RunContext { cancel: Default::default(), ..run.clone() };
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        let tool = Tool::new("mmdebstrap", "mmdebstrap", format!("remove {}", entry.display()));
        tool.args(["--unshare-helper", "rm", "-rf", "--one-file-system", "--"]).arg(entry).run(&run).await?;
    }
    std::fs::remove_dir_all(path).map_err(failed)
}
