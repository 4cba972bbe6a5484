//! What was installed beside what the lock says.

use std::collections::{BTreeMap, BTreeSet};

use dsimg_manifest::lock::{Lock, is_locked_kind};
use dsimg_manifest::{Frozen, Package};

/// One package that is not as the lock says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Differing {
    /// In the lock, and not in the machine.
    Missing(String),
    /// In the machine, and not in the lock.
    Extra(String),
}

impl std::fmt::Display for Differing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "- {what}"),
            Self::Extra(what) => write!(f, "+ {what}"),
        }
    }
}

/// Empty: the machine has what the lock names, to the last entry.
#[must_use]
pub fn differing(lock: &Lock, packages: &Frozen) -> Vec<Differing> {
    let locked = locked_names(lock);
    let found: BTreeSet<_> = packages.iter().filter(|package| is_locked_kind(package)).map(name_of).collect();
    let missing = locked.difference(&found).map(|name| Differing::Missing(name.clone()));
    let extra = found.difference(&locked).map(|name| Differing::Extra(name.clone()));
    missing.chain(extra).collect()
}

/// Where Debian packages are from, which the small lists of a locked build do not say.
pub(crate) fn fill_origins(packages: &mut Frozen, lock: &Lock) {
    let origins: BTreeMap<_, _> =
        lock.deb.iter().map(|deb| ((&deb.name, &deb.version, &deb.arch), &deb.origin)).collect();
    for package in packages.iter_mut().filter(|package| package.ecosystem == "deb" && package.origin.is_empty()) {
        if let Some(origin) = origins.get(&(&package.name, &package.version, &package.architecture)) {
            package.origin.clone_from(origin);
        }
    }
}

fn name_of(package: &Package) -> String {
    let Package { ecosystem, name, version, architecture, location, .. } = package;
    match ecosystem.as_str() {
        "deb" => format!("deb {name} {version} {architecture}"),
        "pypi" => format!("pypi {name} {version} in {location}"),
        other => format!("{other} {name} {version}"),
    }
}

fn locked_names(lock: &Lock) -> BTreeSet<String> {
    let deb = lock.deb.iter().filter(|package| !package.passing);
    let deb = deb.map(|package| format!("deb {} {} {}", package.name, package.version, package.arch));
    let pypi = lock.pypi.iter().filter(|package| !package.passing);
    let pypi = pypi.map(|package| format!("pypi {} {} in {}", package.name, package.version, package.location));
    let cran = lock.cran.iter().filter(|package| !package.passing);
    let cran = cran.map(|package| format!("cran {} {}", package.name, package.version));
    deb.chain(pypi).chain(cran).collect()
}
