//! The JSON of an OCI image: an index with one manifest, and the manifest.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/manifest.md>

use std::collections::BTreeMap;

use dsimg_plan::Digest;
use serde::{Deserialize, Serialize};

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const BUNDLE_TYPE: &str = "application/vnd.dsimg.bundle.v1";
const TITLE: &str = "org.opencontainers.image.title";
const NAME: &str = "dev.dsimg.name";
const PLAIN_DIGEST: &str = "dev.dsimg.uncompressed.digest";
const PLAIN_SIZE: &str = "dev.dsimg.uncompressed.size";

/// Every manifest has a configuration; this one says nothing.
pub(super) const CONFIG: &[u8] = b"{}";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Descriptor {
    media_type: String,
    /// `sha256:…`
    digest: String,
    /// Bytes.
    pub(super) size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Index {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Manifest {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Descriptor {
    pub(super) fn member(name: &str, bytes: &[u8]) -> Self {
        let media_type = if name.ends_with(".toml") { "application/toml" } else { "application/octet-stream" };
        Self::new(media_type, &Digest::of_bytes(bytes), bytes.len() as u64).with(TITLE, name)
    }

    pub(super) fn blob(name: &str, digest: &Digest, size: u64) -> Self {
        Self::new(media_type(name), digest, size).with(NAME, name)
    }

    /// `packed` and its size are what lies in the bundle.
    pub(super) fn packed_blob(name: &str, digest: &Digest, size: u64, packed: &Digest, packed_size: u64) -> Self {
        let of = Self::new(&format!("{}+zstd", media_type(name)), packed, packed_size).with(NAME, name);
        of.with(PLAIN_DIGEST, &format!("sha256:{digest}")).with(PLAIN_SIZE, &size.to_string())
    }

    fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        let annotations = BTreeMap::new();
        Self { media_type: media_type.to_owned(), digest: format!("sha256:{digest}"), size, annotations }
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// `None` for a digest that is none.
    pub(super) fn digest(&self) -> Option<Digest> {
        Digest::parse(self.digest.strip_prefix("sha256:")?)
    }

    /// Of a member.
    pub(super) fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }

    /// Of a packed blob: digest and size of what is in it. `Err` where they can't be read.
    pub(super) fn plain(&self) -> Option<Result<(Digest, u64), ()>> {
        let digest = self.annotations.get(PLAIN_DIGEST)?;
        let read = || {
            let digest = Digest::parse(digest.strip_prefix("sha256:")?)?;
            Some((digest, self.annotations.get(PLAIN_SIZE)?.parse().ok()?))
        };
        Some(read().ok_or(()))
    }

    /// For messages: `git_2.47_amd64.deb (blob ab…)`.
    pub(super) fn shown(&self) -> String {
        let name = self.title().or_else(|| self.annotations.get(NAME).map(String::as_str)).unwrap_or("a blob");
        format!("`{}` ({})", name.escape_default(), self.digest)
    }
}

impl Index {
    pub(super) fn of(manifest: &[u8]) -> Self {
        let mut of = Descriptor::new(MANIFEST_TYPE, &Digest::of_bytes(manifest), manifest.len() as u64);
        of.annotations.insert("org.opencontainers.image.ref.name".to_owned(), "bundle".to_owned());
        Self { schema_version: 2, media_type: INDEX_TYPE.to_owned(), manifests: vec![of] }
    }

    pub(super) fn manifest(&self) -> Option<&Descriptor> {
        self.manifests.first()
    }

    /// Whether it is the index that would be written for such a manifest.
    pub(super) fn is_canonical(&self, bytes: &[u8]) -> bool {
        let Some(manifest) = self.manifest() else { return false };
        let Some(digest) = manifest.digest() else { return false };
        let mut expected = Self::of(b"");
        expected.manifests[0].digest = format!("sha256:{digest}");
        expected.manifests[0].size = manifest.size;
        json(&expected) == bytes
    }
}

impl Manifest {
    pub(super) fn of(layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: BUNDLE_TYPE.to_owned(),
            config: Descriptor::new(EMPTY_TYPE, &Digest::of_bytes(CONFIG), CONFIG.len() as u64),
            layers,
        }
    }

    pub(super) fn is_a_bundle_s(&self) -> bool {
        self.artifact_type == BUNDLE_TYPE && self.config == Self::of(Vec::new()).config
    }
}

pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers only")
}

fn media_type(name: &str) -> &'static str {
    let kinds = [
        (".deb", "application/vnd.debian.binary-package"),
        (".whl", "application/zip"),
        (".zip", "application/zip"),
        (".gz", "application/gzip"),
        (".tgz", "application/gzip"),
        (".qcow2", "application/vnd.dsimg.disk.qcow2"),
    ];
    kinds.iter().find(|(ending, _)| name.ends_with(ending)).map_or("application/octet-stream", |(_, kind)| kind)
}
