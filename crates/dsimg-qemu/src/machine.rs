//! One machine: started on a copy of the base, reached by ssh, powered off, written as an image.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;

use dsimg_machine::{Artifact, BaseImage, Machine, MachineError, RunContext, Session};
use dsimg_plan::Plan;
use dsimg_ssh::{NotReady, SshTarget, TemporaryKey, wait_until_ready};
use dsimg_template::template::{BuilderTable, Compression, DiskFormat, Firmware, QemuTable};
use dsimg_template::units::ByteSize;

use crate::accelerator::Accelerator;
use crate::arguments::{Hardware, Uefi, arguments};
use crate::builder::Programs;
use crate::credentials;
use crate::disk::QemuImg;
use crate::firmware::{UefiFirmware, find_uefi};
use crate::image::write_image;
use crate::seed::Seed;
use crate::transfer::Transfer;
use crate::vm::Vm;

/// With KVM; TCG multiplies it.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(120);
/// Between the guest's last word and the end of the process QEMU only closes files.
/// With KVM; TCG multiplies it. A card that is up without a word is one whose driver is not known well.
const NETWORK_LIMIT: Duration = Duration::from_secs(10);
const EXIT_LIMIT: Duration = Duration::from_secs(60);

/// A running QEMU with all that was made for it.
#[derive(Debug)]
pub struct QemuMachine {
    vm: Vm,
    folder: Folder,
    transfer: Transfer,
    target: SshTarget,
    accelerator: Accelerator,
    boot_timeout: Duration,
    formats: Vec<DiskFormat>,
    compression: Compression,
    qemu_img: QemuImg,
    run: RunContext,
}

/// What the machine keeps on the host, all in one folder of the build's work folder.
#[derive(Debug)]
struct Folder {
    path: TempDir,
}

impl Folder {
    fn disk(&self) -> PathBuf {
        self.path.path().join("disk.qcow2")
    }

    fn seed(&self) -> PathBuf {
        self.path.path().join("seed.img")
    }

    fn variables(&self) -> PathBuf {
        self.path.path().join("uefi-variables.fd")
    }

    fn transfer(&self) -> PathBuf {
        self.path.path().join("transfer.img")
    }

    fn console_log(&self) -> PathBuf {
        self.path.path().join("console.log")
    }
}

/// Makes the disk and the seed, and starts QEMU.
pub(crate) async fn boot(
    programs: &Programs,
    accelerator: Accelerator,
    base: &BaseImage,
    plan: &Plan,
    run: &RunContext,
) -> Result<QemuMachine, MachineError> {
    let BuilderTable::Qemu(table) = &plan.machine;
    let qemu_img = QemuImg::new(&programs.qemu_img);
    let path = tempfile::Builder::new().prefix("machine-").tempdir_in(&run.work);
    let folder =
        Folder { path: path.map_err(|error| MachineError::file("cannot make a folder in", &run.work, error))? };
    make_disk(&qemu_img, base, table.disk, &folder, run).await?;
    let uefi = copy_firmware(table.firmware, &folder)?;
    let (target, credentials) = make_seed(plan.build_user(), &folder, run)?;
    let transfer = Transfer::create(&folder.transfer())
        .map_err(|error| MachineError::file("cannot make a disk for files in", &run.work, error))?;

    let disk = folder.disk();
    let (variables, seed, transfer_disk) = (folder.variables(), folder.seed(), folder.transfer());
    let hardware = Hardware {
        accelerator,
        cpus: table.cpus,
        memory: table.memory.0,
        uefi: uefi.as_ref().map(|firmware| Uefi { code: &firmware.code, variables: &variables }),
        disk: &disk,
        seed: Some(&seed),
        credentials: &credentials,
        transfer: Some(&transfer_disk),
        exits_with_parent: programs.exits_with_parent,
        extra: &table.qemu_args,
    };
    let vm = Vm::start(&programs.qemu, &arguments(&hardware), &folder.console_log(), run).await?;
    let port = match vm.ssh_port().await {
        Ok(port) => port,
        Err(error) => {
            vm.stop().await?;
            return Err(error);
        }
    };
    let target = SshTarget { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ..target };
    vm.watch_network().await;
    run.debug(format!("QEMU is process {}, ssh on port {port}", vm.pid()));
    Ok(QemuMachine {
        vm,
        folder,
        transfer,
        target,
        accelerator,
        boot_timeout: boot_limit(table, accelerator),
        formats: table.formats.clone(),
        compression: table.compression,
        qemu_img,
        run: run.clone(),
    })
}

