//! Writing and hashing on a thread of its own, while the network goes on.

use std::sync::Arc;

use bytes::Bytes;
use dsimg_store::{Store, StoreError, Writer};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Head, Progress};

/// Pieces between network and disk.
const QUEUE: usize = 32;

/// The writer on its thread.
pub(super) struct Sink {
    pub(super) head: Head,
    queue: mpsc::Sender<Bytes>,
    task: JoinHandle<Result<Writer, StoreError>>,
    /// Bytes given to it.
    pub(super) sent: u64,
}

impl Sink {
    pub(super) fn start(store: &Store, head: Head, progress: &watch::Sender<Progress>) -> Result<Self, StoreError> {
        let mut writer = store.writer()?;
        let file = Arc::new(writer.reader()?);
        progress.send_modify(|state| state.coming = Some((head.clone(), file)));
        let (queue, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
        let progress = progress.clone();
        let task = spawn_blocking(move || {
            while let Some(piece) = pieces.blocking_recv() {
                writer.write(&piece)?;
                // Who waits is woken once for all that lies ready.
                while let Ok(piece) = pieces.try_recv() {
                    writer.write(&piece)?;
                }
                progress.send_modify(|state| state.available = writer.size().saturating_sub(1));
            }
            Ok(writer)
        });
        Ok(Self { head, queue, task, sent: 0 })
    }

    /// False when the disk takes no more.
    pub(super) async fn send(&mut self, piece: Bytes) -> bool {
        self.sent += piece.len() as u64;
        self.queue.send(piece).await.is_ok()
    }

    /// The disk takes more.
    pub(super) fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Nothing more comes: when the task ends, all of it is written.
    pub(super) fn end(self) -> (Head, JoinHandle<Result<Writer, StoreError>>) {
        (self.head, self.task)
    }
}
