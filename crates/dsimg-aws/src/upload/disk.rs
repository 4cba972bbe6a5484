//! The disk's blocks, read and hashed by threads of their own beside the async work.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use dsimg_machine::MachineError;

use super::buffers::{Buffer, Buffers};
use super::sums::{BLOCK, Sum};

#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    file: Arc<File>,
    pub(crate) bytes: u64,
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
        Ok(Self { path: path.to_owned(), file: Arc::new(file), bytes })
    }

    /// These blocks, in about their order. Must be called in a runtime.
    pub(crate) fn blocks(&self, indexes: Vec<u32>) -> HashedBlocks<'_> {
        // More at a time would only wait for each other.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (sender, receiver) = channel(threads);
        let next = Arc::new(AtomicUsize::new(0));
        let indexes = Arc::<[u32]>::from(indexes);
        let buffers = Buffers::default();
        for _ in 0..threads {
            let hasher = Hasher {
                file: Arc::clone(&self.file),
                indexes: Arc::clone(&indexes),
                next: Arc::clone(&next),
                buffers: buffers.clone(),
            };
            let sender = sender.clone();
            tokio::task::spawn_blocking(move || hasher.run(&sender));
        }
        HashedBlocks { disk: self, receiver }
    }
}

/// Read and hashed as they are taken; nobody reads on when this is dropped.
#[derive(Debug)]
pub(crate) struct HashedBlocks<'a> {
    disk: &'a Disk,
    receiver: Receiver<io::Result<Block>>,
}

impl HashedBlocks<'_> {
    /// `None`: that was the last.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) async fn next(&mut self) -> Result<Option<Block>, MachineError> {
        let failed = |source| MachineError::file("cannot read", &self.disk.path, source);
        self.receiver.recv().await.transpose().map_err(failed)
    }
}

/// What one of the threads works with.
struct Hasher {
    file: Arc<File>,
    indexes: Arc<[u32]>,
    /// The first of the indexes that no thread took yet.
    next: Arc<AtomicUsize>,
    buffers: Buffers,
}

impl Hasher {
    fn run(&self, sender: &Sender<io::Result<Block>>) {
        while let Some(index) = self.indexes.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let block = read_block(&self.file, *index, self.buffers.take());
            if sender.blocking_send(block).is_err() {
                return;
            }
        }
    }
}

fn read_block(file: &File, index: u32, mut buffer: Buffer) -> io::Result<Block> {
    let bytes = buffer.as_mut();
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], u64::from(index) * BLOCK + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes[filled..].fill(0);
    let sum = Sha256::digest(&bytes).into();
    Ok(Block { index, bytes: Bytes::from_owner(buffer), sum })
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
        let last = disk.blocks(vec![1]).next().await.unwrap().unwrap();
        assert_eq!(last.bytes.len() as u64, BLOCK);
        assert!(last.bytes[..88 * 1024].iter().all(|byte| *byte == 7));
        assert!(last.bytes[88 * 1024..].iter().all(|byte| *byte == 0));
        assert_eq!(last.sum, <Sum>::from(Sha256::digest(&last.bytes)));
    }

    #[tokio::test]
    async fn each_block_comes_once_and_whole_whoever_had_its_buffer_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let size = usize::try_from(BLOCK).unwrap();
        let content: Vec<u8> = (0..20).flat_map(|index| vec![index; size]).collect();
        std::fs::write(&path, &content[..content.len() - 100]).unwrap();
        let disk = Disk::open(&path).unwrap();
        let mut blocks = disk.blocks((0..21).collect());
        let mut seen = Vec::new();
        while let Some(block) = blocks.next().await.unwrap() {
            let index = usize::try_from(block.index).unwrap();
            let mut expected = content.get(index * size..(index + 1) * size).unwrap_or_default().to_vec();
            if index == 19 {
                expected.truncate(size - 100);
            }
            expected.resize(size, 0);
            assert!(block.bytes == expected, "block {index}");
            seen.push(block.index);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..21).collect::<Vec<_>>());
    }
}
