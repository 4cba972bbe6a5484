//! A place where machines boot, and one machine of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use dsimg_plan::Digest;
use dsimg_plan::plan::{Plan, PlannedBase};
use dsimg_template::template::Network;

use crate::checkpoint::{MemoryFit, SavedMachine};
use crate::context::RunContext;
use crate::error::MachineError;
use crate::ledger::Resource;
use crate::publish::Written;
use crate::session::Session;

/// A place where machines boot: QEMU on this host, EC2 in one region.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Looks and changes nothing outside dsimg's own cache: are the tools there, is there room, does KVM work?
    async fn check_ready(&self, plan: &Plan, run: &RunContext) -> Result<HostFacts, MachineError>;

    /// A recipe, file or URL becomes an exact image in the cache, checked against its digest.
    async fn prepare_base(
        &self,
        base: &PlannedBase,
        network: &Network,
        run: &RunContext,
    ) -> Result<BaseImage, MachineError>;

    /// The base with these bytes, where this host has it already: of whatever recipe, and on whatever day it was made.
    /// Looks into the cache alone.
    ///
    /// # Errors
    /// The cache can't be read.
    fn find_base(
        &self,
        _base: &PlannedBase,
        _sha256: &Digest,
        _cache: &Path,
    ) -> Result<Option<KnownBase>, MachineError> {
        Ok(None)
    }

    /// Takes a base into the cache that came from another host. The file that it names has been found to have its bytes;
    /// it is moved.
    async fn adopt_base(&self, _base: &KnownBase, _run: &RunContext) -> Result<(), MachineError> {
        Err(MachineError::refused("this builder takes no bases from other hosts", "build without `--offline`"))
    }

    /// Starts a machine on a copy of the base.
    async fn boot(&self, base: &BaseImage, plan: &Plan, run: &RunContext) -> Result<Box<dyn Machine>, MachineError>;

    /// What a memory state must be saved with to be loaded for this plan; `None` where memory is not saved.
    async fn memory_fit(&self, _plan: &Plan, _run: &RunContext) -> Result<Option<MemoryFit>, MachineError> {
        Ok(None)
    }

    /// Starts a machine from a saved one, which is not changed by it: with its memory it goes on where it was, else
    /// it boots from the saved disk.
    async fn resume(
        &self,
        _saved: &SavedMachine,
        _plan: &Plan,
        _run: &RunContext,
    ) -> Result<Box<dyn Machine>, MachineError> {
        Err(MachineError::refused("this builder saves no machines", "build with `--no-cache`"))
    }

    /// Frees one thing a dead build left behind; freeing twice is fine.
    async fn reclaim(&self, left: &Resource) -> Result<(), MachineError>;
}

/// One running machine. Whoever holds it owns it.
#[async_trait]
pub trait Machine: Send + Sync {
    /// Waits until the guest answers and logs in, or says how the machine died, with its console's tail.
    /// Also used after a reboot.
    async fn connect(&self) -> Result<Box<dyn Session>, MachineError>;

    /// The last lines of the serial console, for error reports.
    fn console_tail(&self) -> String;

    /// A command line by which a person on this host logs in, for a machine that is kept after a failure.
    /// Writes the key it needs into the build's work folder, mode 0600.
    async fn ssh_command(&self) -> Result<String, MachineError>;

    /// Unpacks a tar file of this host below `to` in the guest (made if missing), owned by root, by the quickest
    /// way that the machine has.
    async fn bring(&self, session: &dyn Session, archive: &Path, to: &str) -> Result<(), MachineError> {
        Ok(session.upload_tar(archive, to).await?)
    }

    /// Under which address the guest reaches what listens on this host's 127.0.0.1; `None`: only through its session.
    fn host_address(&self) -> Option<IpAddr> {
        None
    }

    /// Whom the guest called by itself since this was asked last, beside this host: `pypi.org:443`. `None`: nobody
    /// watches that.
    ///
    /// # Errors
    /// What was noted can't be read.
    async fn calls(&self) -> Result<Option<BTreeSet<String>>, MachineError> {
        Ok(None)
    }

    /// Whether [`Machine::save`] works.
    fn can_be_saved(&self) -> bool {
        false
    }

    /// Saves the machine as it runs into the folder, as [`SavedMachine`] names its files, and lets it go on.
    /// `parent` is the file that the saved disk stands on from now on: an absolute path, or the way from the folder in
    /// which the files will lie at last.
    async fn save(&self, _folder: &Path, _parent: &Path, _with_memory: bool) -> Result<(), MachineError> {
        Err(MachineError::refused("this machine can't be saved", "build with `--no-cache`"))
    }

    /// Makes a disk that was just saved into the folder, and that stands on `parent`, stand on `base` alone. The base
    /// is given as an absolute path and as it is to be written, like the parent of [`Machine::save`].
    async fn flatten(&self, _folder: &Path, _parent: &Path, _base: (&Path, &Path)) -> Result<(), MachineError> {
        Err(MachineError::refused("this machine can't be saved", "build with `--no-cache`"))
    }

    /// Why the machine is not running any more, or is paused by an error such as a full host disk;
    /// `None` while it runs.
    async fn trouble(&self) -> Option<String>;

    /// Called before the last stage, which ends with the guest off: readies the place for that, and says how the guest
    /// is to go off.
    async fn before_last_stage(&self) -> Result<Off, MachineError> {
        Ok(Off::Power)
    }

    /// Waits until the guest, which was told to power off, is off; a guest that is killed instead is an error.
    async fn wait_for_power_off(&mut self) -> Result<(), MachineError>;

    /// Of a machine that is off: writes the root file system anew from its files, so that the same files give the same
    /// image. No time in it is later than `epoch` (seconds since 1970). Gives the sha256 of the files' listing.
    async fn seal(&mut self, _epoch: i64) -> Result<Digest, MachineError> {
        Err(MachineError::refused("this builder can't seal images", "leave `seal` out of `[image]`"))
    }

    /// Writes the disk of a machine that is off as the image's files into `folder`, named `name` and the format; or
    /// makes AMIs of it.
    async fn write_image(&mut self, name: &str, folder: &Path) -> Result<Written, MachineError>;

    /// The only normal end, whatever state it is in: nothing of the machine is left. `Drop` kills what is left.
    async fn stop(self: Box<Self>) -> Result<(), MachineError>;
}

/// How a guest goes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Off {
    #[default]
    Power,
    /// File systems are unmounted and the processors stop, and the machine stays on: where one that powers off is gone
    /// with its disk.
    Halt,
}

/// An exact base image, on this host or named by a file on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseImage {
    /// A qcow2 without a backing file, or, of an AMI, a file that says which; never written to.
    pub path: PathBuf,
    /// `ami-…` where the image itself lies elsewhere.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Of the file at `path`.
    pub sha256: Digest,
    /// For people: `debian trixie, made 2026-11-21` or the file's name.
    pub description: String,
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// The login that its cloud-init sets up.
    pub user: String,
}

/// A base with what is known about it beside its bytes: enough for another host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownBase {
    pub image: BaseImage,
    /// From and to, in bytes of the disk: what was ever written. Empty: nobody knows.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub written: Vec<(u64, u64)>,
}

/// One file of the finished image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Inside the image's folder.
    pub file: String,
    /// `qcow2`, `raw`…
    pub format: String,
    /// Bytes of the file.
    pub size: u64,
    pub sha256: Digest,
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
}

/// What the host is, for the `build` part of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// `qemu 10.0.2`
    pub hypervisor: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    pub cpus: u32,
    pub os: String,
}
