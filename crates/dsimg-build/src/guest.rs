//! The running machine with an open session: what stages talk to.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use dsimg_machine::session::NoOutput;
use dsimg_machine::{
    ExitStatus, Machine, MachineError, Off, OutputSink, RemoteCommand, RunContext, Session, SessionError,
};

use crate::error::BuildError;
use crate::prepare::Preparation;
use crate::stages::Ended;

/// How long a guest may take from the order to reboot until its ssh connection ends.
const GOING_DOWN: Duration = Duration::from_secs(180);

pub(crate) struct Guest<'a> {
    machine: &'a dyn Machine,
    session: Box<dyn Session>,
    preparation: &'a Preparation,
    run: &'a RunContext,
}

impl std::fmt::Debug for Guest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").finish_non_exhaustive()
    }
}

impl<'a> Guest<'a> {
    pub(crate) fn new(
        machine: &'a dyn Machine,
        session: Box<dyn Session>,
        preparation: &'a Preparation,
        run: &'a RunContext,
    ) -> Self {
        Self { machine, session, preparation, run }
    }

    #[must_use]
    pub(crate) fn session(&self) -> &dyn Session {
        self.session.as_ref()
    }

    /// The build's folder, environment, tools and freeze scripts.
    ///
    /// # Errors
    /// The guest does not take them.
    pub(crate) async fn prepare(&self) -> Result<(), BuildError> {
        let command = RemoteCommand::new(["bash", "-s"])
            .with_stdin(self.preparation.script.clone().into_bytes())
            .with_timeout(Duration::from_secs(15 * 60));
        let has = until_cancelled(self.run, self.session.read(&command)).await?;
        if has == self.preparation.mark.as_str().as_bytes() {
            return Ok(());
        }
        self.bring(self.preparation.pack()?, dsimg_plan::make::GUEST_FOLDER).await
    }

    /// Unpacks a tar file of the host below `to`.
    ///
    /// # Errors
    /// The guest does not take it.
    pub(crate) async fn bring(&self, archive: &Path, to: &str) -> Result<(), BuildError> {
        until_cancelled(self.run, self.machine.bring(self.session(), archive, to)).await
    }

    /// How the guest is to go off at the end of the last stage, which may begin now.
    ///
    /// # Errors
    /// The machine's place does not let it.
    pub(crate) async fn before_last_stage(&self) -> Result<Off, BuildError> {
        until_cancelled(self.run, self.machine.before_last_stage()).await
    }

