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
use super::licences::fill_licences;
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

/// The lock of a build; all that it names is in the package store then. Of packages that are in the lock `before`, too, it has
/// the licences from there.
///
/// # Errors
/// A tool can't be had, or a file that was fetched is not in the store any more.
pub async fn lock_of(
    stock: Stock,
    before: Option<Lock>,
    plan: &Plan,
    access: &Access,
    run: &RunContext,
) -> Result<Lock, BuildError> {
    let tools = tools::locked(&plan.stages, &plan.network, access, run).await?;
    let (store, plan) = (Store::open(&run.cache)?, plan.clone());
    // Package lists have tens of megabytes, and each package is looked into.
    let made = spawn_blocking(move || {
        let mut lock = make_lock(&stock, tools, &plan, &store)?;
        let unreadable = fill_licences(&mut lock, before, &store);
        Ok::<_, MirrorError>((lock, unreadable))
    });
    let (lock, unreadable) = made.await.map_err(|_| BuildError::Cancelled)??;
    for error in unreadable {
        run.warn(format!("{error}, so its licence is not known"));
    }
    Ok(lock)
}

fn make_lock(stock: &Stock, tools: Vec<LockedTool>, plan: &Plan, store: &Store) -> Result<Lock, MirrorError> {
    let of_base: Vec<_> = debs(&stock.packages).map(deb_name).collect();
    let parts = lock_parts(&stock.fetched, &of_base, store)?;
    let unfrozen = stock.reached.iter().filter(|(_, reached)| !reached.is_empty());
    let unfrozen = unfrozen.map(|(stage, reached)| Unfrozen { stage: stage.clone(), reached: reached.clone() });
    let pypi = python_of(&stock.packages, &parts);
    let cran = r_of(&stock.packages, &parts);
    let of_github: BTreeSet<_> = cran.iter().filter_map(|package| package.artifact.as_ref()).collect();
    let files = parts.files.iter().filter(|file| file.kind == FetchedKind::File && !of_github.contains(&file.artifact));
    let mut lock = Lock {
        epoch: stock.epoch,
        base: stock.base.clone(),
        tools,
        stages: stages_of(plan),
        indexes: parts.indexes.clone(),
        deb: debs_of(&stock.packages, &parts),
        files: files.map(locked_file).collect(),
        pypi,
        cran,
        unfrozen: unfrozen.collect(),
        image: None,
    };
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

fn debs_of(packages: &Frozen, parts: &LockParts) -> Vec<Deb> {
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

/// An installed package, what was fetched for it, or both.
#[derive(Clone, Copy)]
struct Brought<'p> {
    package: Option<&'p Package>,
    file: Option<&'p FilePart>,
}

impl Brought<'_> {
    fn name(self) -> String {
        let of_package = self.package.map(|package| &package.name);
        of_package.or(self.file.map(|file| &file.name)).cloned().unwrap_or_default()
    }

    fn version(self) -> String {
        let of_package = self.package.map(|package| &package.version);
        of_package.or(self.file.map(|file| &file.version)).cloned().unwrap_or_default()
    }

    fn location(self) -> String {
        self.package.map(|package| package.location.clone()).unwrap_or_default()
    }

    /// Bytes belong to the stage that fetched them; which one installed what the base had not is the freeze's to say.
    fn stage(self) -> String {
        let of_package = self.package.filter(|package| package.stage != BASE || self.file.is_none());
        of_package.map(|package| package.stage.clone()).or_else(|| Some(self.file?.stage.clone())).unwrap_or_default()
    }

    fn repository(self) -> String {
        self.file.map(|file| file.repository.clone()).unwrap_or_default()
    }

    fn artifact(self) -> Option<Artifact> {
        self.file.map(|file| file.artifact.clone())
    }

    fn is_requested(self) -> bool {
        self.package.is_some_and(|package| package.requested)
    }
}

/// Each package with its file, and after them each file of the kind that no package was installed from.
fn pair<'p>(
    packages: impl Iterator<Item = &'p Package>,
    parts: &'p LockParts,
    kind: FetchedKind,
    file_of: impl Fn(&'p Package, &[&'p FilePart]) -> Option<&'p FilePart>,
) -> Vec<Brought<'p>> {
    let files: Vec<_> = parts.files.iter().filter(|file| file.kind == kind).collect();
    let installed = packages.map(|package| Brought { package: Some(package), file: file_of(package, &files) });
    let mut brought: Vec<_> = installed.collect();
    let used: BTreeSet<_> = brought.iter().filter_map(|one| one.file.map(|file| &file.artifact)).collect();
    let passing = files.iter().filter(|file| !used.contains(&file.artifact));
    let passing: Vec<_> = passing.map(|file| Brought { package: None, file: Some(file) }).collect();
    brought.extend(passing);
    brought
}

/// One entry for each environment that a distribution is in, and one for each that is in none.
fn python_of(packages: &Frozen, parts: &LockParts) -> Vec<Distribution> {
    let installed = packages.iter().filter(|package| package.ecosystem == "pypi");
    let locked = |one: Brought<'_>| Distribution {
        name: one.name(),
        version: one.version(),
        location: one.location(),
        requested: one.is_requested(),
        stage: one.stage(),
        passing: one.package.is_none(),
        index: one.repository(),
        licence: None,
        artifact: one.artifact(),
    };
    pair(installed, parts, FetchedKind::PythonFile, |package, files| best(files, package))
        .into_iter()
        .map(locked)
        .collect()
}

/// Those that came as Debian packages are among these.
fn r_of(packages: &Frozen, parts: &LockParts) -> Vec<RPackage> {
    let installed = packages.iter().filter(|package| package.ecosystem == "cran" && package.origin != "deb");
    let file_of = |package, files: &[_]| match commit_of(package) {
        Some(commit) => archive_of(commit, parts),
        None => best(files, package),
    };
    let locked = |one: Brought<'_>| {
        let commit = one.package.and_then(commit_of);
        RPackage {
            name: one.name(),
            version: one.version(),
            location: one.location(),
            requested: one.is_requested(),
            stage: one.stage(),
            passing: one.package.is_none(),
            repository: if commit.is_some() { "github".to_owned() } else { one.repository() },
            commit: commit.map(str::to_owned),
            licence: None,
            artifact: one.artifact(),
        }
    };
    pair(installed, parts, FetchedKind::RPackage, file_of).into_iter().map(locked).collect()
}

/// `owner/name@commit` of a package from GitHub.
fn commit_of(package: &Package) -> Option<&str> {
    package.origin.strip_prefix("github:")
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

fn locked_file(file: &FilePart) -> LockedFile {
    LockedFile { stage: file.stage.clone(), artifact: file.artifact.clone() }
}
