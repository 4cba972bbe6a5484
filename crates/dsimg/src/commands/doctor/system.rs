//! Which system this host runs, and how it installs packages.

/// The system, and what is known of how it installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    /// As it calls itself.
    pub name: String,
    family: Family,
    codename: Option<String>,
    is_root: bool,
    /// One of QEMU's packages comes from the backports, so all of them must.
    backports: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Debian,
    Fedora,
    Arch,
    Suse,
    Nix,
    OtherLinux,
    MacOs,
    Other,
}

/// By Debian's name, the names in Fedora, Arch Linux, openSUSE and nixpkgs; empty where it has none.
const NAMES: [(&str, [&str; 4]); 8] = [
    ("qemu-system-x86", ["qemu-system-x86-core", "qemu-system-x86", "qemu-x86", "qemu"]),
    ("qemu-utils", ["qemu-img", "qemu-img", "qemu-img", "qemu"]),
    ("ovmf", ["edk2-ovmf", "edk2-ovmf", "qemu-ovmf-x86_64", "OVMF"]),
    ("mmdebstrap", ["mmdebstrap", "", "", "mmdebstrap"]),
    ("debian-archive-keyring", ["debian-keyring", "debian-archive-keyring", "", "debian-archive-keyring"]),
    ("ubuntu-keyring", ["ubu-keyring", "ubuntu-keyring", "", ""]),
    ("uidmap", ["shadow-utils", "shadow", "shadow", "shadow"]),
    ("util-linux", ["util-linux", "util-linux", "util-linux", "util-linux"]),
];

impl System {
    /// `os` is `linux`, `macos` and so on; `release` the text of os-release(5).
    pub(super) fn new(os: &str, release: &str, is_root: bool, backports: bool) -> Self {
        let family = match os {
            "linux" => family_of(release),
            "macos" => Family::MacOs,
            _ => Family::Other,
        };
        let name = field(release, "PRETTY_NAME").unwrap_or_else(|| os.to_owned());
        Self { name, family, codename: field(release, "VERSION_CODENAME"), is_root, backports }
    }

    /// What to do to get these packages, which are called by Debian's names.
    pub(super) fn advice(&self, packages: &[&str]) -> String {
        let sudo = if self.is_root { "" } else { "sudo " };
        let (known, unknown) = self.translate(packages);
        let known = known.join(" ");
        let mut advice = match self.family {
            Family::Debian => self.apt(packages),
            Family::Fedora => format!("Install what is not there:\n  {sudo}dnf install {known}"),
            Family::Arch => format!("Install what is not there:\n  {sudo}pacman -S --needed {known}"),
            Family::Suse => format!("Install what is not there:\n  {sudo}zypper install {known}"),
            Family::Nix => format!(
                "Have what is not there in a shell:\n  nix-shell -p {known}\n\
                 or add it to `environment.systemPackages`"
            ),
            Family::OtherLinux | Family::Other => {
                format!("Install what is not there. Debian calls the packages: {}", packages.join(" "))
            }
            Family::MacOs => {
                "dsimg builds on Linux. On a Mac, run it in a Linux machine (Lima, UTM, Parallels)".to_owned()
            }
        };
        if !unknown.is_empty() {
            advice.push_str(&format!(
                "\nThis system has no packages of {}. With a disk image as `base.image` builds work without; \
                 or put them in from their sources, or build in a Debian container",
                unknown.join(", ")
            ));
        }
        advice
    }

    /// The names that this system has, and Debian's of those that it has not.
    fn translate<'a>(&self, packages: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
        let column = match self.family {
            Family::Fedora => 0,
            Family::Arch => 1,
            Family::Suse => 2,
            Family::Nix => 3,
            _ => return (packages.to_vec(), Vec::new()),
        };
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for package in packages {
            let names = NAMES.iter().find(|(debian, _)| debian == package).map(|(_, names)| names[column]);
            match names {
                Some(name) if !name.is_empty() && !known.contains(&name) => known.push(name),
                Some(name) if !name.is_empty() => {}
                _ => unknown.push(*package),
            }
        }
        (known, unknown)
    }

    /// Packages of QEMU that come from the backports fit only each other.
    fn apt(&self, packages: &[&str]) -> String {
        let sudo = if self.is_root { "" } else { "sudo " };
        let install = |options: &str, packages: &[&str]| {
            format!("\n  {sudo}apt-get install --no-install-recommends {options}{}", packages.join(" "))
        };
        let mut text = format!("Install what is not there:\n  {sudo}apt-get update");
        let (qemu, others): (Vec<&str>, Vec<&str>) = packages.iter().partition(|package| package.starts_with("qemu-"));
        match (&self.codename, self.backports && !qemu.is_empty()) {
            (Some(codename), true) => {
                text.push_str(&install(&format!("-t {codename}-backports "), &qemu));
                if !others.is_empty() {
                    text.push_str(&install("", &others));
                }
                text.push_str("\nQEMU's other packages on this host are from the backports, so these must be, too.");
            }
            _ => text.push_str(&install("", packages)),
        }
        text
    }
}

