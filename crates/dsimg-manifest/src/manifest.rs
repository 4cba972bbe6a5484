//! `manifest.json`: what is in an image, stage by stage.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the form; a reader refuses others.
pub const FORMAT: u32 = 1;

/// What an image is made of. Everything outside `build` is the same for the same content, byte for byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub image: ImageFacts,
    /// sha256 of the plan's JSON.
    pub plan: String,
    pub base: BaseFacts,
    pub system: SystemFacts,
    pub stages: Vec<StageFacts>,
    /// Sorted by ecosystem, name, version, architecture and location.
    pub packages: Vec<Package>,
    pub build: BuildFacts,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFacts {
    pub name: String,
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub summary: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseFacts {
    /// `bootstrap` or `image`.
    pub kind: String,
    /// For people: `debian trixie`, or the file or URL.
    pub source: String,
    /// Of the base's disk file as it was booted.
    pub sha256: String,
}

/// Read from the machine after its last stage.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemFacts {
    /// `PRETTY_NAME` of os-release.
    pub os: String,
    /// `ID` of os-release.
    pub os_id: String,
    /// `VERSION_ID` of os-release; `DEBIAN_VERSION_FULL` where there is one.
    pub os_version: String,
    /// The newest installed kernel, which the image boots.
    pub kernel: String,
    pub architecture: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub python: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub r: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageFacts {
    pub label: String,
    pub provisioner: String,
    pub provisioner_version: u32,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// `deb`, `pypi`, `cran`.
    pub ecosystem: String,
    pub name: String,
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub architecture: String,
    /// Where it is installed, for ecosystems that know several places: a venv, an R library.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub location: String,
    /// Where it came from, as far as the machine knows.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub origin: String,
    /// Asked for, or pulled in by another.
    pub requested: bool,
    /// The label of the stage that brought this version; [`BASE`] for what the base held.
    pub stage: String,
}

/// The `stage` of packages that no stage brought.
pub const BASE: &str = "base";

/// What differs between two builds of the same content: when, where, how long, and the bytes of the disk files
/// (file systems hold times and their files lie where there was room).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildFacts {
    pub id: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub dsimg: String,
    pub builder: String,
    pub host: HostFacts,
    pub artifacts: Vec<Artifact>,
    pub durations: Durations,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    pub hypervisor: String,
    pub accelerator: String,
    pub cpus: u32,
    pub os: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Beside the manifest.
    pub file: String,
    pub format: String,
    /// Bytes of the file.
    pub size: u64,
    pub sha256: String,
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
}

/// Milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durations {
    pub total_ms: u64,
    /// `base`, `boot`, `prepare`, `freeze`, `power off`, `write image`, in their order; one that came twice is
    /// summed.
    pub phases: Vec<Duration>,
    /// By label.
    pub stages: Vec<Duration>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duration {
    pub name: String,
    pub ms: u64,
}

/// The manifest's name in an image's folder.
pub const FILE_NAME: &str = "manifest.json";

/// Why a manifest can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` is not JSON", path.display())]
    Syntax { path: PathBuf, source: serde_json::Error },
    /// JSON of something else, or with keys that this form does not have.
    #[error("`{}` is not the manifest of an image", path.display())]
    Form { path: PathBuf, source: serde_json::Error },
    #[error("`{}` has format {found}, and this version of dsimg reads format {FORMAT}", path.display())]
    Format { path: PathBuf, found: u64 },
}

impl ManifestError {
    /// What to do next, when something is known that helps.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == ErrorKind::NotFound => {
                Some("give an image's folder, or the `manifest.json` in it")
            }
            Self::Format { .. } => Some("read it with the version of dsimg that wrote it, or a newer one"),
            _ => None,
        }
    }
}

/// Reads a manifest, or the one in an image's folder.
///
/// # Errors
/// It can't be read, is no JSON, not a manifest, or one of another format.
pub fn read(path: &Path) -> Result<Manifest, ManifestError> {
    let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    match fs::read(&path) {
        Ok(bytes) => Manifest::from_json(&bytes, &path),
        Err(source) => Err(ManifestError::Unreadable { path, source }),
    }
}

impl Manifest {
    /// The file's text: sorted, indented, with a line end at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest is plain data");
        text.push('\n');
        text
    }

    /// Reads what [`Manifest::to_json`] wrote; `path` is where, for errors.
    ///
    /// # Errors
    /// It is no JSON, not a manifest, or one of another format.
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<Self, ManifestError> {
        let path = path.to_owned();
        let value: serde_json::Value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(source) => return Err(ManifestError::Syntax { path, source }),
        };
        // Looked at first: another format's keys may be others.
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(FORMAT) => Err(ManifestError::Format { path, found }),
            _ => serde_json::from_value(value).map_err(|source| ManifestError::Form { path, source }),
        }
    }

    /// The text of `SHA256SUMS`, in the form of `sha256sum`: the image's files and the manifest itself.
    #[must_use]
    pub fn checksums(&self, manifest_sha256: &str) -> String {
        let line = |artifact: &Artifact| format!("{}  {}\n", artifact.sha256, artifact.file);
        let artifacts: String = self.build.artifacts.iter().map(line).collect();
        format!("{artifacts}{manifest_sha256}  manifest.json\n")
    }
}
