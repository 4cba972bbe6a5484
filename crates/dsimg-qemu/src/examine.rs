//! What this host offers to builds, each part by itself: what `dsimg doctor` shows. Nothing is made.

use std::path::Path;
use std::time::Duration;

use rustix::process::geteuid;

use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::Distro;
use dsimg_template::units::ByteSize;

use crate::base::bootstrap_needs::{is_program, keyring, keyring_package};
use crate::builder::QemuBuilder;
use crate::disk::QemuImg;
use crate::firmware::find_uefi;
use crate::probe::{Kvm, kvm};
use crate::process::Tool;
use crate::ready::{self, LEAST_ROOM, Version, available_memory, check_version, free_bytes};

/// A build of a large template fills the cache with this much.
const GOOD_ROOM: u64 = 20 << 30;
/// The default `memory` of a machine, and QEMU's own needs.
const GOOD_MEMORY: u64 = (2 << 30) + (256 << 20);

/// One thing that builds may need, and whether this host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `qemu-img`, `KVM`
    pub what: &'static str,
    /// The templates that are shipped can't be built without it.
    pub needed: bool,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// What is there.
    Good(String),
    /// It is there, and may not do.
    Doubtful { why: String, hint: Option<String> },
    /// `package` is Debian's name of what brings it.
    Missing { why: String, package: Option<&'static str>, hint: Option<String> },
}

impl State {
    fn missing(why: impl Into<String>, package: &'static str) -> Self {
        Self::Missing { why: why.into(), package: Some(package), hint: None }
    }
}

impl QemuBuilder {
    /// Looks at everything that builds need on this host.
    pub async fn examine(&self, run: &RunContext) -> Vec<Finding> {
        let needed = |what, state| Finding { what, needed: true, state };
        let useful = |what, state| Finding { what, needed: false, state };
        let (emulator, emulator_version) = self.examine_emulator(run).await;
        vec![
            needed("qemu-system-x86_64", emulator),
            needed("qemu-img", self.examine_image_tool(emulator_version, run).await),
            useful("KVM", self.examine_kvm(run).await),
            useful("UEFI firmware", examine_firmware()),
            needed("mmdebstrap", examine_mmdebstrap()),
            needed("Debian's archive keys", examine_keys(Distro::Debian)),
            useful("Ubuntu's archive keys", examine_keys(Distro::Ubuntu)),
            needed("user ids for namespaces", examine_user_ids()),
            needed("user namespaces", examine_namespaces(run).await),
            needed("memory", examine_memory(available_memory())),
            needed("room in the cache", examine_room(&run.cache, free_bytes(&run.cache))),
        ]
    }

    async fn examine_emulator(&self, run: &RunContext) -> (State, Option<Version>) {
        let line = ready::ask(self.program(), "--version", run).await;
        let line = line.map(|text| text.lines().next().unwrap_or_default().to_owned());
        match line.and_then(|line| check_version("qemu-system-x86_64", &line)) {
            Ok(version) => (State::Good(format!("version {version}")), Some(version)),
            Err(error) => (lack(&error, "qemu-system-x86"), None),
        }
    }

    async fn examine_image_tool(&self, emulator: Option<Version>, run: &RunContext) -> State {
        let line = QemuImg::new(self.image_program()).version_line(run).await;
        match line.and_then(|line| check_version("qemu-img", &line)) {
            Ok(version) if emulator.is_some_and(|emulator| emulator != version) => State::Doubtful {
                why: format!("version {version}, and `qemu-system-x86_64` is of another"),
                hint: Some("install both from the same suite: from the backports, or neither".to_owned()),
            },
            Ok(version) => State::Good(format!("version {version}")),
            Err(error) => lack(&error, "qemu-utils"),
        }
    }

