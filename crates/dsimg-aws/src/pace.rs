//! Looks at AWS again and again: soon at first, then seldom, and not for ever.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use dsimg_machine::MachineError;

const FIRST: Duration = Duration::from_millis(250);

/// The pauses of one wait.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Instant,
    limit: Duration,
    pause: Duration,
    longest: Duration,
}

impl Pace {
    /// For what takes seconds.
    pub(crate) fn within(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit, pause: FIRST, longest: Duration::from_secs(5) }
    }

    /// Waits for the next look; `false`: the limit has passed.
    ///
    /// # Errors
    /// It is cancelled.
    pub(crate) async fn next(&mut self, cancel: &CancellationToken) -> Result<bool, MachineError> {
        let left = self.limit.saturating_sub(self.begun.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        let pause = self.pause.min(left);
        self.pause = self.pause.mul_f64(1.6).min(self.longest);
        tokio::select! {
            () = sleep(pause) => Ok(true),
            () = cancel.cancelled() => Err(MachineError::Cancelled),
        }
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.limit.as_secs()
    }
}

/// A call that is not waited for when the build is cancelled. What it makes is in the ledger.
///
/// # Errors
/// The call's own, or the cancel.
pub(crate) async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    call: impl Future<Output = Result<T, MachineError>>,
) -> Result<T, MachineError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(MachineError::Cancelled),
        result = call => result,
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
