//! The blocks on their way: read, hashed, compared, put, many at a time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_ebs::types::ChecksumAlgorithm;
use aws_smithy_types::byte_stream::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use dsimg_machine::{Event, MachineError, RunContext};

use super::blocks::Blocks;
use super::disk::{Block, Disk};
use super::journal::Journal;
use super::pace::{MOST, Pace};
use super::sums::{BLOCK, Sum, Sums};
use crate::account::Account;
use crate::failure::explain;
use crate::pace::until_cancelled;
use crate::patience::{NOT_SEEN_YET, Verdict, back_off, verdict};

/// A line that is down comes back, or somebody has to look at it.
const NOTHING_GETS_THROUGH: Duration = Duration::from_secs(300);
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// In blocks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    /// By an earlier try.
    pub(crate) sent_before: u64,
    /// The parent has the same.
    pub(crate) unchanged: u64,
}

#[derive(Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) account: &'a Account,
    pub(crate) run: &'a RunContext,
    pub(crate) snapshot: &'a str,
    pub(crate) disk: &'a Disk,
    pub(crate) blocks: &'a Blocks<'a>,
    /// Acknowledged by an earlier try.
    pub(crate) before: &'a Sums,
}

enum Fate {
    Sent,
    SentBefore,
    Unchanged,
}

struct Done {
    index: u32,
    sum: Sum,
    fate: Fate,
}

impl Sender<'_> {
    /// All that the snapshot now has of its own, with the totals.
    ///
    /// # Errors
    /// A block can't be read or put, or the build is cancelled: what was acknowledged is in the journal.
    pub(crate) async fn send(&self, journal: &mut Journal) -> Result<(Sums, Totals), MachineError> {
        let indexes = self.blocks.to_look_at();
        let progress = Progress::new(self.run, format!("upload to {}", self.account.region), indexes.len());
        let sent = until_cancelled(&self.run.cancel, self.send_all(indexes, journal, progress)).await;
        sent?
    }

    async fn send_all(
        &self,
        indexes: Vec<u32>,
        journal: &mut Journal,
        mut progress: Progress<'_>,
    ) -> Result<(Sums, Totals), MachineError> {
        let line = Line { pace: Pace::new(), last_through: Mutex::new(Instant::now()), began: Instant::now() };
        let mut put = Sums::default();
        let mut totals = Totals::default();
        let mut blocks = self.disk.blocks(indexes);
        let mut all_read = false;
        let mut under_way = FuturesUnordered::new();
        loop {
            let done = tokio::select! {
                block = blocks.next(), if !all_read && under_way.len() < MOST => {
                    match block? {
                        Some(block) => under_way.push(self.one_block(block, &line)),
                        None => all_read = true,
                    }
                    continue;
                }
                Some(done) = under_way.next() => done,
                else => break,
            };
            let Done { index, sum, fate } = done?;
            match fate {
                Fate::Sent => {
                    journal.acknowledge(index, sum)?;
                    totals.sent += 1;
                }
                Fate::SentBefore => totals.sent_before += 1,
                Fate::Unchanged => totals.unchanged += 1,
            }
            if !matches!(fate, Fate::Unchanged) {
                put.set(index, sum);
            }
            progress.show(totals);
        }
        Ok((put, totals))
    }

    async fn one_block(&self, block: Block, line: &Line) -> Result<Done, MachineError> {
        let Block { index, bytes, sum } = block;
        let fate = if !self.blocks.differs_from_parent(index, &sum) {
            Fate::Unchanged
        } else if self.before.get(index) == Some(&sum) {
            Fate::SentBefore
        } else {
            self.put(index, bytes, &sum, line).await?;
            Fate::Sent
        };
        Ok(Done { index, sum, fate })
    }

    async fn put(&self, index: u32, bytes: Bytes, sum: &Sum, line: &Line) -> Result<(), MachineError> {
        let checksum = STANDARD.encode(sum);
        for tries in 0.. {
            let turn = line.pace.turn().await;
            let call = self
                .account
                .ebs
                .put_snapshot_block()
                .snapshot_id(self.snapshot)
                .block_index(i32::try_from(index).unwrap_or(i32::MAX))
                .block_data(ByteStream::from(bytes.clone()))
                .data_length(i32::try_from(BLOCK).expect("half a mebibyte"))
                .checksum(&checksum)
                .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256);
            let Err(error) = call.send().await else {
                line.went_through();
                return Ok(());
            };
            drop(turn);
            let verdict = verdict(&error);
            if verdict == Verdict::AgainSlower {
                line.pace.slow_down();
            }
            if line.is_hopeless(verdict) {
                return Err(explain(&format!("put block {index} into {}", self.snapshot), self.account, error));
            }
            tokio::time::sleep(back_off(tries)).await;
        }
        unreachable!("the loop ends by itself only")
    }
}

/// What all puts have in common.
struct Line {
    pace: Pace,
    last_through: Mutex<Instant>,
    began: Instant,
}

impl Line {
    fn went_through(&self) {
        self.pace.went_well();
        *self.last_through.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A single block is tried as long as others get through: throttling hits them by chance.
    fn is_hopeless(&self, verdict: Verdict) -> bool {
        let silent = self.last_through.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        match verdict {
            Verdict::Stop => true,
            Verdict::NotFound => self.began.elapsed() > NOT_SEEN_YET,
            Verdict::Again | Verdict::AgainSlower => silent > NOTHING_GETS_THROUGH,
        }
    }
}

struct Progress<'a> {
    run: &'a RunContext,
    what: String,
    skipped: String,
    total: u64,
    shown: Instant,
}

impl<'a> Progress<'a> {
    fn new(run: &'a RunContext, what: String, blocks: usize) -> Self {
        let skipped = format!("{what}: skipped");
        let progress = Self { run, what, skipped, total: blocks as u64, shown: Instant::now() };
        progress.tell(Totals::default());
        progress
    }

    fn show(&mut self, totals: Totals) {
        if self.shown.elapsed() >= PROGRESS_EVERY || totals.done() == self.total {
            self.shown = Instant::now();
            self.tell(totals);
        }
    }

    fn tell(&self, totals: Totals) {
        let skipped = (totals.sent_before + totals.unchanged) * BLOCK;
        let event = |what: &str, done, total| Event::Progress { what: what.to_owned(), done, total };
        self.run.report(&event(&self.what, totals.done() * BLOCK, Some(self.total * BLOCK)));
        if skipped > 0 {
            self.run.report(&event(&self.skipped, skipped, None));
        }
    }
}

/// However the upload ends.
impl Drop for Progress<'_> {
    fn drop(&mut self) {
        for what in [&self.what, &self.skipped] {
            self.run.report(&Event::ProgressEnded { what: what.clone() });
        }
    }
}

impl Totals {
    fn done(self) -> u64 {
        self.sent + self.sent_before + self.unchanged
    }
}
