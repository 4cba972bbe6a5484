//! A project's page of the simple API, in both of its forms.
//!
//! <https://packaging.python.org/en/latest/specifications/simple-repository-api/>

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::address::{Address, Login};
use crate::ask::normal_name;
use crate::python::html;

/// What is asked of an index. A page in JSON says more.
pub(crate) const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) files: Vec<PageFile>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PageFile {
    pub(crate) file_name: String,
    pub(crate) address: Address,
    pub(crate) login: Option<Login>,
    /// By algorithm, in hex.
    pub(crate) hashes: BTreeMap<String, String>,
    pub(crate) requires_python: Option<String>,
    /// Withdrawn, and why; the text may be empty.
    pub(crate) yanked: Option<String>,
    /// As the index wrote it.
    pub(crate) upload_time: Option<String>,
    pub(crate) size: Option<u64>,
    /// Whether the file's metadata can be had beside it, and its hashes.
    pub(crate) core_metadata: Option<BTreeMap<String, String>>,
}

/// `name`, `version` of a wheel or a source distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Page {
    /// `None` for what is no page. Links that lead nowhere are left out. `at` is where the page was found.
    pub(crate) fn parse(bytes: &[u8], name: &str, at: &Address) -> Option<Self> {
        let files = match bytes.trim_ascii_start().first()? {
            b'{' => Self::files_of_json(bytes, at)?,
            _ => html::files(std::str::from_utf8(bytes).ok()?, at),
        };
        Some(Self { name: name.to_owned(), files })
    }

    fn files_of_json(bytes: &[u8], at: &Address) -> Option<Vec<PageFile>> {
        let page: JsonPage = serde_json::from_slice(bytes).ok()?;
        let files = page.files.into_iter().filter_map(|file| {
            let (address, login) = at.join(&file.url)?;
            Some(PageFile {
                address,
                login,
                hashes: file.hashes,
                requires_python: file.requires_python,
                yanked: file.yanked.and_then(Yanked::reason),
                upload_time: file.upload_time,
                size: file.size,
                core_metadata: file.core_metadata.or(file.dist_info_metadata).and_then(Metadata::hashes),
                file_name: file.filename,
            })
        });
        Some(files.collect())
    }
}

impl PageFile {
    pub(crate) fn uploaded(&self) -> Option<Timestamp> {
        self.upload_time.as_ref()?.parse().ok()
    }
}

impl FileName {
    /// Of a file on the page of `project`, where that is known: names of source distributions may hold `-`.
    pub(crate) fn parse(file: &str, project: Option<&str>) -> Option<Self> {
        if let Some(stem) = file.strip_suffix(".whl") {
            let mut parts = stem.split('-');
            let (name, version) = (parts.next()?, parts.next()?);
            return Some(Self { name: normal_name(name), version: version.to_owned() });
        }
        let endings = [".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz"];
        let stem = endings.iter().find_map(|ending| file.strip_suffix(ending))?;
        let named = |(at, _): &(usize, char)| project.is_none_or(|project| normal_name(&stem[..*at]) == project);
        let mut dashes = stem.char_indices().filter(|(_, letter)| *letter == '-');
        let (at, _) = match project {
            Some(_) => dashes.find(named)?,
            None => dashes.next_back()?,
        };
        Some(Self { name: normal_name(&stem[..at]), version: stem[at + 1..].to_owned() })
    }
}

#[derive(Deserialize)]
struct JsonPage {
    files: Vec<JsonFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct JsonFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    requires_python: Option<String>,
    yanked: Option<Yanked>,
    upload_time: Option<String>,
    size: Option<u64>,
    core_metadata: Option<Metadata>,
    dist_info_metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Yanked {
    Is(bool),
    Because(String),
}

impl Yanked {
    fn reason(self) -> Option<String> {
        match self {
            Self::Is(false) => None,
            Self::Is(true) => Some(String::new()),
            Self::Because(reason) => Some(reason),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Metadata {
    Is(bool),
    With(BTreeMap<String, String>),
}

impl Metadata {
    fn hashes(self) -> Option<BTreeMap<String, String>> {
        match self {
            Self::Is(false) => None,
            Self::Is(true) => Some(BTreeMap::new()),
            Self::With(hashes) => Some(hashes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_in_file_names() {
        let parsed = |file, project| FileName::parse(file, project).map(|found| (found.name, found.version));
        let found = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(parsed("Zope.Interface-5.0-cp39-cp39-linux_x86_64.whl", None), found("zope-interface", "5.0"));
        assert_eq!(parsed("a-1.0-1-py3-none-any.whl", None), found("a", "1.0"));
        assert_eq!(parsed("zope.interface-5.0.tar.gz", Some("zope-interface")), found("zope-interface", "5.0"));
        assert_eq!(parsed("foo-bar-1.0-rc1.zip", Some("foo-bar")), found("foo-bar", "1.0-rc1"));
        assert_eq!(parsed("foo-bar-1.0.tar.gz", None), found("foo-bar", "1.0"));
        for none in ["a-1.0.exe", "a.whl", "a.tar.gz", "other-1.0.egg"] {
            assert_eq!(parsed(none, None), None, "{none}");
        }
        assert_eq!(parsed("other-1.0.tar.gz", Some("a")), None);
    }

    #[test]
    fn a_page_in_json_is_read() {
        let at = Address::parse("https://pypi.example.org/simple/a/").unwrap().0;
        let text = r#"{"meta": {"api-version": "1.3"}, "name": "a", "versions": ["1.0"], "files": [
          {"filename": "a-1.0-py3-none-any.whl", "url": "../../p/a-1.0-py3-none-any.whl#sha256=x",
           "hashes": {"sha256": "ab"}, "requires-python": ">=3.9", "yanked": "bad", "size": 3, "provenance": null,
           "upload-time": "2025-01-02T03:04:05.678901Z", "core-metadata": {"sha256": "cd"}},
          {"filename": "a-1.0.tar.gz", "url": "https://me:pw@files.example.org/a-1.0.tar.gz", "hashes": {},
           "yanked": false, "dist-info-metadata": true},
          {"filename": "a-2.0.tar.gz", "url": "file:///etc/passwd", "hashes": {}}]}"#;
        insta::assert_debug_snapshot!(Page::parse(text.as_bytes(), "a", &at).unwrap());
        assert_eq!(Page::parse(&text.as_bytes()[..200], "a", &at), None);
        assert_eq!(Page::parse(b"", "a", &at), None);
    }
}
