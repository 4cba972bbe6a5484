//! What is in an image, as far as its manifest, its lock or both know: what the SBOM, the comparison and the audit
//! are made from.

use std::collections::BTreeMap;

use crate::lock::{Artifact, Lock, LockedStage, is_locked_kind};
use crate::manifest::{BASE, BaseFacts, HYGIENE, Manifest, Package, StageFacts, SystemFacts};

/// The packages of one image, and what they stand on.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// For people: `ds-hub 2026.11`, or the name of the lock's run.
    pub title: String,
    /// `None` where there is only a disk.
    pub base: Option<BaseFacts>,
    /// `None` where there is only a lock or a disk.
    pub system: Option<SystemFacts>,
    pub stages: Vec<Stage>,
    /// Sorted as in the manifest; without what was needed on the way only.
    pub entries: Vec<Entry>,
    /// `suite` of the apt repositories that the lock's packages are from, such as `trixie`.
    pub suites: Vec<String>,
}

/// A stage, and what tells whether it is the same as another image's.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    pub label: String,
    pub provisioner: String,
    pub version: u32,
    pub content: StageContent,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StageContent {
    /// Covers the stages before it too.
    Key(String),
    Inputs(serde_json::Value),
}

/// An installed package with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub package: Package,
    /// Of a Debian package: the source package's name and version, which advisories go by.
    pub source: Option<(String, String)>,
    pub licence: Option<String>,
    /// The bytes it was installed from.
    pub artifact: Option<Artifact>,
    pub from: Origin,
}

/// Where a package is from, as far as its address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An apt repository, a package index, CRAN, or what came with the base.
    Repository,
    Bioconductor,
    /// An apt repository that is not the distribution's own.
    OtherApt,
    /// `owner/name@commit`
    GitHub(String),
    /// A file, or anything else that is not a repository's.
    Local,
}

impl Inventory {
    /// Of the manifest alone: without digests and licences.
    #[must_use]
    pub fn of_manifest(manifest: &Manifest) -> Self {
        Self {
            title: format!("{} {}", manifest.image.name, manifest.image.version),
            base: Some(manifest.base.clone()),
            system: Some(manifest.system.clone()),
            stages: manifest.stages.iter().map(Stage::of_manifest).collect(),
            entries: manifest.packages.iter().map(|package| Entry::of_manifest(package, &manifest.system)).collect(),
            suites: Vec::new(),
        }
    }

    /// Of the lock alone: without facts about the system. `run` names it in the lock's file.
    #[must_use]
    pub fn of_lock(run: &str, lock: &Lock) -> Self {
        let debs = lock.deb.iter().filter(|deb| !deb.passing).map(|deb| of_deb(deb, &lock.indexes));
        let pypi = lock.pypi.iter().filter(|entry| !entry.passing).map(of_pypi);
        let cran = lock.cran.iter().filter(|entry| !entry.passing).map(of_cran);
        let mut entries: Vec<_> = debs.chain(pypi).chain(cran).collect();
        entries.sort_by(|a, b| a.package.cmp(&b.package));
        let base = &lock.base;
        let mut suites: Vec<_> = lock.indexes.iter().map(|index| index.suite.clone()).collect();
        suites.sort();
        suites.dedup();
        Self {
            title: run.to_owned(),
            base: Some(BaseFacts {
                kind: base.kind.clone(),
                source: base.source.clone(),
                id: base.id.clone(),
                sha256: base.sha256.clone(),
            }),
            system: None,
            stages: lock.stages.iter().map(Stage::of_lock).collect(),
            entries,
            suites,
        }
    }

    /// What the manifest says is in the image, with what the lock knows of it.
    #[must_use]
    pub fn of_image(manifest: &Manifest, lock: &Lock) -> Self {
        let locked = Self::of_lock("", lock);
        let known: BTreeMap<_, _> = locked.entries.iter().map(|entry| (identity(&entry.package), entry)).collect();
        let mut inventory = Self::of_manifest(manifest);
        for entry in &mut inventory.entries {
            let Some(locked) = known.get(&identity(&entry.package)) else { continue };
            let package = entry.package.clone();
            // Whose an apt repository is stands in what it signed, which only the machine read.
            let from = match (&entry.from, &locked.from) {
                (whose @ (Origin::Repository | Origin::OtherApt), Origin::Repository | Origin::OtherApt) => {
                    whose.clone()
                }
                (known @ (Origin::GitHub(_) | Origin::Bioconductor), _) => known.clone(),
                (_, locked) => locked.clone(),
            };
            *entry = Entry { package, from, ..(*locked).clone() };
        }
        for stage in &mut inventory.stages {
            // What went into a stage says more than its key.
            if let Some(locked) = locked.stages.iter().find(|locked| locked.label == stage.label) {
                stage.content = locked.content.clone();
            }
        }
        inventory.suites = locked.suites;
        inventory
    }