fn boot_limit(table: &QemuTable, accelerator: Accelerator) -> Duration {
    table.boot_timeout.as_duration().saturating_mul(accelerator.slowness())
}

/// A new layer on the base, as large as the template wants it.
async fn make_disk(
    qemu_img: &QemuImg,
    base: &BaseImage,
    wanted: ByteSize,
    folder: &Folder,
    run: &RunContext,
) -> Result<(), MachineError> {
    let size = wanted.0;
    if base.virtual_size > size {
        let needed = ByteSize(base.virtual_size.next_multiple_of(1 << 30));
        return Err(MachineError::refused(
            format!("the base's disk ({}) is larger than the template's ({wanted})", ByteSize(base.virtual_size)),
            format!("set `disk = \"{needed}\"` or more for this builder; a disk can grow, not shrink"),
        ));
    }
    let base = std::path::absolute(&base.path).map_err(|error| MachineError::file("cannot find", &base.path, error))?;
    qemu_img.create_overlay(&base, &folder.disk(), size, run).await
}

fn copy_firmware(firmware: Firmware, folder: &Folder) -> Result<Option<UefiFirmware>, MachineError> {
    if firmware == Firmware::Bios {
        return Ok(None);
    }
    let found = find_uefi()?;
    let variables = folder.variables();
    // Not `fs::copy`, which would copy the mode too: the original may be read-only.
    std::fs::read(&found.variables)
        .and_then(|content| std::fs::write(&variables, content))
        .map_err(|error| MachineError::file("cannot copy the firmware's variables to", &variables, error))?;
    Ok(Some(found))
}

/// Makes both keys and the seed that carries them, for cloud-init and as credentials. The port is not known yet.
fn make_seed(user: &str, folder: &Folder, run: &RunContext) -> Result<(SshTarget, Vec<PathBuf>), MachineError> {
    let (key, host_key) = (TemporaryKey::generate(), TemporaryKey::generate());
    let seed = Seed {
        instance_id: &format!("dsimg-{}", run.build_id),
        user,
        authorized_key: &key.public_openssh(),
        host_key: &host_key.private_openssh(),
        host_key_public: &host_key.public_openssh(),
    };
    let path = folder.seed();
    seed.write(&path).map_err(|error| MachineError::file("cannot write", path, error))?;
    let credentials = credentials::write(&seed, folder.path.path())
        .map_err(|error| MachineError::file("cannot write into", folder.path.path(), error))?;
    let target = SshTarget {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        user: user.to_owned(),
        key,
        host_key: host_key.public(),
        elevate: user != "root",
    };
    Ok((target, credentials))
}

#[async_trait]
impl Machine for QemuMachine {
    async fn connect(&self) -> Result<Box<dyn Session>, MachineError> {
        let ready = async {
            self.wait_for_network().await;
            wait_until_ready(&self.target, self.boot_timeout, &self.run.cancel, &|| None).await
        };
        let not_ready = tokio::select! {
            ready = ready => match ready {
                Ok(session) => return Ok(Box::new(session)),
                Err(not_ready) => not_ready,
            },
            trouble = self.vm.until_trouble() => NotReady::Died(trouble),
        };
        Err(self.explain(not_ready))
    }

    fn console_tail(&self) -> String {
        self.vm.console().last_lines()
    }

