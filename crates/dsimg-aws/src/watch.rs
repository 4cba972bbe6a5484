//! Whether the instance still runs, asked seldom enough.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::types::InstanceStateName;
use tokio::time::{Instant, sleep};

use dsimg_machine::{MachineError, RunContext};

use crate::account::Account;
use crate::launch::{describe, reason};

/// Between two looks: a build that takes an hour is not worth hundreds of calls.
const SELDOM: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Watch {
    account: Account,
    id: String,
    /// When it was looked at, and what was seen.
    last: Mutex<(Instant, Option<String>)>,
}

/// The instance's state, and why it is in it.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) name: InstanceStateName,
    pub(crate) reason: String,
}

impl State {
    pub(crate) fn lives(&self) -> bool {
        matches!(self.name, InstanceStateName::Pending | InstanceStateName::Running)
    }

    /// `the instance is terminated: Client.UserInitiatedShutdown: …`
    pub(crate) fn describe(&self) -> String {
        let Self { name, reason } = self;
        if reason.starts_with("Server.SpotInstance") {
            return format!("AWS took the spot instance back, it is {}: {reason}", name.as_str());
        }
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        format!("the instance is {}{why}", name.as_str())
    }
}

impl Watch {
    pub(crate) fn new(account: &Account, id: &str) -> Self {
        Self { account: account.clone(), id: id.to_owned(), last: Mutex::new((Instant::now(), None)) }
    }

    /// As it is now; `None`: AWS does not know it.
    ///
    /// # Errors
    /// AWS does not answer.
    pub(crate) async fn look(&self) -> Result<Option<State>, MachineError> {
        let instance = describe(&self.account, &self.id).await?;
        Ok(instance.and_then(|instance| {
            let name = instance.state()?.name()?.clone();
            Some(State { name, reason: reason(&instance) })
        }))
    }

    /// Why it does not run any more, as of the last look or a new one. That AWS does not answer is no such reason.
    pub(crate) async fn trouble(&self, run: &RunContext) -> Option<String> {
        let (when, seen) = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if seen.is_some() || when.elapsed() < SELDOM {
            return seen;
        }
        let seen = match self.look().await {
            Ok(Some(state)) if state.lives() => None,
            Ok(Some(state)) => Some(state.describe()),
            Ok(None) => Some("AWS does not know the instance any more".to_owned()),
            Err(error) => {
                run.debug(format!("cannot look at the instance: {error}"));
                None
            }
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), seen.clone());
        seen
    }

    pub(crate) async fn until_trouble(&self, run: &RunContext) -> String {
        loop {
            sleep(Duration::from_secs(1)).await;
            if let Some(trouble) = self.trouble(run).await {
                return trouble;
            }
        }
    }
}
