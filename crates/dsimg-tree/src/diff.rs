//! What differs between two trees.

mod texts;

use std::cmp::Ordering;

use crate::entry::{Entry, Kind};
use crate::owners::{Owner, Owners};
use crate::tree::Tree;

pub use texts::{Texts, read_texts};

/// What of a name differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// A file became a directory, and the like; then nothing else is told.
    Kind,
    Content,
    /// The target of a symlink.
    Link,
    /// The numbers of a device.
    Device,
    Mode,
    /// User or group.
    Owner,
    Xattrs,
    /// Immutable, append-only and their like.
    Flags,
    /// Which names are the same file.
    HardLink,
    Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Added(Entry),
    Removed(Entry),
    Changed { before: Entry, after: Entry, aspects: Vec<Aspect> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub difference: Difference,
    /// The package that the path belongs to: in the tree after, or of a removed path in the tree before.
    pub owner: Option<Owner>,
    /// A file of a package that is made to be changed, such as those in /etc.
    pub is_conffile: bool,
}

impl Change {
    #[must_use]
    pub fn path(&self) -> &[u8] {
        match &self.difference {
            Difference::Added(entry) | Difference::Removed(entry) => &entry.path,
            Difference::Changed { after, .. } => &after.path,
        }
    }

    /// Nothing but the modification time differs, as of each directory in which something was made.
    #[must_use]
    pub fn is_time_only(&self) -> bool {
        matches!(&self.difference, Difference::Changed { aspects, .. } if aspects == &[Aspect::Time])
    }
}

/// Sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeDiff {
    pub changes: Vec<Change>,
}

impl TreeDiff {
    /// Says of each change which package it belongs to.
    pub fn attribute(&mut self, before: &Owners, after: &Owners) {
        for change in &mut self.changes {
            let owners = if matches!(change.difference, Difference::Removed(_)) { before } else { after };
            let (owner, is_conffile) = (owners.of(change.path()).cloned(), owners.is_conffile(change.path()));
            (change.owner, change.is_conffile) = (owner, is_conffile);
        }
    }
}

/// All names that are not in both trees, or not the same. Owners are for [`TreeDiff::attribute`].
#[must_use]
pub fn diff(before: &Tree, after: &Tree) -> TreeDiff {
    let mut differences = Vec::new();
    let (mut old, mut new) = (before.entries().iter().peekable(), after.entries().iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(a), Some(b)) => a.path.cmp(&b.path),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let gone = if order == Ordering::Greater { None } else { old.next() };
        let come = if order == Ordering::Less { None } else { new.next() };
        match (gone, come) {
            (Some(a), Some(b)) => differences.extend(changed(a, b)),
            (Some(a), None) => differences.push(Difference::Removed(a.clone())),
            (None, Some(b)) => differences.push(Difference::Added(b.clone())),
            (None, None) => {}
        }
    }
    let changes = differences.into_iter();
    TreeDiff { changes: changes.map(|difference| Change { difference, owner: None, is_conffile: false }).collect() }
}

fn changed(before: &Entry, after: &Entry) -> Option<Difference> {
    let mut aspects = vec![];
    let mut note = |differs: bool, aspect: Aspect| {
        if differs {
            aspects.push(aspect);
        }
    };
    if std::mem::discriminant(&before.kind) == std::mem::discriminant(&after.kind) {
        let of_kind = match &before.kind {
            Kind::Symlink { .. } => Aspect::Link,
            Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } => Aspect::Device,
            _ => Aspect::Content,
        };
        note(before.kind != after.kind, of_kind);
        note(before.mode != after.mode, Aspect::Mode);
        note((before.uid, before.gid) != (after.uid, after.gid), Aspect::Owner);
        note(before.xattrs != after.xattrs, Aspect::Xattrs);
        note(before.flags != after.flags, Aspect::Flags);
        note(before.same_as != after.same_as, Aspect::HardLink);
        note(before.mtime != after.mtime, Aspect::Time);
    } else {
        note(true, Aspect::Kind);
    }
    let changed = || Difference::Changed { before: before.clone(), after: after.clone(), aspects: aspects.clone() };
    (!aspects.is_empty()).then(changed)
}
