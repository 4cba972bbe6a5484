//! One instance: reached by ssh, powered off, made into an AMI, and gone.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_ec2::types::{AttributeValue, InstanceAttributeName, InstanceStateName};

use dsimg_machine::{Machine, MachineError, Off, RunContext, Session, SessionError, Written};
use dsimg_plan::Plan;
use dsimg_ssh::{Bastion, HostKey, NotReady, SshSession, SshTarget, wait_until_ready};
use dsimg_template::template::aws::{AmiCheckpoints, AwsEbsTable};

use crate::access::Access;
use crate::account::Account;
use crate::checkpoint;
use crate::console::Console;
use crate::door::Door;
use crate::failure::explain;
use crate::image::{self, Taken};
use crate::launch::Running;
use crate::marks::Marks;
use crate::pace::Pace;
use crate::reach;
use crate::source::SourceImage;
use crate::start;
use crate::watch::Watch;

/// From the guest's own power-off to EC2's word for it.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(600);
/// A guest that halts says so on its console; where nothing is seen of it, it has had the time.
const HALT_LIMIT: Duration = Duration::from_secs(60);
/// The kernel's last word.
const HALTED: &str = "System halted";
/// Between two tries of an instance that has another host key. sshd shuts out who comes and goes more often.
const BETWEEN_KEYS: Duration = Duration::from_secs(5);

/// An instance with all that was made for it.
#[derive(Debug)]
pub(crate) struct AwsMachine {
    pub(crate) account: Account,
    pub(crate) table: AwsEbsTable,
    pub(crate) plan: Plan,
    pub(crate) source: SourceImage,
    pub(crate) marks: Marks,
    pub(crate) running: Running,
    pub(crate) access: Access,
    /// The one that it was given, or the one that it printed on its console instead.
    pub(crate) host_key: Mutex<HostKey>,
    pub(crate) bastion: Option<Bastion>,
    pub(crate) door: Door,
    pub(crate) watch: Watch,
    pub(crate) console: Console,
    pub(crate) saved: checkpoint::Saved,
    pub(crate) run: RunContext,
}

#[async_trait]
impl Machine for AwsMachine {
    async fn connect(&self) -> Result<Box<dyn Session>, MachineError> {
        let begun = Instant::now();
        let limit = Duration::from_secs(self.table.instance.boot_timeout.seconds);
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let not_ready = match self.log_in(left).await {
                Ok(session) => return Ok(Box::new(session)),
                Err(not_ready) => not_ready,
            };
            let NotReady::Session(SessionError::HostKey { got, .. }) = &not_ready else {
                return Err(self.explain(not_ready).await);
            };
            // An sshd that starts before cloud-init has another key for a while.
            if !self.take_printed_host_key(got).await && begun.elapsed() + BETWEEN_KEYS > limit {
                return Err(self.explain(not_ready).await);
            }
            tokio::select! {
                () = tokio::time::sleep(BETWEEN_KEYS) => {}
                () = self.run.cancel.cancelled() => return Err(MachineError::Cancelled),
            }
        }
    }

    fn console_tail(&self) -> String {
        self.console.tail()
    }

    async fn ssh_command(&self) -> Result<String, MachineError> {
        reach::ssh_command(&self.target()?, &self.run.work)
    }

    fn can_be_saved(&self) -> bool {
        self.table.checkpoint == AmiCheckpoints::Each
    }

    async fn save(&self, folder: &Path, _parent: &Path, _with_memory: bool) -> Result<(), MachineError> {
        checkpoint::save(self, folder).await
    }

    async fn flatten(&self, _folder: &Path, _parent: &Path, _base: (&Path, &Path)) -> Result<(), MachineError> {
        // Each AMI stands on its own.
        Ok(())
    }

    async fn trouble(&self) -> Option<String> {
        let trouble = self.watch.trouble(&self.run).await;
        if trouble.is_some() {
            self.console.refresh(&self.account, &self.running.id).await;
        }
        trouble
    }

    /// Until now a guest that powers itself off ends its instance, so that nothing is left when dsimg is gone. Now its
    /// disk is what the build is for. A spot instance can't be stopped: it is halted.
    async fn before_last_stage(&self) -> Result<Off, MachineError> {
        if self.running.is_spot {
            return Ok(Off::Halt);
        }
        self.stop_at_power_off().await?;
        Ok(Off::Power)
    }

    async fn wait_for_power_off(&mut self) -> Result<(), MachineError> {
        if self.running.is_spot { self.wait_until_halted().await } else { self.wait_until_stopped().await }
    }

    async fn write_image(&mut self, _name: &str, _folder: &Path) -> Result<Written, MachineError> {
        let job = image::job(&self.account, &self.table, &self.plan, &self.source, &self.marks);
        let taken = Taken {
            account: &self.account,
            instance: &self.running.id,
            as_it_is: self.running.is_spot,
            marks: &self.marks,
        };
        let amis = image::make(taken, &job, self.table.ami.boot_mode, &self.run).await?;
        Ok(Written { files: Vec::new(), amis })
    }

    /// What could not be removed is told and stays in the ledger: it is no reason to lose an image that is there.
    async fn stop(self: Box<Self>) -> Result<(), MachineError> {
        checkpoint::settle(&self).await;
        start::end(&self.account, &self.marks.name, Some(&self.running.id), &self.door, &self.run).await;
        Ok(())
    }
}

