//! How far the same template gives the same image on another day, and why not further.

use std::collections::{BTreeMap, BTreeSet};

use dsimg_manifest::Frozen;
use dsimg_manifest::lock::{Lock, is_exact, is_locked_kind};
use dsimg_manifest::manifest::{BASE, Level, Package, Reproducibility};

use super::compare::differing;

/// The first reason of an image that was built without a lock.
pub const NO_LOCK: &str = "there is no lock: `dsimg lock` makes one";
/// So many of a kind are named.
const NAMED: usize = 3;

/// What a build came to.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub epoch: i64,
    /// That was kept to in all stages.
    pub lock: Option<&'a Lock>,
    /// The lock is not written to.
    pub strict: bool,
    pub packages: &'a Frozen,
    pub reached: &'a BTreeMap<String, BTreeSet<String>>,
    /// Whether all connections of the machine were seen.
    pub watched: bool,
    pub sealed: bool,
    /// sha256 of the listing of all files.
    pub tree: Option<&'a str>,
    /// sha256 of the image files, by format.
    pub disks: &'a BTreeMap<String, String>,
}

/// Each level needs all that those below it need.
#[must_use]
pub fn reproducibility(facts: &Facts<'_>, lock_sha256: Option<String>) -> Reproducibility {
    let (level, reasons) = level(facts);
    Reproducibility { level, reasons, epoch: facts.epoch, lock: lock_sha256, tree: facts.tree.map(str::to_owned) }
}

fn level(facts: &Facts<'_>) -> (Level, Vec<String>) {
    let Some(lock) = facts.lock else {
        let mut reasons = vec![NO_LOCK.to_owned()];
        reasons.extend(beyond_packages(facts, None));
        return (Level::R0, reasons);
    };
    let differing = differing(lock, facts.packages);
    if !differing.is_empty() {
        let shown = differing.iter().map(ToString::to_string).collect();
        return (Level::R0, vec![format!("packages differ from the lock: {}", few(shown))]);
    }
    let loose = beyond_packages(facts, Some(lock));
    if !loose.is_empty() {
        return (Level::R1, loose);
    }
    let Some(image) = &lock.image else {
        let why = match facts.strict {
            true => "the lock knows no image to compare with: a build without `--locked` puts the first one into it",
            false => "this is the first image from its lock: the next one is compared with it",
        };
        return (Level::R2, vec![why.to_owned()]);
    };
    match facts.tree {
        None => return (Level::R2, vec!["the image's files were not read".to_owned()]),
        Some(tree) if tree != image.tree => {
            let why = "its files are not all those of the lock's first image";
            return (Level::R2, vec![why.to_owned()]);
        }
        Some(_) => {}
    }
    if !facts.sealed {
        return (Level::R3, vec!["the disk is not sealed: `[image] seal = true`".to_owned()]);
    }
    let exact: Vec<_> = facts.disks.iter().filter(|(format, _)| is_exact(format)).collect();
    if exact.is_empty() {
        return (
            Level::R3,
            vec!["the image has neither a qcow2 nor a raw file: other formats carry random ids".to_owned()],
        );
    }
    if exact.iter().all(|(format, sha256)| image.disks.get(*format) == Some(sha256)) {
        return (Level::R4, Vec::new());
    }
    (Level::R3, vec!["the disk is another one than the lock's first: another version of qemu-img?".to_owned()])
}

/// What no lock can bind.
fn beyond_packages(facts: &Facts<'_>, lock: Option<&Lock>) -> Vec<String> {
    let mut reasons = Vec::new();
    for (stage, reached) in facts.reached.iter().filter(|(_, reached)| !reached.is_empty()) {
        let reached = few(reached.iter().cloned().collect());
        reasons.push(format!("not reproducible: stage `{stage}` used the network: {reached}"));
    }
    if !facts.watched {
        reasons.push("nobody watched whether stages used the network by themselves".to_owned());
    }
    if let Some(lock) = lock {
        let bound = |package: &&Package| is_bound(package, lock);
        let loose = facts.packages.iter().filter(|package| is_locked_kind(package) && !bound(package));
        let mut by_stage: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for package in loose {
            by_stage.entry(&package.stage).or_default().push(format!("{} {}", package.name, package.version));
        }
        for (stage, names) in by_stage {
            reasons.push(format!("stage `{stage}` installed what dsimg did not bring: {}", few(names)));
        }
    }
    reasons
}

