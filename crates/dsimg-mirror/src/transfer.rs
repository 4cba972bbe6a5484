//! A file on its way from outside into the store, while any number of readers follow.
//!
//! The network, the hashing with the writing, and the readers each go at their own pace: what has come lies in the
//! writer's file. The last byte is shown to nobody before the whole is known to be good.

use std::fs::File;
use std::sync::Arc;

use dsimg_download::Answer;
use dsimg_store::{Expected, Known, Store, StoreError, Stored};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::address::Address;
use crate::age::AgeLimit;
use crate::refusal::Refusal;
use crate::upstream::{Failure, Upstream};

mod sink;

use sink::Sink;

/// What is to be fetched.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) address: Address,
    pub(crate) expected: Expected,
    /// What a former answer was; it is good when the server says that nothing changed.
    pub(crate) known: Option<Known>,
    /// For the `Accept` header.
    pub(crate) accept: Option<&'static str>,
    /// May come compressed; for pages that are read here.
    pub(crate) compressed: bool,
    pub(crate) age: Option<AgeLimit>,
}

/// What the server says about the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Head {
    /// Bytes of the whole, where it is known before.
    pub(crate) length: Option<u64>,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    /// After redirects, without a login.
    pub(crate) url: String,
}

impl Head {
    pub(crate) fn of(answer: &Answer) -> Self {
        let text = |name| answer.header(name).map(str::to_owned);
        Self {
            length: answer.length(),
            etag: text("etag"),
            last_modified: text("last-modified"),
            content_type: text("content-type"),
            content_encoding: text("content-encoding"),
            url: answer.url(),
        }
    }

    /// For `If-Range`: a weak mark is not good for that.
    fn mark(&self) -> Option<&String> {
        self.etag.as_ref().filter(|etag| !etag.starts_with("W/")).or(self.last_modified.as_ref())
    }

    /// Whether another answer is about the same bytes, as far as can be told.
    fn same_file(&self, other: &Self) -> bool {
        self.length == other.length && self.etag == other.etag && self.last_modified == other.last_modified
    }
}

/// How far it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// What came of it, and the file that it is written to: there as soon as bytes are.
    pub(crate) coming: Option<(Head, Arc<File>)>,
    /// Bytes that readers may have.
    pub(crate) available: u64,
    /// All of them, and they are what was expected.
    pub(crate) good: bool,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Stored(Stored),
    /// What was known before is still so.
    Unchanged(Known),
    Refused(Refusal),
}

/// Starts it; it goes on whether somebody follows or not.
pub(crate) fn start(upstream: Arc<Upstream>, store: Store, wanted: Wanted) -> watch::Receiver<Progress> {
    let (progress, receiver) = watch::channel(Progress::default());
    tokio::spawn(async move {
        let transfer = Transfer { upstream, store, wanted, progress: progress.clone() };
        let outcome = transfer.run().await.unwrap_or_else(Outcome::Refused);
        progress.send_modify(|state| state.outcome = Some(outcome));
    });
    receiver
}

struct Transfer {
    upstream: Arc<Upstream>,
    store: Store,
    wanted: Wanted,
    progress: watch::Sender<Progress>,
}

enum Attempt {
    Whole,
    Unchanged(Known),
}

impl Transfer {
    async fn run(self) -> Result<Outcome, Refusal> {
        let mut sink = None;
        let (mut failed, mut before) = (0, 0);
        loop {
            let failure = match self.attempt(&mut sink).await {
                Ok(Attempt::Unchanged(known)) => return Ok(Outcome::Unchanged(known)),
                Ok(Attempt::Whole) => break,
                Err(failure) => failure,
            };
            let now = sink.as_ref().map_or(0, |sink: &Sink| sink.sent);
            // A slow link that breaks often gets there as well.
            failed = if now > before { 1 } else { failed + 1 };
            before = now;
            failure.or_wait(failed).await?;
        }
        match sink {
            Some(sink) => self.finish(sink).await,
            None => Err(Refusal::new(502, format!("{} sent nothing", self.wanted.address.host()))),
        }
    }

    /// Goes on behind what has come.
    async fn attempt(&self, sink: &mut Option<Sink>) -> Result<Attempt, Failure> {
        let asked = self.upstream.ask(&self.wanted.address, self.headers(sink.as_ref()), false).await?;
        let head = Head::of(&asked);
        let skip = match (asked.status(), &mut *sink) {
            (304, None) if self.wanted.known.is_some() => {
                return Ok(Attempt::Unchanged(self.wanted.known.clone().expect("it was asked for by what is known")));
            }
            (200, None) => {
                self.check_head(&head)?;
                *sink = Some(Sink::start(&self.store, head, &self.progress).map_err(of_store)?);
                0
            }
            (206, Some(sink)) if starts_at(&asked, sink.sent) => 0,
            // It can't send a part, and begins again with the same bytes.
            (200, Some(sink)) if sink.head.same_file(&head) => sink.sent,
            (status, _) => {
                let told = format!("{} changed while it was downloaded, or can't be gone on with", self.wanted.address);
                return Err(Failure::lasting(Refusal::new(502, format!("{told} (status {status})"))));
            }
        };
        match sink {
            Some(sink) => self.receive(asked, sink, skip).await.map(|()| Attempt::Whole),
            None => Ok(Attempt::Whole),
        }
    }

