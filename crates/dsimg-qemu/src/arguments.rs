//! QEMU's command line, as a pure function of what the machine shall be.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::accelerator::Accelerator;
use crate::traffic::KEPT_OF_A_PACKET;
use crate::transfer;

/// The node that a machine's disk has at its start.
pub(crate) const DISK_NODE: &str = "disk";

/// The guest's only network card. The seed names it, so that the guest needs no guess.
pub(crate) const MAC_ADDRESS: &str = "52:54:00:12:34:56";

/// What a machine is made of.
#[derive(Debug, Clone)]
pub(crate) struct Hardware<'a> {
    pub(crate) accelerator: Accelerator,
    pub(crate) cpus: u32,
    /// Bytes.
    pub(crate) memory: u64,
    /// Absent: BIOS.
    pub(crate) uefi: Option<Uefi<'a>>,
    /// A qcow2 that the machine may write to; it must not be worth anything if the host crashes.
    pub(crate) disk: &'a Path,
    /// The image with cloud-init's seed.
    pub(crate) seed: Option<&'a Path>,
    /// Each holds one string for the firmware's table of credentials.
    pub(crate) credentials: &'a [PathBuf],
    /// The raw disk over which files come in.
    pub(crate) transfer: Option<&'a Path>,
    /// Whether this QEMU knows `-run-with exit-with-parent=on`.
    pub(crate) exits_with_parent: bool,
    /// Wait for a memory state instead of booting.
    pub(crate) incoming: bool,
    /// The guest reaches nobody, not even this host; its ssh is reached all the same.
    pub(crate) alone: bool,
    /// Where the beginning of each of its packets is written.
    pub(crate) traffic: Option<&'a Path>,
    /// Of the template; they come last, so they win.
    pub(crate) extra: &'a [String],
}

/// UEFI firmware: its code, and a copy of its variables for this machine alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uefi<'a> {
    pub(crate) code: &'a Path,
    pub(crate) variables: &'a Path,
}

/// The whole command line after the program's name.
///
/// QMP is on file descriptor 0 and the serial console on 1, both sockets.
pub(crate) fn arguments(hardware: &Hardware<'_>) -> Vec<String> {
    let mut line = Line::default();
    basics(&mut line, hardware);
    processor(&mut line, hardware);
    firmware(&mut line, hardware);
    credentials(&mut line, hardware.credentials);
    disks(&mut line, hardware);
    devices(&mut line, hardware);
    channels(&mut line);
    if hardware.incoming {
        line.option("-incoming", "defer");
    }
    line.0.extend_from_slice(hardware.extra);
    line.0
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.flag(name);
        self.0.push(value.into());
    }

    /// As JSON, where a comma in a path is just a comma.
    fn block_device(&mut self, value: &serde_json::Value) {
        self.option("-blockdev", value.to_string());
    }
}

/// Nothing that was not asked for: no default devices, no configuration of the host's user, no display,
/// and no rights beyond what a machine needs.
fn basics(line: &mut Line, hardware: &Hardware<'_>) {
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.option("-display", "none");
    line.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    if hardware.exits_with_parent {
        line.option("-run-with", "exit-with-parent=on");
    }
}

fn processor(line: &mut Line, hardware: &Hardware<'_>) {
    // Without graphics, SeaBIOS and what it boots speak on the serial console.
    let mut machine = "q35,graphics=off,smbus=off".to_owned();
    if !asks_for_sata(hardware.extra) {
        // Guests wait for an answer from each of its six empty ports.
        machine.push_str(",sata=off");
    }
    if hardware.uefi.is_some() {
        machine.push_str(",pflash0=firmware-code,pflash1=firmware-variables");
    }
    line.option("-machine", machine);
    line.option("-accel", hardware.accelerator.option());
    line.option("-cpu", hardware.accelerator.cpu_model());
    line.option("-smp", hardware.cpus.to_string());
    line.option("-m", format!("{}M", hardware.memory >> 20));
}

/// Whether the template's own arguments put a drive there: `-cdrom`, `-hda`, `if=ide`, `ide-cd`…
fn asks_for_sata(extra: &[String]) -> bool {
    let is_drive = |argument: &String| argument == "-cdrom" || argument.starts_with("-hd") || argument.contains("ide");
    extra.iter().any(is_drive)
}

fn firmware(line: &mut Line, hardware: &Hardware<'_>) {
    if let Some(uefi) = &hardware.uefi {
        let flash = |name: &str, path: &Path, read_only: bool| {
            json!({
                "driver": "raw",
                "node-name": name,
                "read-only": read_only,
                "file": {"driver": "file", "filename": path, "read-only": read_only},
            })
        };
        line.block_device(&flash("firmware-code", uefi.code, true));
        line.block_device(&flash("firmware-variables", uefi.variables, false));
    }
}

