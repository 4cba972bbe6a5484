//! The lock: every package that went into an image, pinned by its bytes.
//!
//! One file beside the template holds a [`Lock`] for each of its builds: `kvm`, or `kvm+python-3.12` with a matrix. What
//! has bytes of its own is an [`Artifact`]; the package store holds it by its digest.

mod pylock;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use pylock::pylock;
pub use text::{LockError, parse_lock, write_lock};

use crate::manifest::Package;

/// The version of the form; a reader refuses others.
pub const FORMAT: u32 = 1;

/// What is written beside a template, by run name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LockFile {
    pub runs: BTreeMap<String, Lock>,
}

/// What one build of a template is made of. Lists are sorted as their fields are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Seconds since 1970: `SOURCE_DATE_EPOCH` of the build.
    pub epoch: i64,
    pub base: LockedBase,
    /// What goes into the machine for the time of the build.
    #[serde(default)]
    pub tools: Vec<LockedTool>,
    /// In the order of the plan, without the hygiene stage.
    pub stages: Vec<LockedStage>,
    /// What packages of `deb` were chosen from.
    #[serde(default)]
    pub indexes: Vec<AptIndex>,
    #[serde(default)]
    pub deb: Vec<Deb>,
    #[serde(default)]
    pub pypi: Vec<Distribution>,
    #[serde(default)]
    pub cran: Vec<RPackage>,
    /// What else was fetched through dsimg: a repository's key, an archive of GitHub.
    #[serde(default)]
    pub files: Vec<LockedFile>,
    /// What can't be frozen: where stages went by themselves.
    #[serde(default)]
    pub unfrozen: Vec<Unfrozen>,
    /// What the first build from this lock gave; later ones are compared with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<LockedImage>,
}

/// What an image came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// sha256 of the listing of all its files, as in the manifest.
    pub tree: String,
    /// sha256 of each image file of a sealed image, by format: of those that the same content gives again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub disks: BTreeMap<String, String>,
}

/// Whether the same disk gives the same file: qemu-img writes random ids into VMDK and VHDX files.
#[must_use]
pub fn is_exact(format: &str) -> bool {
    matches!(format, "qcow2" | "raw")
}

/// Whether a lock has an entry for it: R packages that came as Debian packages are listed as these.
#[must_use]
pub fn is_locked_kind(package: &Package) -> bool {
    matches!(package.ecosystem.as_str(), "deb" | "pypi") || package.ecosystem == "cran" && package.origin != "deb"
}

/// Bytes in the package store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Where it came from, without a login.
    pub url: String,
    /// 64 lower-case hex digits.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

impl Artifact {
    /// The last part of the address, without query and fragment, as it stands there.
    #[must_use]
    pub fn file_name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedBase {
    /// `bootstrap`, `image` or `ami`.
    pub kind: String,
    /// For people: `debian trixie`, or the file or URL.
    pub source: String,
    /// Of an AMI: `ami-…`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// As in the manifest: of the disk file as it was booted; of an AMI, of the facts that name it.
    pub sha256: String,
}

/// A program such as uv.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockedTool {
    pub name: String,
    pub version: String,
    /// The package it is taken from.
    #[serde(flatten)]
    pub artifact: Artifact,
}

/// A stage as the template asked for it when the lock was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStage {
    pub label: String,
    pub provisioner: String,
    pub version: u32,
    /// What the stage's key is made of, as people read it.
    pub inputs: serde_json::Value,
}

/// One list of packages of an apt repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AptIndex {
    /// Unique in the lock: `debian-trixie-main`.
    pub id: String,
    /// The repository as sources name it: `http://deb.debian.org/debian`.
    pub uri: String,
    /// `trixie`; of a flat repository its folder, with `/` at the end.
    pub suite: String,
    /// Empty for a flat repository.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub component: String,
    /// Of the `InRelease` (or `Release`) file that signed the list, in the store.
    pub in_release: String,
    /// `Date` of that file, as it stands there.
    pub date: String,
    /// Of the list's entries of the packages in this lock, one after another, in the store.
    pub entries: String,
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deb {
    pub name: String,
    pub version: String,
    pub arch: String,
    /// The source package's name, which advisories go by.
    pub source: String,
    pub source_version: String,
    /// Asked for, or pulled in by another.
    pub requested: bool,
    /// The label of the stage that brought it; `base` for what the base held.
    pub stage: String,
    /// It was needed on the way and is not in the image.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub passing: bool,
    /// The [`AptIndex::id`]; `None` for a local file or what the base held.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index: Option<String>,
    /// As the manifest has it: `Debian trixie main`. A build from the lock reads lists that do not say it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub origin: String,
    /// An SPDX expression, where the package says it in machine-readable form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub licence: Option<String>,
    /// `None` for what came with the base, whose own digest covers it.
    #[serde(flatten)]
    pub artifact: Option<Artifact>,
}

/// A file of a Python package index: a wheel, or a source distribution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Distribution {
    /// In its normal form.
    pub name: String,
    pub version: String,
    /// The virtual environment.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub location: String,
    pub requested: bool,
    pub stage: String,
    /// It was needed on the way and is not in the image.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub passing: bool,
    /// The index, without a login: `https://pypi.org/simple`.
    pub index: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub licence: Option<String>,
    /// `None`: it was installed in another way than from an index, and is in the image as it is.
    #[serde(flatten)]
    pub artifact: Option<Artifact>,
}

/// An R package, by its source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RPackage {
    pub name: String,
    pub version: String,
    /// The library, where it is known.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub location: String,
    pub requested: bool,
    pub stage: String,
    /// It was needed on the way and is not in the image.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub passing: bool,
    /// The repository: `https://cloud.r-project.org`; `github` for what came from there.
    pub repository: String,
    /// Of a package from GitHub: `owner/name@commit`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub licence: Option<String>,
    #[serde(flatten)]
    pub artifact: Option<Artifact>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockedFile {
    pub stage: String,
    #[serde(flatten)]
    pub artifact: Artifact,
}

