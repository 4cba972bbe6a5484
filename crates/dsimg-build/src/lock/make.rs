//! What a build brought → its lock.

use std::collections::{BTreeMap, BTreeSet};

use dsimg_download::Access;
use dsimg_machine::RunContext;
use dsimg_manifest::lock::{
    Artifact, Deb, Distribution, Lock, LockedBase, LockedFile, LockedStage, LockedTool, RPackage, Unfrozen,
};
use dsimg_manifest::manifest::BASE;
use dsimg_manifest::{Frozen, Package};
use dsimg_mirror::{DebName, DebPart, Fetched, FetchedKind, FilePart, LockParts, MirrorError, lock_parts};
use dsimg_plan::Plan;
use dsimg_store::Store;
use tokio::task::spawn_blocking;

use super::fit::what_is_asked_for;
use crate::error::BuildError;
use crate::tools;

/// What is known when all stages of a plan are done.
#[derive(Debug, Clone)]
pub struct Stock {
    /// Seconds since 1970.
    pub epoch: i64,
    pub base: LockedBase,
    pub packages: Frozen,
    /// Of all stages, in their order.
    pub fetched: Vec<Fetched>,
    /// By stage, whom it called past dsimg.
    pub reached: BTreeMap<String, BTreeSet<String>>,
}

/// The lock of a build; all that it names is in the package store then.
///
/// # Errors
/// A tool can't be had, or a file that was fetched is not in the store any more.
pub async fn lock_of(stock: Stock, plan: &Plan, access: &Access, run: &RunContext) -> Result<Lock, BuildError> {
    let tools = tools::locked(&plan.stages, &plan.network, access, run).await?;
    let (store, plan) = (Store::open(&run.cache)?, plan.clone());
    // Package lists have tens of megabytes.
    let made = spawn_blocking(move || make_lock(&stock, tools, &plan, &store));
    Ok(made.await.map_err(|_| BuildError::Cancelled)??)
}

fn make_lock(stock: &Stock, tools: Vec<LockedTool>, plan: &Plan, store: &Store) -> Result<Lock, MirrorError> {
    let of_base: Vec<_> = debs(&stock.packages).map(deb_name).collect();
    let parts = lock_parts(&stock.fetched, &of_base, store)?;
    let unfrozen = stock.reached.iter().filter(|(_, reached)| !reached.is_empty());
    let mut lock = Lock {
        epoch: stock.epoch,
        base: stock.base.clone(),
        tools,
        stages: stages_of(plan),
        indexes: parts.indexes.clone(),
        deb: lock_debs(&stock.packages, &parts),
        pypi: Vec::new(),
        cran: Vec::new(),
        files: Vec::new(),
        unfrozen: unfrozen
            .map(|(stage, reached)| Unfrozen { stage: stage.clone(), reached: reached.clone() })
            .collect(),
        image: None,
    };
    let mut used = BTreeSet::new();
    lock_python(&stock.packages, &parts, &mut used, &mut lock);
    lock_r(&stock.packages, &parts, &mut used, &mut lock);
    lock.files = parts
        .files
        .iter()
        .filter(|file| file.kind == FetchedKind::File && !used.contains(&file.artifact))
        .map(locked_file)
        .collect();
    lock.deb.sort();
    lock.pypi.sort();
    lock.cran.sort();
    lock.files.sort();
    Ok(lock)
}

fn stages_of(plan: &Plan) -> Vec<LockedStage> {
    let (_, stages) = plan.stages.split_last().expect("every plan ends with the hygiene stage");
    let locked = |stage: &dsimg_plan::Stage| LockedStage {
        label: stage.label.clone(),
        provisioner: stage.provisioner.clone(),
        version: stage.provisioner_version,
        inputs: what_is_asked_for(stage),
    };
    stages.iter().map(locked).collect()
}

fn debs(packages: &Frozen) -> impl Iterator<Item = &Package> {
    packages.iter().filter(|package| package.ecosystem == "deb")
}

fn deb_name(package: &Package) -> DebName {
    DebName { name: package.name.clone(), version: package.version.clone(), arch: package.architecture.clone() }
}

fn lock_debs(packages: &Frozen, parts: &LockParts) -> Vec<Deb> {
    let fetched: BTreeMap<_, _> = parts.debs.iter().map(|part| (&part.package, part)).collect();
    let installed: BTreeSet<_> = debs(packages).map(deb_name).collect();
    let passing = parts.debs.iter().filter(|part| !installed.contains(&part.package));
    debs(packages)
        .map(|package| installed_deb(package, fetched.get(&deb_name(package)).copied()))
        .chain(passing.map(passing_deb))
        .collect()
}

