//! What the disks say: their files, and the packages that these belong to.

use std::path::Path;

use dsimg_manifest::diff::{Difference, FileChange, FileFacts, Owner as PackageOwner};
use dsimg_manifest::inventory::{Entry as PackageEntry, Origin};
use dsimg_manifest::{Inventory, Package, normal_name};
use dsimg_tree::{
    Aspect, Change, Content, Difference as TreeDifference, Disk, Ecosystem, Entry, Kind, Owner, Owners, Tree,
    TreeError, diff, read_tree,
};

use crate::failure::{Code, Failure};
use crate::named::Named;

/// The tree of a disk with its packages.
pub(super) struct Files {
    tree: Tree,
    owners: Owners,
}

pub(super) fn open(disk: &Path) -> Result<Disk, Failure> {
    Disk::open(disk).map_err(failure)
}

fn failure(error: TreeError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(Code::Wrong, format!("cannot read the files in `{}`", error.image.display()));
    let failure = failure.because(error.fault);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

impl Files {
    pub(super) fn read(disk: &Disk) -> Result<Self, Failure> {
        let read = || {
            let files = disk.root()?;
            let tree = read_tree(&files)?;
            let owners = Owners::read(&files, &tree)?;
            Ok(Self { tree, owners })
        };
        read().map_err(failure)
    }

    /// The packages as the disk itself lists them.
    pub(super) fn inventory(&self, named: &Named) -> Inventory {
        let mut entries: Vec<_> = self.owners.packages().into_iter().map(entry_of).collect();
        entries.sort_by(|a, b| a.package.cmp(&b.package));
        let title = match &named.manifest {
            Some(manifest) => format!("{} {}", manifest.image.name, manifest.image.version),
            None => named.path.display().to_string(),
        };
        Inventory { title, base: None, system: None, stages: Vec::new(), entries, suites: Vec::new() }
    }

    /// Puts the files that differ into the difference.
    pub(super) fn compare(&self, after: &Self, difference: &mut Difference) {
        let mut changes = diff(&self.tree, &after.tree);
        changes.attribute(&self.owners, &after.owners);
        // A directory's time changes with each name in it, and a file's with each build.
        for change in changes.changes.iter().filter(|change| !change.is_time_only()) {
            let owner = change.owner.as_ref().map(|owner| PackageOwner {
                ecosystem: ecosystem_of(owner),
                name: &owner.name,
                place: &owner.place,
            });
            difference.take_file(file_change(change), owner);
        }
    }
}

/// No more than a disk tells.
pub(super) fn as_of_disk(mut inventory: Inventory) -> Inventory {
    (inventory.base, inventory.system, inventory.stages) = (None, None, Vec::new());
    // A Debian package's R package is that package.
    inventory.entries.retain(|entry| entry.package.ecosystem != "cran" || entry.package.origin != "deb");
    for entry in &mut inventory.entries {
        let location = std::mem::take(&mut entry.package.location);
        *entry = plain_entry(&entry.package.ecosystem, &entry.package.name, &entry.package.version, location);
    }
    inventory
}

fn entry_of(owner: &Owner) -> PackageEntry {
    let environment = match owner.ecosystem {
        // `/opt/ds/lib/python3.13/site-packages` is of the environment `/opt/ds`.
        Ecosystem::Python => owner.place.split("/lib/python").next().unwrap_or_default(),
        Ecosystem::R => &owner.place,
        Ecosystem::Deb => "",
    };
    plain_entry(ecosystem_of(owner), &owner.name, &owner.version, environment.to_owned())
}

fn plain_entry(ecosystem: &str, name: &str, version: &str, location: String) -> PackageEntry {
    let name = if ecosystem == "pypi" { normal_name(name) } else { name.to_owned() };
    let package = Package {
        ecosystem: ecosystem.to_owned(),
        name,
        version: version.to_owned(),
        architecture: String::new(),
        location,
        origin: String::new(),
        source: String::new(),
        requested: false,
        stage: String::new(),
    };
    PackageEntry { package, source: None, licence: None, artifact: None, from: Origin::Repository }
}

/// As the manifest calls it.
fn ecosystem_of(owner: &Owner) -> &'static str {
    match owner.ecosystem {
        Ecosystem::Deb => "deb",
        Ecosystem::Python => "pypi",
        Ecosystem::R => "cran",
    }
}