    async fn examine_kvm(&self, run: &RunContext) -> State {
        let without = "builds work without it, about ten times slower";
        let Ok(versions) = ready::versions(self.program(), self.image_program(), run).await else {
            return State::Doubtful { why: "not looked at, for want of QEMU".to_owned(), hint: None };
        };
        match kvm(self.program(), &versions.host(), run).await {
            Ok(Kvm::Works(_)) => State::Good("works: a test machine ran on it".to_owned()),
            Ok(Kvm::Broken { reason, hint }) => State::Doubtful {
                why: format!("does not work: {reason}"),
                hint: Some(hint.map_or_else(|| without.to_owned(), |hint| format!("{hint}; {without}"))),
            },
            Err(error) => State::Doubtful { why: error.to_string(), hint: Some(without.to_owned()) },
        }
    }
}

fn lack(error: &MachineError, package: &'static str) -> State {
    State::missing(error.to_string(), package)
}

fn examine_firmware() -> State {
    match find_uefi() {
        Ok(found) => State::Good(found.code.display().to_string()),
        Err(_) => State::missing("not there; only for `firmware = \"uefi\"`", "ovmf"),
    }
}

fn examine_mmdebstrap() -> State {
    if is_program("mmdebstrap") {
        return State::Good("installed".to_owned());
    }
    State::Missing {
        why: "not installed; `base.bootstrap` is made with it".to_owned(),
        package: Some("mmdebstrap"),
        hint: Some("a disk image as `base.image` works without it".to_owned()),
    }
}

fn examine_keys(distro: Distro) -> State {
    let path = keyring(distro);
    if Path::new(path).exists() {
        return State::Good(path.to_owned());
    }
    State::missing(format!("not there ({path}); packages are checked against them"), keyring_package(distro))
}

/// mmdebstrap needs a range of user ids, unless root runs it.
fn examine_user_ids() -> State {
    if geteuid().is_root() {
        return State::Good("not needed by root".to_owned());
    }
    if !is_program("newuidmap") {
        return State::missing("`newuidmap` is not installed", "uidmap");
    }
    let id = geteuid().as_raw();
    let table = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let names = names_of(id, &table("/etc/passwd"));
    if has_range(&names, &table("/etc/subuid")) && has_range(&names, &table("/etc/subgid")) {
        return State::Good("`newuidmap`, with a range of ids for this user".to_owned());
    }
    let name = names.first().map_or_else(|| id.to_string(), Clone::clone);
    State::Missing {
        why: format!("`{name}` has no range of ids in /etc/subuid and /etc/subgid"),
        package: None,
        hint: Some(format!("`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}`")),
    }
}

/// The user's name and number: subuid(5) takes either.
fn names_of(id: u32, passwd: &str) -> Vec<String> {
    let number = id.to_string();
    let entry = passwd.lines().find(|line| line.split(':').nth(2) == Some(&number));
    entry.and_then(|line| line.split(':').next()).map(str::to_owned).into_iter().chain([number.clone()]).collect()
}

fn has_range(names: &[String], table: &str) -> bool {
    table.lines().any(|line| line.split_once(':').is_some_and(|(name, _)| names.iter().any(|known| known == name)))
}

/// Tried out: what forbids them is in many places, and not all of them can be read.
async fn examine_namespaces(run: &RunContext) -> State {
    // On Ubuntu only programs with a profile may: mmdebstrap has one, and `unshare` has none.
    if reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")
        && Path::new("/etc/apparmor.d/mmdebstrap").exists()
    {
        return State::Good("allowed for mmdebstrap by AppArmor".to_owned());
    }
    let tool = Tool::new("unshare", "util-linux", "make a user namespace");
    match tool.args(["--user", "--map-root-user", "--mount", "true"]).limit(Duration::from_secs(10)).run(run).await {
        Ok(_) => State::Good("allowed".to_owned()),
        Err(error @ MachineError::HostNotReady { .. }) => lack(&error, "util-linux"),
        Err(error) => State::Missing { why: error.to_string(), package: None, hint: Some(why_no_namespaces()) },
    }
}

fn why_no_namespaces() -> String {
    let hint = if reads("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "`sudo sysctl kernel.unprivileged_userns_clone=1` allows them"
    } else if reads("/proc/sys/user/max_user_namespaces", "0") {
        "`sudo sysctl user.max_user_namespaces=15000` allows them"
    } else if reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them"
    } else {
        "in a container they need more rights; a disk image as `base.image` works without them"
    };
    hint.to_owned()
}

