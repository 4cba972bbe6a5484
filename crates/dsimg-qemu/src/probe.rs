//! Does KVM work on this host? That `/dev/kvm` is there does not say so: on some hosts, machines inside other
//! machines most of all, a guest gets through the firmware and stops where its kernel begins.
//!
//! So a boot sector is run that does what a kernel's first moments do and reports back (`kvm-probe.S`). It takes
//! a fifth of a second where KVM works. The answer is kept for this host, QEMU and kernel.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use dsimg_machine::{MachineError, RunContext};
use dsimg_plan::Digest;

use crate::accelerator::{Accelerator, KvmCpu};
use crate::vm::Vm;

/// A probe that works takes 0.2 s, and one that fails makes QEMU say so at once. Only a loaded host takes longer.
const LIMIT: Duration = Duration::from_secs(15);
const EXIT_LIMIT: Duration = Duration::from_secs(5);
/// SeaBIOS does not boot from a smaller disk.
const DISK_SIZE: u64 = 1 << 20;
/// `isa-debug-exit` ends QEMU with twice the value that was written, plus one: (0x2a << 1) | 1.
const WORKS: i32 = 85;

/// `kvm-probe.S`, assembled; the boot signature follows at byte 510.
const BOOT_SECTOR: [u8; 258] = [
    0xfa, 0xea, 0x06, 0x7c, 0x00, 0x00, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0xf0, 0x6f, 0x66, 0xbf,
    0x00, 0x10, 0x00, 0x00, 0x66, 0x31, 0xc0, 0x66, 0xb9, 0x00, 0x14, 0x00, 0x00, 0x66, 0xf3, 0xab, 0x66, 0xc7, 0x06,
    0x00, 0x10, 0x03, 0x20, 0x00, 0x00, 0x66, 0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, 0x00, 0x00, 0x66, 0xc7, 0x06, 0x00,
    0x30, 0x83, 0x00, 0x00, 0x00, 0x0f, 0x20, 0xe0, 0x66, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0, 0x66, 0xb8, 0x00, 0x10,
    0x00, 0x00, 0x0f, 0x22, 0xd8, 0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x66, 0x0d, 0x00, 0x01, 0x00, 0x00,
    0x0f, 0x30, 0x0f, 0x20, 0xc0, 0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0x66, 0x0f, 0x01, 0x16, 0xf8,
    0x7c, 0x66, 0xea, 0x7b, 0x7c, 0x00, 0x00, 0x08, 0x00, 0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,
    0x48, 0xc7, 0xc4, 0xf0, 0x6f, 0x00, 0x00, 0xb9, 0x40, 0x42, 0x0f, 0x00, 0xe2, 0xfe, 0xb8, 0xd7, 0x7c, 0x00, 0x00,
    0x66, 0x89, 0x04, 0x25, 0x30, 0x50, 0x00, 0x00, 0x66, 0xc7, 0x04, 0x25, 0x32, 0x50, 0x00, 0x00, 0x08, 0x00, 0x66,
    0xc7, 0x04, 0x25, 0x34, 0x50, 0x00, 0x00, 0x00, 0x8e, 0xc1, 0xe8, 0x10, 0x66, 0x89, 0x04, 0x25, 0x36, 0x50, 0x00,
    0x00, 0x0f, 0x01, 0x1c, 0x25, 0xfe, 0x7c, 0x00, 0x00, 0xbb, 0x01, 0x00, 0x00, 0x00, 0xcc, 0x89, 0xd8, 0x66, 0xba,
    0xf4, 0x00, 0xee, 0xf4, 0xeb, 0xfd, 0xbb, 0x2a, 0x00, 0x00, 0x00, 0x48, 0xcf, 0x66, 0x90, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xaf, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf,
    0x00, 0x17, 0x00, 0xe0, 0x7c, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x50,
];

/// Whether KVM works, and if not, why and what can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kvm {
    Works(KvmCpu),
    Broken { reason: String, hint: Option<&'static str> },
}

/// What the answer belongs to: it may change with each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// QEMU's `--version` line.
    pub(crate) qemu: String,
    /// `uname -r -v`.
    pub(crate) kernel: String,
    /// `/etc/machine-id`, or empty.
    pub(crate) machine_id: String,
}

/// Looks at `/dev/kvm`, at the answer that is kept, and only then probes.
pub(crate) async fn kvm(qemu: &Path, host: &Host, run: &RunContext) -> Result<Kvm, MachineError> {
    if let Err(broken) = may_open(Path::new("/dev/kvm")) {
        return Ok(broken);
    }
    let kept = Kept { path: run.cache.join("accelerator.json") };
    let key = host.key();
    if let Some(answer) = kept.read(&key) {
        return Ok(answer);
    }
    let mut answer = probe(qemu, Accelerator::Kvm(KvmCpu::Host), run).await?;
    let mut cpu = KvmCpu::Host;
    if matches!(answer, Answer::Broken(_)) {
        cpu = KvmCpu::HostWithoutArchCapabilities;
        answer = probe(qemu, Accelerator::Kvm(cpu), run).await?;
    }
    match answer {
        Answer::Works => kept.write(key, KeptAnswer { cpu: Some(cpu), reason: None }),
        Answer::Broken(ref reason) => kept.write(key, KeptAnswer { cpu: None, reason: Some(reason.clone()) }),
        // The host may only have been busy: the next run asks again.
        Answer::Silent => {}
    }
    Ok(answer.into_kvm(cpu))
}

/// How one probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Works,
    /// QEMU's own words.
    Broken(String),
    Silent,
}