/// By files: they hold the machine's host key, and arguments are seen by all of this host's users.
fn credentials(line: &mut Line, files: &[PathBuf]) {
    for file in files {
        // A comma in an option's value is written twice.
        line.option("-smbios", format!("type=11,path={}", file.display().to_string().replace(',', ",,")));
    }
}

/// The machine's disk. It forgets what the guest trims, and does not wait for the host's disk: it is worthless until
/// the machine has powered off, or its layer is brought to the host's disk as part of a checkpoint.
pub(crate) fn disk_node(name: &str, file: &Path) -> serde_json::Value {
    json!({
        "driver": "qcow2",
        "node-name": name,
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "cache": {"no-flush": true},
        "file": {
            "driver": "file",
            "filename": file,
            "aio": "threads",
            "discard": "unmap",
            "cache": {"no-flush": true},
        },
    })
}

/// Any I/O error of the host pauses the guest, so that it never reaches the image.
fn disks(line: &mut Line, hardware: &Hardware<'_>) {
    line.block_device(&disk_node(DISK_NODE, hardware.disk));
    // Not 0, which QEMU gives to a kernel of `-kernel`.
    line.option("-device", "virtio-blk-pci,drive=disk,bootindex=1,werror=stop,rerror=stop");
    if let Some(seed) = hardware.seed {
        line.block_device(&json!({
            "driver": "raw",
            "node-name": "seed",
            "read-only": true,
            "file": {"driver": "file", "filename": seed, "read-only": true},
        }));
        line.option("-device", "virtio-blk-pci,drive=seed");
    }
    if let Some(disk) = hardware.transfer {
        line.block_device(&json!({
            "driver": "raw",
            "node-name": "transfer",
            "read-only": true,
            "file": {"driver": "file", "filename": disk, "read-only": true},
        }));
        line.option("-device", format!("virtio-blk-pci,drive=transfer,serial={}", transfer::SERIAL));
    }
}

/// The guest's ssh is forwarded to a free port that only this host can reach. The card has no boot ROM:
/// nothing is booted from the network, and the ROM's file is in a package of its own.
fn devices(line: &mut Line, hardware: &Hardware<'_>) {
    let alone = if hardware.alone { ",restrict=on" } else { "" };
    line.option("-netdev", format!("user,id=net{alone},hostfwd=tcp:127.0.0.1:0-:22"));
    if let Some(file) = hardware.traffic {
        let dump = json!({
            "qom-type": "filter-dump",
            "id": "traffic",
            "netdev": "net",
            "file": file,
            "maxlen": KEPT_OF_A_PACKET,
        });
        line.option("-object", dump.to_string());
    }
    line.option("-device", format!("virtio-net-pci,netdev=net,mac={MAC_ADDRESS},romfile="));
    line.option("-device", "virtio-rng-pci");
    line.option("-device", "virtio-balloon-pci,free-page-reporting=on");
    line.option("-device", "pvpanic");
    // Tells the guest's kernel when it was started from a checkpoint, so that it draws other random numbers.
    line.option("-device", "vmgenid,guid=auto");
}

fn channels(line: &mut Line) {
    line.option("-chardev", "socket,id=qmp,fd=0");
    line.option("-mon", "chardev=qmp,mode=control");
    line.option("-chardev", "socket,id=console,fd=1");
    line.option("-serial", "chardev:console");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerator::KvmCpu;

    fn small() -> Hardware<'static> {
        Hardware {
            accelerator: Accelerator::Tcg,
            cpus: 2,
            memory: 4 << 30,
            uefi: None,
            disk: Path::new("/work/disk, with a comma.qcow2"),
            seed: Some(Path::new("/work/seed.img")),
            credentials: &[],
            transfer: Some(Path::new("/work/transfer.img")),
            exits_with_parent: false,
            incoming: false,
            alone: false,
            traffic: Some(Path::new("/work/traffic, with a comma.pcap")),
            extra: &[],
        }
    }

    /// One option a line, as people write it.
    fn shown(hardware: &Hardware<'_>) -> String {
        arguments(hardware).join("\n").replace("\n-", "\n\n-")
    }

    #[test]
    fn bios_with_tcg() {
        insta::assert_snapshot!(shown(&small()));
    }

    #[test]
    fn uefi_with_kvm() {
        let uefi = Some(Uefi { code: Path::new("/firmware/code.fd"), variables: Path::new("/work/variables.fd") });
        let extra = ["-device".to_owned(), "virtio-gpu-pci".to_owned()];
        let credentials = [PathBuf::from("/work/a, b/credential-0")];
        let hardware = Hardware {
            credentials: &credentials,
            transfer: None,
            accelerator: Accelerator::Kvm(KvmCpu::Host),
            uefi,
            seed: None,
            exits_with_parent: true,
            extra: &extra,
            ..small()
        };
        insta::assert_snapshot!(shown(&hardware));
    }
}
