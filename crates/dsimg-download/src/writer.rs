//! Writes what comes and hashes it, on a thread where waiting for the disk stops nothing else.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;

use crate::digest::{Expected, Hasher};

/// Chunks on their way to the disk; the network waits when it is slower.
const QUEUE: usize = 64;

/// The content so far: what a later try goes on from.
#[derive(Clone)]
pub(crate) struct Content {
    hasher: Hasher,
    pub(crate) length: u64,
    /// It did not come in one answer, so its parts may not belong together.
    pub(crate) pieced: bool,
}

impl Content {
    pub(crate) fn empty(expected: &Expected) -> Self {
        Self { hasher: expected.hasher(), length: 0, pieced: false }
    }

    /// Reads the file from its start to its end. Blocks.
    pub(crate) fn read_back(file: &mut File, expected: &Expected) -> io::Result<Self> {
        let mut content = Self::empty(expected);
        file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { pieced: content.length > 0, ..content }),
                length => content.add(&buffer[..length]),
            }
        }
    }

    pub(crate) fn digest(&self) -> Expected {
        self.hasher.clone().finish()
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
    }
}

/// The task that writes behind what is already there.
pub(crate) struct Writer {
    queue: Sender<Vec<u8>>,
    task: JoinHandle<io::Result<Content>>,
}

impl Writer {
    /// Cuts the file to the content's length first, so that both agree.
    pub(crate) fn start(mut file: File, mut content: Content) -> Self {
        let (queue, mut chunks) = channel::<Vec<u8>>(QUEUE);
        let task = tokio::task::spawn_blocking(move || {
            file.set_len(content.length)?;
            file.seek(SeekFrom::Start(content.length))?;
            while let Some(chunk) = chunks.blocking_recv() {
                file.write_all(&chunk)?;
                content.add(&chunk);
            }
            Ok(content)
        });
        Self { queue, task }
    }

    /// False when the disk takes no more; [`Self::finish`] says why.
    pub(crate) async fn write(&self, chunk: Vec<u8>) -> bool {
        self.queue.send(chunk).await.is_ok()
    }

    /// Everything that was given is written when this returns.
    pub(crate) async fn finish(self) -> io::Result<Content> {
        drop(self.queue);
        self.task.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
    }
}