    pub(crate) fn is_lock_alone(&self) -> bool {
        self.base.is_some() && self.system.is_none()
    }

    /// Without what no lock holds.
    pub(crate) fn told_by_locks(mut self) -> Self {
        self.stages.retain(|stage| stage.provisioner != HYGIENE);
        self.entries.retain(|entry| is_locked_kind(&entry.package));
        self
    }
}

/// What makes an entry of the manifest and one of the lock the same package.
fn identity(package: &Package) -> (&str, &str, &str, &str, &str) {
    (&package.ecosystem, &package.name, &package.version, &package.architecture, &package.location)
}

impl Stage {
    fn of_manifest(stage: &StageFacts) -> Self {
        Self {
            label: stage.label.clone(),
            provisioner: stage.provisioner.clone(),
            version: stage.provisioner_version,
            content: StageContent::Key(stage.key.clone()),
        }
    }

    fn of_lock(stage: &LockedStage) -> Self {
        Self {
            label: stage.label.clone(),
            provisioner: stage.provisioner.clone(),
            version: stage.version,
            content: StageContent::Inputs(stage.inputs.clone()),
        }
    }
}

impl Entry {
    fn of_manifest(package: &Package, system: &SystemFacts) -> Self {
        let from = match package.ecosystem.as_str() {
            "deb" => of_apt(package, system),
            _ if package.origin == "bioc" => Origin::Bioconductor,
            _ => match package.origin.strip_prefix("github:") {
                Some(commit) => Origin::GitHub(commit.to_owned()),
                None => Origin::Repository,
            },
        };
        let (name, version) = package.source_package();
        let source = (package.ecosystem == "deb").then(|| (name.to_owned(), version.to_owned()));
        Self { package: package.clone(), source, licence: None, artifact: None, from }
    }
}

/// `Debian trixie main`: the first word is `Origin` of the repository's own Release file, which mirrors leave as it is.
fn of_apt(package: &Package, system: &SystemFacts) -> Origin {
    let vendor = package.origin.split(' ').next().unwrap_or_default();
    match vendor {
        // Of the base's packages the lists may be gone. What came later and is in no list was a file.
        "" if package.stage == BASE => Origin::Repository,
        "" => Origin::Local,
        vendor if vendor.eq_ignore_ascii_case(&system.os_id) => Origin::Repository,
        _ => Origin::OtherApt,
    }
}

/// What distributions call the parts of their repositories.
const COMPONENTS: [&str; 7] =
    ["main", "contrib", "non-free", "non-free-firmware", "universe", "restricted", "multiverse"];
/// What follows a release's name in those of its other suites.
const SUITES: [&str; 5] = ["-security", "-updates", "-backports", "-proposed-updates", "-proposed"];

