//! The checked template: every value rendered, every name known, every unit read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Timeout};

pub mod aws;

/// What the user wrote, after all checks; of a template with a `[matrix]`, one combination of its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Where it was read; relative paths in it start from this file's folder.
    pub path: PathBuf,
    /// `None` without a `[matrix]`.
    pub cell: Option<Cell>,
    pub image: Image,
    pub base: Base,
    pub network: Network,
    /// In the order of the file; at least one.
    pub builders: Vec<Builder>,
    /// In the order of the file, without those whose `when` was false.
    pub provision: Vec<ProvisionEntry>,
    /// In the order of the file.
    pub publish: Vec<Publish>,
    /// Values of the variables marked `sensitive`. Everywhere else in the template they
    /// appear as placeholders, see [`crate::secret`].
    pub secrets: BTreeMap<String, crate::secret::Secret>,
    /// What `{{ … }}` may name, for files that are rendered later (`template = true`).
    pub context: crate::render::Context,
}

/// One combination of the values in `[matrix]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// For people: `r=true,set=small`.
    pub name: String,
    /// For file names: `r-small`. No two of a template are the same.
    pub slug: String,
}

/// `[image]`: what the result is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Lower-case letters, digits, `.`, `_` and `-`; it becomes a file name. It ends with the [`Cell::slug`] where the
    /// template gives all combinations of its matrix the same name and version.
    pub name: String,
    pub version: String,
    pub summary: Option<String>,
}

/// `[base]`: what is booted. At least one of the fields is set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Base {
    pub bootstrap: Option<Bootstrap>,
    pub image: Option<ImageSource>,
    /// For builders on AWS.
    pub ami: Option<aws::AmiSource>,
}

/// `base.bootstrap`: a base made from an apt mirror.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    pub distro: Distro,
    pub suite: String,
    /// Debian's architecture name; only `amd64` today.
    pub arch: String,
    /// Used for the bootstrap and kept in the image's apt sources; the distribution's own when absent.
    pub mirror: Option<String>,
    /// Empty: the distribution's usual ones.
    pub components: Vec<String>,
    /// Packages beyond those every base has.
    pub packages: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distro {
    Debian,
    Ubuntu,
}

/// `base.image`: a disk image by file or URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSource {
    /// A path relative to the template (kept as written), or an `http(s)://` URL.
    pub location: Location,
    pub checksum: Checksum,
    /// Taken from the file name when absent; decides nothing about compression.
    pub format: Option<DiskFormat>,
    /// The login that the image's cloud-init or its own accounts offer.
    pub user: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    Path(PathBuf),
    Url(String),
}

/// `sha256:…`, `sha512:…`, or `file:LOCATION` of a checksum file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// 64 lower-case hex digits.
    Sha256(String),
    /// 128 lower-case hex digits.
    Sha512(String),
    /// A file in the format of `sha256sum` or `sha512sum` (plain or BSD style) that names the image.
    File(Location),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    Qcow2,
    Raw,
    Vmdk,
    Vhdx,
}

impl DiskFormat {
    pub const ALL: [DiskFormat; 4] = [Self::Qcow2, Self::Raw, Self::Vmdk, Self::Vhdx];

    /// The name that qemu-img and file names use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
        }
    }
}

/// `[network]`: how the build reaches the outside; leaves nothing in the image unless `keep`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Network {
    pub proxy: Option<String>,
    pub no_proxy: Vec<String>,
    pub ca: Option<CertificateAuthorities>,
    /// An apt mirror used instead of the distribution's archive hosts.
    pub apt: Option<String>,
    /// A Python package index (simple API).
    pub pip: Option<String>,
    pub cran: Option<String>,
    /// Leave proxy, certificates and mirrors in the finished image.
    pub keep: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateAuthorities {
    /// `"host"`: what the machine that runs dsimg trusts.
    Host,
    /// A PEM file.
    File(PathBuf),
}

/// One `[[builder]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Builder {
    pub name: String,
    /// Only built with when it is named. Default: false.
    pub on_request: bool,
    pub table: BuilderTable,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum BuilderTable {
    Qemu(QemuTable),
    // It is many times the size of the other.
    AwsEbs(Box<aws::AwsEbsTable>),
}

impl BuilderTable {
    /// Whether its image is a file on this host that publishers can read: qcow2 or raw.
    #[must_use]
    pub fn makes_a_disk(&self) -> bool {
        match self {
            Self::Qemu(qemu) => qemu.formats.iter().any(|format| [DiskFormat::Qcow2, DiskFormat::Raw].contains(format)),
            Self::AwsEbs(_) => false,
        }
    }
}

