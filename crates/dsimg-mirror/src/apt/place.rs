//! Which file of an apt repository an address leads to.

use std::collections::BTreeSet;

use dsimg_manifest::lock::AptIndex;
use dsimg_plan::Digest;

use crate::address::Address;

/// A suite's component, or a flat repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Repository {
    /// `http://deb.debian.org/debian`
    pub(crate) uri: String,
    /// `/` for a flat repository, whose `uri` then has its folder.
    pub(crate) suite: String,
    pub(crate) component: String,
}

/// What an address that apt asks for leads to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AptFile {
    Package,
    /// `InRelease`; the repository is without component.
    InRelease(Repository),
    /// `Release` and `Release.gpg`.
    Release(Repository, ReleaseKind),
    Packages(Repository, ListFile),
    /// Translations and such.
    OtherIndex(Repository, Option<Digest>),
    /// A key, or anything.
    Other,
}

/// One form of a list of packages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListFile {
    /// `None` for a flat repository, whose list has all.
    pub(crate) arch: Option<String>,
    /// What comes after the name: empty, or such as `gz`.
    pub(crate) ending: String,
    /// Where apt asks by it.
    pub(crate) digest: Option<Digest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReleaseKind {
    Release,
    Signature,
}

impl Repository {
    pub(crate) fn of_index(index: &AptIndex) -> Self {
        let uri = index.uri.trim_end_matches('/').to_owned();
        Self { uri, suite: index.suite.clone(), component: index.component.clone() }
    }

    /// `http://deb.debian.org/debian trixie main`
    pub(crate) fn shown(&self) -> String {
        format!("{} {} {}", self.uri, self.suite, self.component).trim_end().to_owned()
    }

    /// Reads [`Self::shown`] back.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::to_owned);
        let (uri, suite) = (words.next()?, words.next()?);
        Some(Self { uri, suite, component: words.next().unwrap_or_default() })
    }

    /// The folder that has `InRelease`.
    pub(crate) fn folder(&self) -> String {
        match self.suite.strip_suffix('/') {
            Some("." | "") => self.uri.clone(),
            Some(folder) => format!("{}/{}", self.uri, folder.trim_start_matches("./")),
            None => format!("{}/dists/{}", self.uri, self.suite),
        }
    }

    /// Where a package lies that the list names by this file.
    pub(crate) fn file(&self, name: &str) -> String {
        let text = format!("{}/{}", self.uri, name);
        match name.contains("./") {
            true => Address::parse(&text).map_or(text, |(address, _)| address.as_str().to_owned()),
            false => text,
        }
    }
}

impl AptFile {
    /// `suites` are the folders whose `InRelease` was seen: names of suites and components may hold `/`.
    pub(crate) fn of(address: &Address, suites: &BTreeSet<String>) -> Self {
        let path = address.without_query();
        let name = address.file_name();
        if [".deb", ".udeb", ".ddeb"].iter().any(|ending| name.ends_with(ending)) {
            return Self::Package;
        }
        let Some((folder, _)) = path.rsplit_once('/') else { return Self::Other };
        match name {
            "InRelease" => return Self::InRelease(of_folder(folder)),
            "Release" if !folder.contains("/binary-") => return Self::Release(of_folder(folder), ReleaseKind::Release),
            "Release.gpg" => return Self::Release(of_folder(folder), ReleaseKind::Signature),
            _ => {}
        }
        let (folder, digest) = match folder.rsplit_once("/by-hash/") {
            Some((folder, "SHA256")) => (folder, Digest::parse(name)),
            Some((folder, _)) => (folder, None),
            None => (folder, None),
        };
        let by_hash = path.contains("/by-hash/");
        let in_dists = folder.contains("/dists/");
        let is_list = name.split('.').next() == Some("Packages");
        if !in_dists && !is_list && !by_hash {
            return Self::Other;
        }
        let repository = within(folder, suites);
        // A flat repository's lists lie beside its InRelease.
        if is_list || by_hash && (folder.contains("/binary-") || !in_dists) {
            let arch = folder.rsplit_once("/binary-").map(|(_, arch)| arch.to_owned());
            let ending = name.strip_prefix("Packages").unwrap_or_default().trim_start_matches('.').to_owned();
            Self::Packages(repository, ListFile { arch, ending, digest })
        } else {
            Self::OtherIndex(repository, digest)
        }
    }
}

/// The repository whose `InRelease` is in the folder.
fn of_folder(folder: &str) -> Repository {
    let (uri, suite) = match folder.rsplit_once("/dists/") {
        Some((uri, suite)) => (uri, suite),
        None => (folder, "/"),
    };
    Repository { uri: uri.to_owned(), suite: suite.to_owned(), component: String::new() }
}

