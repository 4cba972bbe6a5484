//! One machine: started on a copy of the base, reached by ssh, powered off, written as an image.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tempfile::TempDir;

use dsimg_machine::{
    BaseImage, Machine, MachineError, Off, RunContext, SavedMachine, Session, Written, WrittenParts, checkpoint,
};
use dsimg_plan::{Digest, Plan};
use dsimg_ssh::{NotReady, SshTarget, wait_until_ready};
use dsimg_template::template::{Compression, DiskFormat, Firmware, QemuTable};
use dsimg_template::units::ByteSize;

use crate::accelerator::Accelerator;
use crate::access::Access;
use crate::arguments::{DISK_NODE, Hardware, Uefi, arguments};
use crate::base::used_parts_of;
use crate::builder::{Programs, table_of};
use crate::checkpoint::{load_memory, put_overlay, save_memory};
use crate::credentials;
use crate::disk::{Extent, Layout, QemuImg, Source, Target};
use crate::firmware::{UefiFirmware, find_uefi};
use crate::image::write_image;
use crate::seal;
use crate::traffic::{GATEWAY, Traffic};
use crate::transfer::Transfer;
use crate::vm::Vm;

/// With KVM; TCG multiplies it.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(120);
/// With KVM; TCG multiplies it. A card that is up without a word is one whose driver is not known well.
const NETWORK_LIMIT: Duration = Duration::from_secs(10);
/// Between the guest's last word and the end of the process QEMU only closes files.
const EXIT_LIMIT: Duration = Duration::from_secs(60);

/// A running QEMU with all that was made for it.
#[derive(Debug)]
pub struct QemuMachine {
    vm: Vm,
    folder: Folder,
    transfer: Transfer,
    traffic: Mutex<Traffic>,
    /// Whether the guest reaches this host.
    alone: bool,
    access: Access,
    target: SshTarget,
    accelerator: Accelerator,
    boot_timeout: Duration,
    /// Set while the guest boots: nobody listens before its network is up.
    boots: AtomicBool,
    /// How many layers were saved: the number of the disk that the machine writes to.
    layers: AtomicU32,
    /// Whether the layer that is written to began when all stages but the last were done.
    is_last: AtomicBool,
    /// What the first layer stands on.
    parent: PathBuf,
    disk_size: u64,
    /// The raw disk that was written anew, when it was.
    sealed: Option<PathBuf>,
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
    fn make(run: &RunContext) -> Result<Self, MachineError> {
        let path = tempfile::Builder::new().prefix("machine-").tempdir_in(&run.work);
        Ok(Self { path: path.map_err(|error| MachineError::file("cannot make a folder in", &run.work, error))? })
    }

