//! The disk's blocks, read and hashed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

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

    /// How many blocks are best asked for at a time: they are hashed side by side, in the lanes of the processor's vectors.
    pub(crate) fn lanes() -> usize {
        tape_sha256::lane_width()
    }

    /// # Errors
    /// One can't be read.
    pub(crate) fn blocks(&self, indexes: &[u32]) -> Result<impl Iterator<Item = Block>, MachineError> {
        let buffers = indexes.iter().map(|index| self.read(*index)).collect::<io::Result<Vec<_>>>();
        let buffers = buffers.map_err(|source| MachineError::file("cannot read", &self.path, source))?;
        let mut sums = vec![Sum::default(); buffers.len()];
        tape_sha256::hash_many(&buffers.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &mut sums);
        let hashed = indexes.iter().copied().zip(buffers).zip(sums);
        Ok(hashed.map(|((index, buffer), sum)| Block { index, bytes: Bytes::from_owner(buffer), sum }))
    }

    fn read(&self, index: u32) -> io::Result<Buffer> {
        let mut buffer = self.buffers.take();
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
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn blocks(disk: &Disk, indexes: &[u32]) -> Vec<Block> {
        disk.blocks(indexes).unwrap().collect()
    }

    #[test]
    fn the_last_block_is_filled_up_with_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; 600 * 1024]).unwrap();
        let last = blocks(&Disk::open(&path).unwrap(), &[1]).remove(0);
        assert_eq!(last.bytes.len() as u64, BLOCK);
        assert!(last.bytes[..88 * 1024].iter().all(|byte| *byte == 7));
        assert!(last.bytes[88 * 1024..].iter().all(|byte| *byte == 0));
        assert_eq!(last.sum, <Sum>::from(Sha256::digest(&last.bytes)));
    }

    /// However many there are, and whoever had the buffers before.
    #[test]
    fn each_block_comes_whole_and_with_its_sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let size = usize::try_from(BLOCK).unwrap();
        let count = 2 * Disk::lanes() + 3;
        let mut content: Vec<u8> = (1..=count).flat_map(|number| vec![number as u8; size]).collect();
        std::fs::write(&path, &content[..content.len() - 100]).unwrap();
        content[count * size - 100..].fill(0);
        content.extend(vec![0; size]);
        let disk = Disk::open(&path).unwrap();
        let indexes: Vec<_> = (0..=u32::try_from(count).unwrap()).rev().collect();
        for at_a_time in [1, 2, 3, Disk::lanes(), indexes.len()] {
            for some in indexes.chunks(at_a_time) {
                for (index, block) in some.iter().zip(blocks(&disk, some)) {
                    assert_eq!(*index, block.index);
                    let expected = &content[*index as usize * size..][..size];
                    assert!(block.bytes == expected, "block {index} of {some:?}");
                    assert_eq!(block.sum, <Sum>::from(Sha256::digest(expected)), "block {index} of {some:?}");
                }
            }
        }
    }
}