/// The repository and component that a folder below an `InRelease` belongs to.
fn within(folder: &str, suites: &BTreeSet<String>) -> Repository {
    let known = suites.iter().filter(|suite| folder == *suite || folder.starts_with(&format!("{suite}/")));
    let suite = match known.max_by_key(|suite| suite.len()) {
        Some(suite) => suite.clone(),
        None => match folder.rsplit_once("/dists/") {
            Some((uri, rest)) => format!("{uri}/dists/{}", rest.split('/').next().unwrap_or_default()),
            None => folder.to_owned(),
        },
    };
    let below = folder[suite.len()..].trim_start_matches('/');
    let end = ["/binary-", "/i18n", "/dep11", "/source", "/cnf"].iter().filter_map(|part| below.find(part)).min();
    let component = below[..end.unwrap_or(below.len())].to_owned();
    Repository { component, ..of_folder(&suite) }
}

/// `name`, `version` without epoch, `architecture` of a package's file.
pub(crate) fn names_of_file(file: &str) -> Option<(String, String, String)> {
    let stem = file.rsplit_once('.')?.0;
    let mut parts = stem.split('_').map(|part| part.replace("%3a", ":").replace("%3A", ":"));
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(version), Some(arch), None) => Some((name, version, arch)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uri: &str, suite: &str, component: &str) -> Repository {
        Repository { uri: uri.to_owned(), suite: suite.to_owned(), component: component.to_owned() }
    }

    #[test]
    fn addresses_lead_to_files_of_repositories() {
        let suites = BTreeSet::from(["http://sec.org/debian/dists/trixie/updates".to_owned()]);
        let file = |url: &str| AptFile::of(&Address::parse(url).unwrap().0, &suites);
        let (debian, digest) = ("http://deb.org/debian", Digest::of_bytes(b""));
        assert_eq!(file("http://deb.org/debian/pool/main/g/git/git_1_amd64.deb"), AptFile::Package);
        assert_eq!(file("http://deb.org/debian/dists/trixie/InRelease"), AptFile::InRelease(at(debian, "trixie", "")));
        assert_eq!(
            file("http://deb.org/debian/dists/trixie/Release.gpg"),
            AptFile::Release(at(debian, "trixie", ""), ReleaseKind::Signature)
        );
        let list = |arch: Option<&str>, ending: &str, digest| ListFile {
            arch: arch.map(str::to_owned),
            ending: ending.to_owned(),
            digest,
        };
        let packages = AptFile::Packages(at(debian, "trixie", "main"), list(Some("amd64"), "xz", None));
        assert_eq!(file("http://deb.org/debian/dists/trixie/main/binary-amd64/Packages.xz"), packages);
        assert_eq!(
            file(&format!("http://deb.org/debian/dists/trixie/main/binary-amd64/by-hash/SHA256/{digest}")),
            AptFile::Packages(at(debian, "trixie", "main"), list(Some("amd64"), "", Some(digest.clone())))
        );
        assert_eq!(
            file("http://deb.org/debian/dists/trixie/main/binary-amd64/by-hash/MD5Sum/ab"),
            AptFile::Packages(at(debian, "trixie", "main"), list(Some("amd64"), "", None))
        );
        assert_eq!(
            file("http://sec.org/debian/dists/trixie/updates/main/binary-amd64/Packages"),
            AptFile::Packages(at("http://sec.org/debian", "trixie/updates", "main"), list(Some("amd64"), "", None))
        );
        assert_eq!(
            file("http://deb.org/debian/dists/trixie/main/i18n/Translation-en.xz"),
            AptFile::OtherIndex(at(debian, "trixie", "main"), None)
        );
        assert_eq!(
            file("http://nv.org/cuda/x86_64/./InRelease"),
            AptFile::InRelease(at("http://nv.org/cuda/x86_64", "/", ""))
        );
        assert_eq!(
            file("http://nv.org/cuda/x86_64/Packages.gz"),
            AptFile::Packages(at("http://nv.org/cuda/x86_64", "/", ""), list(None, "gz", None))
        );
        assert_eq!(file("http://a.org/key.asc"), AptFile::Other);
    }

    #[test]
    fn a_repository_s_files_are_found_again() {
        for repository in [at("http://a.org/d", "trixie", "main"), at("http://a.org/d", "/", "")] {
            assert_eq!(Repository::read(&repository.shown()), Some(repository));
        }
        assert_eq!(at("http://a.org/d", "trixie", "main").folder(), "http://a.org/d/dists/trixie");
        for (suite, folder) in [("/", "http://a.org/d"), ("./", "http://a.org/d"), ("sub/", "http://a.org/d/sub")] {
            assert_eq!(at("http://a.org/d", suite, "").folder(), folder);
        }
        assert_eq!(at("http://a.org/d", "/", "").file("./x_1_all.deb"), "http://a.org/d/x_1_all.deb");
    }

    #[test]
    fn a_file_s_name_says_what_it_is() {
        let names = names_of_file("git_1%3a2.47+deb13u1-1~a_amd64.deb").unwrap();
        assert_eq!(names, ("git".to_owned(), "1:2.47+deb13u1-1~a".to_owned(), "amd64".to_owned()));
        assert_eq!(names_of_file("something.deb"), None);
    }
}