fn installed_deb(package: &Package, part: Option<&DebPart>) -> Deb {
    let (source, source_version) = package.source_package();
    Deb {
        name: package.name.clone(),
        version: package.version.clone(),
        arch: package.architecture.clone(),
        source: source.to_owned(),
        source_version: source_version.to_owned(),
        requested: package.requested,
        stage: part.map_or(&package.stage, |part| &part.stage).clone(),
        passing: false,
        index: part.and_then(|part| part.index.clone()),
        origin: package.origin.clone(),
        licence: None,
        artifact: part.map(|part| part.artifact.clone()),
    }
}

fn passing_deb(part: &DebPart) -> Deb {
    Deb {
        name: part.package.name.clone(),
        version: part.package.version.clone(),
        arch: part.package.arch.clone(),
        source: part.source.clone(),
        source_version: part.source_version.clone(),
        requested: false,
        stage: part.stage.clone(),
        passing: true,
        index: part.index.clone(),
        origin: String::new(),
        licence: None,
        artifact: Some(part.artifact.clone()),
    }
}

/// One entry for each environment that a distribution is in, and one for each that is in none.
fn lock_python(packages: &Frozen, parts: &LockParts, used: &mut BTreeSet<Artifact>, lock: &mut Lock) {
    let files: Vec<_> = parts.files.iter().filter(|file| file.kind == FetchedKind::PythonFile).collect();
    for package in packages.iter().filter(|package| package.ecosystem == "pypi") {
        let file = best(&files, package);
        used.extend(file.map(|file| file.artifact.clone()));
        lock.pypi.push(Distribution {
            name: package.name.clone(),
            version: package.version.clone(),
            location: package.location.clone(),
            requested: package.requested,
            stage: stage_of(package, file),
            passing: false,
            index: file.map(|file| file.repository.clone()).unwrap_or_default(),
            licence: None,
            artifact: file.map(|file| file.artifact.clone()),
        });
    }
    for file in files.iter().filter(|file| !used.contains(&file.artifact)) {
        lock.pypi.push(Distribution {
            name: file.name.clone(),
            version: file.version.clone(),
            location: String::new(),
            requested: false,
            stage: file.stage.clone(),
            passing: true,
            index: file.repository.clone(),
            licence: None,
            artifact: Some(file.artifact.clone()),
        });
    }
}

/// Those that came as Debian packages are among these.
fn lock_r(packages: &Frozen, parts: &LockParts, used: &mut BTreeSet<Artifact>, lock: &mut Lock) {
    let files: Vec<_> = parts.files.iter().filter(|file| file.kind == FetchedKind::RPackage).collect();
    for package in packages.iter().filter(|package| package.ecosystem == "cran" && package.origin != "deb") {
        let commit = package.origin.strip_prefix("github:").map(str::to_owned);
        let file = match &commit {
            Some(commit) => archive_of(commit, parts),
            None => best(&files, package),
        };
        used.extend(file.map(|file| file.artifact.clone()));
        let repository = match &commit {
            Some(_) => "github".to_owned(),
            None => file.map(|file| file.repository.clone()).unwrap_or_default(),
        };
        lock.cran.push(RPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            location: package.location.clone(),
            requested: package.requested,
            stage: stage_of(package, file),
            passing: false,
            repository,
            commit,
            licence: None,
            artifact: file.map(|file| file.artifact.clone()),
        });
    }
    for file in files.iter().filter(|file| !used.contains(&file.artifact)) {
        lock.cran.push(RPackage {
            name: file.name.clone(),
            version: file.version.clone(),
            location: String::new(),
            requested: false,
            stage: file.stage.clone(),
            passing: true,
            repository: file.repository.clone(),
            commit: None,
            licence: None,
            artifact: Some(file.artifact.clone()),
        });
    }
}

/// The file that a package was installed from: one of its own stage, where there are several.
fn best<'p>(files: &[&'p FilePart], package: &Package) -> Option<&'p FilePart> {
    let is_it = |file: &&&FilePart| file.name == package.name && file.version == package.version;
    let of_stage = files.iter().filter(is_it).find(|file| file.stage == package.stage);
    of_stage.or_else(|| files.iter().find(is_it)).copied()
}

/// The archive of `owner/name@commit`.
fn archive_of<'p>(commit: &str, parts: &'p LockParts) -> Option<&'p FilePart> {
    let (_, hash) = commit.split_once('@')?;
    parts.files.iter().find(|file| file.kind == FetchedKind::File && file.artifact.url.contains(hash))
}

/// Bytes belong to the stage that fetched them first; what was found in the store's own way is the freeze's to say.
fn stage_of(package: &Package, file: Option<&FilePart>) -> String {
    match file {
        Some(_) if package.stage != BASE => package.stage.clone(),
        Some(file) => file.stage.clone(),
        None => package.stage.clone(),
    }
}

fn locked_file(file: &FilePart) -> LockedFile {
    LockedFile { stage: file.stage.clone(), artifact: file.artifact.clone() }
}