    async fn ssh_command(&self) -> Result<String, MachineError> {
        let key = self.run.work.join("ssh-key");
        let known = self.run.work.join("ssh-known-hosts");
        let port = self.target.address.port();
        write_private(&key, &self.target.key.private_openssh())?;
        write_private(&known, &format!("[127.0.0.1]:{port} {}\n", self.target.host_key))?;
        Ok(format!(
            "ssh -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} -p {port} {}@127.0.0.1",
            quoted(&key),
            quoted(&known),
            self.target.user
        ))
    }

    async fn bring(&self, session: &dyn Session, archive: &Path, to: &str) -> Result<(), MachineError> {
        self.transfer.bring(session, archive, to).await
    }

    async fn trouble(&self) -> Option<String> {
        self.vm.trouble().await
    }

    async fn wait_for_power_off(&mut self) -> Result<(), MachineError> {
        let limit = POWER_OFF_LIMIT.saturating_mul(self.accelerator.slowness());
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, self.vm.until_trouble()) => ended,
            () = self.run.cancel.cancelled() => return Err(MachineError::Cancelled),
        };
        let Ok(trouble) = ended else {
            return Err(self.vm.failed(format!("the guest did not power off within {} s", limit.as_secs())));
        };
        if self.vm.condition().shutdown.as_deref() != Some("guest-shutdown") {
            return Err(self.vm.failed(format!("the machine did not power off in good order: {trouble}")));
        }
        match self.vm.exited_within(EXIT_LIMIT).await {
            Some(status) if status.success() => Ok(()),
            Some(_) => Err(self.vm.failed(format!("QEMU failed after the guest powered off: {}", self.vm.stderr()))),
            None => Err(self.vm.failed("QEMU did not end after the guest powered off".to_owned())),
        }
    }

    async fn write_image(&mut self, name: &str, folder: &Path) -> Result<Vec<Artifact>, MachineError> {
        let disk = self.folder.disk();
        self.qemu_img.check(&disk, DiskFormat::Qcow2, &self.run).await?;
        let output = (self.formats.as_slice(), self.compression);
        write_image(&self.qemu_img, &disk, (name, folder), output, &self.run).await
    }

    async fn stop(self: Box<Self>) -> Result<(), MachineError> {
        let Self { vm, folder, .. } = *self;
        vm.stop().await?;
        let path = folder.path.path().to_owned();
        folder.path.close().map_err(|error| MachineError::file("cannot remove", path, error))
    }
}

impl QemuMachine {
    /// Connections that are tried before then are not lost: QEMU keeps them, and the guest has to answer each of
    /// them when it is busiest.
    async fn wait_for_network(&self) {
        let limit = NETWORK_LIMIT.saturating_mul(self.accelerator.slowness());
        tokio::select! {
            () = self.vm.until_network_up() => {}
            () = tokio::time::sleep(limit) => {}
            () = self.run.cancel.cancelled() => {}
        }
    }

    fn explain(&self, not_ready: NotReady) -> MachineError {
        let (what, hint) = match not_ready {
            NotReady::Cancelled => return MachineError::Cancelled,
            NotReady::Session(error) => return MachineError::Session(error),
            NotReady::Died(why) => (format!("the machine did not come up: {why}"), None),
            NotReady::TimedOut { limit, last_seen } => {
                let what = format!("nobody could log in within {} s; last seen: {last_seen}", limit.as_secs());
                let hint = match self.accelerator {
                    Accelerator::Kvm(_) => {
                        "look at the console; a longer `boot_timeout` helps where the guest was at work"
                    }
                    Accelerator::Tcg => {
                        "look at the console; a longer `boot_timeout` helps where the guest was at work: \
                         without KVM it is about ten times slower"
                    }
                };
                (what, Some(hint.to_owned()))
            }
        };
        MachineError::Machine { what, hint, console: self.console_tail() }
    }
}

fn write_private(path: &Path, content: &str) -> Result<(), MachineError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| MachineError::file("cannot write", path, error))
}

/// For a shell, quoted where it must be.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests;
