//! What differs between two images: packages, system, stages and, where somebody read the disks, files.

mod html;
mod packages;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

pub use packages::{PackageChange, PackageChangeKind};

use crate::inventory::{Inventory, Stage, StageContent};
use crate::names::normal_name;

/// From one image to another. Lists are in the order in which they are shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub before: String,
    pub after: String,
    pub system: Vec<FactChange>,
    pub stages: Vec<StageChange>,
    pub packages: Vec<PackageChange>,
    /// Empty also where nobody looked at files; then `not_compared` says so if it matters.
    pub files: Vec<FileChange>,
    /// What one of the two does not tell, in words.
    pub not_compared: Vec<String>,
}

/// One fact about the base or the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FactChange {
    pub name: &'static str,
    pub before: String,
    pub after: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageChange {
    pub label: String,
    /// `added`, `removed` or what changed, in words.
    pub change: String,
}

/// A path that differs on the disks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FileChange {
    pub path: String,
    /// In words: `added`, `mode 0644 → 0600`.
    pub change: String,
    /// What it belongs to: `deb git`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<FileFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<FileFacts>,
}

/// One side of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FileFacts {
    /// `file`, `directory`, `link` and so on.
    pub kind: &'static str,
    /// Four octal digits.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The package that a path belongs to, as the disk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// As in the manifest: `deb`, `pypi`, `cran`.
    pub ecosystem: &'a str,
    pub name: &'a str,
    /// The folder of packages that it is in; empty for debs.
    pub place: &'a str,
}

impl Owner<'_> {
    fn is_of(&self, change: &PackageChange) -> bool {
        let is_same_name = match self.ecosystem {
            "pypi" => normal_name(self.name) == normal_name(&change.name),
            _ => self.name == change.name,
        };
        // The environment is what is known of a distribution; its files are some folders below.
        is_same_name
            && self.ecosystem == change.ecosystem
            && (change.location.is_empty() || Path::new(self.place).starts_with(&change.location))
    }
}

impl Difference {
    /// Of packages, system and stages; files come by [`Difference::take_file`].
    #[must_use]
    pub fn between(before: &Inventory, after: &Inventory) -> Self {
        let (before, after) = match (before.is_lock_alone(), after.is_lock_alone()) {
            (false, true) => (&before.clone().told_by_locks(), after),
            (true, false) => (before, &after.clone().told_by_locks()),
            _ => (before, after),
        };
        Self {
            before: before.title.clone(),
            after: after.title.clone(),
            system: system_changes(before, after),
            stages: stage_changes(&before.stages, &after.stages),
            packages: packages::changes(before, after),
            files: Vec::new(),
            not_compared: not_compared(before, after),
        }
    }

    /// A file of a package that changed is counted with it; another one is listed.
    pub fn take_file(&mut self, file: FileChange, owner: Option<Owner<'_>>) {
        let changed = owner.and_then(|owner| self.packages.iter_mut().find(|change| owner.is_of(change)));
        match changed {
            Some(change) => change.files += 1,
            None => self.files.push(file),
        }
    }

    /// Nothing differs, as far as could be compared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.system.is_empty() && self.stages.is_empty() && self.packages.is_empty() && self.files.is_empty()
    }

    /// For people, in columns.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::write(self)
    }

    /// One page that needs nothing else: no script, no font, no picture.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::write(self)
    }

    /// With a line end at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a difference is plain data");
        text.push('\n');
        text
    }

    /// How many packages changed in which way.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<PackageChangeKind, usize> {
        count(&self.packages)
    }

    /// By ecosystem and location.
    fn places(&self) -> BTreeMap<(&str, &str), Vec<&PackageChange>> {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for change in &self.packages {
            places.entry((change.ecosystem.as_str(), change.location.as_str())).or_default().push(change);
        }
        places
    }
}

fn count<'a>(changes: impl IntoIterator<Item = &'a PackageChange>) -> BTreeMap<PackageChangeKind, usize> {
    changes.into_iter().fold(BTreeMap::new(), |mut counts, change| {
        *counts.entry(change.kind).or_default() += 1;
        counts
    })
}

/// `2 added, 1 upgraded`
fn count_in_words<'a>(changes: impl IntoIterator<Item = &'a PackageChange>) -> String {
    let counts = count(changes);
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(kind, count)| format!("{count} {}", kind.word())).collect::<Vec<_>>().join(", ")
}

