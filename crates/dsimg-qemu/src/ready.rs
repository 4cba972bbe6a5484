//! Is this host ready for the plan? Looked at before anything is made, and everything missing is named at once.

use std::path::Path;
use std::time::Duration;

use dsimg_machine::{HostFacts, MachineError, RunContext};
use dsimg_template::template::{Firmware, QemuTable};
use dsimg_template::units::ByteSize;

use crate::accelerator::Accelerator;
use crate::disk::QemuImg;
use crate::firmware::find_uefi;
use crate::probe::Host;
use crate::process::Tool;

/// Debian 12's; what dsimg is tested with begins there.
const OLDEST: Version = Version { major: 7, minor: 2 };
/// The first that may know `-run-with exit-with-parent=on`; its help says whether it does.
const FIRST_WITH_EXIT: Version = Version { major: 10, minor: 1 };
/// The first with `mapped-ram` migration.
const FIRST_WITH_MAPPED_RAM: Version = Version { major: 9, minor: 0 };
/// QEMU's own needs beside the guest's memory, in bytes.
pub const MEMORY_BESIDE_THE_GUESTS: u64 = 256 << 20;
/// No build fits into less.
pub(crate) const LEAST_ROOM: u64 = 3 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// From `QEMU emulator version 10.0.2 (…)` or `qemu-img version 10.0.2 (…)`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let number = line.split_once("version ")?.1.split_whitespace().next()?;
        let mut parts = number.split('.').map(|part| part.parse().ok());
        Some(Self { major: parts.next()??, minor: parts.next()?? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the programs say of themselves.
#[derive(Debug, Clone)]
pub(crate) struct Versions {
    qemu_line: String,
    pub(crate) exits_with_parent: bool,
    /// Whether this QEMU writes memory to a file with `mapped-ram`.
    pub(crate) saves_memory: bool,
}

impl Versions {
    /// As QEMU says it, with the distribution's own version: memory states belong to exactly this one.
    pub(crate) fn line(&self) -> &str {
        &self.qemu_line
    }

    /// `10.0.2`
    fn number(&self) -> &str {
        let after = self.qemu_line.split_once("version ").map_or("", |(_, after)| after);
        after.split_whitespace().next().unwrap_or_default()
    }

    pub(crate) fn host(&self) -> Host {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Host { qemu: self.qemu_line.clone(), kernel: read("/proc/version"), machine_id: read("/etc/machine-id") }
    }
}

/// Asks both programs for their versions.
///
/// # Errors
/// One is missing or too old; the error names all that is wrong with them.
pub(crate) async fn versions(qemu: &Path, qemu_img: &Path, run: &RunContext) -> Result<Versions, MachineError> {
    let emulator = ask(qemu, "--version", run).await;
    let tools = QemuImg::new(qemu_img).version_line(run).await;
    let (emulator, tools) = match (emulator, tools) {
        (Ok(emulator), Ok(tools)) => (emulator, tools),
        (Err(MachineError::HostNotReady { what, .. }), Err(MachineError::HostNotReady { what: and, .. })) => {
            let hint = "install both (Debian, Ubuntu: `apt-get install qemu-system-x86 qemu-utils`); \
                        `dsimg doctor` names all that is missing";
            return Err(MachineError::host(format!("{what}, and {and}"), hint));
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let emulator_line = emulator.lines().next().unwrap_or_default().to_owned();
    let version = check_version("qemu-system-x86_64", &emulator_line)?;
    check_version("qemu-img", &tools)?;
    let exits_with_parent =
        version >= FIRST_WITH_EXIT && ask(qemu, "-help", run).await.is_ok_and(|help| help.contains("exit-with-parent"));
    Ok(Versions { qemu_line: emulator_line, exits_with_parent, saves_memory: version >= FIRST_WITH_MAPPED_RAM })
}

pub(crate) async fn ask(qemu: &Path, question: &str, run: &RunContext) -> Result<String, MachineError> {
    let tool = Tool::new(qemu, "qemu-system-x86", format!("ask QEMU for its `{question}`")).arg(question);
    let answer = tool.limit(Duration::from_secs(30)).run(run).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub(crate) fn check_version(program: &str, line: &str) -> Result<Version, MachineError> {
    let Version { major, minor } = OLDEST;
    match Version::parse(line) {
        Some(version) if version >= OLDEST => Ok(version),
        Some(old) => Err(MachineError::host(
            format!("`{program}` is version {}.{}, and dsimg needs {major}.{minor} or newer", old.major, old.minor),
            "Debian 12 and Ubuntu 24.04 have new enough ones",
        )),
        None => Err(MachineError::host(
            format!("`{program} --version` does not say a version: \"{line}\""),
            "is it QEMU's? `dsimg doctor` looks at what dsimg needs",
        )),
    }
}

/// Firmware, memory and room on the disk.
///
/// # Errors
/// What is missing first.
pub(crate) fn check_host(table: &QemuTable, versions: &Versions, run: &RunContext) -> Result<(), MachineError> {
    run.debug(format!("found {}", versions.qemu_line));
    if table.firmware == Firmware::Uefi {
        find_uefi()?;
    }
    check_memory(table.memory, available_memory())?;
    for (folder, what) in [(&run.cache, "cache"), (&run.work, "work")] {
        check_room(folder, what, free_bytes(folder))?;
    }
    Ok(())
}

fn check_memory(wanted: ByteSize, available: Option<u64>) -> Result<(), MachineError> {
    let Some(available) = available else { return Ok(()) };
    if available >= wanted.0 + MEMORY_BESIDE_THE_GUESTS {
        return Ok(());
    }
    Err(MachineError::host(
        format!("the machine shall have {wanted} of memory, and this host has {} to give", ByteSize(available)),
        "set a smaller `memory` for this builder, or end other programs",
    ))
}

/// `MemAvailable` of `/proc/meminfo` (proc(5)), in bytes.
pub(crate) fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}

fn check_room(folder: &Path, what: &str, free: Option<u64>) -> Result<(), MachineError> {
    match free {
        Some(free) if free < LEAST_ROOM => Err(MachineError::host(
            format!(
                "there is no room for a build: {} free on the disk of the {what} folder {}, and the smallest needs {}",
                ByteSize(free),
                folder.display(),
                ByteSize(LEAST_ROOM)
            ),
            "free some space, or put the folder on another disk",
        )),
        _ => Ok(()),
    }
}

/// What a user without special rights may still write where the folder is, or will be.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|folder| folder.exists())?;
    let status = rustix::fs::statvfs(existing).ok()?;
    Some(status.f_bavail * status.f_frsize)
}

pub(crate) fn host_facts(versions: &Versions, accelerator: Accelerator) -> HostFacts {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    HostFacts {
        hypervisor: format!("qemu {}", versions.number()),
        accelerator: accelerator.as_str().to_owned(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        os: os_name(&std::fs::read_to_string("/etc/os-release").unwrap_or_default()),
    }
}

/// `PRETTY_NAME` of `/etc/os-release` (os-release(5)).
fn os_name(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRun;

    #[test]
    fn versions_are_read_and_compared() {
        let line = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1)";
        assert_eq!(Version::parse(line), Some(Version { major: 10, minor: 0 }));
        assert_eq!(Version::parse("qemu-img version 7.2.17"), Some(OLDEST));
        assert_eq!(Version::parse("QEMU emulator version 11.1"), Some(Version { major: 11, minor: 1 }));
        assert_eq!(Version::parse("hello"), None);
        assert!(check_version("qemu-img", line).is_ok());
        let old = check_version("qemu-img", "qemu-img version 6.2.0").unwrap_err();
        assert!(old.to_string().contains("`qemu-img` is version 6.2"));
        let versions = Versions { qemu_line: line.to_owned(), exits_with_parent: false, saves_memory: true };
        assert_eq!(host_facts(&versions, Accelerator::Tcg).hypervisor, "qemu 10.0.2");
    }

    #[tokio::test]
    async fn both_missing_programs_are_named_at_once() {
        let run = TestRun::new();
        let missing = run.context.work.join("no-qemu");
        let error = versions(&missing, &run.context.work.join("no-img"), &run.context).await.unwrap_err();
        assert!(error.to_string().contains("no-qemu` is not installed, and"), "{error}");
        assert!(error.to_string().contains("no-img` is not installed"), "{error}");
        assert!(error.hint().unwrap().contains("qemu-system-x86 qemu-utils"));
    }

    #[test]
    fn too_little_memory_or_room_is_told_with_numbers() {
        assert!(check_memory(ByteSize(2 << 30), Some(4 << 30)).is_ok());
        assert!(check_memory(ByteSize(2 << 30), None).is_ok());
        let error = check_memory(ByteSize(4 << 30), Some(4 << 30)).unwrap_err();
        assert_eq!(error.to_string(), "the machine shall have 4GiB of memory, and this host has 4GiB to give");
        let error = check_room(Path::new("/cache"), "cache", Some(1 << 30)).unwrap_err();
        assert!(error.to_string().contains("1GiB free on the disk of the cache folder /cache"), "{error}");
        assert!(check_room(Path::new("/cache"), "cache", Some(LEAST_ROOM)).is_ok());
    }

    #[test]
    fn this_host_has_memory_and_room() {
        assert!(available_memory().unwrap() > 0);
        assert!(free_bytes(Path::new("/nonexistent/below/root")).unwrap() > 0);
    }

    #[test]
    fn the_systems_name_is_read() {
        assert_eq!(
            os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"),
            "Debian GNU/Linux 13 (trixie)"
        );
        assert_eq!(os_name(""), "Linux");
    }
}
