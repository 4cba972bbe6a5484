//! Waits: looked at soon at first, then seldom, and not for ever; and never past a cancel.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use dsimg_machine::MachineError;

const FIRST: Duration = Duration::from_millis(250);
/// Each look is a call, and what takes an hour is not worth hundreds.
const LONGEST: Duration = Duration::from_secs(15);

/// The pauses of one wait.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Instant,
    limit: Duration,
    pause: Duration,
}

impl Pace {
    pub(crate) fn within(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit, pause: FIRST }
    }

    pub(crate) fn passed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits for the next look; `false`: the limit has passed.
    ///
    /// # Errors
    /// It is cancelled.
    pub(crate) async fn next(&mut self, cancel: &CancellationToken) -> Result<bool, MachineError> {
        let left = self.limit.saturating_sub(self.passed());
        if left.is_zero() {
            return Ok(false);
        }
        until_cancelled(cancel, sleep(self.pause.min(left))).await?;
        self.pause = self.pause.mul_f64(1.5).min(LONGEST);
        Ok(true)
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.limit.as_secs()
    }
}

/// Work that is dropped when the build is cancelled. What it makes on AWS is in the ledger.
///
/// # Errors
/// It is cancelled.
pub(crate) async fn until_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, MachineError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(MachineError::Cancelled),
        done = work => Ok(done),
    }
}

/// The value, if it comes in time.
pub(crate) async fn in_time<T>(limit: Duration, call: impl Future<Output = T>) -> Option<T> {
    timeout(limit, call).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_grow_and_end() {
        let (cancel, began) = (CancellationToken::new(), Instant::now());
        let mut pace = Pace::within(Duration::from_millis(900));
        let mut looks = 0;
        while pace.next(&cancel).await.unwrap() {
            looks += 1;
        }
        assert_eq!(looks, 3);
        assert!(began.elapsed() >= Duration::from_millis(900));
        cancel.cancel();
        assert!(matches!(Pace::within(Duration::from_secs(1)).next(&cancel).await, Err(MachineError::Cancelled)));
    }
}