fn system_changes(before: &Inventory, after: &Inventory) -> Vec<FactChange> {
    let mut pairs = Vec::new();
    if let (Some(a), Some(b)) = (&before.base, &after.base) {
        let facts = |base: &crate::manifest::BaseFacts| {
            let base = base.clone();
            [
                ("base", base.source),
                ("base id", base.id.unwrap_or_default()),
                ("base kind", base.kind),
                ("base sha256", base.sha256),
            ]
        };
        pairs.extend(facts(a).into_iter().zip(facts(b)));
    }
    if let (Some(a), Some(b)) = (&before.system, &after.system) {
        let facts = |system: &crate::manifest::SystemFacts| {
            let system = system.clone();
            [
                ("system", system.os),
                ("release", system.os_version),
                ("kernel", system.kernel),
                ("architecture", system.architecture),
                ("Python", system.python.unwrap_or_default()),
                ("R", system.r.unwrap_or_default()),
            ]
        };
        pairs.extend(facts(a).into_iter().zip(facts(b)));
    }
    let differing = pairs.into_iter().filter(|((_, before), (_, after))| before != after);
    differing.map(|((name, before), (_, after))| FactChange { name, before, after }).collect()
}

fn stage_changes(before: &[Stage], after: &[Stage]) -> Vec<StageChange> {
    let find = |stages: &[Stage], label: &str| stages.iter().find(|stage| stage.label == label).cloned();
    let change = |stage: &Stage, change: &str| StageChange { label: stage.label.clone(), change: change.to_owned() };
    let removed = before.iter().filter(|stage| find(after, &stage.label).is_none());
    let mut changes: Vec<_> = removed.map(|stage| change(stage, "removed")).collect();
    for stage in after {
        match find(before, &stage.label) {
            None => changes.push(change(stage, "added")),
            Some(earlier) => {
                let is_first = changes.is_empty();
                changes.extend(what_changed(&earlier, stage, is_first).map(|words| change(stage, &words)));
            }
        }
    }
    let common = |stages: &[Stage], others: &[Stage]| -> Vec<String> {
        let both = stages.iter().filter(|stage| find(others, &stage.label).is_some());
        both.map(|stage| stage.label.clone()).collect()
    };
    let (order_before, order_after) = (common(before, after), common(after, before));
    for (_, label) in order_before.iter().zip(&order_after).filter(|(before, after)| before != after) {
        changes.push(StageChange { label: label.clone(), change: "at another place in the order".to_owned() });
    }
    changes
}

/// A key is another one whenever that of a stage before it is, so it tells something of the first change only.
fn what_changed(before: &Stage, after: &Stage, is_first: bool) -> Option<String> {
    if before.provisioner != after.provisioner {
        return Some(format!("provisioner `{}` → `{}`", before.provisioner, after.provisioner));
    }
    if before.version != after.version {
        return Some(format!("provisioner's version {} → {}", before.version, after.version));
    }
    match (&before.content, &after.content) {
        (StageContent::Key(before), StageContent::Key(after)) => {
            (is_first && before != after).then(|| "changed".to_owned())
        }
        (StageContent::Inputs(before), StageContent::Inputs(after)) => changed_inputs(before, after),
        _ => None,
    }
}

fn changed_inputs(before: &serde_json::Value, after: &serde_json::Value) -> Option<String> {
    if before == after {
        return None;
    }
    let keys = |value: &serde_json::Value| -> BTreeSet<String> {
        value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
    };
    let all: BTreeSet<_> = keys(before).union(&keys(after)).cloned().collect();
    let changed: Vec<_> = all.into_iter().filter(|key| before.get(key) != after.get(key)).collect();
    Some(if changed.is_empty() { "changed".to_owned() } else { format!("changed: {}", changed.join(", ")) })
}

fn not_compared(before: &Inventory, after: &Inventory) -> Vec<String> {
    let mut notes = Vec::new();
    for inventory in [before, after] {
        let title = &inventory.title;
        if inventory.base.is_none() {
            notes.push(format!("of `{title}`, more than its disk says: it has names and versions, and no stages"));
            continue;
        }
        if inventory.is_lock_alone() {
            notes.push(format!("`{title}` is a lock, which tells nothing of kernel, Python and R"));
        }
        let has_digests = inventory.entries.iter().any(|entry| entry.artifact.is_some());
        if !has_digests && !inventory.entries.is_empty() {
            notes.push(format!("`{title}` has no digests, so packages that were rebuilt are not seen"));
        }
    }
    let has_keys =
        |inventory: &Inventory| inventory.stages.first().map(|stage| matches!(stage.content, StageContent::Key(_)));
    if let (Some(a), Some(b)) = (has_keys(before), has_keys(after))
        && a != b
    {
        notes.push("of stages, only names and provisioners: one is a manifest, the other a lock".to_owned());
    }
    // Two images of one name.
    notes.sort();
    notes.dedup();
    notes
}