/// What came with the base is bound by it, and local files by the stage's inputs.
fn is_bound(package: &Package, lock: &Lock) -> bool {
    let same = |name: &str, version: &str| name == package.name && version == package.version;
    package.stage == BASE
        || match package.ecosystem.as_str() {
            "deb" => lock.deb.iter().any(|deb| same(&deb.name, &deb.version) && deb.artifact.is_some()),
            "pypi" => lock.pypi.iter().any(|one| same(&one.name, &one.version) && one.artifact.is_some()),
            _ => lock.cran.iter().any(|one| same(&one.name, &one.version) && one.artifact.is_some()),
        }
}

fn few(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use dsimg_manifest::lock::LockedImage;

    use super::*;

    fn lock(image: Option<LockedImage>) -> Lock {
        Lock { image, ..Lock::default() }
    }

    fn disks(disks: &[(&str, &str)]) -> BTreeMap<String, String> {
        disks.iter().map(|(format, sha256)| ((*format).to_owned(), (*sha256).to_owned())).collect()
    }

    /// Level and reasons of a sealed image with the tree `t` and these disks.
    fn of(image: Option<LockedImage>, made: &[(&str, &str)], change: impl FnOnce(&mut Facts<'_>)) -> (Level, String) {
        let (lock, made) = (lock(image), disks(made));
        let mut facts = Facts {
            epoch: 0,
            lock: Some(&lock),
            strict: false,
            packages: &Vec::new(),
            reached: &BTreeMap::new(),
            watched: true,
            sealed: true,
            tree: Some("t"),
            disks: &made,
        };
        change(&mut facts);
        let found = reproducibility(&facts, None);
        (found.level, found.reasons.join("; "))
    }

    #[test]
    fn a_level_is_reached_with_all_that_is_below_it_and_says_what_is_missing() {
        let image = |tree: &str| Some(LockedImage { tree: tree.to_owned(), disks: disks(&[("qcow2", "q")]) });
        let same: &[_] = &[("qcow2", "q"), ("vmdk", "another each time")];
        let keep = |_: &mut Facts<'_>| ();
        assert_eq!(of(image("t"), same, keep), (Level::R4, String::new()));

        let (level, why) = of(image("t"), &[("qcow2", "p")], keep);
        assert!(level == Level::R3 && why.contains("another version of qemu-img"), "{why}");
        let (level, why) = of(image("t"), &[("vmdk", "q")], keep);
        assert!(level == Level::R3 && why.contains("neither a qcow2 nor a raw file"), "{why}");
        let (level, why) = of(image("t"), same, |facts| facts.sealed = false);
        assert!(level == Level::R3 && why.contains("not sealed"), "{why}");

        let (level, why) = of(image("other"), same, keep);
        assert!(level == Level::R2 && why.contains("not all those"), "{why}");
        let (level, why) = of(None, same, keep);
        assert!(level == Level::R2 && why.contains("the next one is compared"), "{why}");
        let (level, why) = of(None, same, |facts| facts.strict = true);
        assert!(level == Level::R2 && why.contains("without `--locked`"), "{why}");

        let (level, why) = of(image("t"), same, |facts| facts.watched = false);
        assert!(level == Level::R1 && why.contains("nobody watched"), "{why}");
        let (level, why) = of(image("t"), same, |facts| facts.lock = None);
        assert!(level == Level::R0 && why.contains("there is no lock"), "{why}");
    }
}
