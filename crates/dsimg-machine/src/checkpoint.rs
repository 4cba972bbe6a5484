//! A machine saved as it runs: what a builder writes, and what it starts from again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dsimg_plan::Digest;
use serde::{Deserialize, Serialize};

/// The layer of the disk, a qcow2 on its parent's.
pub const DISK: &str = "disk.qcow2";
/// The memory; absent where only the disk was saved.
pub const MEMORY: &str = "memory";
/// How the machine is logged in to: secrets, opaque to all but the builder.
pub const ACCESS: &str = "access.json";

/// What a memory state needs of the machine that loads it: hypervisor, processor, devices, memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryFit {
    /// Over all of it; states with another key are never loaded.
    pub key: Digest,
    /// The parts that people know, such as `qemu` and `memory`, to say why a state does not fit.
    pub facts: BTreeMap<String, String>,
}

impl MemoryFit {
    /// What is different in another one, in words: `qemu 10.0.2 -> 10.1.0`.
    #[must_use]
    pub fn differences(&self, other: &BTreeMap<String, String>) -> String {
        let changed = self.facts.iter().filter(|(name, value)| other.get(*name) != Some(value));
        let words: Vec<_> = changed
            .map(|(name, now)| format!("{name} {} -> {now}", other.get(name).map_or("unknown", String::as_str)))
            .collect();
        if words.is_empty() { "other devices".to_owned() } else { words.join(", ") }
    }
}

/// The files of a saved machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMachine {
    pub disk: PathBuf,
    /// Only where it fits.
    pub memory: Option<PathBuf>,
    pub access: PathBuf,
}

impl SavedMachine {
    /// Those in a checkpoint's folder.
    #[must_use]
    pub fn in_folder(folder: &Path, with_memory: bool) -> Self {
        Self { disk: folder.join(DISK), memory: with_memory.then(|| folder.join(MEMORY)), access: folder.join(ACCESS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let facts = |qemu: &str| BTreeMap::from([("qemu".to_owned(), qemu.to_owned())]);
        let fit = MemoryFit { key: Digest::of_bytes(b"1"), facts: facts("10.1.0") };
        assert_eq!(fit.differences(&facts("10.0.2")), "qemu 10.0.2 -> 10.1.0");
        assert_eq!(fit.differences(&facts("10.1.0")), "other devices");
    }
}
