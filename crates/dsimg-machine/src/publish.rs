//! Where a finished image goes, and what came of it.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use dsimg_plan::Digest;

use crate::builder::Artifact;
use crate::context::RunContext;
use crate::error::MachineError;

/// A place for finished images: AMIs in an account.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Looks and changes nothing: are the rights there, is the name free? Asked before the build begins.
    ///
    /// # Errors
    /// Publishing would fail.
    async fn check_ready(&self, run: &RunContext) -> Result<(), MachineError>;

    /// Brings the image there. Called again after a failure, it goes on where it stopped; what is there already is
    /// found and not made twice.
    ///
    /// # Errors
    /// It is not there, or not in all the places; nothing half-made can be mistaken for it.
    async fn publish(&self, image: &LocalImage, run: &RunContext) -> Result<Vec<Ami>, MachineError>;
}

/// A finished image on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalImage {
    pub name: String,
    pub version: String,
    pub summary: Option<String>,
    /// The whole disk, raw; what was never written may be holes.
    pub disk: PathBuf,
    /// Of the image's file that the disk was read from: names this very disk.
    pub sha256: Digest,
    /// `None`: every part may have been written.
    pub written: Option<WrittenParts>,
}

/// The parts of a disk that were ever written, zeros included. What was never written may hold anything: on an
/// encrypted volume of EBS it reads as garbage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WrittenParts {
    /// Version of this form; 1.
    pub format: u32,
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// From and to, in bytes, sorted; they do not touch each other.
    pub parts: Vec<(u64, u64)>,
}

/// Its name in an image's folder.
pub const WRITTEN_PARTS: &str = "written-parts.json";

impl WrittenParts {
    /// From parts in any order that may overlap.
    #[must_use]
    pub fn of(virtual_size: u64, parts: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut sorted: Vec<_> = parts.into_iter().filter(|(from, to)| from < to).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (from, to) in sorted {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        Self { format: 1, virtual_size, parts: joined }
    }

    /// All other parts of the disk.
    #[must_use]
    pub fn rest(&self) -> Self {
        let starts = [0].into_iter().chain(self.parts.iter().map(|part| part.1));
        let ends = self.parts.iter().map(|part| part.0).chain([self.virtual_size]);
        Self::of(self.virtual_size, starts.zip(ends))
    }

    /// Whether anything between the two places was ever written.
    #[must_use]
    pub fn touches(&self, from: u64, to: u64) -> bool {
        let next = self.parts.partition_point(|part| part.1 <= from);
        self.parts.get(next).is_some_and(|part| part.0 < to)
    }

    /// Puts them beside the image's files.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::write(folder.join(WRITTEN_PARTS), serde_json::to_string(self)? + "\n")
    }

    /// Reads them from an image's folder; `None` where there are none, or none that this version understands.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(WRITTEN_PARTS)).ok()?;
        serde_json::from_str(&text).ok().filter(|parts: &Self| parts.format == 1)
    }

    /// Bytes in all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(from, to)| to - from).sum()
    }
}

/// An image in one region of AWS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ami {
    pub region: String,
    pub id: String,
    pub name: String,
    /// Of its volumes, the root's first.
    pub snapshots: Vec<String>,
    /// The AMI that the instance it was made of came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// The SSM parameter that names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parameter: Option<String>,
}

/// What a machine that is off became.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Written {
    /// In the image's folder.
    pub files: Vec<Artifact>,
    pub amis: Vec<Ami>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_sorted_and_joined() {
        let parts = WrittenParts::of(100, [(50, 60), (0, 10), (10, 20), (55, 70), (80, 80)]);
        assert_eq!(parts.parts, [(0, 20), (50, 70)]);
        assert_eq!(parts.bytes(), 40);
        assert_eq!(parts.rest().parts, [(20, 50), (70, 100)]);
        assert_eq!(WrittenParts::of(100, []).rest().parts, [(0, 100)]);
    }

    #[test]
    fn a_block_is_written_when_any_of_it_is() {
        let parts = WrittenParts::of(100, [(10, 20), (50, 60)]);
        for (from, to, touched) in
            [(0, 10, false), (0, 11, true), (19, 30, true), (20, 50, false), (59, 100, true), (60, 100, false)]
        {
            assert_eq!(parts.touches(from, to), touched, "{from} to {to}");
        }
    }
}
