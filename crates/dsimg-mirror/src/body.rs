//! What goes to the guest: bytes at hand, or a file that may still be growing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use dsimg_download::Answer;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use crate::fetch::Found;
use crate::transfer::{Outcome, Progress};

const PIECE: u64 = 256 << 10;
/// Pieces that were read and not yet sent.
const AHEAD: usize = 2;

#[derive(Debug)]
pub(crate) enum Answered {
    Whole(Option<Bytes>),
    Pieces { pieces: mpsc::Receiver<io::Result<Bytes>>, left: Option<u64> },
}

impl Answered {
    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }

    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    /// The bytes of `range`; to the end of the file, whenever that is, where it has no end.
    pub(crate) fn file(found: Found, start: u64, end: Option<u64>) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            let outcome = match found {
                Found::Stored { file, stored, .. } => send(&file, start, end.unwrap_or(stored.size), &sender).await,
                Found::Coming { file, progress, .. } => follow(&file, progress, start, end, &sender).await,
            };
            if let Err(error) = outcome {
                // Nobody listens when the guest went away.
                let _nobody = sender.send(Err(error)).await;
            }
        });
        Self::Pieces { pieces, left: end.map(|end| end - start) }
    }
}

impl Answered {
    /// What comes from outside, as it comes.
    pub(crate) fn passing(mut answer: Answer) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        let left = answer.length();
        tokio::spawn(async move {
            while let Some(piece) = answer.chunk().await.map_err(|trouble| io::Error::other(trouble.why)).transpose() {
                let is_end = piece.is_err();
                if sender.send(piece).await.is_err() || is_end {
                    break;
                }
            }
        });
        Self::Pieces { pieces, left }
    }
}

async fn follow(
    file: &Arc<File>,
    mut progress: watch::Receiver<Progress>,
    mut position: u64,
    end: Option<u64>,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    while end.is_none_or(|end| position < end) {
        let more = |state: &Progress| state.good || state.outcome.is_some() || state.available > position;
        let state = progress.wait_for(more).await.map_err(io::Error::other)?.clone();
        if let (Some(Outcome::Refused(refusal)), false) = (&state.outcome, state.good) {
            return Err(io::Error::other(refusal.reason.clone()));
        }
        let until = end.unwrap_or(u64::MAX).min(state.available);
        send(file, position, until, sender).await?;
        position = until.max(position);
        if state.good && end.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

async fn send(
    file: &Arc<File>,
    mut position: u64,
    end: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    while position < end {
        let (file, length) = (Arc::clone(file), (end - position).min(PIECE));
        let piece = spawn_blocking(move || {
            let mut piece = vec![0; length as usize];
            file.read_exact_at(&mut piece, position).map(|()| piece)
        });
        let piece = piece.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))?;
        position += length;
        if sender.send(Ok(piece.into())).await.is_err() {
            return Err(io::Error::other("the guest went away"));
        }
    }
    Ok(())
}

impl Body for Answered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces { pieces, left } => pieces.poll_recv(context).map(|piece| {
                let piece = piece?;
                if let (Ok(bytes), Some(left)) = (&piece, left) {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                Some(piece.map(Frame::data))
            }),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pieces { left: Some(left), .. } => SizeHint::with_exact(*left),
            Self::Pieces { left: None, .. } => SizeHint::default(),
        }
    }
}