fn reads(path: &str, value: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

fn examine_memory(available: Option<u64>) -> State {
    match available {
        None => State::Doubtful { why: "not known on this system".to_owned(), hint: None },
        Some(available) if available < GOOD_MEMORY => State::Doubtful {
            why: format!("{} to give, and a machine of the default size needs {}", size(available), size(GOOD_MEMORY)),
            hint: Some("set a smaller `memory` for the builder, or end other programs".to_owned()),
        },
        Some(available) => State::Good(format!("{} to give", size(available))),
    }
}

fn examine_room(folder: &Path, free: Option<u64>) -> State {
    let hint = || Some("set `DSIMG_CACHE_DIR` to a folder on a larger disk".to_owned());
    let place = folder.display();
    match free {
        None => State::Doubtful { why: format!("not known for {place}"), hint: None },
        Some(free) if free < LEAST_ROOM => State::Missing {
            why: format!("{} in {place}, and the smallest build needs {}", size(free), size(LEAST_ROOM)),
            package: None,
            hint: hint(),
        },
        Some(free) if free < GOOD_ROOM => {
            State::Doubtful { why: format!("{} in {place}, and large images need more", size(free)), hint: hint() }
        }
        Some(free) => State::Good(format!("{} in {place}", size(free))),
    }
}

fn size(bytes: u64) -> ByteSize {
    ByteSize(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRun;

    fn find<'a>(findings: &'a [Finding], what: &str) -> &'a State {
        &findings.iter().find(|finding| finding.what == what).unwrap().state
    }

    #[tokio::test]
    async fn missing_programs_are_named_with_their_packages() {
        let run = TestRun::new();
        let missing = run.context.work.join("none");
        let findings = QemuBuilder::new("").with_programs(&missing, &missing).examine(&run.context).await;
        for (what, expected) in [("qemu-system-x86_64", "qemu-system-x86"), ("qemu-img", "qemu-utils")] {
            assert!(
                matches!(find(&findings, what), State::Missing { package: Some(package), .. } if *package == expected),
                "{findings:?}"
            );
        }
        assert!(matches!(find(&findings, "KVM"), State::Doubtful { .. }), "KVM is not probed without QEMU");
        assert!(findings.iter().filter(|finding| finding.needed).count() > 5);
    }

    #[tokio::test]
    async fn programs_of_two_versions_are_doubtful() {
        let run = TestRun::new();
        let script = run.script("echo 'qemu-img version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u16)'");
        let builder = QemuBuilder::new("").with_programs("/none", script);
        let other = Version::parse("QEMU emulator version 10.0.2").unwrap();
        let state = builder.examine_image_tool(Some(other), &run.context).await;
        assert!(matches!(&state, State::Doubtful { why, .. } if why.starts_with("version 7.2, and")), "{state:?}");
        assert_eq!(builder.examine_image_tool(None, &run.context).await, State::Good("version 7.2".to_owned()));
    }

    #[test]
    fn a_user_is_known_by_name_or_number() {
        let names = names_of(1000, "root:x:0:0:::\nada:x:1000:1000::/home/ada:/bin/bash\n");
        assert_eq!(names, ["ada", "1000"]);
        assert_eq!(names_of(7, ""), ["7"]);
        assert!(has_range(&names, "bob:100000:65536\nada:165536:65536\n"));
        assert!(has_range(&names, "1000:100000:65536\n"));
        assert!(!has_range(&names, "adam:100000:65536\n"));
    }

    #[test]
    fn room_and_memory_are_judged() {
        let room = |free| examine_room(Path::new("/cache"), free);
        assert!(matches!(room(Some(1 << 30)), State::Missing { .. }));
        assert!(matches!(room(Some(10 << 30)), State::Doubtful { .. }));
        assert_eq!(room(Some(64 << 30)), State::Good("64GiB in /cache".to_owned()));
        assert!(matches!(examine_memory(Some(1 << 30)), State::Doubtful { .. }));
        assert_eq!(examine_memory(Some(16 << 30)), State::Good("16GiB to give".to_owned()));
    }
}