/// Connections of a stage that did not go through dsimg.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfrozen {
    pub stage: String,
    /// `pypi.org:443`, or an address where no name is known.
    pub reached: BTreeSet<String>,
}

impl Lock {
    /// All bytes that the build needs from the package store, each once.
    #[must_use]
    pub fn blobs(&self) -> BTreeSet<&str> {
        let indexes = self.indexes.iter().flat_map(|index| [index.in_release.as_str(), index.entries.as_str()]);
        self.artifacts().map(|artifact| artifact.sha256.as_str()).chain(indexes).collect()
    }

    /// Everything that was fetched, with nothing left out and some of it more than once.
    pub fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        let deb = self.deb.iter().filter_map(|package| package.artifact.as_ref());
        let pypi = self.pypi.iter().filter_map(|package| package.artifact.as_ref());
        let cran = self.cran.iter().filter_map(|package| package.artifact.as_ref());
        let tools = self.tools.iter().map(|tool| &tool.artifact);
        deb.chain(pypi).chain(cran).chain(tools).chain(self.files.iter().map(|file| &file.artifact))
    }
}

#[cfg(test)]
pub(crate) use tests::sample;

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(url: &str) -> Artifact {
        Artifact { url: url.to_owned(), sha256: "ab".repeat(32), size: 7 }
    }

    /// One of each kind.
    pub(crate) fn sample() -> LockFile {
        let lock = Lock {
            epoch: 1_762_041_600,
            base: LockedBase {
                kind: "bootstrap".to_owned(),
                source: "debian trixie".to_owned(),
                id: None,
                sha256: "cd".repeat(32),
            },
            tools: vec![LockedTool {
                name: "uv".to_owned(),
                version: "0.13.8".to_owned(),
                artifact: artifact("https://files.example.org/uv-0.13.8-py3-none-manylinux_2_17_x86_64.whl"),
            }],
            stages: vec![LockedStage {
                label: "tools".to_owned(),
                provisioner: "apt".to_owned(),
                version: 1,
                inputs: serde_json::json!({"packages": ["git"], "recommends": false}),
            }],
            indexes: vec![AptIndex {
                id: "debian-trixie-main".to_owned(),
                uri: "http://deb.debian.org/debian".to_owned(),
                suite: "trixie".to_owned(),
                component: "main".to_owned(),
                in_release: "ef".repeat(32),
                date: "Sat, 08 Nov 2025 09:55:41 UTC".to_owned(),
                entries: "01".repeat(32),
            }],
            deb: vec![
                Deb {
                    name: "base-files".to_owned(),
                    version: "13.8".to_owned(),
                    arch: "amd64".to_owned(),
                    source: "base-files".to_owned(),
                    source_version: "13.8".to_owned(),
                    requested: false,
                    stage: "base".to_owned(),
                    passing: false,
                    index: None,
                    origin: String::new(),
                    licence: None,
                    artifact: None,
                },
                Deb {
                    name: "git".to_owned(),
                    version: "1:2.47.3-0+deb13u1".to_owned(),
                    arch: "amd64".to_owned(),
                    source: "git".to_owned(),
                    source_version: "1:2.47.3-0+deb13u1".to_owned(),
                    requested: true,
                    stage: "tools".to_owned(),
                    passing: false,
                    index: Some("debian-trixie-main".to_owned()),
                    origin: "Debian trixie main".to_owned(),
                    licence: Some("GPL-2.0-only".to_owned()),
                    artifact: Some(artifact(
                        "http://deb.debian.org/debian/pool/main/g/git/git_2.47.3-0+deb13u1_amd64.deb",
                    )),
                },
            ],
            pypi: vec![Distribution {
                name: "numpy".to_owned(),
                version: "2.3.4".to_owned(),
                location: "/opt/ds".to_owned(),
                requested: true,
                stage: "python".to_owned(),
                passing: false,
                index: "https://pypi.org/simple".to_owned(),
                licence: None,
                artifact: Some(artifact(
                    "https://files.example.org/ab/numpy-2.3.4-cp313-cp313-manylinux_2_28_x86_64.whl",
                )),
            }],
            cran: vec![RPackage {
                name: "digest".to_owned(),
                version: "0.6.37".to_owned(),
                location: "/usr/local/lib/R/site-library".to_owned(),
                requested: true,
                stage: "r".to_owned(),
                passing: false,
                repository: "https://cloud.r-project.org".to_owned(),
                commit: None,
                licence: Some("GPL-2.0-or-later".to_owned()),
                artifact: Some(artifact("https://cloud.r-project.org/src/contrib/digest_0.6.37.tar.gz")),
            }],
            files: vec![LockedFile { stage: "r".to_owned(), artifact: artifact("https://example.org/key.asc?a=b#c") }],
            unfrozen: vec![Unfrozen {
                stage: "setup".to_owned(),
                reached: BTreeSet::from(["example.org:443".to_owned()]),
            }],
            image: Some(LockedImage { tree: "23".repeat(32), disks: BTreeMap::new() }),
        };
        LockFile { runs: BTreeMap::from([("kvm".to_owned(), lock)]) }
    }

    #[test]
    fn the_store_is_asked_for_each_blob_once() {
        let lock = &sample().runs["kvm"];
        assert_eq!(lock.artifacts().count(), 5);
        assert_eq!(lock.blobs().len(), 3);
    }

    #[test]
    fn a_files_name_is_without_query() {
        assert_eq!(sample().runs["kvm"].files[0].artifact.file_name(), "key.asc");
    }
}