impl Answer {
    fn into_kvm(self, cpu: KvmCpu) -> Kvm {
        match self {
            Self::Works => Kvm::Works(cpu),
            Self::Broken(reason) => Kvm::Broken { reason, hint: None },
            Self::Silent => {
                let reason =
                    format!("a test machine did not get through its first instructions in {} s", LIMIT.as_secs());
                Kvm::Broken { reason, hint: None }
            }
        }
    }
}

/// Runs the boot sector on the accelerator.
async fn probe(qemu: &Path, accelerator: Accelerator, run: &RunContext) -> Result<Answer, MachineError> {
    let unwritten = |error| MachineError::file("cannot write below", &run.cache, error);
    std::fs::create_dir_all(&run.cache).map_err(unwritten)?;
    let folder = tempfile::Builder::new().prefix("probe-").tempdir_in(&run.cache).map_err(unwritten)?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk).map_err(unwritten)?;
    let arguments = arguments(accelerator, &disk);
    let vm = match Vm::start(qemu, &arguments, &folder.path().join("console.log"), run).await {
        Ok(vm) => vm,
        // `-cpu host` aborts on some hosts before QEMU says its first word.
        Err(MachineError::Machine { what, .. }) => return Ok(Answer::Broken(cause(&what))),
        Err(error) => return Err(error),
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(LIMIT, vm.until_trouble()) => ended,
        () = run.cancel.cancelled() => {
            vm.stop().await?;
            return Err(MachineError::Cancelled);
        }
    };
    // Between the event of the shutdown and the end of the process a moment passes.
    let patience = if vm.condition().shutdown.is_some() { EXIT_LIMIT } else { Duration::ZERO };
    let code = vm.exited_within(patience).await.and_then(|status| status.code());
    let words = vm.stderr();
    vm.stop().await?;
    Ok(match ended {
        _ if code == Some(WORKS) => Answer::Works,
        Ok(trouble) => Answer::Broken(if words.is_empty() { trouble } else { cause(&words) }),
        Err(_) => Answer::Silent,
    })
}

/// The line that names the cause: QEMU follows it with the processor's registers.
fn cause(words: &str) -> String {
    let found = ["KVM internal error", "error:"].iter().find_map(|sign| words.lines().find(|line| line.contains(sign)));
    let line = found.or_else(|| words.lines().next()).unwrap_or_default();
    line.trim().trim_end_matches('.').to_owned()
}

fn write_disk(path: &Path) -> io::Result<()> {
    let mut sector = [0; 512];
    sector[..BOOT_SECTOR.len()].copy_from_slice(&BOOT_SECTOR);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(path, sector)?;
    std::fs::OpenOptions::new().write(true).open(path)?.set_len(DISK_SIZE)
}

fn arguments(accelerator: Accelerator, disk: &Path) -> Vec<String> {
    let disk = serde_json::json!({
        "driver": "raw",
        "node-name": "disk",
        "read-only": true,
        "file": {"driver": "file", "filename": disk, "read-only": true},
    });
    let line = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-m",
        "64M",
        "-machine",
        "q35",
        "-accel",
        accelerator.option(),
        "-cpu",
        accelerator.cpu_model(),
        "-blockdev",
        &disk.to_string(),
        "-device",
        "virtio-blk-pci,drive=disk",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=4",
        "-chardev",
        "socket,id=qmp,fd=0",
        "-mon",
        "chardev=qmp,mode=control",
        "-chardev",
        "socket,id=console,fd=1",
        "-serial",
        "chardev:console",
    ];
    line.map(str::to_owned).to_vec()
}

/// `Err` says why not.
fn may_open(device: &Path) -> Result<(), Kvm> {
    let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open(device) else { return Ok(()) };
    let shown = device.display();
    let (reason, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("there is no `{shown}`"),
            "switch virtualisation on in the firmware's settings, or nested virtualisation where this host is itself \
             a virtual machine",
        ),
        io::ErrorKind::PermissionDenied => (
            format!("you may not open `{shown}`"),
            "add yourself to its group (`sudo usermod -aG kvm $USER`) and log in again",
        ),
        _ => (format!("`{shown}` cannot be opened: {error}"), "look at the kernel's messages: `dmesg | grep kvm`"),
    };
    Err(Kvm::Broken { reason, hint: Some(hint) })
}

impl Host {
    /// Hashed: the machine id is nobody's business, even in one's own cache.
    fn key(&self) -> String {
        Digest::of_value(&[&self.qemu, &self.kernel, &self.machine_id]).short().to_owned()
    }
}

/// `accelerator.json`: the answers by host.
struct Kept {
    path: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptAnswer {
    /// With which KVM works.
    cpu: Option<KvmCpu>,
    /// Why it does not.
    reason: Option<String>,
}

impl Kept {
    /// A file that is missing or unreadable holds no answer.
    fn answers(&self) -> BTreeMap<String, KeptAnswer> {
        std::fs::read(&self.path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn read(&self, key: &str) -> Option<Kvm> {
        let answer = self.answers().remove(key)?;
        Some(match answer.cpu {
            Some(cpu) => Kvm::Works(cpu),
            None => Kvm::Broken { reason: answer.reason.unwrap_or_default(), hint: None },
        })
    }

    /// If it can't be written, the next run probes again.
    fn write(&self, key: String, answer: KeptAnswer) {
        let mut answers = self.answers();
        answers.insert(key, answer);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            serde_json::to_writer_pretty(&mut file, &answers)?;
            file.persist(&self.path).map_err(io::Error::from)
        });
        drop(written);
    }
}

#[cfg(test)]
mod tests;