impl AwsMachine {
    fn target(&self) -> Result<SshTarget, MachineError> {
        let reach = &self.table.reach;
        let address = reach::address(&self.running, reach)?;
        let host_key = self.host_key.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(reach::target(address, reach.ssh_port, &self.access, host_key, self.bastion.clone()))
    }

    async fn log_in(&self, limit: Duration) -> Result<SshSession, NotReady> {
        let target = self.target().map_err(|error| NotReady::Died(error.to_string()))?;
        tokio::select! {
            ready = wait_until_ready(&target, limit, &self.run.cancel, &|| None) => ready,
            trouble = self.watch.until_trouble(&self.run) => Err(NotReady::Died(trouble)),
        }
    }

    /// From now on the key of this fingerprint, if the instance printed it on its console, which only AWS and the
    /// instance can write. Another one is never taken.
    async fn take_printed_host_key(&self, fingerprint: &str) -> bool {
        self.console.refresh(&self.account, &self.running.id).await;
        let Some(key) = self.console.host_key(fingerprint) else { return false };
        self.run.info("the AMI makes its own host key; it is the one that the instance's console shows");
        *self.host_key.lock().unwrap_or_else(PoisonError::into_inner) = key;
        true
    }

    async fn stop_at_power_off(&self) -> Result<(), MachineError> {
        let (account, id) = (&self.account, &self.running.id);
        let wanted = "stop";
        let name = InstanceAttributeName::InstanceInitiatedShutdownBehavior;
        let request = account.ec2.modify_instance_attribute().instance_id(id);
        let modified = request.attribute(name.clone()).value(wanted).send().await;
        modified.map_err(|error| explain(&format!("keep {id} when it powers off"), account, error))?;
        // What is not known everywhere would cost the whole build.
        let mut pace = Pace::within(Duration::from_secs(60));
        loop {
            let told = account.ec2.describe_instance_attribute().instance_id(id).attribute(name.clone()).send().await;
            let told = told.map_err(|error| explain(&format!("look at {id}"), account, error))?;
            let is = told.instance_initiated_shutdown_behavior().and_then(AttributeValue::value);
            if is == Some(wanted) {
                return Ok(());
            }
            if !pace.next(&self.run.cancel).await? {
                let what = format!(
                    "{id} would still be terminated when it powers off, {} s after the order not to",
                    pace.seconds()
                );
                return Err(MachineError::TryAgain { what, hint: None });
            }
        }
    }

    async fn wait_until_stopped(&self) -> Result<(), MachineError> {
        let mut pace = Pace::within(POWER_OFF_LIMIT);
        loop {
            let state = self.watch.look().await?;
            match state {
                Some(state) if state.name == InstanceStateName::Stopped => return Ok(()),
                Some(state) if !state.lives() && state.name != InstanceStateName::Stopping => {
                    return Err(self.failed(format!("{} in place of powering off", state.describe())).await);
                }
                _ => {}
            }
            if !pace.next(&self.run.cancel).await? {
                return Err(self.failed(format!("the guest did not power off within {} s", pace.seconds())).await);
            }
        }
    }

    async fn wait_until_halted(&self) -> Result<(), MachineError> {
        let mut pace = Pace::within(HALT_LIMIT);
        loop {
            match self.watch.look().await? {
                Some(state) if !state.lives() => {
                    return Err(self.failed(format!("{} before its disk could be taken", state.describe())).await);
                }
                _ => {}
            }
            self.console.refresh(&self.account, &self.running.id).await;
            if self.console.contains(HALTED) {
                return Ok(());
            }
            if !pace.next(&self.run.cancel).await? {
                let seconds = pace.seconds();
                self.run.warn(format!(
                    "the guest's console does not say that it halted; after {seconds} s its disk is taken as it is"
                ));
                return Ok(());
            }
        }
    }

    pub(crate) async fn failed(&self, what: String) -> MachineError {
        self.console.refresh(&self.account, &self.running.id).await;
        MachineError::Machine { what, hint: None, console: self.console.tail() }
    }

    async fn explain(&self, not_ready: NotReady) -> MachineError {
        let (what, hint) = match not_ready {
            NotReady::Cancelled => return MachineError::Cancelled,
            NotReady::Session(error @ SessionError::HostKey { .. }) => {
                let what = format!("{error}, and the instance's console does not show that key either");
                let hint =
                    "somebody between may pretend to be the instance; an AMI without cloud-init can't be built on";
                (what, Some(hint.to_owned()))
            }
            NotReady::Session(error) => return MachineError::Session(error),
            NotReady::Died(why) => (format!("the instance did not come up: {why}"), None),
            NotReady::TimedOut { limit, last_seen } => {
                let what = format!("nobody could log in within {} s; last seen: {last_seen}", limit.as_secs());
                let hint = "look at the console, and whether security groups, routes and firewalls let this host through \
                            to the instance's ssh port; a longer `boot_timeout` helps where the guest was at work";
                (what, Some(hint.to_owned()))
            }
        };
        self.console.refresh(&self.account, &self.running.id).await;
        MachineError::Machine { what, hint, console: self.console.tail() }
    }
}
