//! How far an image is what its lock says, by its own bytes.

use std::path::Path;

use dsimg_build::lock::{NO_LOCK, differing};
use dsimg_manifest::lock::LockedImage;
use dsimg_manifest::manifest::Level;
use dsimg_manifest::{Lock, Manifest};
use dsimg_provenance::verify::Problem;
use dsimg_tree::{Disk, Times, TreeError, read_tree};

const MANIFEST: &str = "manifest.json";
/// So many packages are named.
const NAMED: usize = 5;
const FROM_SOURCE: &str = "give the lock that the image was built from, or do not use the image";

/// The level, and why it is not a higher one.
pub(super) struct Proven {
    pub(super) level: Level,
    pub(super) reasons: Vec<String>,
}

impl Proven {
    /// Where something is wrong, nothing is proved.
    pub(super) fn nothing() -> Self {
        Self { level: Level::R0, reasons: vec!["something is wrong, see below".to_owned()] }
    }
}

/// Levels are those of docs/locks.md; each needs all that those below it need, and none is proved where there are problems.
pub(super) fn of(manifest: &Manifest, lock: &Lock, disk: Option<&Path>) -> (Proven, Vec<Problem>) {
    let mut problems = against_lock(manifest, lock);
    let tree = disk.map(trees);
    problems.extend(against_claim(manifest, tree.as_ref(), disk));
    let (level, reasons) = level(manifest, lock, tree.as_ref());
    (Proven { level, reasons }, problems)
}

/// Packages to the last entry, and the base.
fn against_lock(manifest: &Manifest, lock: &Lock) -> Vec<Problem> {
    let problem = |what: String| Problem { file: MANIFEST.to_owned(), what, hint: FROM_SOURCE.to_owned() };
    let mut problems = Vec::new();
    if manifest.base.sha256 != lock.base.sha256 {
        problems.push(problem("the image has another base than the lock".to_owned()));
    }
    let differing = differing(lock, &manifest.packages);
    if !differing.is_empty() {
        let shown: Vec<_> = differing.iter().take(NAMED).map(ToString::to_string).collect();
        let more = differing.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        problems.push(problem(format!("its packages are not those of the lock: {}{more}", shown.join(", "))));
    }
    problems
}

/// Of the listing of all files: with their times, as of a sealed disk, and without.
type Trees = Result<[String; 2], TreeError>;

fn trees(disk: &Path) -> Trees {
    let tree = read_tree(&Disk::open(disk)?.root()?)?;
    Ok([Times::Included, Times::LeftOut].map(|times| tree.digest(times).to_string()))
}

/// The files on the disk are those that the manifest is about.
fn against_claim(manifest: &Manifest, tree: Option<&Trees>, disk: Option<&Path>) -> Option<Problem> {
    let claimed = manifest.build.reproducibility.as_ref()?.tree.as_ref()?;
    let Some(Ok(found)) = tree else { return None };
    let name = disk?.file_name()?.to_string_lossy().into_owned();
    (!found.contains(claimed)).then(|| Problem {
        file: name,
        what: "its files are not those that the manifest tells of".to_owned(),
        hint: "do not use the image: fetch it again from where it was published".to_owned(),
    })
}

fn level(manifest: &Manifest, lock: &Lock, tree: Option<&Trees>) -> (Level, Vec<String>) {
    let by_bytes = by_bytes(manifest, lock.image.as_ref(), tree);
    if let (level @ (Level::R3 | Level::R4), reasons) = by_bytes {
        return (level, reasons);
    }
    // Where the bytes of packages came from, no image shows: that is the word of its build.
    let (_, mut reasons) = by_bytes;
    let claimed = manifest.build.reproducibility.as_ref();
    match claimed {
        Some(claimed) if claimed.level >= Level::R2 && lock.unfrozen.is_empty() => {
            reasons.push("that nothing came another way than from the lock is the word of the build".to_owned());
            (Level::R2, reasons)
        }
        Some(claimed) => {
            let own = if claimed.level >= Level::R2 { &[][..] } else { &claimed.reasons };
            reasons.extend(own.iter().map(|reason| match reason.as_str() {
                // There is one now.
                NO_LOCK => "it was built without a lock".to_owned(),
                other => other.to_owned(),
            }));
            let unfrozen = lock.unfrozen.iter().filter(|_| own.is_empty());
            reasons.extend(unfrozen.map(|stage| format!("stage `{}` used the network by itself", stage.stage)));
            (Level::R1, reasons)
        }
        None => {
            reasons.push("the manifest says nothing of where packages came from".to_owned());
            (Level::R1, reasons)
        }
    }
}

/// R0 stands for neither of the two that the image's bytes prove.
fn by_bytes(manifest: &Manifest, first: Option<&LockedImage>, tree: Option<&Trees>) -> (Level, Vec<String>) {
    let Some(first) = first else {
        return (Level::R0, vec!["the lock knows no image yet that this one could be compared with".to_owned()]);
    };
    let why_not = match tree {
        None => "there is no disk here whose files can be read".to_owned(),
        Some(Err(error)) => format!("the disk's files can't be read: {error}"),
        Some(Ok(found)) if !found.contains(&first.tree) => {
            "its files are not all those of the lock's first image".to_owned()
        }
        Some(Ok(_)) => return by_disks(manifest, first),
    };
    (Level::R0, vec![why_not])
}

/// The digests in the manifest were held against the files before.
fn by_disks(manifest: &Manifest, first: &LockedImage) -> (Level, Vec<String>) {
    if first.disks.is_empty() {
        return (Level::R3, vec!["the disk is not sealed: `[image] seal = true`".to_owned()]);
    }
    let artifacts = &manifest.build.artifacts;
    let known: Vec<_> = artifacts.iter().filter_map(|one| Some((&one.sha256, first.disks.get(&one.format)?))).collect();
    if !known.is_empty() && known.iter().all(|(found, first)| found == first) {
        (Level::R4, Vec::new())
    } else {
        (Level::R3, vec!["the disk is another one than the lock's first: another version of qemu-img?".to_owned()])
    }
}
