//! All checkpoints of a store at one moment, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};

use dsimg_plan::Digest;

use crate::checkpoint::{Checkpoint, Kind};
use crate::packing::Packing;
use crate::store::Damage;

/// Sorted by the time they were made.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    pub checkpoints: Vec<Checkpoint>,
    /// Whose record can't be trusted, or whose files are not all there. One whose memory alone is missing is among the
    /// checkpoints too: its disk is good.
    pub damaged: Vec<Damage>,
    pub newer: Vec<Newer>,
    /// By checkpoint; of the others it is plain.
    pub packing: BTreeMap<String, Packing>,
}

/// One that a newer dsimg has made: nothing more is known of it here, and it is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    pub id: String,
    /// What it stands on, if that is still said in the same way.
    pub parent: Option<String>,
    pub format: u32,
}

impl Listing {
    pub(crate) fn add(&mut self, checkpoint: Checkpoint, packing: Packing) {
        if !packing.is_plain() {
            self.packing.insert(checkpoint.id.clone(), packing);
        }
        self.checkpoints.push(checkpoint);
    }

    /// How its memory lies in the store.
    #[must_use]
    pub fn packing(&self, id: &str) -> Packing {
        self.packing.get(id).copied().unwrap_or_default()
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Checkpoint> {
        self.checkpoints.iter().find(|checkpoint| checkpoint.id == id)
    }

    /// The newest that holds this on this base, and that a build may go on from.
    #[must_use]
    pub fn find(&self, key: &Digest, base: &Digest) -> Option<&Checkpoint> {
        let fits = |checkpoint: &&Checkpoint| {
            let is_named = checkpoint.key == *key || checkpoint.locked_key.as_ref() == Some(key);
            is_named && checkpoint.base.sha256 == *base && checkpoint.kind != Kind::Failed
        };
        self.checkpoints.iter().rev().filter(fits).find(|checkpoint| self.chain(&checkpoint.id).is_some())
    }

    /// The newest point at which a stage with this key failed.
    #[must_use]
    pub fn find_failed(&self, key: &Digest, base: &Digest) -> Option<&Checkpoint> {
        let fits = |checkpoint: &&Checkpoint| {
            checkpoint.key == *key && checkpoint.base.sha256 == *base && checkpoint.kind == Kind::Failed
        };
        self.checkpoints.iter().rev().filter(fits).find(|checkpoint| self.chain(&checkpoint.id).is_some())
    }

    /// A checkpoint with all that it stands on, the base's first; `None` when one of them is missing.
    #[must_use]
    pub fn chain(&self, id: &str) -> Option<Vec<&Checkpoint>> {
        let mut chain = vec![self.get(id)?];
        while let Some(parent) = &chain[chain.len() - 1].parent {
            // One that stands on itself is none.
            if chain.len() > self.checkpoints.len() {
                return None;
            }
            let above = chain[chain.len() - 1];
            chain.push(self.get(parent).filter(|parent| parent.base == above.base)?);
        }
        chain.reverse();
        Some(chain)
    }

    /// Those that stand directly on this one.
    pub fn children<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Checkpoint> {
        self.checkpoints.iter().filter(move |checkpoint| checkpoint.parent.as_deref() == Some(id))
    }

    /// A checkpoint and all that stand on it, each after what it stands on.
    #[must_use]
    pub fn subtree(&self, id: &str) -> Vec<String> {
        let mut found = vec![id.to_owned()];
        let mut at = 0;
        while at < found.len() {
            let parent = found[at].clone();
            // One that stands on itself is there already.
            let newer = self.newer.iter().filter(|newer| newer.parent.as_ref() == Some(&parent));
            let children = self.children(&parent).map(|child| &child.id).chain(newer.map(|newer| &newer.id));
            let new: Vec<_> = children.filter(|id| !found.contains(id)).cloned().collect();
            found.extend(new);
            at += 1;
        }
        found
    }

    /// Those that nothing can be made of: a parent is gone.
    #[must_use]
    pub fn orphans(&self) -> BTreeSet<String> {
        let lost = self.checkpoints.iter().filter(|checkpoint| self.is_lost(checkpoint));
        lost.map(|checkpoint| checkpoint.id.clone()).collect()
    }

    /// Whether it is of use to no dsimg. One that stands on what a newer dsimg has made is of use to that.
    pub(crate) fn is_lost(&self, checkpoint: &Checkpoint) -> bool {
        if self.chain(&checkpoint.id).is_some() {
            return false;
        }
        let mut at = checkpoint;
        for _ in 0..=self.checkpoints.len() {
            let Some(parent) = &at.parent else { return true };
            if self.newer.iter().any(|newer| newer.id == *parent) {
                return false;
            }
            let Some(below) = self.get(parent) else { return true };
            at = below;
        }
        true
    }

    /// The newest of this image's stage: what a changed stage is compared with.
    #[must_use]
    pub fn latest_of_stage(&self, image: &str, label: &str) -> Option<&Checkpoint> {
        let is_it = |checkpoint: &&Checkpoint| {
            checkpoint.image == image && checkpoint.label == label && checkpoint.kind == Kind::Stage
        };
        self.checkpoints.iter().rev().find(is_it)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::checkpoint::{Base, FORMAT, FileFacts};

    pub(crate) fn digest(text: &str) -> Digest {
        Digest::of_bytes(text.as_bytes())
    }

    pub(crate) fn checkpoint(id: &str, parent: Option<&str>, key: &str) -> Checkpoint {
        let file = FileFacts { size: 10, allocated: 10, sha256: digest("file") };
        Checkpoint {
            format: FORMAT,
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            base: Base { path: "bases/b/base.qcow2".to_owned(), sha256: digest("base") },
            depth: 1,
            key: digest(key),
            locked_key: None,
            kind: Kind::Stage,
            label: key.to_owned(),
            image: "ds".to_owned(),
            inputs: serde_json::json!({}),
            disk: file.clone(),
            memory: None,
            access: file,
            made: Timestamp::UNIX_EPOCH,
            notes: serde_json::Value::Null,
        }
    }

    fn listing() -> Listing {
        let checkpoints = vec![
            checkpoint("boot", None, "boot"),
            checkpoint("apt", Some("boot"), "apt"),
            checkpoint("pip", Some("apt"), "pip"),
            checkpoint("pip-2", Some("gone"), "pip"),
            checkpoint("other", Some("boot"), "other"),
        ];
        Listing { checkpoints, ..Listing::default() }
    }

    fn ids(checkpoints: &[&Checkpoint]) -> Vec<String> {
        checkpoints.iter().map(|checkpoint| checkpoint.id.clone()).collect()
    }

    #[test]
    fn the_newest_whole_one_is_found() {
        let mut listing = listing();
        assert_eq!(listing.find(&digest("pip"), &digest("base")).unwrap().id, "pip");
        assert_eq!(listing.find(&digest("pip"), &digest("another base")), None);
        listing.checkpoints.push(checkpoint("pip-3", Some("apt"), "pip"));
        assert_eq!(listing.find(&digest("pip"), &digest("base")).unwrap().id, "pip-3");
        listing.checkpoints[5].kind = Kind::Failed;
        assert_eq!(listing.find(&digest("pip"), &digest("base")).unwrap().id, "pip");
        assert_eq!(listing.find_failed(&digest("pip"), &digest("base")).unwrap().id, "pip-3");
    }

    #[test]
    fn chains_and_subtrees_follow_the_parents() {
        let listing = listing();
        assert_eq!(ids(&listing.chain("pip").unwrap()), ["boot", "apt", "pip"]);
        assert_eq!(listing.chain("pip-2"), None);
        assert_eq!(listing.subtree("apt"), ["apt", "pip"]);
        assert_eq!(listing.subtree("boot"), ["boot", "apt", "other", "pip"]);
        assert_eq!(listing.orphans(), BTreeSet::from(["pip-2".to_owned()]));
    }

    #[test]
    fn one_that_stands_on_itself_is_not_whole() {
        let listing = Listing { checkpoints: vec![checkpoint("a", Some("a"), "a")], ..Listing::default() };
        assert_eq!(listing.chain("a"), None);
        assert_eq!(listing.subtree("a"), ["a"]);
    }

    #[test]
    fn what_a_newer_dsimg_made_takes_part() {
        let mut listing = listing();
        let newer =
            |id: &str, parent: &str| Newer { id: id.to_owned(), parent: Some(parent.to_owned()), format: FORMAT + 1 };
        listing.newer = vec![newer("new", "pip"), newer("gone", "boot")];
        assert_eq!(listing.subtree("apt"), ["apt", "pip", "new"]);
        assert_eq!(listing.subtree("gone"), ["gone", "pip-2"]);
        assert_eq!(listing.orphans(), BTreeSet::new());
        assert_eq!(listing.chain("pip-2"), None);
    }
}
