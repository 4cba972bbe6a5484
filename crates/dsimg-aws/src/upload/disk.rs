//! The disk's blocks, read and hashed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use dsimg_machine::MachineError;

use super::buffers::{Buffer, Buffers};
use super::sums::{BLOCK, Sum};

#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    file: File,
    pub(crate) bytes: u64,
    buffers: Buffers,
}

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) index: u32,
    /// Always a whole block; zeros beyond the disk's end.
    pub(crate) bytes: Bytes,
    pub(crate) sum: Sum,
}

impl Disk {
    /// # Errors
    /// It can't be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, MachineError> {
        let failed = |source| MachineError::file("cannot read", path, source);
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_owned(), file, bytes, buffers: Buffers::default() })
    }

    /// # Errors
    /// It can't be read.
    pub(crate) fn block(&self, index: u32) -> Result<Block, MachineError> {
        let mut buffer = self.buffers.take();
        self.read(index, &mut buffer).map_err(|source| MachineError::file("cannot read", &self.path, source))?;
        let sum = Sha256::digest(&buffer).into();
        Ok(Block { index, bytes: Bytes::from_owner(buffer), sum })
    }

    fn read(&self, index: u32, buffer: &mut Buffer) -> io::Result<()> {
        let bytes = buffer.as_mut();
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], u64::from(index) * BLOCK + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes[filled..].fill(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_is_filled_up_with_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; 600 * 1024]).unwrap();
        let last = Disk::open(&path).unwrap().block(1).unwrap();
        assert_eq!(last.bytes.len() as u64, BLOCK);
        assert!(last.bytes[..88 * 1024].iter().all(|byte| *byte == 7));
        assert!(last.bytes[88 * 1024..].iter().all(|byte| *byte == 0));
        assert_eq!(last.sum, <Sum>::from(Sha256::digest(&last.bytes)));
    }

    #[test]
    fn each_block_is_whole_whoever_had_its_buffer_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let size = usize::try_from(BLOCK).unwrap();
        let content: Vec<u8> = (0..4).flat_map(|index| vec![index + 1; size]).collect();
        std::fs::write(&path, &content[..content.len() - 100]).unwrap();
        let disk = Disk::open(&path).unwrap();
        for index in 0..3 {
            let block = disk.block(index).unwrap();
            assert!(block.bytes.iter().all(|byte| u32::from(*byte) == index + 1), "block {index}");
        }
        let (last, beyond) = (disk.block(3).unwrap().bytes, disk.block(4).unwrap().bytes);
        assert!(last[..size - 100].iter().all(|byte| *byte == 4) && last[size - 100..].iter().all(|byte| *byte == 0));
        assert!(beyond.iter().all(|byte| *byte == 0), "a longer parent's block");
    }
}