fn file_change(change: &Change) -> FileChange {
    let (before, after) = match &change.difference {
        TreeDifference::Added(entry) => (None, Some(entry)),
        TreeDifference::Removed(entry) => (Some(entry), None),
        TreeDifference::Changed { before, after, .. } => (Some(before), Some(after)),
    };
    FileChange {
        path: String::from_utf8_lossy(change.path()).into_owned(),
        change: in_words(&change.difference),
        package: belongs_to(change),
        before: before.map(facts),
        after: after.map(facts),
    }
}

/// What dpkg and its kin write down of packages: it differs whenever these do.
const RECORDS: [&[u8]; 10] = [
    b"/etc/ld.so.cache",
    b"/var/cache/debconf/",
    b"/var/lib/apt/extended_states",
    b"/var/lib/dpkg/alternatives/",
    b"/var/lib/dpkg/diversions",
    b"/var/lib/dpkg/status",
    b"/var/lib/dpkg/triggers/",
    b"/var/lib/ucf/",
    b"/var/log/alternatives.log",
    b"/var/log/dpkg.log",
];

/// `deb git`
fn belongs_to(change: &Change) -> Option<String> {
    if let Some(owner) = &change.owner {
        let conffile = if change.is_conffile { ", configuration" } else { "" };
        return Some(format!("{} {}{conffile}", ecosystem_of(owner), owner.name));
    }
    let is_record = RECORDS.iter().any(|record| change.path().starts_with(record));
    is_record.then(|| "dpkg's records".to_owned())
}

fn in_words(difference: &TreeDifference) -> String {
    match difference {
        TreeDifference::Added(entry) => format!("added: {}", summary(entry)),
        TreeDifference::Removed(entry) => format!("removed: {}", summary(entry)),
        TreeDifference::Changed { before, after, aspects } => {
            let told = aspects.iter().filter(|aspect| **aspect != Aspect::Time);
            told.map(|aspect| aspect_in_words(*aspect, before, after)).collect::<Vec<_>>().join(", ")
        }
    }
}

/// `file, 0644 0:0, 12 bytes`
fn summary(entry: &Entry) -> String {
    let FileFacts { kind, mode, uid, gid, size, target, .. } = facts(entry);
    let size = size.map(|size| format!(", {size} bytes")).unwrap_or_default();
    let target = target.map(|target| format!(" to {target}")).unwrap_or_default();
    format!("{kind}{target}, {mode} {uid}:{gid}{size}")
}

fn aspect_in_words(aspect: Aspect, before: &Entry, after: &Entry) -> String {
    let (a, b) = (facts(before), facts(after));
    match aspect {
        Aspect::Kind => format!("{} → {}", a.kind, b.kind),
        Aspect::Content => {
            let side = |facts: &FileFacts| {
                let digest: String = facts.sha256.iter().flat_map(|digest| digest.chars().take(12)).collect();
                format!("{digest} ({} bytes)", facts.size.unwrap_or_default())
            };
            format!("content {} → {}", side(&a), side(&b))
        }
        Aspect::Link => format!("link {} → {}", a.target.unwrap_or_default(), b.target.unwrap_or_default()),
        Aspect::Device => "device".to_owned(),
        Aspect::Mode => format!("mode {} → {}", a.mode, b.mode),
        Aspect::Owner => format!("owner {}:{} → {}:{}", a.uid, a.gid, b.uid, b.gid),
        Aspect::Xattrs => "extended attributes".to_owned(),
        Aspect::Flags => format!("flags {:#x} → {:#x}", before.flags, after.flags),
        Aspect::HardLink => "hard links".to_owned(),
        Aspect::Time => "time".to_owned(),
    }
}

fn facts(entry: &Entry) -> FileFacts {
    let (kind, size, sha256, target) = match &entry.kind {
        Kind::Directory => ("directory", None, None, None),
        Kind::File { size, content: Content::Plain(digest) } => ("file", Some(*size), Some(digest.to_string()), None),
        // No digest that `sha256sum` would give.
        Kind::File { size, content: Content::Sparse(_) } => ("file", Some(*size), None, None),
        Kind::Symlink { target } => ("link", None, None, Some(String::from_utf8_lossy(target).into_owned())),
        Kind::CharacterDevice { .. } => ("character device", None, None, None),
        Kind::BlockDevice { .. } => ("block device", None, None, None),
        Kind::Fifo => ("fifo", None, None, None),
        Kind::Socket => ("socket", None, None, None),
    };
    let Entry { mode, uid, gid, .. } = entry;
    FileFacts { kind, mode: format!("{mode:04o}"), uid: *uid, gid: *gid, size, sha256, target }
}
