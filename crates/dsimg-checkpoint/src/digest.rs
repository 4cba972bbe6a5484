//! The digest of a sparse file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use dsimg_plan::Digest;
use rustix::fs::{SeekFrom, seek};
use sha2::{Digest as _, Sha256};

use crate::checkpoint::FileFacts;

/// What is hashed at once. A block of zeros is left out, so that it is no matter whether it is a hole.
pub(crate) const BLOCK: usize = 1 << 16;
/// What is read at once.
const PIECE: usize = 1 << 20;

/// Reads the file, but not its holes: sha256 over the size, and over offset and content of each block that is not all
/// zeros.
pub(crate) fn facts(file: &File) -> io::Result<FileFacts> {
    let metadata = file.metadata()?;
    let size = metadata.len();
    let mut hasher = SparseHasher::new(size);
    for_each_block(file, size, |offset, block| {
        hasher.update(offset, block);
        Ok(())
    })?;
    Ok(FileFacts { size, allocated: metadata.blocks() * 512, sha256: hasher.digest() })
}

/// Takes the blocks in the order in which they lie.
pub(crate) struct SparseHasher(Sha256);

impl SparseHasher {
    pub(crate) fn new(size: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(size.to_le_bytes());
        Self(hasher)
    }

    pub(crate) fn update(&mut self, offset: u64, block: &[u8]) {
        self.0.update(offset.to_le_bytes());
        self.0.update(block);
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::of_hasher(self.0)
    }
}

/// The blocks that are not all zeros, with their offsets; holes are not read. All are of [`BLOCK`] bytes but one at the
/// end of the file.
pub(crate) fn for_each_block(
    file: &File,
    size: u64,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Some((start, end)) = next_data(file, at, size)? {
        let mut place = start - start % BLOCK as u64;
        while place < end {
            // To the end of the run's last block and no further: what is behind it may be a hole, and reading one costs
            // the host as much memory as data.
            let wanted = (end.next_multiple_of(BLOCK as u64).min(size) - place).min(PIECE as u64) as usize;
            file.read_exact_at(&mut buffer[..wanted], place)?;
            for (index, block) in buffer[..wanted].chunks(BLOCK).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    take(place + (index * BLOCK) as u64, block)?;
                }
            }
            place += wanted as u64;
        }
        at = place;
    }
    Ok(())
}

/// The next run of data from `at` on.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system without holes.
        Err(rustix::io::Errno::INVAL) => return Ok(Some((at, size))),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(write: impl FnOnce(&mut File)) -> FileFacts {
        let mut file = tempfile::tempfile().unwrap();
        write(&mut file);
        facts(&file).unwrap()
    }

    #[test]
    fn holes_and_zeros_are_the_same_and_places_are_not() {
        let sparse = file(|file| {
            file.set_len(40 << 20).unwrap();
            file.write_all_at(b"x", 33 << 20).unwrap();
        });
        let full = file(|file| {
            let mut content = vec![0; 40 << 20];
            content[33 << 20] = b'x';
            file.write_all(&content).unwrap();
        });
        assert_eq!(sparse.sha256, full.sha256);
        assert!(sparse.allocated < 1 << 20 && full.allocated >= 40 << 20, "{sparse:?} {full:?}");
        let elsewhere = file(|file| {
            file.set_len(40 << 20).unwrap();
            file.write_all_at(b"x", 34 << 20).unwrap();
        });
        assert_ne!(sparse.sha256, elsewhere.sha256);
        let longer = file(|file| {
            file.set_len(41 << 20).unwrap();
            file.write_all_at(b"x", 33 << 20).unwrap();
        });
        assert_ne!(sparse.sha256, longer.sha256);
    }

    #[test]
    fn an_empty_file_has_a_digest() {
        assert_eq!(file(|_| {}).size, 0);
    }
}
