//! The session: commands on the one connection, large transfers on connections of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dsimg_machine::{ExitStatus, OutputSink, OutputStream, RemoteCommand, Session, SessionError, Terminal};
use tokio_util::sync::CancellationToken;

use crate::connect::{Link, SshTarget, Use, connect};
use crate::deadline::Deadline;
use crate::exec::{Input, Limits, Output, Tail, run};
use crate::interact::interact;
use crate::transfer;

/// What [`Session::read`] keeps at most.
const READ_LIMIT: usize = 64 << 20;
const BANNER_LIMIT: Duration = Duration::from_secs(10);

/// An open connection to a machine, with root's rights.
pub struct SshSession {
    link: Arc<Link>,
    target: SshTarget,
    cancel: CancellationToken,
    /// Over which connections come back that the machine makes to its own ports.
    leads_back: Mutex<Vec<Link>>,
}

impl SshSession {
    /// One try to log in to a machine that is up; [`crate::wait_until_ready`] tries until it is. After `cancel` every
    /// command and transfer ends at once with [`SessionError::Cancelled`].
    ///
    /// # Errors
    /// The machine does not answer, is another one, or does not let the user in.
    pub async fn connect(target: &SshTarget, cancel: &CancellationToken) -> Result<Self, SessionError> {
        Self::connect_for(Use::Commands, target, cancel).await
    }

    async fn connect_for(purpose: Use, target: &SshTarget, cancel: &CancellationToken) -> Result<Self, SessionError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(SessionError::Cancelled),
            link = connect(target, BANNER_LIMIT, purpose) => match link {
                Ok(link) => Ok(Self::new(link, target.clone(), cancel.clone())),
                Err(error) => Err(error.into_error(&target.user)),
            },
        }
    }

    pub(crate) fn new(link: Link, target: SshTarget, cancel: CancellationToken) -> Self {
        Self { link: Arc::new(link), target, cancel, leads_back: Mutex::default() }
    }

    async fn run_with_stdin(&self, command: &RemoteCommand, output: Output<'_>) -> Result<ExitStatus, SessionError> {
        let limits = Limits { deadline: Deadline::in_all(command.timeout), cancel: &self.cancel };
        run(&self.link, command, self.target.elevate, Input::Bytes(&command.stdin), output, &limits).await
    }

    /// Where nothing else waits for the bytes of a transfer.
    async fn second(&self) -> Result<Self, SessionError> {
        Self::connect(&self.target, &self.cancel).await
    }
}

impl std::fmt::Debug for SshSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshSession").field("target", &self.target).finish_non_exhaustive()
    }
}

#[async_trait]
impl Session for SshSession {
    async fn exec(&self, command: &RemoteCommand, output: &mut dyn OutputSink) -> Result<ExitStatus, SessionError> {
        self.run_with_stdin(command, Output::Sink(output)).await
    }

    async fn read(&self, command: &RemoteCommand) -> Result<Vec<u8>, SessionError> {
        let mut kept = Kept::default();
        let status = self.run_with_stdin(command, Output::Sink(&mut kept)).await?;
        let title = || crate::command::title(&command.argv);
        if !status.success() {
            return Err(SessionError::Failed { command: title(), status, stderr: kept.stderr.text() });
        }
        if kept.too_much {
            return Err(SessionError::TooMuchOutput { command: title(), limit: READ_LIMIT });
        }
        Ok(kept.stdout)
    }

    async fn upload_tar(&self, archive: &Path, to: &str) -> Result<(), SessionError> {
        let file = transfer::open(archive).await?;
        if transfer::is_large(archive, &file).await? {
            let own = self.second().await?;
            transfer::upload(&own.link, own.target.elevate, &own.cancel, (file, archive), to).await?;
            return Box::new(own).close().await;
        }
        transfer::upload(&self.link, self.target.elevate, &self.cancel, (file, archive), to).await
    }

    async fn download_tar(&self, from: &str, archive: &Path) -> Result<(), SessionError> {
        let own = self.second().await?;
        transfer::download(&own.link, own.target.elevate, &own.cancel, from, archive).await?;
        Box::new(own).close().await
    }

    async fn write(&self, to: &str, mode: u32, content: &[u8]) -> Result<(), SessionError> {
        self.read(&transfer::write_command(to, mode, content)).await.map(|_nothing| ())
    }

    async fn interact(&self, command: Option<&str>, terminal: Terminal<'_>) -> Result<ExitStatus, SessionError> {
        // On a connection of its own: a user who does not read on must not hold up other commands.
        let own = Self::connect_for(Use::Terminal, &self.target, &self.cancel).await?;
        let status = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(SessionError::Cancelled),
            status = interact(&own.link, command, own.target.elevate, terminal) => status,
        }?;
        Box::new(own).close().await?;
        Ok(status)
    }

    async fn lead_back(&self, to: SocketAddr) -> Result<u16, SessionError> {
        // On a connection of its own: much may come over it.
        let own = Self::connect_for(Use::LeadBack(to), &self.target, &self.cancel).await?;
        let port = own.link.listen_there().await?;
        let link = Arc::into_inner(own.link).expect("nothing else was done with it");
        self.leads_back.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        Ok(port)
    }

    async fn close(self: Box<Self>) -> Result<(), SessionError> {
        // What is still held elsewhere, by a command being killed, ends when that is done.
        if let Some(link) = Arc::into_inner(self.link) {
            link.close().await;
        }
        Ok(())
    }
}

/// Output of a command that is read, bounded.
#[derive(Default)]
struct Kept {
    stdout: Vec<u8>,
    stderr: Tail,
    too_much: bool,
}

impl OutputSink for Kept {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) {
        match stream {
            OutputStream::Stdout if self.stdout.len() + bytes.len() > READ_LIMIT => self.too_much = true,
            OutputStream::Stdout => self.stdout.extend_from_slice(bytes),
            OutputStream::Stderr => self.stderr.push(bytes),
        }
    }
}
