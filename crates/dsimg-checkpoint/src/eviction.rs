//! What goes when the store is over its budget or its checkpoints are old: decided without touching a file.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::checkpoint::{Checkpoint, Kind};
use crate::listing::Listing;
use crate::packing::Packing;

/// A point of failure is looked into soon or never.
const FAILED_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// A memory that is used each day is not worth the time to unpack it.
const PLAIN_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// What the store may hold.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Bytes on the disk.
    pub budget: Option<u64>,
    /// Not used for so long.
    pub older_than: Option<SignedDuration>,
    /// Never removed, nor what they stand on.
    pub keep: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Eviction {
    /// The disk stays; a build that starts from it boots.
    DropMemory(String),
    Remove(String),
}

/// In the order in which it is to be done: what is of no use, what is old, and then, as far as the budget asks, memory
/// states before disks, each the longest unused first. One that others stand on goes after them.
#[must_use]
pub fn evict(listing: &Listing, used: &BTreeMap<String, Timestamp>, now: Timestamp, policy: &Policy) -> Vec<Eviction> {
    let mut left = Left::new(listing, used, policy);
    let failed_life = policy.older_than.map_or(FAILED_LIFE, |limit| limit.min(FAILED_LIFE));
    left.remove_where(|checkpoint, _| listing.is_lost(checkpoint));
    left.remove_where(|checkpoint, used| checkpoint.kind == Kind::Failed && now.duration_since(used) > failed_life);
    if let Some(limit) = policy.older_than {
        left.remove_where(|_, used| now.duration_since(used) > limit);
    }
    if let Some(budget) = policy.budget {
        left.drop_memories_until(budget);
        left.remove_until(budget);
    }
    left.evicted
}

/// Those whose memory is to be compressed: kept plain, though nobody used it for a day. The longest unused first.
#[must_use]
pub fn to_compress<'a>(
    listing: &'a Listing,
    used: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<&'a Checkpoint> {
    let last_used = |checkpoint: &Checkpoint| used.get(&checkpoint.id).copied().unwrap_or(checkpoint.made);
    let is_one = |checkpoint: &&Checkpoint| {
        checkpoint.memory.is_some()
            && listing.packing(&checkpoint.id) == Packing::Plain
            && now.duration_since(last_used(checkpoint)) > PLAIN_LIFE
    };
    let mut found: Vec<_> = listing.checkpoints.iter().filter(is_one).collect();
    found.sort_by_key(|checkpoint| last_used(checkpoint));
    found
}

/// What is there after the evictions decided until now.
struct Left<'a> {
    /// What others stand on that can't go before it.
    kept_parents: BTreeSet<&'a str>,
    /// The longest unused first.
    checkpoints: Vec<(&'a Checkpoint, Timestamp)>,
    keep: BTreeSet<&'a str>,
    without_memory: BTreeSet<&'a str>,
    evicted: Vec<Eviction>,
}

impl<'a> Left<'a> {
    fn new(listing: &'a Listing, used: &BTreeMap<String, Timestamp>, policy: &'a Policy) -> Self {
        let last_used = |checkpoint: &Checkpoint| used.get(&checkpoint.id).copied().unwrap_or(checkpoint.made);
        let mut checkpoints: Vec<_> =
            listing.checkpoints.iter().map(|checkpoint| (checkpoint, last_used(checkpoint))).collect();
        checkpoints.sort_by_key(|(_, used)| *used);
        let chains = policy.keep.iter().filter_map(|id| listing.chain(id)).flatten();
        let keep =
            chains.map(|checkpoint| checkpoint.id.as_str()).chain(policy.keep.iter().map(String::as_str)).collect();
        let kept_parents = listing.newer.iter().filter_map(|newer| newer.parent.as_deref()).collect();
        Self { kept_parents, checkpoints, keep, without_memory: BTreeSet::new(), evicted: Vec::new() }
    }

    fn allocated(&self) -> u64 {
        let of = |checkpoint: &Checkpoint| {
            let dropped = self.without_memory.contains(checkpoint.id.as_str());
            if dropped { checkpoint.disk.allocated } else { checkpoint.allocated() }
        };
        self.checkpoints.iter().map(|(checkpoint, _)| of(checkpoint)).sum()
    }

    fn remove_where(&mut self, goes: impl Fn(&Checkpoint, Timestamp) -> bool) {
        // A leaf that goes makes another one a leaf.
        while let Some(leaf) = self.leaf(&goes) {
            self.remove(leaf);
        }
    }

    fn remove_until(&mut self, budget: u64) {
        while self.allocated() > budget {
            let Some(leaf) = self.leaf(&|_, _| true) else { return };
            self.remove(leaf);
        }
    }

    fn drop_memories_until(&mut self, budget: u64) {
        for (checkpoint, _) in self.checkpoints.clone() {
            if self.allocated() <= budget {
                return;
            }
            if checkpoint.memory.is_some() && !self.keep.contains(checkpoint.id.as_str()) {
                self.without_memory.insert(&checkpoint.id);
                self.evicted.push(Eviction::DropMemory(checkpoint.id.clone()));
            }
        }
    }

    /// The longest unused that nothing stands on.
    fn leaf(&self, goes: &impl Fn(&Checkpoint, Timestamp) -> bool) -> Option<usize> {
        let parents: BTreeSet<_> =
            self.checkpoints.iter().filter_map(|(checkpoint, _)| checkpoint.parent.as_deref()).collect();
        self.checkpoints.iter().position(|(checkpoint, used)| {
            let id = checkpoint.id.as_str();
            !parents.contains(id)
                && !self.kept_parents.contains(id)
                && !self.keep.contains(id)
                && goes(checkpoint, *used)
        })
    }

