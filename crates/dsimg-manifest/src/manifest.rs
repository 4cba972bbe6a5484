//! `manifest.json`: what is in an image, stage by stage.

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
    /// `bootstrap`, `image` or `ami`.
    pub kind: String,
    /// For people: `debian trixie`, or the file or URL.
    pub source: String,
    /// Of an AMI: `ami-…`, the very one that was booted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Of the base's disk file as it was booted; of an AMI, of the facts that name it.
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
    /// Of a Debian package: name and version of the source package, where they are not its own.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub source: String,
    /// Asked for, or pulled in by another.
    pub requested: bool,
    /// The label of the stage that brought this version; [`BASE`] for what the base held.
    pub stage: String,
}

impl Package {
    /// Name and version of a Debian package's source, which advisories go by.
    #[must_use]
    pub fn source_package(&self) -> (&str, &str) {
        self.source.split_once(' ').unwrap_or((&self.name, &self.version))
    }
}

/// The `stage` of packages that no stage brought.
pub const BASE: &str = "base";
/// The provisioner, and the label, of the stage that ends every plan.
pub(crate) const HYGIENE: &str = "hygiene";

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
    /// Sorted by region.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub amis: Vec<Ami>,
    pub durations: Durations,
    /// `None` in manifests of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reproducibility: Option<Reproducibility>,
}

/// How far the same template gives the same image on another day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reproducibility {
    pub level: Level,
    /// Why it is not a higher one; empty at the highest.
    pub reasons: Vec<String>,
    /// Seconds since 1970: `SOURCE_DATE_EPOCH` of the build.
    pub epoch: i64,
    /// sha256 of the lock that was kept to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<String>,
    /// sha256 of the listing of all files with their contents, owners and modes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tree: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// What is in it is known.
    R0,
    /// The same versions.
    R1,
    /// The same bytes of all packages.
    R2,
    /// The same files.
    R3,
    /// The same disk.
    R4,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, meaning) = match self {
            Self::R0 => ("R0", "its content is known"),
            Self::R1 => ("R1", "the same versions"),
            Self::R2 => ("R2", "the same packages, byte for byte"),
            Self::R3 => ("R3", "the same files"),
            Self::R4 => ("R4", "the same disk, bit for bit"),
        };
        write!(f, "{name} ({meaning})")
    }
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

/// An image in a region of AWS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ami {
    pub region: String,
    /// `ami-…`
    pub id: String,
    pub name: String,
    /// `snap-…`, the root volume's first.
    pub snapshots: Vec<String>,
    /// The AMI that the instance came from which it was made of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// The SSM parameter that names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parameter: Option<String>,
}

/// Milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durations {
    pub total_ms: u64,
    /// `boot`, or the label of the stage whose checkpoint the build started from. This stage and those before it took
    /// their time in an earlier build.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resumed_after: Option<String>,
    /// `base`, `boot`, `prepare`, `freeze`, `checkpoint`, `power off`, `write image`, in their order; one that came
    /// twice is summed.
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

/// Why a manifest can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("it is not JSON: {0}")]
    Syntax(serde_json::Error),
    /// JSON of something else, or with keys that this form does not have.
    #[error("it is not a manifest of an image: {0}")]
    Form(serde_json::Error),
    #[error("its format is {found}, and this version of dsimg reads format {FORMAT}")]
    Format { found: u64 },
}

impl Manifest {
    /// The file's text: sorted, indented, with a line end at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest is plain data");
        text.push('\n');
        text
    }

    /// Reads what [`Manifest::to_json`] wrote.
    ///
    /// # Errors
    /// It is no JSON, not a manifest, or one of another format.
    pub fn from_json(text: &str) -> Result<Self, ManifestError> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(ManifestError::Syntax)?;
        // Looked at first: another format's keys may be others.
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(FORMAT) => Err(ManifestError::Format { found }),
            _ => serde_json::from_value(value).map_err(ManifestError::Form),
        }
    }

    /// The text of `SHA256SUMS`, in the form of `sha256sum`: the image's files, and names with digests of what is beside
    /// them.
    #[must_use]
    pub fn checksums(&self, documents: &[(&str, String)]) -> String {
        let line = |artifact: &Artifact| format!("{}  {}\n", artifact.sha256, artifact.file);
        let artifacts: String = self.build.artifacts.iter().map(line).collect();
        let document = |(name, sha256): &(&str, String)| format!("{sha256}  {name}\n");
        artifacts + &documents.iter().map(document).collect::<String>()
    }
}
