//! How calls are asked and repeated: with limits, and never past a cancel.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use tokio::time::sleep;

use dsimg_machine::{MachineError, RunContext};

use crate::account::Account;
use crate::failure::{code, explain, is_throttled};
use crate::pace::until_cancelled;

/// What was made a moment ago may be unknown to AWS's other machines for so long.
pub(crate) const NOT_SEEN_YET: Duration = Duration::from_secs(120);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// One call whose repeats are the SDK's. `action` is what is tried, as "register the AMI".
///
/// # Errors
/// AWS refuses, or the build is cancelled.
pub(crate) async fn ask<T, E, R>(
    action: &str,
    account: &Account,
    run: &RunContext,
    call: impl Future<Output = Result<T, SdkError<E, R>>>,
) -> Result<T, MachineError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    until_cancelled(&run.cancel, call).await?.map_err(|error| explain(action, account, error))
}

/// What to do after a call that the SDK does not repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may work the next time.
    Again,
    /// The same, but only if we ask for less at a time: AWS or the line has too much to do.
    AgainSlower,
    /// There is no such thing, which may only mean: not yet.
    NotFound,
    Stop,
}

pub(crate) fn verdict<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Verdict {
    match error {
        SdkError::ConstructionFailure(_) => return Verdict::Stop,
        SdkError::TimeoutError(_) => return Verdict::AgainSlower,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => return Verdict::AgainSlower,
        _ => {}
    }
    match code(error) {
        Some(code) if is_throttled(code) || code == "ConcurrentLimitExceededException" => Verdict::AgainSlower,
        Some("ResourceNotFoundException") => Verdict::NotFound,
        _ => match error.raw_response().map(|response| response.status().as_u16()) {
            Some(429 | 500..) | None => Verdict::Again,
            Some(_) if error.as_service_error().is_none() => Verdict::Again,
            Some(_) => Verdict::Stop,
        },
    }
}

/// Repeats a call that the SDK does not repeat until it works, can't work, or `limit` has passed.
///
/// # Errors
/// The last one, or the build is cancelled.
pub(crate) async fn insist<T, E, C>(
    action: &str,
    account: &Account,
    run: &RunContext,
    limit: Duration,
    mut call: impl FnMut() -> C,
) -> Result<T, MachineError>
where
    C: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let began = Instant::now();
    for tries in 0.. {
        let error = match until_cancelled(&run.cancel, call()).await? {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let passed = began.elapsed();
        let is_hopeless = match verdict(&error) {
            Verdict::Stop => true,
            Verdict::NotFound => passed > NOT_SEEN_YET.min(limit),
            Verdict::Again | Verdict::AgainSlower => passed > limit,
        };
        if is_hopeless {
            return Err(explain(action, account, error));
        }
        run.debug(format!("{}; it is tried again", explain(action, account, error)));
        until_cancelled(&run.cancel, sleep(back_off(tries))).await?;
    }
    unreachable!("the loop ends by itself only")
}

/// The pause before a repeat: longer each time, and by chance, so that many don't come back at once.
pub(crate) fn back_off(tries: u32) -> Duration {
    let longest = LONGEST_PAUSE.min(Duration::from_millis(200) * 2_u32.saturating_pow(tries.min(10)));
    longest.mul_f64(0.5 + by_chance() / 2.0)
}

/// From 0 to 1. The standard library seeds each of its hashers anew.
fn by_chance() -> f64 {
    let number = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(number >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let pauses: Vec<_> = (0..12).map(back_off).collect();
        assert!(pauses[0] >= Duration::from_millis(100) && pauses[0] <= Duration::from_millis(200));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(back_off(40) >= LONGEST_PAUSE / 2);
        assert!((0..20).map(|_| back_off(5)).collect::<std::collections::BTreeSet<_>>().len() > 1);
    }
}
