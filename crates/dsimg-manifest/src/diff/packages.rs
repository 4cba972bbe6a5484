//! Two lists of packages → what was added, removed, and became another.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::inventory::{Entry, Inventory};
use crate::versions::compare;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    pub ecosystem: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    pub kind: PackageChangeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Version>,
    /// How many of its files differ, where disks were compared.
    #[serde(skip_serializing_if = "is_none")]
    pub files: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Version {
    pub version: String,
    /// The stage that brought it.
    pub stage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageChangeKind {
    Added,
    Removed,
    Upgraded,
    Downgraded,
    /// The same version of other bytes.
    Rebuilt,
    /// Another version, and the ecosystem does not say which is the newer one.
    Changed,
}

impl PackageChangeKind {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Upgraded => "upgraded",
            Self::Downgraded => "downgraded",
            Self::Rebuilt => "rebuilt",
            Self::Changed => "changed",
        }
    }
}

impl PackageChange {
    /// The stage that brought what is there now; of what is gone, the one that had brought it.
    #[must_use]
    pub fn stage(&self) -> &str {
        self.after.as_ref().or(self.before.as_ref()).map_or("", |side| &side.stage)
    }
}

/// Sorted by ecosystem, location, kind and name.
pub(super) fn changes(before: &Inventory, after: &Inventory) -> Vec<PackageChange> {
    type Sides = (Vec<Version>, Vec<Version>);
    let mut packages: BTreeMap<(&str, &str, &str, &str), Sides> = BTreeMap::new();
    for entry in &before.entries {
        packages.entry(identity(entry)).or_default().0.push(side(entry));
    }
    for entry in &after.entries {
        packages.entry(identity(entry)).or_default().1.push(side(entry));
    }
    let mut changes = Vec::new();
    for ((ecosystem, location, name, architecture), (before, after)) in packages {
        for (before, after) in pairs(before, after) {
            changes.push(PackageChange {
                ecosystem: ecosystem.to_owned(),
                location: location.to_owned(),
                name: name.to_owned(),
                architecture: architecture.to_owned(),
                kind: kind(ecosystem, before.as_ref(), after.as_ref()),
                before,
                after,
                files: 0,
            });
        }
    }
    changes.sort_by(|a, b| {
        let key = |change: &PackageChange| (change.ecosystem.clone(), change.location.clone(), change.kind);
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    changes
}

/// What stays the same package in another version.
fn identity(entry: &Entry) -> (&str, &str, &str, &str) {
    let package = &entry.package;
    (&package.ecosystem, &package.location, &package.name, &package.architecture)
}

fn side(entry: &Entry) -> Version {
    Version {
        version: entry.package.version.clone(),
        stage: entry.package.stage.clone(),
        sha256: entry.artifact.as_ref().map(|artifact| artifact.sha256.clone()),
    }
}

/// The two sides of each change. A place seldom holds two versions of a package; then what is in both is left out and
/// the rest goes together in order.
fn pairs(before: Vec<Version>, mut after: Vec<Version>) -> Vec<(Option<Version>, Option<Version>)> {
    let mut left = Vec::new();
    for old in before {
        match after.iter().position(|new| is_same(&old, new)) {
            Some(at) => drop(after.remove(at)),
            None => left.push(old),
        }
    }
    left.sort();
    after.sort();
    let length = left.len().max(after.len());
    let (mut left, mut after) = (left.into_iter(), after.into_iter());
    (0..length).map(|_| (left.next(), after.next())).collect()
}

/// Digests count where both sides have one.
fn is_same(a: &Version, b: &Version) -> bool {
    let is_rebuilt = matches!((&a.sha256, &b.sha256), (Some(a), Some(b)) if a != b);
    a.version == b.version && !is_rebuilt
}

fn kind(ecosystem: &str, before: Option<&Version>, after: Option<&Version>) -> PackageChangeKind {
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) => (&before.version, &after.version),
        (Some(_), None) => return PackageChangeKind::Removed,
        _ => return PackageChangeKind::Added,
    };
    if before == after {
        return PackageChangeKind::Rebuilt;
    }
    match compare(ecosystem, before, after) {
        Some(Ordering::Less) => PackageChangeKind::Upgraded,
        Some(Ordering::Greater) => PackageChangeKind::Downgraded,
        Some(Ordering::Equal) | None => PackageChangeKind::Changed,
    }
}
