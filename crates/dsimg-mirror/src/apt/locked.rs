//! Repositories that hold what a lock has, and nothing else.
//!
//! Nobody signs them. The guest's apt is told for the time of the build (see the crate's own page) to take them as they
//! are: each package's sha256 in their lists comes from the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use dsimg_manifest::lock::{AptIndex, Lock};
use dsimg_plan::Digest;
use dsimg_store::Store;

use crate::apt::place::{AptFile, ListFile, ReleaseKind, Repository};
use crate::apt::release::ReleaseFacts;
use crate::apt::stanza::stanzas;
use crate::error::MirrorError;

/// Besides those of the lock, so that a source that is for others gives no warning.
const ARCHS: [&str; 3] = ["amd64", "arm64", "i386"];

#[derive(Debug, Default)]
pub(crate) struct LockedApt {
    pub(crate) indexes: Vec<LockedIndex>,
    /// That repositories are said to have.
    pub(crate) archs: Vec<String>,
    /// That the lock's packages are for.
    pub(crate) own_archs: BTreeSet<String>,
    /// Names of the packages that are bound.
    pub(crate) names: BTreeSet<String>,
}

#[derive(Debug)]
pub(crate) struct LockedIndex {
    pub(crate) at: Repository,
    pub(crate) release: ReleaseFacts,
    /// Stanzas of the lock's packages.
    pub(crate) entries: String,
}

/// What is given for an address.
#[derive(Debug, PartialEq)]
pub(crate) enum Made {
    Bytes(Vec<u8>),
    /// Repositories of a lock have no such file, and need none.
    Absent(&'static str),
}

impl LockedApt {
    /// `regained` has the lists that are not in the store.
    pub(crate) fn read(
        lock: &Lock,
        mut regained: BTreeMap<String, LockedIndex>,
        store: &Store,
    ) -> Result<Self, MirrorError> {
        let index = |index: &AptIndex| match regained.remove(&index.id) {
            Some(regained) => Ok(regained),
            None => LockedIndex::read(index, store),
        };
        let indexes = lock.indexes.iter().map(index).collect::<Result<_, _>>()?;
        let own: BTreeSet<String> = lock.deb.iter().map(|deb| deb.arch.clone()).filter(|arch| arch != "all").collect();
        let archs: BTreeSet<String> = ARCHS.map(str::to_owned).into_iter().chain(own.clone()).collect();
        let fetched = lock.deb.iter().filter(|deb| deb.artifact.is_some());
        Ok(Self {
            indexes,
            own_archs: if own.is_empty() { archs.clone() } else { own },
            archs: archs.into_iter().collect(),
            names: fetched.map(|deb| deb.name.clone()).collect(),
        })
    }

    /// `None` for a package and what else is no index.
    pub(crate) fn make(&self, file: &AptFile) -> Option<Made> {
        match file {
            AptFile::InRelease(_) => Some(Made::Absent("repositories of a lock are not signed: Release")),
            AptFile::Release(_, ReleaseKind::Signature) => Some(Made::Absent("repositories of a lock are not signed")),
            AptFile::Release(at, ReleaseKind::Release) => Some(Made::Bytes(self.release(at).into_bytes())),
            AptFile::Packages(at, ListFile { arch, ending, .. }) => {
                let list = self.list(at, arch.as_deref());
                match ending.as_str() {
                    "" => Some(Made::Bytes(list.into_bytes())),
                    "gz" => Some(Made::Bytes(gzip(list.as_bytes()))),
                    _ => Some(Made::Absent("lists of a lock are plain, or packed by gzip")),
                }
            }
            AptFile::OtherIndex(..) => Some(Made::Absent("repositories of a lock have lists of packages alone")),
            AptFile::Package | AptFile::Other => None,
        }
    }

    pub(crate) fn release(&self, at: &Repository) -> String {
        let folder = at.folder();
        let mut here = self.indexes.iter().filter(|index| index.at.folder() == folder);
        let facts = here.next().map_or_else(|| ReleaseFacts::unknown(&at.suite), |index| index.release.clone());
        let lists: Vec<_> = match at.suite == "/" {
            true => forms("Packages", &self.list(at, None)),
            false => facts.components.iter().flat_map(|component| self.lists_of(at, component)).collect(),
        };
        facts.write(&self.archs, &lists)
    }

    fn lists_of(&self, at: &Repository, component: &str) -> Vec<(String, Vec<u8>)> {
        let at = Repository { component: component.to_owned(), ..at.clone() };
        let of_arch =
            |arch: &String| forms(&format!("{component}/binary-{arch}/Packages"), &self.list(&at, Some(arch)));
        self.archs.iter().flat_map(of_arch).collect()
    }

    /// The stanzas of a list, in all architectures where none is named.
    pub(crate) fn list(&self, at: &Repository, arch: Option<&str>) -> String {
        let folder = at.folder();
        let here =
            self.indexes.iter().filter(|index| index.at.folder() == folder && index.at.component == at.component);
        let stanzas = here.flat_map(|index| stanzas(&index.entries)).filter(|stanza| {
            let of = stanza.field("Architecture");
            let is_bound = stanza.field("Package").is_some_and(|name| self.names.contains(name));
            is_bound && (arch.is_none() || of == arch || of == Some("all"))
        });
        stanzas.map(|stanza| format!("{}\n\n", stanza.0)).collect()
    }
}

impl LockedIndex {
    fn read(index: &AptIndex, store: &Store) -> Result<Self, MirrorError> {
        let text = |digest: &str, what: &str| {
            let what = || format!("the lock's {what} of `{}`", index.id);
            let unreadable = || MirrorError::Unreadable { what: format!("{} has no digest", what()), hint: LOCK_ANEW };
            let digest = Digest::parse(digest).ok_or_else(unreadable)?;
            let bytes = store.read(&digest).map_err(|source| MirrorError::Store { what: what(), source })?;
            Ok::<_, MirrorError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Self {
            at: Repository::of_index(index),
            release: ReleaseFacts::read(&text(&index.in_release, "InRelease")?),
            entries: text(&index.entries, "list of packages")?,
        })
    }
}

const LOCK_ANEW: &str = "make the lock anew with `dsimg lock`";

/// Plain and packed: the guest takes the shorter one. An empty list is only named, and apt does not even ask for it.
pub(crate) fn forms(path: &str, list: &str) -> Vec<(String, Vec<u8>)> {
    if list.is_empty() {
        return vec![(path.to_owned(), Vec::new())];
    }
    vec![(path.to_owned(), list.as_bytes().to_vec()), (format!("{path}.gz"), gzip(list.as_bytes()))]
}

/// Always the same bytes: no time, no name.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    let packed = packer.write_all(bytes).and_then(|()| packer.finish());
    packed.unwrap_or_default()
}