    fn disk(&self, layer: u32) -> PathBuf {
        self.path.path().join(format!("disk-{layer}.qcow2"))
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

    fn traffic(&self) -> PathBuf {
        self.path.path().join("traffic.pcap")
    }

    fn console_log(&self) -> PathBuf {
        self.path.path().join("console.log")
    }
}

/// Starts a machine on a copy of the base.
pub(crate) async fn boot(
    programs: &Programs,
    accelerator: Accelerator,
    base: &BaseImage,
    plan: &Plan,
    run: &RunContext,
) -> Result<QemuMachine, MachineError> {
    let table = table_of(plan)?;
    let folder = Folder::make(run)?;
    check_size(base, table.disk)?;
    let access = Access::generate(format!("dsimg-{}", run.build_id), plan.build_user());
    start(programs, accelerator, plan, (&base.path, None), folder, access, run).await
}

/// Starts a machine from a saved one: from its memory where there is one, else by a boot from its disk.
pub(crate) async fn resume(
    programs: &Programs,
    accelerator: Accelerator,
    saved: &SavedMachine,
    plan: &Plan,
    run: &RunContext,
) -> Result<QemuMachine, MachineError> {
    let folder = Folder::make(run)?;
    let access = Access::read(&saved.access)?;
    start(programs, accelerator, plan, (&saved.disk, saved.memory.as_deref()), folder, access, run).await
}

/// Makes disk and seed, starts QEMU, and loads the memory where there is one.
async fn start(
    programs: &Programs,
    accelerator: Accelerator,
    plan: &Plan,
    (parent, memory): (&Path, Option<&Path>),
    folder: Folder,
    access: Access,
    run: &RunContext,
) -> Result<QemuMachine, MachineError> {
    let table = table_of(plan)?;
    let alone = plan.network.is_alone();
    let qemu_img = QemuImg::new(&programs.qemu_img);
    let parent = std::path::absolute(parent).map_err(|error| MachineError::file("cannot find", parent, error))?;
    let disk = folder.disk(0);
    qemu_img.create_overlay(&parent, &disk, table.disk.0, run).await?;
    let uefi = copy_firmware(table.firmware, &folder)?;
    let credentials = write_seed(&access, &folder)?;
    let transfer = Transfer::create(&folder.transfer())
        .map_err(|error| MachineError::file("cannot make a disk for files in", &run.work, error))?;

    let (variables, seed, transfer_disk) = (folder.variables(), folder.seed(), folder.transfer());
    let traffic = Traffic::new(folder.traffic());
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
        incoming: memory.is_some(),
        alone,
        traffic: Some(traffic.path()),
        extra: &table.qemu_args,
    };
    let vm = Vm::start(&programs.qemu, &arguments(&hardware), &folder.console_log(), run).await?;
    let port = match set_going(&vm, memory, run).await {
        Ok(port) => port,
        Err(error) => {
            vm.stop().await?;
            return Err(error);
        }
    };
    run.debug(format!("QEMU is process {}, ssh on port {port}", vm.pid()));
    Ok(QemuMachine {
        vm,
        folder,
        transfer,
        traffic: Mutex::new(traffic),
        alone,
        target: access.target(port),
        access,
        accelerator,
        boot_timeout: boot_limit(table, accelerator),
        boots: AtomicBool::new(memory.is_none()),
        layers: AtomicU32::new(0),
        is_last: AtomicBool::new(false),
        parent,
        disk_size: table.disk.0,
        sealed: None,
        formats: table.formats.clone(),
        compression: table.compression,
        qemu_img,
        run: run.clone(),
    })
}

/// Loads the memory where there is one; gives the port of ssh.
async fn set_going(vm: &Vm, memory: Option<&Path>, run: &RunContext) -> Result<u16, MachineError> {
    match memory {
        Some(memory) => {
            load_memory(vm.qmp(), memory, run).await?;
            vm.go_on().await?;
        }
        None => vm.watch_network().await,
    }
    vm.ssh_port().await
}

fn boot_limit(table: &QemuTable, accelerator: Accelerator) -> Duration {
    table.boot_timeout.as_duration().saturating_mul(accelerator.slowness())
}

