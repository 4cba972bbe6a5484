//! Another try after a failure that may pass.

use std::time::Duration;

use dsimg_machine::{MachineError, RunContext};

use crate::failure::Failure;

/// Tries in a row that brought nothing.
const TRIES: u32 = 5;
/// Tries of which each brought a little.
const TRIES_IN_ALL: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Counts the tries of one download, and waits between them.
pub(crate) struct Patience<'a> {
    /// What is downloaded, for messages.
    shown: String,
    run: &'a RunContext,
    failed: u32,
    failed_in_all: u32,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(shown: String, run: &'a RunContext) -> Self {
        Self { shown, run, failed: 0, failed_in_all: 0 }
    }

    /// The last try brought something: a slow link that breaks often gets there as well.
    pub(crate) fn progress(&mut self) {
        self.failed = 0;
    }

    /// Says what failed and waits; an error when it is final, or was the last try.
    pub(crate) async fn after(&mut self, failure: Failure) -> Result<(), MachineError> {
        let (why, wait) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { why, wait } => (why, wait),
        };
        self.failed += 1;
        self.failed_in_all += 1;
        if self.failed >= TRIES || self.failed_in_all >= TRIES_IN_ALL {
            let tries = self.failed_in_all;
            let what = format!("`{}` can't be downloaded, {tries} tries failed, the last: {why}", self.shown);
            return Err(MachineError::try_again(
                what,
                "check the network and `proxy` in `[network]`, and try again later",
            ));
        }
        let pause = wait.unwrap_or(FIRST_PAUSE * 2_u32.pow(self.failed - 1));
        let (next, seconds) = (self.failed + 1, pause.as_secs());
        self.run.warn(format!("`{}`: {why}; try {next} of {TRIES} in {seconds} s", self.shown));
        tokio::select! {
            () = self.run.cancel.cancelled() => Err(MachineError::Cancelled),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}
