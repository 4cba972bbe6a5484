//! A disk image: its bytes, whatever its format, and its partitions.

mod partitions;
mod qcow2;
mod source;

use std::path::{Path, PathBuf};

use crate::error::{Fault, TreeError};
use crate::ext4::{self, FileSystem};

pub use partitions::{Partition, PartitionKind};
pub(crate) use source::Source;

/// A disk image that is open for reading.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    source: Source,
    partitions: Vec<Partition>,
}

impl Disk {
    /// Opens a qcow2 (with its backing files) or a raw image, and reads its partition table: GPT or MBR. An image
    /// without one counts as one partition.
    ///
    /// # Errors
    /// The file can't be read, is damaged, or has features that are not known here.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let open = || {
            let source = Source::open(path)?;
            let partitions = partitions::read(&source)?;
            Ok((source, partitions))
        };
        let (source, partitions) = open().map_err(|fault: Fault| fault.of(path))?;
        Ok(Self { path: path.to_owned(), source, partitions })
    }

    /// In bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The root file system: the ext4 partition whose type says that it is one, or else the largest ext4 partition.
    ///
    /// # Errors
    /// There is none; it was not unmounted in order; it has features that are not known here.
    pub fn root(&self) -> Result<FileSystem<'_>, TreeError> {
        self.root_files().map_err(|fault| fault.of(&self.path))
    }

    pub(crate) fn root_files(&self) -> Result<FileSystem<'_>, Fault> {
        let partition = self.root_partition()?;
        FileSystem::open(self, partition.start, partition.end - partition.start)
    }

    pub(crate) fn root_partition(&self) -> Result<&Partition, Fault> {
        let mut best: Option<&Partition> = None;
        for partition in &self.partitions {
            if !ext4::is_ext4(&self.source, partition.start, partition.end - partition.start)? {
                continue;
            }
            let rank = |partition: &Partition| (partition.kind == PartitionKind::Root, partition.end - partition.start);
            if best.is_none_or(|best| rank(partition) > rank(best)) {
                best = Some(partition);
            }
        }
        best.ok_or_else(|| match self.partitions.len() {
            1 => Fault::NoRoot("its only partition holds no ext4".to_owned()),
            count => Fault::NoRoot(format!("none of its {count} partitions holds an ext4")),
        })
    }
}
