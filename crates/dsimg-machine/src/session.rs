//! A way to run commands and move files in the guest.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::event::OutputStream;

/// An open connection to the guest, with root's rights (by sudo where the login is not root).
#[async_trait]
pub trait Session: Send + Sync {
    /// Runs a command to its end. A non-zero status is `Ok`; only a lost link, a broken protocol,
    /// a passed time limit or a cancel is `Err`. Every output byte reaches `output` before this returns.
    async fn exec(&self, command: &RemoteCommand, output: &mut dyn OutputSink) -> Result<ExitStatus, SessionError>;

    /// Runs a command and returns its stdout; a non-zero status is an error that carries stderr's tail.
    /// For short commands: more than 64 MiB is an error.
    async fn read(&self, command: &RemoteCommand) -> Result<Vec<u8>, SessionError>;

    /// Unpacks a tar stream below `to` in the guest (made if missing), owned by root.
    /// `archive` is a tar file on the host; sent on a connection of its own where it is large.
    async fn upload_tar(&self, archive: &Path, to: &str) -> Result<(), SessionError>;

    /// Packs the guest's file or folder into a tar file on the host.
    async fn download_tar(&self, from: &str, archive: &Path) -> Result<(), SessionError>;

    /// Writes one file with these bytes and this mode, parents made if missing. Never by argv.
    async fn write(&self, to: &str, mode: u32, content: &[u8]) -> Result<(), SessionError>;

    /// Runs root's login shell, or `command` (shell text, as after `ssh host`) in bash as a login shell, with the user at
    /// its other end. It has no time limit; a non-zero status is `Ok`. A session without this says so.
    async fn interact(&self, _command: Option<&str>, _terminal: Terminal<'_>) -> Result<ExitStatus, SessionError> {
        Err(SessionError::NoTerminal)
    }

    /// A free port of the guest's own address 127.0.0.1 that leads to `to` as this host sees it, for as long as the
    /// session lives. A session without this says so.
    async fn lead_back(&self, _to: SocketAddr) -> Result<u16, SessionError> {
        Err(SessionError::Lost { why: "it leads no connections back".to_owned() })
    }

    /// Ends the connection; what runs in the guest in the background goes on.
    async fn close(self: Box<Self>) -> Result<(), SessionError>;
}

/// A program with its arguments; quoting is the session's work.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteCommand {
    pub argv: Vec<String>,
    /// Added to the login's environment.
    pub env: BTreeMap<String, String>,
    /// The command's working directory; the login's when absent.
    pub directory: Option<String>,
    pub stdin: Vec<u8>,
    /// After it the command is killed and the call fails.
    pub timeout: Duration,
}

impl RemoteCommand {
    /// A command with a limit of one minute and nothing else.
    #[must_use]
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            directory: None,
            stdin: Vec::new(),
            timeout: Duration::from_secs(60),
        }
    }

    /// `bash -c TEXT`, with a limit of one minute.
    #[must_use]
    pub fn bash(text: &str) -> Self {
        Self::new(["bash", "-c", text])
    }

    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[must_use]
    pub fn with_stdin(mut self, stdin: Vec<u8>) -> Self {
        self.stdin = stdin;
        self
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    Code(u32),
    /// Without the `SIG`: `KILL`.
    Signal(String),
}

impl ExitStatus {
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with {code}"),
            Self::Signal(name) => write!(f, "was killed by SIG{name}"),
        }
    }
}

/// Takes a command's output as it comes, in pieces of any size.
pub trait OutputSink: Send {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]);
}

/// Drops everything.
#[derive(Debug, Default)]
pub struct NoOutput;

impl OutputSink for NoOutput {
    fn write(&mut self, _: OutputStream, _: &[u8]) {}
}

/// The user's end of [`Session::interact`].
pub struct Terminal<'a> {
    /// `None` where the user's end is no terminal; then the guest's end is none either, only bytes.
    pub screen: Option<Screen>,
    /// For the guest's shell, where its sshd and its sudo let them through: such as `LANG`.
    pub env: BTreeMap<String, String>,
    /// Its end is the end of the command's stdin; a command in a terminal is not ended by it.
    pub input: &'a mut (dyn AsyncRead + Send + Unpin),
    /// Flushed after every piece.
    pub output: &'a mut (dyn AsyncWrite + Send + Unpin),
    /// stderr, which is apart from stdout only without a screen.
    pub errors: &'a mut (dyn AsyncWrite + Send + Unpin),
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("screen", &self.screen).field("env", &self.env).finish_non_exhaustive()
    }
}

/// What programs in the guest are to know of the terminal they write to.
#[derive(Debug, Clone)]
pub struct Screen {
    /// The value of `TERM`.
    pub term: String,
    /// The size now, and every change of it.
    pub size: watch::Receiver<ScreenSize>,
    /// Terminal modes as ssh encodes them (RFC 4254, section 8): opcode and value. May be empty.
    pub modes: Vec<(u8, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScreenSize {
    pub columns: u32,
    pub rows: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The link went away before the command's exit status came: never a success.
    #[error("the connection to the machine was lost: {why}")]
    Lost { why: String },
    #[error("`{command}` did not end within {} s", limit.as_secs())]
    TimedOut { command: String, limit: Duration },
    #[error("`{command}` {status}{}", tail_of(stderr))]
    Failed { command: String, status: ExitStatus, stderr: String },
    /// The command can't be expressed: no program, a NUL byte, a name that is none of a variable.
    #[error("`{command}` can't be run: {why}")]
    InvalidCommand { command: String, why: String },
    #[error("`{command}` wrote more than {} MiB", limit >> 20)]
    TooMuchOutput { command: String, limit: usize },
    #[error("the machine's ssh host key is not the one it was given (expected {expected}, got {got})")]
    HostKey { expected: String, got: String },
    #[error("the machine refused the login of `{user}`: {why}")]
    Refused { user: String, why: String },
    #[error("{action} {}", path.display())]
    HostFile { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("this session has no terminal")]
    NoTerminal,
    /// The user's end, not the machine's.
    #[error("{action}")]
    Terminal { action: &'static str, source: std::io::Error },
    #[error("cancelled")]
    Cancelled,
}

fn tail_of(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}