/// The machine's disk may be larger than the base's, never smaller.
fn check_size(base: &BaseImage, wanted: ByteSize) -> Result<(), MachineError> {
    if base.virtual_size <= wanted.0 {
        return Ok(());
    }
    let needed = ByteSize(base.virtual_size.next_multiple_of(1 << 30));
    Err(MachineError::refused(
        format!("the base's disk ({}) is larger than the template's ({wanted})", ByteSize(base.virtual_size)),
        format!("set `disk = \"{needed}\"` or more for this builder; a disk can grow, not shrink"),
    ))
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

/// Writes the seed that carries the keys, for cloud-init and as credentials.
fn write_seed(access: &Access, folder: &Folder) -> Result<Vec<PathBuf>, MachineError> {
    let written = access.with_seed(|seed| {
        seed.write(&folder.seed())?;
        credentials::write(seed, folder.path.path())
    });
    written.map_err(|error| MachineError::file("cannot write into", folder.path.path(), error))
}

#[async_trait]
impl Machine for QemuMachine {
    async fn connect(&self) -> Result<Box<dyn Session>, MachineError> {
        let begun = Instant::now();
        let ready = async {
            self.wait_for_network().await;
            let limit = self.boot_timeout.saturating_sub(begun.elapsed());
            wait_until_ready(&self.target, limit, &self.run.cancel, &|| None).await
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

    fn host_address(&self) -> Option<IpAddr> {
        (!self.alone).then_some(IpAddr::V4(GATEWAY))
    }

    async fn calls(&self) -> Result<Option<BTreeSet<String>>, MachineError> {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = traffic.calls();
        calls.map(Some).map_err(|error| MachineError::file("cannot read", traffic.path(), error))
    }

    fn can_be_saved(&self) -> bool {
        true
    }

    async fn save(&self, folder: &Path, parent: &Path, with_memory: bool) -> Result<(), MachineError> {
        let number = self.layers.load(Ordering::Relaxed);
        let (layer, next) = (self.folder.disk(number), self.folder.disk(number + 1));
        self.qemu_img.create_overlay_unseen(&layer, &next, self.disk_size, &self.run).await?;
        let paused = Instant::now();
        self.vm.pause().await?;
        let saved = self.save_paused(folder, parent, with_memory, &next).await;
        // Whatever became of it: the guest goes on.
        self.vm.go_on().await?;
        saved?;
        self.run.debug(format!("the machine was paused for {} ms", paused.elapsed().as_millis()));
        let place = folder.join(checkpoint::DISK);
        std::fs::hard_link(&layer, &place).map_err(|error| MachineError::file("cannot make", place, error))?;
        self.access.write(&folder.join(checkpoint::ACCESS))
    }

    async fn flatten(&self, folder: &Path, parent: &Path, base: (&Path, &Path)) -> Result<(), MachineError> {
        self.qemu_img.flatten(&folder.join(checkpoint::DISK), parent, base, &self.run).await
    }

    /// Notes which parts of the disk were written until now: the last stage gives back what is free, and that looks like
    /// zeros that were written.
    async fn before_last_stage(&self) -> Result<Off, MachineError> {
        let number = self.layers.load(Ordering::Relaxed);
        let (layer, next) = (self.folder.disk(number), self.folder.disk(number + 1));
        let below = if number == 0 { self.parent.clone() } else { self.folder.disk(number - 1) };
        self.qemu_img.create_overlay_unseen(&layer, &next, self.disk_size, &self.run).await?;
        self.put_layer(&below, &next).await?;
        self.is_last.store(true, Ordering::Relaxed);
        Ok(Off::Power)
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

    async fn seal(&mut self, epoch: i64) -> Result<Digest, MachineError> {
        let layers = self.layers();
        self.qemu_img.check(&layers[0], DiskFormat::Qcow2, &self.run).await?;
        let (whole, sealed) = (self.folder.path.path().join("whole.raw"), self.folder.path.path().join("sealed.raw"));
        let target = Target { format: DiskFormat::Raw, compression: Compression::None, layout: Layout::Quick };
        let what = ("the disk to seal", self.disk_size);
        self.qemu_img.convert(Source::Layers(&layers), (&whole, target), what, &self.run).await?;
        let digest = seal::write_anew(whole, sealed.clone(), epoch, &self.run).await?;
        self.sealed = Some(sealed);
        Ok(digest)
    }

    async fn write_image(&mut self, name: &str, folder: &Path) -> Result<Written, MachineError> {
        if let Some(sealed) = &self.sealed {
            seal::used_parts_of(sealed, folder)?;
            let disk = (Source::File(sealed, DiskFormat::Raw.as_str()), self.disk_size);
            let output = (self.formats.as_slice(), self.compression, Layout::Ordered);
            let files = write_image(&self.qemu_img, disk, (name, folder), output, &self.run).await?;
            return Ok(Written { files, amis: Vec::new() });
        }
        let layers = self.layers();
        self.qemu_img.check(&layers[0], DiskFormat::Qcow2, &self.run).await?;
        let disk = (Source::Layers(&layers), self.disk_size);
        if self.is_last.load(Ordering::Relaxed) {
            let parts = self.written_parts(&layers).await?;
            parts.write(folder).map_err(|error| MachineError::file("cannot write into", folder, error))?;
        }
        let output = (self.formats.as_slice(), self.compression, Layout::Quick);
        let files = write_image(&self.qemu_img, disk, (name, folder), output, &self.run).await?;
        Ok(Written { files, amis: Vec::new() })
    }

    async fn stop(self: Box<Self>) -> Result<(), MachineError> {
        let Self { vm, folder, .. } = *self;
        vm.stop().await?;
        let path = folder.path.path().to_owned();
        folder.path.close().map_err(|error| MachineError::file("cannot remove", path, error))
    }
}

impl QemuMachine {
    /// The layers of the disk, the one that was written to last first, and the file that the machine was started on. Those
    /// that were saved name what they stand on by its way from where they were published.
    fn layers(&self) -> Vec<PathBuf> {
        let numbers = (0..=self.layers.load(Ordering::Relaxed)).rev();
        numbers.map(|number| self.folder.disk(number)).chain([self.parent.clone()]).collect()
    }

    /// The layer that was written to until now, and the memory.
    async fn save_paused(
        &self,
        folder: &Path,
        parent: &Path,
        with_memory: bool,
        overlay: &Path,
    ) -> Result<(), MachineError> {
        self.put_layer(parent, overlay).await?;
        if with_memory {
            save_memory(self.vm.qmp(), &folder.join(checkpoint::MEMORY), &self.run).await?;
        }
        Ok(())
    }

    /// From now on the machine writes to the overlay; the layer below is closed, and names `parent` as its own.
    async fn put_layer(&self, parent: &Path, overlay: &Path) -> Result<(), MachineError> {
        let number = self.layers.load(Ordering::Relaxed);
        let (active, next) = (node(number), node(number + 1));
        let parent = parent.to_string_lossy();
        put_overlay(self.vm.qmp(), &active, &parent, (&next, overlay))
            .await
            .map_err(|error| self.vm.failed(format!("cannot put a new layer on the machine's disk: {error}")))?;
        self.layers.store(number + 1, Ordering::Relaxed);
        Ok(())
    }

    /// What was written to the disk from the base on. Of the last stage's layer the zeros do not count: nearly all of
    /// them are what it gave back to the host.
    async fn written_parts(&self, layers: &[PathBuf]) -> Result<WrittenParts, MachineError> {
        let (last, before) = (Source::Layers(layers), Source::Layers(&layers[1..]));
        let base = self.qemu_img.base_of(&self.parent, &self.run).await?;
        // In the file of a base nobody can tell a zero from a hole.
        let of_base = used_parts_of(&base.filename).unwrap_or_else(|| vec![(0, base.virtual_size)]);
        let before = self.qemu_img.map(before, &self.run).await?;
        let last = self.qemu_img.map(last, &self.run).await?;
        let before = before.iter().filter(|extent| extent.present);
        let last = last.iter().filter(|extent| extent.present && !extent.zero);
        let parts = of_base.into_iter().chain(before.chain(last).map(Extent::range));
        Ok(WrittenParts::of(self.disk_size, parts))
    }

    /// Connections that are tried before then are not lost: QEMU keeps them, and the guest has to answer each of
    /// them when it is busiest.
    async fn wait_for_network(&self) {
        if !self.boots.swap(false, Ordering::Relaxed) {
            return;
        }
        let limit = NETWORK_LIMIT.saturating_mul(self.accelerator.slowness()).min(self.boot_timeout / 2);
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
            NotReady::TimedOut { last_seen, .. } => {
                let seconds = self.boot_timeout.as_secs();
                let what = format!("nobody could log in within {seconds} s; last seen: {last_seen}");
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

/// The node of a layer of the machine's disk.
fn node(layer: u32) -> String {
    if layer == 0 { DISK_NODE.to_owned() } else { format!("{DISK_NODE}-{layer}") }
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
