//! What a base is made of, as a value: the same recipe, the same key, the same base in the cache.

use serde::{Deserialize, Serialize};

use dsimg_machine::MachineError;
use dsimg_plan::Digest;
use dsimg_template::template::{Bootstrap, Distro};

use super::suites::{Suite, distro_key};
use super::tree;

/// Raised when a base is made in another way than before; the scripts take part by themselves.
const VERSION: u32 = 2;

/// In every base of either distribution.
const COMMON_PACKAGES: [&str; 27] = [
    // Boots, has a network and the right time, lets people in.
    "systemd-sysv",
    "systemd-timesyncd",
    "libnss-resolve",
    "libpam-systemd",
    "dbus",
    "udev",
    "initramfs-tools",
    "zstd",
    "openssh-server",
    "sudo",
    // Becomes what its home says it is, and as large as its disk.
    "cloud-init",
    "cloud-guest-utils",
    "fdisk",
    "e2fsprogs",
    // What whoever logs in reaches for.
    "bash-completion",
    "ca-certificates",
    "curl",
    "iproute2",
    "iputils-ping",
    "less",
    "lsb-release",
    "nano",
    "netbase",
    "procps",
    "tzdata",
    "vim-tiny",
    "locales",
];

/// The kernel of the cloud flavour has all drivers of the homes an image may have, and few others.
const DEBIAN_PACKAGES: [&str; 3] = ["linux-image-cloud-amd64", "grub-cloud-amd64", "systemd-resolved"];
const UBUNTU_PACKAGES: [&str; 6] =
    ["linux-image-virtual", "grub-pc", "grub-efi-amd64-bin", "grub-efi-amd64-signed", "shim-signed", "netplan.io"];

/// All that decides what is in the base, but for the day it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recipe {
    version: u32,
    scripts: Digest,
    pub(super) distro: Distro,
    pub(super) suite: String,
    pub(super) arch: String,
    /// Used for the making, and kept in the image's sources; the distribution's own when absent.
    pub(super) mirror: Option<String>,
    pub(super) components: Vec<String>,
    /// Sorted, each once.
    pub(super) packages: Vec<String>,
}

impl Recipe {
    /// # Errors
    /// The template asks for something that no base can have.
    pub(super) fn new(bootstrap: &Bootstrap, suite: &Suite) -> Result<Self, MachineError> {
        if bootstrap.arch != "amd64" {
            let what = format!("cannot make a base for `{}`", bootstrap.arch);
            return Err(MachineError::refused(
                what,
                "the architecture is `amd64`; for another, give a disk image as `base.image`",
            ));
        }
        let mirror = bootstrap.mirror.as_deref().map(checked_mirror).transpose()?;
        let mut components = bootstrap.components.clone();
        if components.is_empty() {
            let usual: &[&str] = match suite.distro {
                Distro::Debian => &["main"],
                Distro::Ubuntu => &["main", "universe"],
            };
            components = usual.iter().map(|&name| name.to_owned()).collect();
        }
        check_words("component", &components, |c| c == '-' || c == '/')?;
        check_words("package", &bootstrap.packages, |c| "+-.:=~/".contains(c))?;
        Ok(Self {
            version: VERSION,
            scripts: tree::scripts_digest(),
            distro: suite.distro,
            suite: suite.name.to_owned(),
            arch: bootstrap.arch.clone(),
            mirror,
            components,
            packages: all_packages(suite, &bootstrap.packages),
        })
    }

    pub(super) fn distro_key(&self) -> &'static str {
        distro_key(self.distro)
    }

    pub(super) fn key(&self) -> Digest {
        Digest::of_value(self)
    }

    /// The login that cloud-init sets up where it is told nothing else.
    pub(super) fn user(&self) -> &'static str {
        match self.distro {
            Distro::Debian => "debian",
            Distro::Ubuntu => "ubuntu",
        }
    }

    pub(super) fn ids(&self) -> DiskIds {
        DiskIds::of(&self.key())
    }
}