    fn headers(&self, sink: Option<&Sink>) -> Vec<(&'static str, String)> {
        let encoding = if self.wanted.compressed { "gzip" } else { "identity" };
        let mut headers = vec![("accept-encoding", encoding.to_owned())];
        if let Some(types) = self.wanted.accept {
            headers.push(("accept", types.to_owned()));
        }
        match (sink, &self.wanted.known) {
            (Some(sink), _) => {
                headers.push(("range", format!("bytes={}-", sink.sent)));
                headers.extend(sink.head.mark().map(|mark| ("if-range", mark.clone())));
            }
            (None, Some(known)) => {
                headers.extend(known.etag.iter().map(|etag| ("if-none-match", etag.clone())));
                headers.extend(known.last_modified.iter().map(|time| ("if-modified-since", time.clone())));
            }
            (None, None) => {}
        }
        headers
    }

    /// What can be told before anything came.
    fn check_head(&self, head: &Head) -> Result<(), Failure> {
        let refused = |refusal| Err(Failure::lasting(refusal));
        if let (Some(expected), Some(length), None) = (self.wanted.expected.size, head.length, &head.content_encoding)
            && expected != length
        {
            let told = format!("{} has {length} bytes, and {expected} are expected", self.wanted.address);
            return refused(wrong_bytes(told));
        }
        match &self.wanted.age {
            Some(limit) => limit.check(head.last_modified.as_deref()).or_else(refused),
            None => Ok(()),
        }
    }

    async fn receive(&self, mut answer: Answer, sink: &mut Sink, mut skip: u64) -> Result<(), Failure> {
        loop {
            let chunk = answer.chunk().await.map_err(|trouble| {
                let mut failure = Failure::of_trouble(&self.wanted.address, &trouble);
                failure.refusal.reason = format!("{} (broken off after {} bytes)", failure.refusal.reason, sink.sent);
                failure
            })?;
            let Some(mut chunk) = chunk else { break };
            let known = skip.min(chunk.len() as u64);
            skip -= known;
            let new = chunk.split_off(known as usize);
            if !new.is_empty() && !sink.send(new).await {
                // The writer says why when it is asked how it ended.
                break;
            }
        }
        match sink.head.length {
            Some(length) if sink.sent < length && sink.is_open() => Err(Failure {
                refusal: Refusal::new(
                    502,
                    format!("{}: broken off after {} of {length} bytes", self.wanted.address.host(), sink.sent),
                ),
                passing: true,
                wait: None,
            }),
            _ => Ok(()),
        }
    }

    /// Readers have the end as soon as the bytes are known to be good; the store a little later.
    async fn finish(&self, sink: Sink) -> Result<Outcome, Refusal> {
        let (head, task) = sink.end();
        let expected = self.wanted.expected.clone();
        let progress = self.progress.clone();
        let refused = |error: StoreError| match error {
            StoreError::WrongDigest { .. } | StoreError::WrongSize { .. } => {
                wrong_bytes(format!("{}: {error}", self.wanted.address))
            }
            other => Refusal::of_store(&other),
        };
        let writer = task.await.map_err(|stopped| broken_thread(&stopped))?.map_err(refused)?;
        let (store, address, its_head) = (self.store.clone(), self.wanted.address.clone(), head.clone());
        let mirror = self.upstream.mirror_of(&address);
        let stored = spawn_blocking(move || {
            writer.check(&expected)?;
            progress.send_modify(|state| {
                state.available = writer.size();
                state.good = true;
            });
            let stored = writer.finish(&expected)?;
            // What is not remembered is only asked for once more.
            let _asked_again = store.remember(&known(&address, mirror, &stored, its_head));
            Ok(stored)
        });
        let stored = stored.await.map_err(|stopped| broken_thread(&stopped))?.map_err(refused)?;
        Ok(Outcome::Stored(stored))
    }
}

fn known(address: &Address, mirror: Option<String>, stored: &Stored, head: Head) -> Known {
    Known {
        url: address.as_str().to_owned(),
        sha256: stored.digest.clone(),
        size: stored.size,
        etag: head.etag,
        last_modified: head.last_modified,
        content_type: head.content_type,
        redirected: Some(head.url).filter(|url| url != address.as_str()),
        mirror,
        fetched: Timestamp::now(),
    }
}

fn wrong_bytes(told: String) -> Refusal {
    Refusal::new(502, told).hint(
        "the index and the file don't belong together: the mirror may be changing just now, or the file is forged",
    )
}

pub(crate) fn broken_thread(stopped: &tokio::task::JoinError) -> Refusal {
    Refusal::new(500, format!("dsimg: a thread ended early: {stopped}"))
}

fn of_store(error: StoreError) -> Failure {
    Failure::lasting(Refusal::of_store(&error))
}

fn starts_at(answer: &Answer, position: u64) -> bool {
    let range = answer.header("content-range").and_then(|text| text.strip_prefix("bytes "));
    range.and_then(|range| range.split('-').next()?.trim().parse().ok()) == Some(position)
}
