//! The disk's blocks, read and hashed beside the async work.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use dsimg_machine::MachineError;

use super::sums::{BLOCK, Sum};

#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    file: Arc<File>,
    pub(crate) bytes: u64,
    /// One for each processor: more at a time would only wait for each other.
    hashers: Semaphore,
}

#[derive(Debug)]
pub(crate) struct Block {
    /// Always a whole block; zeros beyond the disk's end.
    pub(crate) bytes: Vec<u8>,
    pub(crate) sum: Sum,
}

impl Disk {
    /// # Errors
    /// It can't be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, MachineError> {
        let failed = |source| MachineError::file("cannot read", path, source);
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { path: path.to_owned(), file: Arc::new(file), bytes, hashers: Semaphore::new(processors) })
    }

    /// # Errors
    /// It can't be read.
    pub(crate) async fn block(&self, index: u32) -> Result<Block, MachineError> {
        let _turn = self.hashers.acquire().await.expect("the semaphore is never closed");
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || read_block(&file, index))
            .await
            .unwrap_or_else(|died| Err(io::Error::other(died)))
            .map_err(|source| MachineError::file("cannot read", &self.path, source))
    }
}

fn read_block(file: &File, index: u32) -> io::Result<Block> {
    let size = usize::try_from(BLOCK).expect("half a mebibyte");
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match file.read_at(&mut bytes[filled..], u64::from(index) * BLOCK + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let sum = Sha256::digest(&bytes).into();
    Ok(Block { bytes, sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_block_is_filled_up_with_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; 600 * 1024]).unwrap();
        let disk = Disk::open(&path).unwrap();
        let last = disk.block(1).await.unwrap();
        assert_eq!(last.bytes.len() as u64, BLOCK);
        assert!(last.bytes[..88 * 1024].iter().all(|byte| *byte == 7));
        assert!(last.bytes[88 * 1024..].iter().all(|byte| *byte == 0));
        assert_eq!(last.sum, <Sum>::from(Sha256::digest(&last.bytes)));
        assert_eq!(disk.block(9).await.unwrap().bytes, vec![0; 512 * 1024]);
    }
}
