//! Packages of an image → what advisories call them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dsimg_manifest::inventory::{Entry, Origin};
use dsimg_manifest::{Inventory, normal_name, versions};

use crate::report::Unchecked;

/// One thing that advisories may be about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) ecosystem: Ecosystem,
    /// Of Debian and Ubuntu, the source package's.
    pub(crate) name: String,
    pub(crate) version: String,
}

/// As OSV calls it. Source: <https://ossf.github.io/osv-schema/#affectedpackage-field>.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ecosystem {
    /// The part before the first `:`, which names the dump.
    pub(crate) family: &'static str,
    /// Those that a record may name: `Debian:13`. The first is the usual one.
    pub(crate) names: Vec<String>,
    /// The one whose order its versions have, as [`versions::compare`] calls it.
    pub(crate) order: &'static str,
}

impl Ecosystem {
    fn plain(family: &'static str, order: &'static str) -> Self {
        Self { family, names: vec![family.to_owned()], order }
    }

    fn debian(version: &str) -> Self {
        Self { family: "Debian", names: vec![format!("Debian:{version}")], order: "deb" }
    }

    /// `Ubuntu:24.04:LTS`; releases without long support have no third part.
    fn ubuntu(version: &str) -> Self {
        let names = vec![format!("Ubuntu:{version}:LTS"), format!("Ubuntu:{version}")];
        Self { family: "Ubuntu", names, order: "deb" }
    }

    /// For people.
    pub(crate) fn name(&self) -> &str {
        &self.names[0]
    }
}

/// What is asked of the advisories, with the packages that each stands for, and what can't be asked.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    pub(crate) packages: BTreeMap<Subject, BTreeSet<String>>,
    pub(crate) unchecked: Vec<Unchecked>,
}

pub(crate) fn subjects(inventory: &Inventory) -> Subjects {
    let distribution = distribution(inventory);
    let mut subjects = Subjects::default();
    for entry in &inventory.entries {
        match subject(entry, distribution.as_ref()) {
            Ok(subject) => {
                subjects.packages.entry(subject).or_default().insert(entry.package.name.clone());
            }
            Err(why) => subjects.unchecked.push(Unchecked::of(entry, why)),
        }
    }
    subjects
}

/// Where OSV's dumps are.
pub const OSV: &str = "https://osv-vulnerabilities.storage.googleapis.com";

/// A file of advisories to fetch, and its place below the folder that is given to the audit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Download {
    /// `Debian`
    pub family: &'static str,
    pub url: String,
    /// `Debian/all.zip`
    pub file: PathBuf,
}

/// What an audit of the image needs, from [`OSV`] or a mirror of it.
#[must_use]
pub fn downloads(inventory: &Inventory, mirror: &str) -> Vec<Download> {
    let families: BTreeSet<_> = subjects(inventory).packages.keys().map(|subject| subject.ecosystem.family).collect();
    let download = |family: &'static str| Download {
        family,
        url: format!("{}/{family}/all.zip", mirror.trim_end_matches('/')),
        file: PathBuf::from(family).join("all.zip"),
    };
    families.into_iter().map(download).collect()
}

fn subject(entry: &Entry, distribution: Option<&Ecosystem>) -> Result<Subject, &'static str> {
    let package = &entry.package;
    let (ecosystem, name, version) = match (package.ecosystem.as_str(), &entry.from) {
        (_, Origin::GitHub(_)) => return Err("it is from GitHub, and advisories go by released versions"),
        (_, Origin::Local) => return Err("it is from no repository: its name tells nothing"),
        (_, Origin::OtherApt) => {
            return Err("its apt repository is not the distribution's, and has no advisories here");
        }
        ("deb", _) => {
            let ecosystem = distribution.ok_or("the release of the distribution is not known")?;
            let (source, version) =
                entry.source.as_ref().ok_or("its source package is not known: a lock of the image tells it")?;
            let (source, version) = of_signed(source, version);
            (ecosystem.clone(), source, version)
        }
        ("pypi", _) => (Ecosystem::plain("PyPI", "pypi"), normal_name(&package.name), package.version.clone()),
        ("cran", Origin::Bioconductor) => {
            (Ecosystem::plain("Bioconductor", "cran"), package.name.clone(), package.version.clone())
        }
        ("cran", _) => (Ecosystem::plain("CRAN", "cran"), package.name.clone(), package.version.clone()),
        _ => return Err("nobody keeps advisories for its ecosystem"),
    };
    match versions::compare(ecosystem.order, &version, &version) {
        Some(_) => Ok(Subject { ecosystem, name, version }),
        None => Err("its version has another form than its ecosystem's"),
    }
}

