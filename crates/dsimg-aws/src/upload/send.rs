//! The blocks on their way: workers put them, and here is watched how far they are.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use dsimg_machine::{Event, MachineError, RunContext};

use super::disk::Disk;
use super::journal::Journal;
use super::put::Line;
use super::sums::{BLOCK, Sums};
use super::work::{Totals, Work};
use crate::account::Account;

const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What is to be sent, and to where.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    pub(crate) account: &'a Account,
    pub(crate) snapshot: &'a str,
    /// Of the blocks to look at.
    pub(crate) indexes: Vec<u32>,
    /// What the snapshot has without a put.
    pub(crate) parent: Sums,
}

/// All that the snapshot now has of its own, with the totals.
///
/// # Errors
/// A block can't be read or put, or the build is cancelled: what was acknowledged is in the journal.
pub(crate) async fn send(
    sending: Sending<'_>,
    disk: Disk,
    journal: Journal,
    run: &RunContext,
) -> Result<(Sums, Totals), MachineError> {
    let Sending { account, snapshot, indexes, parent } = sending;
    let line = Line::new(account.clone(), snapshot.to_owned());
    let work = Arc::new(Work::new(disk, indexes, parent, journal, line));
    // However this ends.
    let _stop = work.stop.clone().drop_guard();
    let progress = Progress::new(run, format!("upload to {}", account.region), work.blocks());
    let mut workers = JoinSet::new();
    // More would only wait for each other: hashing is most of it.
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let (work, account) = (Arc::clone(&work), account.clone());
        workers.spawn_blocking(move || work.run(&account));
    }
    let ended = watch(&mut workers, &work, &progress, run).await;
    work.stop.cancel();
    // So that no block is put any more when this returns.
    while workers.join_next().await.is_some() {}
    ended?;
    progress.tell(work.totals());
    Ok((work.put(), work.totals()))
}

/// Until all workers have ended, one has failed, or the build is cancelled.
async fn watch(
    workers: &mut JoinSet<Result<(), MachineError>>,
    work: &Work,
    progress: &Progress<'_>,
    run: &RunContext,
) -> Result<(), MachineError> {
    let mut ticks = interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = run.cancel.cancelled() => return Err(MachineError::Cancelled),
            ended = workers.join_next() => match ended {
                Some(Ok(ended)) => ended?,
                Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
                None => return Ok(()),
            },
            _ = ticks.tick() => progress.tell(work.totals()),
        }
    }
}

struct Progress<'a> {
    run: &'a RunContext,
    what: String,
    skipped: String,
    total: u64,
}

impl<'a> Progress<'a> {
    fn new(run: &'a RunContext, what: String, total: u64) -> Self {
        let skipped = format!("{what}: skipped");
        Self { run, what, skipped, total }
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