/// By `ID`, and by `ID_LIKE` for the many that derive.
fn family_of(release: &str) -> Family {
    let ids = [field(release, "ID"), field(release, "ID_LIKE")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let known = ids.split_whitespace().find_map(|id| match id {
        "debian" | "ubuntu" => Some(Family::Debian),
        "fedora" | "rhel" | "centos" => Some(Family::Fedora),
        "arch" => Some(Family::Arch),
        "suse" | "opensuse" => Some(Family::Suse),
        id if id.starts_with("opensuse") => Some(Family::Suse),
        "nixos" => Some(Family::Nix),
        _ => None,
    });
    known.unwrap_or(Family::OtherLinux)
}

fn field(release: &str, name: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
}

/// Whether dpkg's status file has a package of QEMU whose version is one of the backports (`~bpo`).
pub(super) fn has_backported_qemu(status: &str) -> bool {
    status.split("\n\n").any(|paragraph| {
        let has = |start: &str, sign: &str| {
            paragraph.lines().any(|line| line.strip_prefix(start).is_some_and(|value| value.contains(sign)))
        };
        paragraph.contains("Package: qemu-") && has("Status:", " installed") && has("Version:", "~bpo")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-utils", "mmdebstrap", "debian-archive-keyring"];

    fn advice(release: &str) -> String {
        System::new("linux", release, false, false).advice(&PACKAGES)
    }

    #[test]
    fn each_system_installs_in_its_own_way() {
        let debian = advice("ID=debian\nVERSION_CODENAME=trixie\n");
        assert!(debian.contains("sudo apt-get install --no-install-recommends qemu-system-x86 qemu-utils mmdebstrap"));
        assert!(advice("ID=linuxmint\nID_LIKE=\"ubuntu debian\"").contains("apt-get install"));
        assert!(advice("ID=fedora").contains("dnf install qemu-system-x86-core qemu-img mmdebstrap debian-keyring"));
        assert!(advice("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"").contains("dnf install"));
        let arch = advice("ID=arch");
        assert!(arch.contains("pacman -S --needed qemu-system-x86 qemu-img debian-archive-keyring"));
        assert!(arch.contains("no packages of mmdebstrap"));
        assert!(
            advice("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"").contains("zypper install qemu-x86 qemu-img\n")
        );
        assert!(advice("ID=nixos").contains("nix-shell -p qemu mmdebstrap debian-archive-keyring\n"));
        assert!(advice("ID=void").contains("Debian calls the packages: qemu-system-x86"));
        assert!(System::new("macos", "", false, false).advice(&PACKAGES).contains("builds on Linux"));
    }

    #[test]
    fn backports_stay_together() {
        let status = "Package: qemu-utils\nStatus: install ok installed\nVersion: 1:10.0.2+ds-1~bpo12+1\n\n\
                      Package: bash\nStatus: install ok installed\nVersion: 5\n";
        assert!(has_backported_qemu(status));
        assert!(!has_backported_qemu(&status.replace("~bpo12+1", "")));
        assert!(!has_backported_qemu(&status.replace("ok installed\nVersion: 1:10", "ok config-files\nVersion: 1:10")));
        let system = System::new("linux", "ID=debian\nVERSION_CODENAME=bookworm\n", true, true);
        let advice = system.advice(&["qemu-system-x86", "mmdebstrap"]);
        assert!(advice.contains("\n  apt-get install --no-install-recommends -t bookworm-backports qemu-system-x86\n"));
        assert!(advice.contains("\n  apt-get install --no-install-recommends mmdebstrap\n"));
        assert!(!system.advice(&["mmdebstrap"]).contains("backports"));
    }
}