/// `type = "qemu"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QemuTable {
    /// Default: 2.
    pub cpus: u32,
    /// Default: 2GiB.
    pub memory: ByteSize,
    /// Virtual size of the image's disk. Default: 20GiB.
    pub disk: ByteSize,
    pub firmware: Firmware,
    /// Default: `["qcow2"]`.
    pub formats: Vec<DiskFormat>,
    /// How qcow2 is compressed. Default: zstd; zlib for QEMU before 5.1 and some clouds.
    pub compression: Compression,
    /// Default: `auto`.
    pub accelerator: Accelerator,
    /// Log in as this user. Default: the base's own (`debian`, `ubuntu`), with sudo; `root` works too.
    pub ssh_user: Option<String>,
    /// How long a boot may take until ssh answers. Default: 5m with KVM; TCG multiplies it.
    pub boot_timeout: Timeout,
    /// Appended to QEMU's command line as they are.
    pub qemu_args: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    Bios,
    Uefi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    Zstd,
    Zlib,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM where a probe shows that it works, else TCG.
    Auto,
    Kvm,
    Tcg,
}

/// One `[[publish]]`: where the files of a local build go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    /// `name`, or the type; unique in the template.
    pub name: String,
    /// Names of the builders whose images it publishes; empty: all that make a disk on this host, as qcow2 or raw.
    pub only: BTreeSet<String>,
    pub table: PublisherTable,
}

impl Publish {
    #[must_use]
    pub fn applies_to(&self, builder: &Builder) -> bool {
        builder.table.makes_a_disk() && (self.only.is_empty() || self.only.contains(&builder.name))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum PublisherTable {
    AwsAmi(aws::AwsAmiTable),
}

/// One `[[provision]]`, its parameters checked against the provisioner's definition.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvisionEntry {
    /// `name`, or the provisioner's name, made unique with a number.
    pub label: String,
    /// The provisioner's name (`type`).
    pub provisioner: String,
    /// Every parameter of the definition that has a value, written or default.
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Names of the builders it applies to; empty: all.
    pub only: BTreeSet<String>,
    pub except: BTreeSet<String>,
    /// For each of its commands. Default: 1h.
    pub timeout: Timeout,
    /// How often a failed command is tried again. Default: 0.
    pub retries: u32,
    /// Whether the stage, and with it those after it, may come from a checkpoint. Default: true.
    pub cache: bool,
    /// A checkpoint of the stage that is older is not used.
    pub refresh: Option<Timeout>,
}

impl ProvisionEntry {
    #[must_use]
    pub fn applies_to(&self, builder: &str) -> bool {
        (self.only.is_empty() || self.only.contains(builder)) && !self.except.contains(builder)
    }
}

/// A parameter's value, in the shape its definition asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterValue {
    Text(String),
    Texts(Vec<String>),
    Integer(i64),
    Integers(Vec<i64>),
    Boolean(bool),
    Duration(Timeout),
    Map(BTreeMap<String, String>),
    /// A file or folder on the host, as written, relative to the template.
    Path(PathBuf),
    Paths(Vec<PathBuf>),
    /// A list of tables; each holds the fields that were given or have a default.
    Tables(Vec<BTreeMap<String, ParameterValue>>),
}

impl ParameterValue {
    /// A parameter's value as a template would write it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => serde_json::json!(text),
            Self::Texts(texts) => serde_json::json!(texts),
            Self::Integer(integer) => serde_json::json!(integer),
            Self::Integers(integers) => serde_json::json!(integers),
            Self::Boolean(value) => serde_json::json!(value),
            Self::Duration(timeout) => serde_json::json!(timeout.to_string()),
            Self::Map(map) => serde_json::json!(map),
            Self::Path(path) => serde_json::json!(path.to_string_lossy()),
            Self::Paths(paths) => paths.iter().map(|path| path.to_string_lossy()).collect(),
            Self::Tables(tables) => tables
                .iter()
                .map(|table| {
                    serde_json::Value::Object(table.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
                })
                .collect(),
        }
    }

    /// Whether a step that depends on this parameter is carried out: true, or not empty.
    #[must_use]
    pub fn is_set(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Texts(texts) => !texts.is_empty(),
            Self::Boolean(value) => *value,
            Self::Map(map) => !map.is_empty(),
            Self::Path(path) => !path.as_os_str().is_empty(),
            Self::Paths(paths) => !paths.is_empty(),
            Self::Tables(tables) => !tables.is_empty(),
            Self::Integers(integers) => !integers.is_empty(),
            Self::Integer(_) | Self::Duration(_) => true,
        }
    }
}
