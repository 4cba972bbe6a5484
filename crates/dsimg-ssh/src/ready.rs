//! From a machine that was just started to a session.

use std::time::Duration;

use dsimg_machine::SessionError;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::connect::{Link, NotConnected, SshTarget, Use, connect};
use crate::session::SshSession;

/// Between two looks whether the machine still lives, and between two tries to connect.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a machine was given up while it was waited for.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// What `died` said.
    #[error("{0}")]
    Died(String),
    #[error("no login within {} s; last seen: {last_seen}", limit.as_secs())]
    TimedOut { limit: Duration, last_seen: String },
    /// The machine has another host key than the one it was given: waiting won't help.
    #[error(transparent)]
    Session(SessionError),
    #[error("cancelled")]
    Cancelled,
}

/// Tries to log in until it works, the limit is passed, `died` says why it never will, or `cancel` is called.
/// The same token ends the session's commands later.
///
/// # Errors
/// See [`NotReady`].
pub async fn wait_until_ready(
    target: &SshTarget,
    limit: Duration,
    cancel: &CancellationToken,
    died: &(dyn Fn() -> Option<String> + Send + Sync),
) -> Result<SshSession, NotReady> {
    let last_seen = std::sync::Mutex::new("no try to connect".to_owned());
    let until = Instant::now() + limit;
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(NotReady::Cancelled),
        why = death(died) => Err(NotReady::Died(why)),
        tried = timeout_at(until, log_in(target, &last_seen)) => match tried {
            Ok(Ok(link)) => Ok(SshSession::new(link, target.clone(), cancel.clone())),
            Ok(Err(error)) => Err(NotReady::Session(error)),
            Err(_) => Err(NotReady::TimedOut { limit, last_seen: seen(&last_seen).clone() }),
        },
    }
}

async fn death(died: &(dyn Fn() -> Option<String> + Send + Sync)) -> String {
    loop {
        if let Some(why) = died() {
            return why;
        }
        sleep(PAUSE).await;
    }
}

async fn log_in(target: &SshTarget, last_seen: &std::sync::Mutex<String>) -> Result<Link, SessionError> {
    let mut refusals = 0;
    for attempt in 1_u32.. {
        match connect(target, banner_limit(attempt), Use::Commands).await {
            Ok(link) => return Ok(link),
            Err(NotConnected::NotYet(why)) => {
                *seen(last_seen) = why;
                sleep(PAUSE).await;
            }
            Err(NotConnected::LoginRefused(why)) => {
                *seen(last_seen) = format!("login of `{}` refused: {why}", target.user);
                refusals += 1;
                sleep(pause_after_refusal(refusals)).await;
            }
            Err(error @ NotConnected::WrongHostKey { .. }) => return Err(error.into_error(&target.user)),
        }
    }
    unreachable!("the attempts are not counted to their end within any time limit")
}

/// Short, so that the moment sshd comes up is not missed behind a connection that leads nowhere; every fifth is
/// long, for a guest that is up and slow.
fn banner_limit(attempt: u32) -> Duration {
    Duration::from_secs(if attempt.is_multiple_of(5) { 10 } else { 1 })
}

/// cloud-init may still be about to install the key, or systemd to allow logins. sshd since 9.8 shuts an address
/// out that fails more often than every 5 s in the long run (`PerSourcePenalties`, authfail:5s min:15s).
fn pause_after_refusal(refusals: u32) -> Duration {
    match refusals {
        0 | 1 => Duration::from_secs(1),
        2 => Duration::from_secs(2),
        _ => Duration::from_millis(5_500),
    }
}

fn seen(last_seen: &std::sync::Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    last_seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