    /// Runs a command to its end. Where it may reboot the machine, a lost connection is no failure:
    /// the machine is waited for, and readied again.
    ///
    /// # Errors
    /// The machine goes away, or does not come back.
    pub(crate) async fn exec(
        &mut self,
        command: &RemoteCommand,
        output: &mut dyn OutputSink,
        may_reboot: bool,
    ) -> Result<Ended, BuildError> {
        let boot = if may_reboot { Some(self.boot_id().await?) } else { None };
        let ended = tokio::select! {
            ended = self.session.exec(command, output) => ended,
            trouble = self.trouble() => Err(SessionError::Lost { why: trouble }),
            () = self.run.cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        match (ended, boot) {
            (Ok(status), Some(before)) if status == ExitStatus::Code(0) || status_of_shutdown(&status) => {
                // The script's own reboot may only be on its way.
                self.order_reboot().await;
                self.come_back(&before).await?;
                Ok(Ended::Rebooted)
            }
            (Err(SessionError::Lost { .. }), Some(before)) => {
                self.come_back(&before).await?;
                Ok(Ended::Rebooted)
            }
            (Ok(status), _) => Ok(Ended::Status(status)),
            (Err(error), _) => Err(self.explain(error).await),
        }
    }

    /// A short command's output.
    ///
    /// # Errors
    /// The command fails or the machine goes away.
    pub(crate) async fn read(&self, command: &RemoteCommand) -> Result<Vec<u8>, BuildError> {
        match until_cancelled(self.run, self.session.read(command)).await {
            Err(BuildError::Machine(MachineError::Session(error))) => Err(self.explain(error).await),
            result => result,
        }
    }

    /// Reboots the machine and readies it again.
    ///
    /// # Errors
    /// The machine does not come back.
    pub(crate) async fn reboot(&mut self) -> Result<(), BuildError> {
        let before = self.boot_id().await?;
        self.run.info("rebooting the machine");
        self.order_reboot().await;
        self.come_back(&before).await
    }

    /// A link that is lost on the way is what the order is for.
    async fn order_reboot(&self) {
        let command = RemoteCommand::new(["systemctl", "reboot"]);
        if let Err(error) = self.session.exec(&command, &mut NoOutput).await {
            self.run.debug(format!("after the order to reboot: {error}"));
        }
    }

    /// Waits until another boot of the guest answers.
    async fn come_back(&mut self, before: &str) -> Result<(), BuildError> {
        let started = Instant::now();
        loop {
            self.session = until_cancelled(self.run, self.machine.connect()).await?;
            match self.boot_id().await {
                Ok(now) if now != before => break,
                Ok(_) | Err(BuildError::Gone { .. }) if started.elapsed() < GOING_DOWN => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Ok(_) => {
                    return Err(BuildError::Machine(MachineError::Machine {
                        what: format!("the machine did not reboot within {} s", GOING_DOWN.as_secs()),
                        hint: None,
                        console: self.machine.console_tail(),
                    }));
                }
                Err(error) => return Err(error),
            }
        }
        settle(self.session(), self.run).await?;
        self.prepare().await
    }

    /// Changes with each boot of a Linux kernel.
    async fn boot_id(&self) -> Result<String, BuildError> {
        let command = RemoteCommand::new(["cat", "/proc/sys/kernel/random/boot_id"]);
        self.read(&command).await.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Ends when the machine can't go on.
    async fn trouble(&self) -> String {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Some(trouble) = self.machine.trouble().await {
                return trouble;
            }
        }
    }

    /// A lost link with what the machine knows about it.
    async fn explain(&self, error: SessionError) -> BuildError {
        match error {
            SessionError::Lost { .. } => BuildError::Gone {
                source: error,
                trouble: self.machine.trouble().await,
                console: self.machine.console_tail(),
            },
            SessionError::Cancelled => BuildError::Cancelled,
            error => error.into(),
        }
    }
}

/// Waits until what a guest does at its first boot is over: it writes users, keys and network settings, grows the disk,
/// and holds package locks.
///
/// # Errors
/// It takes too long, or the machine goes away.
pub(crate) async fn settle(session: &dyn Session, run: &RunContext) -> Result<(), BuildError> {
    let command = RemoteCommand::bash(include_str!("guest/settle.sh")).with_timeout(Duration::from_secs(15 * 60));
    until_cancelled(run, session.read(&command)).await.map(drop)
}

/// Brings a machine that was started from its memory to this day: its clock stands where it was saved, and others
/// started from the same memory would draw the same random numbers.
///
/// # Errors
/// The machine goes away, or this system gives no random numbers.
pub(crate) async fn wake(session: &dyn Session, run: &RunContext) -> Result<(), BuildError> {
    let mut random = vec![0; 512];
    let no_random = |error| MachineError::host(format!("this system gives no random numbers: {error}"), "reboot it");
    getrandom::fill(&mut random).map_err(no_random)?;
    let now = jiff::Timestamp::now();
    let time = format!("@{}.{:09}", now.as_second(), now.subsec_nanosecond());
    let command = RemoteCommand::new(["bash", "-c", include_str!("guest/wake.sh"), "bash", &time]).with_stdin(random);
    until_cancelled(run, session.read(&command)).await.map(drop)
}

/// systemd ends what runs with SIGTERM when the machine goes down.
fn status_of_shutdown(status: &ExitStatus) -> bool {
    matches!(status, ExitStatus::Signal(name) if name == "TERM" || name == "HUP") || *status == ExitStatus::Code(143)
}

/// The future's value, or [`BuildError::Cancelled`] as soon as the build is.
///
/// # Errors
/// The future's own, or the cancel.
pub(crate) async fn until_cancelled<T, E>(
    run: &RunContext,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, BuildError>
where
    BuildError: From<E>,
{
    tokio::select! {
        result = future => Ok(result?),
        () = run.cancel.cancelled() => Err(BuildError::Cancelled),
    }
}