fn all_packages(suite: &Suite, wanted: &[String]) -> Vec<String> {
    let own: &[&str] = match suite.distro {
        Distro::Debian => &DEBIAN_PACKAGES,
        Distro::Ubuntu => &UBUNTU_PACKAGES,
    };
    // A part of the package systemd there.
    let resolver = (suite.distro == Distro::Ubuntu && suite.name != "jammy").then_some("systemd-resolved");
    let mut packages: Vec<String> =
        COMMON_PACKAGES.iter().chain(own).copied().chain(resolver).map(str::to_owned).collect();
    packages.extend(wanted.iter().cloned());
    packages.sort();
    packages.dedup();
    packages
}

fn checked_mirror(mirror: &str) -> Result<String, MachineError> {
    let refused = |why: &str, hint: &str| Err(MachineError::refused(format!("the mirror `{mirror}` {why}"), hint));
    let Some(rest) = mirror.strip_prefix("http://").or_else(|| mirror.strip_prefix("https://")) else {
        return refused("is not an http or https URL", "write it as `mirror = \"https://mirror.example.org/debian\"`");
    };
    if rest.is_empty() || mirror.contains(|c: char| c.is_whitespace() || c.is_control() || "[]#\"'".contains(c)) {
        return refused("has characters that apt's sources can't hold", "write it as apt's sources do");
    }
    if rest.split('/').next().unwrap_or_default().contains('@') {
        // Not in the message: it would show the password.
        return Err(MachineError::refused(
            "the mirror's URL holds a login, which would stay in the image's apt sources",
            "give the mirror without the login here, and for the build alone as `apt` under `[network]`",
        ));
    }
    Ok(mirror.trim_end_matches('/').to_owned())
}

fn check_words(what: &str, words: &[String], also: impl Fn(char) -> bool) -> Result<(), MachineError> {
    let good = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphanumeric())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || also(c))
    };
    match words.iter().find(|word| !good(word)) {
        Some(word) => {
            let hint = format!("write each {what} by its name, as `apt-get` takes it");
            Err(MachineError::refused(format!("`{word}` is not the name of a {what}"), hint))
        }
        None => Ok(()),
    }
}

/// The disk's identifiers. They follow from the recipe, as one base's are in all its copies anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiskIds {
    pub(super) disk: Guid,
    /// BIOS boot, ESP, root.
    pub(super) partitions: [Guid; 3],
    /// Of the root file system.
    pub(super) root: Guid,
    /// Of the ESP's file system.
    pub(super) esp: u32,
}

impl DiskIds {
    fn of(key: &Digest) -> Self {
        let guid = |name: &str| Guid::derived(key, name);
        let [a, b, c, d, ..] = guid("esp file system").0;
        Self {
            disk: guid("disk"),
            partitions: ["bios", "esp", "root"].map(guid),
            root: guid("root file system"),
            esp: u32::from_be_bytes([a, b, c, d]),
        }
    }

    /// As fstab names it: `1A2B-3C4D`.
    pub(super) fn esp_text(&self) -> String {
        format!("{:04X}-{:04X}", self.esp >> 16, self.esp & 0xffff)
    }
}

/// A UUID, in the order in which it is written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guid(pub(super) [u8; 16]);

