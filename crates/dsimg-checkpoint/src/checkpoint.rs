//! What is known of one checkpoint.

use std::collections::BTreeMap;

use dsimg_plan::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Of `checkpoint.json`; raised when it changes so that an older dsimg would misread it.
pub(crate) const FORMAT: u32 = 1;

/// One saved machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub format: u32,
    /// The name of its folder.
    pub id: String,
    /// Whose disk its own stands on; `None`: the base's.
    pub parent: Option<String>,
    pub base: Base,
    /// Layers above the base; 1 stands on it.
    pub depth: u32,
    /// What the disk holds.
    pub key: Digest,
    /// The key that a build from a lock of these very packages asks for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub locked_key: Option<Digest>,
    pub kind: Kind,
    /// The stage after which it was saved.
    pub label: String,
    /// The image's name, for people.
    pub image: String,
    /// What the key is made of, as people read it, to say later what has changed.
    pub inputs: serde_json::Value,
    pub disk: FileFacts,
    pub memory: Option<Memory>,
    pub access: FileFacts,
    pub made: Timestamp,
    /// The build's own.
    pub notes: serde_json::Value,
}

/// What all layers of a chain stand on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Relative to the cache.
    pub path: String,
    pub sha256: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Booted, and nothing done to it yet.
    Boot,
    Stage,
    /// As a stage left it that failed: to look into, never to build on.
    Failed,
}

/// A memory state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// States are loaded only where this is the same.
    pub key: Digest,
    /// Its parts that people know.
    pub facts: BTreeMap<String, String>,
    pub file: FileFacts,
}

/// One file as it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Bytes.
    pub size: u64,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
    /// Over its content without holes and zeros; see [`crate::digest`].
    pub sha256: Digest,
}

impl Checkpoint {
    /// Bytes on the disk.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.disk.allocated + self.memory.as_ref().map_or(0, |memory| memory.file.allocated)
    }
}