    fn remove(&mut self, index: usize) {
        let (checkpoint, _) = self.checkpoints.remove(index);
        // What is removed whole need not lose its memory before.
        self.evicted.retain(|eviction| *eviction != Eviction::DropMemory(checkpoint.id.clone()));
        self.evicted.push(Eviction::Remove(checkpoint.id.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{FileFacts, Memory};
    use crate::listing::Newer;
    use crate::listing::tests::{checkpoint, digest};

    /// Each 10 bytes of disk and 100 of memory; used at the second given.
    fn store(checkpoints: &[(&str, Option<&str>, i64)]) -> (Listing, BTreeMap<String, Timestamp>) {
        let made = checkpoints.iter().map(|(id, parent, _)| {
            let file = FileFacts { size: 100, allocated: 100, sha256: digest("memory") };
            let memory = Memory { key: digest("fit"), facts: BTreeMap::new(), file };
            Checkpoint { memory: Some(memory), ..checkpoint(id, *parent, id) }
        });
        let used = checkpoints.iter().map(|(id, _, at)| ((*id).to_owned(), Timestamp::from_second(*at).unwrap()));
        (Listing { checkpoints: made.collect(), ..Listing::default() }, used.collect())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn words(evictions: &[Eviction]) -> Vec<String> {
        let word = |eviction: &Eviction| match eviction {
            Eviction::DropMemory(id) => format!("memory of {id}"),
            Eviction::Remove(id) => id.clone(),
        };
        evictions.iter().map(word).collect()
    }

    #[test]
    fn memories_go_before_disks_and_the_longest_unused_first() {
        let (listing, used) = store(&[("boot", None, 30), ("apt", Some("boot"), 10), ("pip", Some("apt"), 20)]);
        let evicted =
            |budget| words(&evict(&listing, &used, at(40), &Policy { budget: Some(budget), ..Policy::default() }));
        assert_eq!(evicted(330), [""; 0]);
        assert_eq!(evicted(329), ["memory of apt"]);
        assert_eq!(evicted(150), ["memory of apt", "memory of pip"]);
        assert_eq!(evicted(25), ["memory of apt", "memory of boot", "pip"]);
        assert_eq!(evicted(0), ["pip", "apt", "boot"]);
    }

    #[test]
    fn what_is_old_goes_and_what_is_kept_stays_with_what_it_stands_on() {
        let (listing, used) = store(&[("boot", None, 0), ("apt", Some("boot"), 0), ("pip", Some("apt"), 0)]);
        let old = Policy { older_than: Some(SignedDuration::from_secs(5)), ..Policy::default() };
        assert_eq!(words(&evict(&listing, &used, at(10), &old)), ["pip", "apt", "boot"]);
        assert_eq!(words(&evict(&listing, &used, at(5), &old)), [""; 0]);
        let keep = Policy { keep: BTreeSet::from(["apt".to_owned()]), ..old };
        assert_eq!(words(&evict(&listing, &used, at(10), &keep)), ["pip"]);
    }

    #[test]
    fn an_old_one_that_a_used_one_stands_on_stays() {
        let (listing, used) = store(&[("boot", None, 0), ("apt", Some("boot"), 9)]);
        let old = Policy { older_than: Some(SignedDuration::from_secs(5)), ..Policy::default() };
        assert_eq!(words(&evict(&listing, &used, at(10), &old)), [""; 0]);
    }

    #[test]
    fn orphans_and_old_failures_are_of_no_use() {
        let (mut listing, used) =
            store(&[("boot", None, 100_000), ("lost", Some("gone"), 100_000), ("failed", Some("boot"), 0)]);
        listing.checkpoints[2].kind = Kind::Failed;
        assert_eq!(words(&evict(&listing, &used, at(100_000), &Policy::default())), ["lost", "failed"]);
    }

    #[test]
    fn what_a_newer_dsimg_stands_on_stays_and_what_stands_on_it_is_no_orphan() {
        let (mut listing, used) =
            store(&[("boot", None, 0), ("apt", Some("boot"), 0), ("pip", Some("boot"), 0), ("on", Some("new"), 0)]);
        listing.newer = vec![Newer { id: "new".to_owned(), parent: Some("apt".to_owned()), format: 2 }];
        assert_eq!(words(&evict(&listing, &used, at(10), &Policy::default())), [""; 0]);
        let old = Policy { older_than: Some(SignedDuration::from_secs(5)), ..Policy::default() };
        assert_eq!(words(&evict(&listing, &used, at(10), &old)), ["pip", "on"]);
    }

    #[test]
    fn memories_that_nobody_used_for_a_day_are_compressed_once() {
        let day = 24 * 60 * 60;
        let (mut listing, used) =
            store(&[("boot", None, 20), ("apt", None, 10), ("pip", None, 30), ("r", None, 0), ("no", None, 0)]);
        listing.checkpoints[4].memory = None;
        let tried = listing.checkpoints.remove(3);
        listing.add(tried, Packing::NotWorthwhile);
        let ids = |now| -> Vec<_> {
            to_compress(&listing, &used, at(now)).into_iter().map(|checkpoint| checkpoint.id.as_str()).collect()
        };
        assert_eq!(ids(day + 10), [""; 0]);
        assert_eq!(ids(day + 30), ["apt", "boot"]);
        assert_eq!(ids(2 * day), ["apt", "boot", "pip"]);
    }
}