impl Guid {
    /// A UUID of version 8, the one for values of one's own making.
    fn derived(key: &Digest, name: &str) -> Self {
        let digest = Digest::of_bytes(format!("{key} {name}").as_bytes());
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(digest.as_str().as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl std::fmt::Display for Guid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::civil::date;

    use super::super::suites;
    use super::*;

    pub(in super::super) fn bootstrap(distro: Distro, suite: &str) -> Bootstrap {
        Bootstrap {
            distro,
            suite: suite.to_owned(),
            arch: "amd64".to_owned(),
            mirror: None,
            components: Vec::new(),
            packages: Vec::new(),
        }
    }

    pub(in super::super) fn recipe(bootstrap: &Bootstrap) -> Result<Recipe, MachineError> {
        Recipe::new(bootstrap, suites::find(bootstrap.distro, &bootstrap.suite, date(2026, 11, 21))?)
    }

    fn trixie() -> Bootstrap {
        bootstrap(Distro::Debian, "trixie")
    }

    #[test]
    fn whatever_is_in_the_recipe_is_in_the_key() {
        let plain = recipe(&trixie()).unwrap();
        assert_eq!(plain.key(), recipe(&trixie()).unwrap().key());
        let others = [
            bootstrap(Distro::Debian, "bookworm"),
            Bootstrap { mirror: Some("https://mirror.example.org/debian".to_owned()), ..trixie() },
            Bootstrap { components: vec!["main".to_owned(), "contrib".to_owned()], ..trixie() },
            Bootstrap { packages: vec!["git".to_owned()], ..trixie() },
        ];
        for other in others {
            assert_ne!(recipe(&other).unwrap().key(), plain.key(), "{other:?}");
        }
    }

    #[test]
    fn the_order_of_packages_does_not_matter_nor_one_that_is_there_anyway() {
        let with = |packages: &[&str]| {
            let packages = packages.iter().map(|&name| name.to_owned()).collect();
            recipe(&Bootstrap { packages, ..trixie() }).unwrap().key()
        };
        assert_eq!(with(&["git", "tmux"]), with(&["tmux", "git", "curl"]));
    }

    #[test]
    fn a_slash_at_the_mirrors_end_does_not_matter() {
        let with = |mirror: &str| recipe(&Bootstrap { mirror: Some(mirror.to_owned()), ..trixie() });
        let plain = with("http://mirror.example.org/debian").unwrap();
        assert_eq!(plain, with("http://mirror.example.org/debian/").unwrap());
    }

    #[test]
    fn what_no_base_can_have_is_refused() {
        let refused = |bootstrap: Bootstrap| recipe(&bootstrap).unwrap_err().to_string();
        let mirror = |mirror: &str| refused(Bootstrap { mirror: Some(mirror.to_owned()), ..trixie() });
        assert!(mirror("ftp://mirror.example.org/debian").contains("is not an http or https URL"));
        assert!(mirror("http://mirror.example.org/debian [trusted=yes]").contains("characters"));
        let secret = mirror("http://jane:hunter2@mirror.example.org/debian");
        assert!(secret.contains("holds a login") && !secret.contains("hunter2"), "{secret}");
        assert!(refused(Bootstrap { packages: vec!["a;b".to_owned()], ..trixie() }).contains("`a;b` is not"));
        assert!(refused(Bootstrap { packages: vec!["--purge".to_owned()], ..trixie() }).contains("is not"));
        assert!(refused(Bootstrap { arch: "arm64".to_owned(), ..trixie() }).contains("arm64"));
    }

    #[test]
    fn each_distribution_has_its_kernel_and_resolver() {
        let packages = |distro, suite| recipe(&bootstrap(distro, suite)).unwrap().packages;
        let trixie = packages(Distro::Debian, "trixie");
        assert!(trixie.contains(&"linux-image-cloud-amd64".to_owned()));
        assert!(!trixie.iter().any(|name| name == "ifupdown" || name == "netplan.io"));
        assert!(packages(Distro::Ubuntu, "noble").contains(&"systemd-resolved".to_owned()));
        assert!(!packages(Distro::Ubuntu, "jammy").contains(&"systemd-resolved".to_owned()));
    }

    #[test]
    fn ids_follow_from_the_recipe_and_differ() {
        let ids = recipe(&trixie()).unwrap().ids();
        assert_eq!(ids, recipe(&trixie()).unwrap().ids());
        assert_ne!(ids.partitions[0], ids.partitions[1]);
        assert_ne!(ids.root, ids.disk);
        let text = ids.root.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "8"));
        assert_eq!(ids.esp_text().len(), 9);
    }
}
