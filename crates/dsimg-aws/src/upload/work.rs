//! What the workers of an upload do: each takes blocks, hashes them and puts them, and has many puts under way.
//!
//! A worker is a thread with connections of its own: hashing and TLS use all processors, and a block is written to its
//! connection by the processor that hashed it and has it at hand.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Runtime;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use dsimg_machine::MachineError;

use super::disk::{Block, Disk};
use super::journal::Journal;
use super::pace::Turn;
use super::put::Line;
use super::sums::{Sum, Sums};
use crate::account::Account;

/// When no answer comes for so long, one put more is begun: as many are under way as the line holds, and on a short one
/// not so many that their blocks are out of the processor's sight when they are written.
const MOMENT: Duration = Duration::from_millis(1);

/// One upload, shared by its workers.
#[derive(Debug)]
pub(crate) struct Work {
    disk: Disk,
    /// Of the blocks to look at.
    indexes: Vec<u32>,
    /// The first of the indexes that no worker took yet.
    next: AtomicUsize,
    /// What the snapshot has without a put.
    parent: Sums,
    line: Line,
    book: Mutex<Book>,
    /// Ends the workers.
    pub(crate) stop: CancellationToken,
}

/// What came of the blocks.
#[derive(Debug)]
struct Book {
    journal: Journal,
    put: Sums,
    totals: Totals,
}

/// In blocks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    /// By an earlier try.
    pub(crate) sent_before: u64,
    /// The parent has the same.
    pub(crate) unchanged: u64,
}

impl Work {
    pub(crate) fn new(disk: Disk, indexes: Vec<u32>, parent: Sums, journal: Journal, line: Line) -> Self {
        let book = Mutex::new(Book { journal, put: Sums::default(), totals: Totals::default() });
        Self { disk, indexes, next: AtomicUsize::new(0), parent, line, book, stop: CancellationToken::new() }
    }

    /// One worker, until there is nothing more to do or it is stopped; to be called on a thread of its own.
    ///
    /// # Errors
    /// A block can't be read or put.
    pub(crate) fn run(&self, account: &Account) -> Result<(), MachineError> {
        let runtime = runtime()?;
        // The SDK's connections live in the runtime that made them.
        let ebs = account.another_ebs();
        runtime.block_on(self.stop.run_until_cancelled(self.work(&ebs))).unwrap_or(Ok(()))
    }

    async fn work(&self, ebs: &aws_sdk_ebs::Client) -> Result<(), MachineError> {
        let mut hashed = VecDeque::new();
        let mut under_way = FuturesUnordered::new();
        let mut may_begin = 1;
        let mut all_taken = false;
        loop {
            tokio::select! {
                biased;
                Some(done) = under_way.next() => {
                    self.note(done?)?;
                    may_begin += 1;
                }
                turn = self.turn(), if may_begin > 0 && !all_taken => {
                    if let Some(block) = hashed.pop_front() {
                        may_begin -= 1;
                        under_way.push(self.line.put(ebs, block, turn));
                    } else if let Some(indexes) = self.next_indexes() {
                        hashed.extend(self.disk.blocks(indexes)?.filter(|block| !self.is_there(block)));
                    } else {
                        all_taken = true;
                    }
                }
                () = sleep(MOMENT), if may_begin == 0 && !all_taken => may_begin = 1,
                else => return Ok(()),
            }
        }
    }

    /// After what was begun has been written, and a cancel has been heard.
    async fn turn(&self) -> Turn<'_> {
        yield_now().await;
        self.line.turn().await
    }

    /// `None`: those were the last.
    fn next_indexes(&self) -> Option<&[u32]> {
        let lanes = Disk::lanes();
        let left = self.indexes.get(self.next.fetch_add(lanes, Ordering::Relaxed)..)?;
        left.chunks(lanes).next()
    }

    /// Whether the block need not be put, and if so, notes it.
    fn is_there(&self, block: &Block) -> bool {
        let mut book = self.book();
        // What this try has acknowledged are other blocks: each is taken once.
        match fate(block.index, &block.sum, &self.parent, &book.journal.acknowledged) {
            Fate::Put => return false,
            Fate::Unchanged => book.totals.unchanged += 1,
            Fate::SentBefore => {
                book.totals.sent_before += 1;
                book.put.set(block.index, block.sum);
            }
        }
        true
    }

    fn note(&self, (index, sum): (u32, Sum)) -> Result<(), MachineError> {
        let mut book = self.book();
        book.journal.acknowledge(index, sum)?;
        book.put.set(index, sum);
        book.totals.sent += 1;
        Ok(())
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.indexes.len() as u64
    }

    pub(crate) fn totals(&self) -> Totals {
        self.book().totals
    }

    /// The sums of all blocks that were put, by this try or an earlier one.
    pub(crate) fn put(&self) -> Sums {
        self.book().put.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Put,
    /// An earlier try has put it.
    SentBefore,
    /// The parent has the same.
    Unchanged,
}

/// `sum` is that of what the disk has there.
fn fate(index: u32, sum: &Sum, parent: &Sums, before: &Sums) -> Fate {
    if parent.get(index) == Some(sum) {
        Fate::Unchanged
    } else if before.get(index) == Some(sum) {
        Fate::SentBefore
    } else {
        Fate::Put
    }
}

fn runtime() -> Result<Runtime, MachineError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|why| MachineError::host(format!("cannot begin an upload: {why}"), "look at `ulimit -n`"))
}

impl Totals {
    pub(crate) fn done(self) -> u64 {
        self.sent + self.sent_before + self.unchanged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: Sum = [1; 32];
    const DATA: Sum = [2; 32];

    #[test]
    fn what_neither_the_parent_nor_an_earlier_try_has_is_put() {
        let (mut parent, mut before) = (Sums::default(), Sums::default());
        [(0, DATA), (2, DATA), (3, ZEROS)].iter().for_each(|(index, sum)| parent.set(*index, *sum));
        [(4, DATA), (5, DATA)].iter().for_each(|(index, sum)| before.set(*index, *sum));
        let fate = |index, sum| fate(index, &sum, &parent, &before);
        assert_eq!(fate(0, DATA), Fate::Unchanged);
        assert_eq!(fate(2, ZEROS), Fate::Put, "the hole reads as zeros, the parent as data");
        assert_eq!(fate(3, ZEROS), Fate::Unchanged);
        assert_eq!(fate(1, ZEROS), Fate::Put, "what the parent never had can't be left out");
        assert_eq!(fate(4, DATA), Fate::SentBefore);
        assert_eq!(fate(5, ZEROS), Fate::Put, "it was sent with another content");
    }
}
