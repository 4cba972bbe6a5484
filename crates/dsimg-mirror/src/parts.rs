//! From what was fetched to the parts of a lock.

use std::collections::{BTreeMap, BTreeSet};

use dsimg_manifest::lock::{AptIndex, Artifact};
use dsimg_plan::Digest;
use dsimg_store::Store;

use crate::address::Address;
use crate::apt::release::ReleaseFacts;
use crate::apt::stanza::{Stanza, stanzas, text_of};
use crate::apt::{AptFile, Repository};
use crate::error::MirrorError;
use crate::record::{Fetched, FetchedKind};

/// A package by what dpkg says of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DebName {
    pub name: String,
    /// With epoch.
    pub version: String,
    pub arch: String,
}

/// What records and lists say. The stages that only the freeze knows, it does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LockParts {
    pub indexes: Vec<AptIndex>,
    /// Packages that were fetched, each once.
    pub debs: Vec<DebPart>,
    /// Of the packages asked about, those that a list has.
    pub listed: Vec<ListedDeb>,
    /// Files of Python, R and any other, each once.
    pub files: Vec<FilePart>,
}

/// A Debian package that was fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct DebPart {
    /// The first that fetched it.
    pub stage: String,
    pub package: DebName,
    pub source: String,
    pub source_version: String,
    /// The [`AptIndex::id`]; `None` where no list that was fetched has it.
    pub index: Option<String>,
    pub artifact: Artifact,
}

/// A Debian package that is somewhere, and also in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedDeb {
    pub package: DebName,
    pub source: String,
    pub source_version: String,
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// Any other file that was fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct FilePart {
    pub kind: FetchedKind,
    /// The first that fetched it.
    pub stage: String,
    pub name: String,
    pub version: String,
    /// The index or repository, without a login.
    pub repository: String,
    pub artifact: Artifact,
}

/// Joins the records of all stages, in their order. Lists are looked through for what was fetched, and for `asked`, such
/// as what the base held; the stanzas of what was fetched are put into the store.
///
/// # Errors
/// A recorded file is not in the store any more, or can't be read.
pub fn lock_parts(fetched: &[Fetched], asked: &[DebName], store: &Store) -> Result<LockParts, MirrorError> {
    let lists = Lists::gather(fetched, store)?;
    let wanted = fetched.iter().filter(|file| file.kind == FetchedKind::AptPackage);
    let having = lists.having(&wanted.map(|deb| deb.sha256.as_str()).collect());
    let mut parts = LockParts { listed: lists.look_up(asked), files: files(fetched), ..LockParts::default() };
    let mut entries: BTreeMap<&Repository, BTreeMap<DebName, &str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for deb in fetched.iter().filter(|file| file.kind == FetchedKind::AptPackage && seen.insert(&file.sha256)) {
        let listed = find(deb, &having);
        if let Some((at, stanza)) = listed {
            entries.entry(at).or_default().insert(name_of(stanza), stanza.0);
        }
        parts.debs.push(deb_part(deb, listed.map(|(_, stanza)| stanza), listed.map(|(at, _)| lists.ids[at].clone())));
    }
    for (at, stanzas) in entries {
        parts.indexes.push(lists.index(at, &stanzas, store)?);
    }
    parts.indexes.sort();
    Ok(parts)
}

/// What the recorded lists and their `InRelease` files hold.
struct Lists {
    texts: Vec<(Repository, String)>,
    /// By its folder, the last that was fetched.
    releases: BTreeMap<String, (Digest, ReleaseFacts)>,
    ids: BTreeMap<Repository, String>,
}

impl Lists {
    fn gather(fetched: &[Fetched], store: &Store) -> Result<Self, MirrorError> {
        let mut lists = Self { texts: Vec::new(), releases: BTreeMap::new(), ids: BTreeMap::new() };
        let mut seen = BTreeSet::new();
        for file in fetched.iter().filter(|file| file.kind == FetchedKind::AptIndex) {
            let Some((address, _)) = Address::parse(&file.url) else { continue };
            let Some(at) = Repository::read(&file.repository) else { continue };
            match AptFile::of(&address, &BTreeSet::from([at.folder()])) {
                AptFile::InRelease(at) | AptFile::Release(at, crate::apt::place::ReleaseKind::Release) => {
                    let facts = ReleaseFacts::read(&read(file, store)?);
                    lists.releases.insert(at.folder(), (file.sha256.clone(), facts));
                }
                AptFile::Packages(..) if seen.insert(&file.sha256) => lists.texts.push((at, read(file, store)?)),
                _ => {}
            }
        }
        lists.name_them();
        Ok(lists)
    }

    /// `debian-trixie-main`, and what tells it from others that would be called the same.
    fn name_them(&mut self) {
        let mut taken = BTreeSet::new();
        for (at, _) in &self.texts {
            if self.ids.contains_key(at) {
                continue;
            }
            let release = self.releases.get(&at.folder()).map(|(_, facts)| facts);
            let field = |name| release.and_then(|facts| facts.field(name)).filter(|text| !text.is_empty());
            let host = at.uri.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
            let suite = if at.suite == "/" { "" } else { at.suite.as_str() };
            let words = [field("Origin").unwrap_or(host), suite, at.component.as_str()].join(" ");
            let words: Vec<String> = words
                .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.')
                .filter(|word| !word.is_empty())
                .map(str::to_ascii_lowercase)
                .collect();
            let plain = words.join("-");
            let numbered = (2..).map(|number| format!("{plain}-{number}"));
            let id = std::iter::once(plain.clone()).chain(numbered).find(|id| taken.insert(id.clone()));
            self.ids.insert(at.clone(), id.unwrap_or_default());
        }
    }