/// Whether a list looks like the distribution's own; its address may be any mirror's. `trixie-pgdg` and a component
/// `stable` are others'.
fn is_distributions(index: &crate::lock::AptIndex) -> bool {
    let name = SUITES.iter().find_map(|suffix| index.suite.strip_suffix(suffix)).unwrap_or(&index.suite);
    COMPONENTS.contains(&index.component.as_str()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn of_deb(deb: &crate::lock::Deb, indexes: &[crate::lock::AptIndex]) -> Entry {
    let package = Package {
        ecosystem: "deb".to_owned(),
        name: deb.name.clone(),
        version: deb.version.clone(),
        architecture: deb.arch.clone(),
        location: String::new(),
        origin: deb.index.clone().unwrap_or_default(),
        source: if deb.source == deb.name && deb.source_version == deb.version {
            String::new()
        } else {
            format!("{} {}", deb.source, deb.source_version)
        },
        requested: deb.requested,
        stage: deb.stage.clone(),
    };
    let source = (!deb.source.is_empty()).then(|| (deb.source.clone(), deb.source_version.clone()));
    // What the base held has neither bytes of its own nor a list.
    let index = deb.index.as_ref().and_then(|id| indexes.iter().find(|index| index.id == *id));
    let from = match index {
        Some(index) if is_distributions(index) => Origin::Repository,
        Some(_) => Origin::OtherApt,
        None if deb.artifact.is_some() => Origin::Local,
        None => Origin::Repository,
    };
    Entry { package, source, licence: deb.licence.clone(), artifact: deb.artifact.clone(), from }
}

fn of_pypi(entry: &crate::lock::Distribution) -> Entry {
    let package = Package {
        ecosystem: "pypi".to_owned(),
        name: entry.name.clone(),
        version: entry.version.clone(),
        architecture: String::new(),
        location: entry.location.clone(),
        origin: entry.index.clone(),
        source: String::new(),
        requested: entry.requested,
        stage: entry.stage.clone(),
    };
    // What the base held is in no index of ours, but it is under its name.
    let is_local = entry.index.is_empty() && entry.stage != BASE;
    let from = if is_local { Origin::Local } else { Origin::Repository };
    Entry { package, source: None, licence: entry.licence.clone(), artifact: entry.artifact.clone(), from }
}

fn of_cran(entry: &crate::lock::RPackage) -> Entry {
    let package = Package {
        ecosystem: "cran".to_owned(),
        name: entry.name.clone(),
        version: entry.version.clone(),
        architecture: String::new(),
        location: entry.location.clone(),
        origin: entry.repository.clone(),
        source: String::new(),
        requested: entry.requested,
        stage: entry.stage.clone(),
    };
    let from = match (&entry.commit, entry.repository.as_str()) {
        (Some(commit), _) => Origin::GitHub(commit.clone()),
        (None, "") if entry.stage != BASE => Origin::Local,
        // `https://bioconductor.org/packages/3.21/bioc`, and mirrors that keep to its paths.
        (None, address) if address.contains("bioconductor") || address.contains("/bioc") => Origin::Bioconductor,
        (None, _) => Origin::Repository,
    };
    Entry { package, source: None, licence: entry.licence.clone(), artifact: entry.artifact.clone(), from }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::sample;

    #[test]
    fn what_was_needed_on_the_way_is_not_in_the_image() {
        let mut lock = sample().runs["kvm"].clone();
        assert_eq!(Inventory::of_lock("kvm", &lock).entries.len(), 4);
        lock.deb[1].passing = true;
        lock.pypi[0].passing = true;
        lock.cran[0].passing = true;
        let left = Inventory::of_lock("kvm", &lock).entries;
        assert_eq!(left.iter().map(|entry| &*entry.package.name).collect::<Vec<_>>(), ["base-files"]);
    }

    #[test]
    fn a_repository_of_others_is_told_from_the_distributions() {
        let mut lock = sample().runs["kvm"].clone();
        let mut from = |suite: &str, component: &str| {
            lock.indexes[0].suite = suite.to_owned();
            lock.indexes[0].component = component.to_owned();
            Inventory::of_lock("kvm", &lock).entries[2].from.clone()
        };
        assert_eq!(from("trixie-security", "main"), Origin::Repository);
        assert_eq!(from("noble", "universe"), Origin::Repository);
        assert_eq!(from("trixie-pgdg", "main"), Origin::OtherApt);
        assert_eq!(from("trixie", "stable"), Origin::OtherApt);
        assert_eq!(from("trixie-cran40/", ""), Origin::OtherApt);
        let system = SystemFacts { os_id: "debian".to_owned(), ..SystemFacts::default() };
        let apt = |origin: &str, stage: &str| {
            let package = Inventory::of_lock("kvm", &lock).entries[2].package.clone();
            of_apt(&Package { origin: origin.to_owned(), stage: stage.to_owned(), ..package }, &system)
        };
        assert_eq!(apt("Debian trixie main", "tools"), Origin::Repository);
        assert_eq!(apt("Docker trixie stable", "tools"), Origin::OtherApt);
        assert_eq!(apt("", BASE), Origin::Repository);
        assert_eq!(apt("", "tools"), Origin::Local);
    }

    #[test]
    fn a_file_of_nobody_is_told_from_a_repositorys() {
        let mut lock = sample().runs["kvm"].clone();
        lock.deb[1].index = None;
        lock.cran[0].commit = Some("owner/digest@0123".to_owned());
        let entries = Inventory::of_lock("kvm", &lock).entries;
        let from: Vec<_> = entries.iter().map(|entry| (&*entry.package.name, &entry.from)).collect();
        let github = Origin::GitHub("owner/digest@0123".to_owned());
        let expected = [
            ("digest", &github),
            ("base-files", &Origin::Repository),
            ("git", &Origin::Local),
            ("numpy", &Origin::Repository),
        ];
        assert_eq!(from, expected);
    }
}
