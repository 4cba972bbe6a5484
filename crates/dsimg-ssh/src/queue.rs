//! What comes in on a channel, taken off the connection as it arrives.
//!
//! russh hands every packet of a connection over in turn and waits while one channel's buffer is full, so a
//! channel that nobody reads stops all the others. Each channel therefore has a task that always reads.

use std::sync::Arc;

use russh::{ChannelMsg, ChannelReadHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that wait for a reader before the connection is stopped after all: memory is not endless.
const ROOM: usize = 64 << 20;

/// The reading end; when it is dropped, what still comes is read and thrown away.
pub(crate) struct Queue(UnboundedReceiver<(ChannelMsg, Option<OwnedSemaphorePermit>)>);

impl Queue {
    /// Starts the reading task, which ends with the channel.
    pub(crate) fn fill_from(channel: ChannelReadHalf) -> Self {
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(drain(channel, sender));
        Self(receiver)
    }

    /// The next message, or `None` when the channel or the whole connection is gone.
    pub(crate) async fn next(&mut self) -> Option<ChannelMsg> {
        self.0.recv().await.map(|(message, _room)| message)
    }
}

async fn drain(mut channel: ChannelReadHalf, queue: UnboundedSender<(ChannelMsg, Option<OwnedSemaphorePermit>)>) {
    let room = Arc::new(Semaphore::new(ROOM));
    while let Some(message) = channel.wait().await {
        let size = match &message {
            ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => data.len(),
            _ => 0,
        };
        let permit = tokio::select! {
            // A packet is far smaller than the room, so this succeeds as soon as the reader reads.
            permit = Arc::clone(&room).acquire_many_owned(u32::try_from(size.min(ROOM)).unwrap_or(u32::MAX)) => permit.ok(),
            () = queue.closed() => None,
        };
        let _reader_gone = queue.send((message, permit));
    }
}