    /// By the sha256 of packages, where the lists have them.
    fn having<'a>(&'a self, wanted: &BTreeSet<&str>) -> BTreeMap<&'a str, Vec<(&'a Repository, Stanza<'a>)>> {
        let mut having: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (at, text) in &self.texts {
            for stanza in stanzas(text) {
                let place = stanza.0.find("\nSHA256: ").map(|place| &stanza.0[place + 9..]);
                let sha256 = place.and_then(|rest| rest.lines().next()).unwrap_or_default().trim();
                if wanted.contains(sha256) {
                    having.entry(sha256).or_default().push((at, stanza));
                }
            }
        }
        having
    }

    fn look_up(&self, asked: &[DebName]) -> Vec<ListedDeb> {
        let asked: BTreeSet<&DebName> = asked.iter().collect();
        let names: BTreeSet<&str> = asked.iter().map(|package| package.name.as_str()).collect();
        let mut found = BTreeMap::new();
        for stanza in self.texts.iter().flat_map(|(_, text)| stanzas(text)) {
            let name = stanza.0.strip_prefix("Package: ").and_then(|rest| rest.lines().next()).unwrap_or_default();
            if !names.contains(name) {
                continue;
            }
            let package = name_of(stanza);
            let size = stanza.field("Size").and_then(|size| size.parse().ok());
            if let (true, Some(sha256), Some(size)) = (asked.contains(&package), stanza.field("SHA256"), size) {
                let (source, source_version) = source_of(stanza);
                let sha256 = sha256.to_owned();
                let listed = ListedDeb { package: package.clone(), source, source_version, sha256, size };
                found.entry(package).or_insert(listed);
            }
        }
        found.into_values().collect()
    }

    fn index(
        &self,
        at: &Repository,
        entries: &BTreeMap<DebName, &str>,
        store: &Store,
    ) -> Result<AptIndex, MirrorError> {
        let text: String = entries.values().map(|stanza| format!("{stanza}\n\n")).collect();
        let what = || format!("the list of packages of `{}`", at.shown());
        let stored = store.put_bytes(text.as_bytes()).map_err(|source| MirrorError::Store { what: what(), source })?;
        let (digest, facts) = self.releases.get(&at.folder()).ok_or_else(|| MirrorError::Unreadable {
            what: format!("the record has no InRelease of `{}`", at.shown()),
            hint: "build once without checkpoints (`--fresh`)",
        })?;
        Ok(AptIndex {
            id: self.ids[at].clone(),
            uri: at.uri.clone(),
            suite: at.suite.clone(),
            component: at.component.clone(),
            in_release: digest.to_string(),
            date: facts.field("Date").unwrap_or_default().to_owned(),
            entries: stored.digest.to_string(),
        })
    }
}

fn read(file: &Fetched, store: &Store) -> Result<String, MirrorError> {
    let what = || format!("`{}`", file.url);
    let bytes = store.read(&file.sha256).map_err(|source| MirrorError::Store { what: what(), source })?;
    text_of(&bytes).map_err(|error| MirrorError::Unreadable {
        what: format!("{} can't be read: {error}", what()),
        hint: "ask whoever runs this repository to offer its lists in gzip or xz too",
    })
}

/// By its bytes; in the list that the record names, where more than one has it.
fn find<'a>(
    deb: &Fetched,
    having: &BTreeMap<&str, Vec<(&'a Repository, Stanza<'a>)>>,
) -> Option<(&'a Repository, Stanza<'a>)> {
    let lists = having.get(deb.sha256.as_str())?;
    let recorded = Repository::read(&deb.repository);
    lists.iter().find(|(at, _)| recorded.as_ref() == Some(at)).or(lists.first()).copied()
}

fn name_of(stanza: Stanza<'_>) -> DebName {
    let field = |name| stanza.field(name).unwrap_or_default().to_owned();
    DebName { name: field("Package"), version: field("Version"), arch: field("Architecture") }
}

/// `Source: name (version)`, where they differ from the package's own.
fn source_of(stanza: Stanza<'_>) -> (String, String) {
    let own = name_of(stanza);
    match stanza.field("Source") {
        None => (own.name, own.version),
        Some(source) => match source.split_once(" (") {
            Some((name, version)) => (name.to_owned(), version.trim_end_matches(')').to_owned()),
            None => (source.to_owned(), own.version),
        },
    }
}

fn deb_part(deb: &Fetched, stanza: Option<Stanza<'_>>, index: Option<String>) -> DebPart {
    let package = match stanza {
        Some(stanza) => name_of(stanza),
        None => DebName { name: deb.name.clone(), version: deb.version.clone(), arch: deb.arch.clone() },
    };
    let (source, source_version) = stanza.map_or((package.name.clone(), package.version.clone()), source_of);
    DebPart { stage: deb.stage.clone(), package, source, source_version, index, artifact: artifact(deb) }
}

fn files(fetched: &[Fetched]) -> Vec<FilePart> {
    use FetchedKind::{File, PythonFile, RPackage};
    let mut seen = BTreeSet::new();
    let wanted = fetched.iter().filter(|file| matches!(file.kind, PythonFile | RPackage | File));
    let each_once = wanted.filter(|file| seen.insert((&file.url, &file.sha256)));
    each_once
        .map(|file| FilePart {
            kind: file.kind,
            stage: file.stage.clone(),
            name: file.name.clone(),
            version: file.version.clone(),
            repository: file.repository.clone(),
            artifact: artifact(file),
        })
        .collect()
}

fn artifact(file: &Fetched) -> Artifact {
    Artifact { url: file.url.clone(), sha256: file.sha256.to_string(), size: file.size }
}
