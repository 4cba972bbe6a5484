//! Repositories of R packages that hold what a lock has, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use dsimg_manifest::lock::{Lock, RPackage};

use crate::apt::stanza::Stanza;
use crate::refusal::Refusal;

/// As CRAN's own index has them; what else a DESCRIPTION holds is for people.
const FIELDS: [&str; 11] = [
    "Package",
    "Version",
    "Priority",
    "Depends",
    "Imports",
    "LinkingTo",
    "Suggests",
    "Enhances",
    "License",
    "OS_type",
    "NeedsCompilation",
];
const MOST: u64 = 16 << 20;

/// The lock's packages by their repository.
#[derive(Debug, Default)]
pub(crate) struct LockedR {
    by_repository: BTreeMap<String, Vec<RPackage>>,
    pub(crate) names: BTreeSet<String>,
}

impl LockedR {
    pub(crate) fn read(lock: &Lock) -> Self {
        let mut locked = Self::default();
        for package in lock.cran.iter().filter(|package| package.artifact.is_some() && package.commit.is_none()) {
            let packages = locked.by_repository.entry(package.repository.trim_end_matches('/').to_owned()).or_default();
            let is_new = |other: &RPackage| (&other.name, &other.version) != (&package.name, &package.version);
            if packages.iter().all(is_new) {
                packages.push(package.clone());
            }
            locked.names.insert(package.name.clone());
        }
        locked
    }

    /// Those of a repository, each once; none of one that the lock does not know.
    pub(crate) fn packages(&self, repository: &str) -> &[RPackage] {
        self.by_repository.get(repository).map_or(&[], Vec::as_slice)
    }

    /// Wherever it lay then: a package may have moved to the archive since, or was locked from there.
    pub(crate) fn find(&self, repository: &str, name: &str, version: &str) -> Option<&RPackage> {
        self.packages(repository).iter().find(|package| package.name == name && package.version == version)
    }
}

/// A package's entry for an index, from its DESCRIPTION.
pub(crate) fn entry(description: &str) -> String {
    let stanza = Stanza(description);
    let lines = FIELDS.iter().filter_map(|name| Some(format!("{name}: {}\n", stanza.folded(name)?)));
    lines.chain(["\n".to_owned()]).collect()
}

/// The DESCRIPTION of a source package: the one at its top, since packages may hold others for their tests.
///
/// # Errors
/// It is no such package. `shown` names it.
pub(crate) fn description(package: &File, shown: &str) -> Result<String, Refusal> {
    let broken = |why: String| Refusal::new(502, format!("{shown} is no R source package: {why}"));
    let read = |error: std::io::Error| broken(error.to_string());
    let package = package.try_clone().map_err(read)?;
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::new(package)));
    for member in archive.entries().map_err(read)? {
        let member = member.map_err(read)?;
        let path = member.path().map_err(read)?.into_owned();
        let mut parts = path.components().filter(|part| !matches!(part, std::path::Component::CurDir));
        if matches!((parts.next(), parts.next(), parts.next()), (Some(_), Some(name), None) if name.as_os_str() == "DESCRIPTION")
        {
            let mut bytes = Vec::new();
            member.take(MOST).read_to_end(&mut bytes).map_err(read)?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Err(broken("it has no DESCRIPTION".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_an_index_says() {
        let description = "Package: digest\nTitle: Hash\nVersion: 0.6.37\nAuthor: A,\n  B\nDepends: R (>= 3.3.0)\n\
            Imports: utils,\n        methods\nLicense: GPL (>= 2)\nNeedsCompilation: yes\nPackaged: 2024-08-19\n";
        assert_eq!(
            entry(description),
            "Package: digest\nVersion: 0.6.37\nDepends: R (>= 3.3.0)\nImports: utils, methods\nLicense: GPL (>= 2)\n\
             NeedsCompilation: yes\n\n"
        );
    }
}
