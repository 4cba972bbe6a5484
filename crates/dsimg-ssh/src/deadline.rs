//! When to give up: after so long in all, or after so long without a byte moving.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A time limit that a transfer pushes ahead of itself and a command doesn't.
#[derive(Debug)]
pub(crate) struct Deadline {
    pub(crate) limit: Duration,
    at: Mutex<Instant>,
    moves: bool,
}

impl Deadline {
    /// From now until the end.
    pub(crate) fn in_all(limit: Duration) -> Self {
        Self { limit, at: Mutex::new(far_or(limit)), moves: false }
    }

    /// Between two bytes.
    pub(crate) fn without_progress(limit: Duration) -> Self {
        Self { limit, at: Mutex::new(far_or(limit)), moves: true }
    }

    /// A byte moved.
    pub(crate) fn progress(&self) {
        if self.moves {
            *self.lock() = far_or(self.limit);
        }
    }

    /// Returns when the limit is passed.
    pub(crate) async fn passed(&self) {
        loop {
            let at = *self.lock();
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.at.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A limit too large for the clock is as good as a month.
fn far_or(limit: Duration) -> Instant {
    Instant::now() + limit.min(Duration::from_secs(30 * 24 * 3600))
}