/// Signed kernels and boot loaders are built from a source package of their own, and advisories name the one that they
/// were signed from. Its version stands in theirs, with `+` for `-`: `linux-signed-amd64` 6.12.57+1 is `linux` 6.12.57-1,
/// `grub-efi-amd64-signed` 1+2.12+9 is `grub2` 2.12-9. Ubuntu's `linux-signed-aws` has the version of `linux-aws`.
fn of_signed(source: &str, version: &str) -> (String, String) {
    let with_revision = |version: &str| version.replacen('+', "-", 1);
    if let Some(flavour) = source.strip_prefix("linux-signed") {
        return match flavour {
            "-amd64" | "-arm64" | "-i386" => ("linux".to_owned(), with_revision(version)),
            flavour => (format!("linux{flavour}"), version.to_owned()),
        };
    }
    let grub = source.strip_prefix("grub-efi-").and_then(|rest| rest.strip_suffix("-signed"));
    match (grub, version.split_once('+')) {
        (Some(_), Some((_, version))) => ("grub2".to_owned(), with_revision(version)),
        _ => (source.to_owned(), version.to_owned()),
    }
}

/// Of the machine's own words; with a lock alone, of the release's name in its base and apt repositories.
fn distribution(inventory: &Inventory) -> Option<Ecosystem> {
    if let Some(system) = &inventory.system {
        let version = system.os_version.as_str();
        return match system.os_id.as_str() {
            _ if version.is_empty() => None,
            // Point releases have no advisories of their own.
            "debian" => Some(Ecosystem::debian(version.split('.').next()?)),
            "ubuntu" => Some(Ecosystem::ubuntu(version)),
            _ => None,
        };
    }
    let of_base = inventory.base.as_ref().and_then(|base| base.source.split_whitespace().find_map(release));
    of_base.or_else(|| {
        let of_suites: BTreeSet<_> = inventory.suites.iter().filter_map(|suite| release(suite)).collect();
        // Of two, none is more likely.
        (of_suites.len() == 1).then(|| of_suites.into_iter().next()).flatten()
    })
}

/// `trixie`, `trixie-security`.
fn release(suite: &str) -> Option<Ecosystem> {
    let name = suite.split(['-', '/']).next()?;
    Some(match name {
        "bullseye" => Ecosystem::debian("11"),
        "bookworm" => Ecosystem::debian("12"),
        "trixie" => Ecosystem::debian("13"),
        "forky" => Ecosystem::debian("14"),
        "focal" => Ecosystem::ubuntu("20.04"),
        "jammy" => Ecosystem::ubuntu("22.04"),
        "noble" => Ecosystem::ubuntu("24.04"),
        "questing" => Ecosystem::ubuntu("25.10"),
        "resolute" => Ecosystem::ubuntu("26.04"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_asked_for_by_what_it_was_signed_from() {
        let cases = [
            (("linux-signed-amd64", "6.12.57+1"), ("linux", "6.12.57-1")),
            (("linux-signed-arm64", "6.12.57+1~bpo12+1"), ("linux", "6.12.57-1~bpo12+1")),
            (("linux-signed", "6.8.0-45.45"), ("linux", "6.8.0-45.45")),
            (("linux-signed-aws", "6.8.0-1017.18"), ("linux-aws", "6.8.0-1017.18")),
            (("grub-efi-amd64-signed", "1+2.12+9+deb13u1"), ("grub2", "2.12-9+deb13u1")),
            (("openssl", "3.5.4-1~deb13u1"), ("openssl", "3.5.4-1~deb13u1")),
        ];
        for ((source, version), (expected, expected_version)) in cases {
            assert_eq!(of_signed(source, version), (expected.to_owned(), expected_version.to_owned()));
        }
    }
}
