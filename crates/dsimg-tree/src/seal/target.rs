//! The disk that is written.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::Fault;

/// What is all zeros is not written, in pieces of this size.
const PIECE: usize = 4096;

#[derive(Debug)]
pub(super) struct Target {
    file: File,
}

impl Target {
    /// All of it is a hole.
    pub(super) fn create(path: &Path, size: u64) -> Result<Self, Fault> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(size)?;
        Ok(Self { file })
    }

    pub(super) fn partition(&self, start: u64, block_size: u64) -> TargetPartition<'_> {
        TargetPartition { file: &self.file, start, block_size }
    }
}

/// The partition that a file system is made in.
#[derive(Debug, Clone, Copy)]
pub(super) struct TargetPartition<'a> {
    file: &'a File,
    start: u64,
    block_size: u64,
}

impl TargetPartition<'_> {
    /// At a place in the disk, in bytes.
    pub(super) fn write_disk(&self, bytes: &[u8], place: u64) -> Result<(), Fault> {
        for (number, piece) in (0..).zip(bytes.chunks(PIECE)) {
            if piece.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(piece, place + number * PIECE as u64)?;
            }
        }
        Ok(())
    }

    /// At `offset` in a block of the file system; may go on in those that follow.
    pub(super) fn write(&self, bytes: &[u8], block: u64, offset: u64) -> Result<(), Fault> {
        self.write_disk(bytes, self.start + block * self.block_size + offset)
    }

    pub(super) fn sync(&self) -> Result<(), Fault> {
        Ok(self.file.sync_all()?)
    }
}
