//! Frees what a dead build left behind, and nothing else.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use dsimg_machine::ledger::FOLDER_MARKER;
use dsimg_machine::{MachineError, Resource};

use crate::base::remove_tree;
use crate::vm::started;

const LIMIT: Duration = Duration::from_secs(5);

/// Freeing twice is fine.
pub(crate) async fn reclaim(left: &Resource) -> Result<(), MachineError> {
    match left {
        Resource::Process { pid, started } => end_process(*pid, *started).await,
        Resource::Aws { name, .. } => {
            let what = format!("`{name}` is on AWS, not on this host");
            Err(MachineError::Refused { what, hint: None })
        }
        Resource::Folder { path } => {
            let path = path.clone();
            spawn_blocking(move || remove_folder(&path)).await.unwrap_or(Err(MachineError::Cancelled))
        }
    }
}

/// Kills the process if it still is the one that was started then: its number may belong to another by now.
async fn end_process(number: i32, began: u64) -> Result<(), MachineError> {
    let is_it = || started(number) == Some(began);
    let Some(pid) = Pid::from_raw(number) else { return Ok(()) };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    // Looked at after the process was opened: from here on it can't be another.
    if !is_it() {
        return Ok(());
    }
    if let Err(error) = pidfd_send_signal(process.as_fd(), Signal::KILL) {
        let what = format!("cannot end process {number}, which a dead build left: {error}");
        return Err(MachineError::host(what, format!("end it yourself: `sudo kill -9 {number}`")));
    }
    let until = Instant::now() + LIMIT;
    while is_it() {
        if Instant::now() > until {
            let what = format!("process {number}, which a dead build left, was killed and still has not ended");
            return Err(MachineError::host(what, "it may hang in the host's kernel"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Removes a folder that is ours by its owner and by its mark: it holds [`FOLDER_MARKER`], or is named as an
/// unfinished image is (`.….partial`), or is empty.
fn remove_folder(path: &Path) -> Result<(), MachineError> {
    let failed = |error| MachineError::file("cannot remove", path, error);
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let is_own = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
    if is_own && std::fs::remove_dir(path).is_ok() {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_marked = path.join(FOLDER_MARKER).is_file() || (name.starts_with('.') && name.ends_with(".partial"));
    if !path.is_absolute() || !is_own || !is_marked {
        let what =
            format!("{} is in the ledger of a dead build, and does not look like dsimg's: it stays", path.display());
        return Err(MachineError::host(what, "look into it, and remove it yourself"));
    }
    remove_tree(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_ended_only_if_it_is_the_same() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let began = started(pid).unwrap();
        reclaim(&Resource::Process { pid, started: began + 1 }).await.unwrap();
        assert!(child.try_wait().unwrap().is_none(), "another process was killed");
        reclaim(&Resource::Process { pid, started: began }).await.unwrap();
        assert!(child.wait().unwrap().code().is_none());
        reclaim(&Resource::Process { pid, started: began }).await.unwrap();
    }

    #[tokio::test]
    async fn only_marked_folders_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str, file: &str| {
            let path = root.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(file), "").unwrap();
            path
        };
        let marked = folder("marked", FOLDER_MARKER);
        let partial = folder(".ds-hub.1.partial", "ds-hub.qcow2");
        let foreign = folder("foreign", "thesis.tex");
        let free = async |path: &Path| reclaim(&Resource::Folder { path: path.to_owned() }).await;
        free(&marked).await.unwrap();
        free(&partial).await.unwrap();
        assert!(!marked.exists() && !partial.exists());
        free(&marked).await.unwrap();
        let error = free(&foreign).await.unwrap_err();
        assert!(error.to_string().contains("it stays"), "{error}");
        assert!(foreign.join("thesis.tex").exists());
    }

    #[tokio::test]
    async fn a_symlink_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join(FOLDER_MARKER), "").unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(reclaim(&Resource::Folder { path: link }).await.is_err());
        assert!(real.join(FOLDER_MARKER).exists());
    }
}
