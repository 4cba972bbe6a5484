//! Where the tree is unpacked before it becomes a disk.
//!
//! Without root, the tree belongs to other user ids than ours, ids of the range in `/etc/subuid`, and those must be
//! able to walk to it: a home directory or a build's own folder is closed to them. So it gets a folder of its own,
//! which others can walk through and not list.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;
use tokio::task::spawn_blocking;

use dsimg_machine::ledger::FOLDER_MARKER;
use dsimg_machine::{MachineError, Resource, RunContext};

use crate::tail::last_lines;

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

    /// Removes it with what mmdebstrap may have left in it. A cancelled build does so too.
    pub(super) async fn close(self, run: &RunContext) -> Result<(), MachineError> {
        let path = self.path.clone();
        spawn_blocking(move || remove_tree(&path)).await.unwrap_or(Err(MachineError::Cancelled))?;
        let gone = Resource::Folder { path: self.path };
        run.ledger.is_gone(gone).map_err(|error| MachineError::file("cannot write", run.ledger.path(), error))
    }
}

/// Removes a folder like `std::fs::remove_dir_all`, and also where a killed mmdebstrap left a tree in it that belongs
/// to its user ids: only they may look into that, and only we may remove it from our folder.
///
/// Waits for a program to end; not for a runtime's own thread.
pub(crate) fn remove_tree(path: &Path) -> Result<(), MachineError> {
    let failed = |error| MachineError::file("cannot remove", path, error);
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => return Ok(()),
    }
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.metadata().map_err(failed)?.uid() != geteuid().as_raw() {
            empty_as_its_owner(&entry.path())?;
        }
    }
    std::fs::remove_dir_all(path).map_err(failed)
}

fn empty_as_its_owner(folder: &Path) -> Result<(), MachineError> {
    let mut emptying = Command::new("mmdebstrap");
    emptying.args(["--unshare-helper", "find"]).arg(folder).args(["-xdev", "-mindepth", "1", "-delete"]);
    let output = emptying.stdin(Stdio::null()).output();
    let output = output.map_err(|error| MachineError::file("cannot start `mmdebstrap` to remove", folder, error))?;
    if output.status.success() {
        return Ok(());
    }
    let what = format!("cannot remove {}: {}", folder.display(), last_lines(&output.stderr, 3));
    Err(MachineError::host(what, format!("remove it yourself: `sudo rm -rf {}`", folder.display())))
}
