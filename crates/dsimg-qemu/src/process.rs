//! The one place that starts programs on this host.
//!
//! Each gets a process group of its own, so that the terminal's Ctrl-C reaches only us, and dies with
//! this process, however this process dies. The kernel ties that to the *thread* that started the program:
//! start programs from the runtime's own thread, never inside `spawn_blocking`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use dsimg_machine::{MachineError, OutputStream, RunContext};

use crate::tail::{Tail, last_lines};

/// How long a program may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// A child of the program may hold its output open for longer than the program lives.
const DRAIN: Duration = Duration::from_secs(2);
/// Of the program's stdout, kept by [`Tool::run`].
const KEPT_STDOUT: usize = 16 << 20;
/// Of the program's stderr, for the error.
const KEPT_STDERR: usize = 8 << 10;

/// A program that is run to its end, such as `qemu-img convert`.
#[derive(Debug)]
pub(crate) struct Tool {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    purpose: String,
    package: &'static str,
    limit: Duration,
}

impl Tool {
    /// `purpose` completes "cannot …" in errors; `package` is the Debian package that has the program.
    /// The limit is ten minutes unless [`Tool::limit`] says otherwise.
    pub(crate) fn new(program: impl Into<PathBuf>, package: &'static str, purpose: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            purpose: purpose.into(),
            package,
            limit: Duration::from_secs(600),
        }
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Added to this process's environment.
    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it and gives its stdout, at most 16 MiB of it.
    ///
    /// # Errors
    /// As for [`Tool::run_with`].
    pub(crate) async fn run(self, run: &RunContext) -> Result<Vec<u8>, MachineError> {
        let mut kept = Vec::new();
        let mut keep = |stream: OutputStream, bytes: &[u8]| {
            if stream == OutputStream::Stdout && kept.len() < KEPT_STDOUT {
                kept.extend_from_slice(bytes);
            }
        };
        self.run_with(run, &mut keep).await?;
        Ok(kept)
    }

    /// Runs it and hands over its output as it comes.
    ///
    /// # Errors
    /// The program is missing, ended with another code than 0, took longer than its limit, or the build was
    /// cancelled; in the last two cases it was stopped first.
    pub(crate) async fn run_with(
        self,
        run: &RunContext,
        output: &mut (dyn FnMut(OutputStream, &[u8]) + Send),
    ) -> Result<(), MachineError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = start(&mut command).map_err(|error| missing_or(error, &self.program, self.package))?;
        let mut running = Running { child };
        let mut stderr = Tail::new(KEPT_STDERR);
        let mut keep = |stream, bytes: &[u8]| {
            if stream == OutputStream::Stderr {
                stderr.push(bytes);
            }
            output(stream, bytes);
        };
        let end = running.follow(run, self.limit, &mut keep).await;
        match end {
            End::Exited(status) if status.success() => Ok(()),
            End::Exited(status) => Err(self.failed(&describe_status(status), &stderr)),
            End::Lost(error) => Err(self.failed(&format!("was lost: {error}"), &stderr)),
            End::TimedOut => {
                running.stop(run).await;
                Err(self.failed(&format!("did not end within {} s and was stopped", self.limit.as_secs()), &stderr))
            }
            End::Cancelled => {
                running.stop(run).await;
                Err(MachineError::Cancelled)
            }
        }
    }

    fn failed(&self, how: &str, stderr: &Tail) -> MachineError {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let words = last_lines(&stderr.bytes(), 8);
        let colon = if words.is_empty() { "" } else { ": " };
        let what = format!("cannot {}: `{name}` {how}{colon}{words}", self.purpose);
        if words.contains("No space left on device") {
            return MachineError::host(what, "the host's disk is full: free some space and build again");
        }
        MachineError::Machine { what, hint: None, console: String::new() }
    }
}

enum End {
    Exited(ExitStatus),
    Lost(io::Error),
    TimedOut,
    Cancelled,
}

/// A child whose whole process group is killed if this is dropped before the child has ended.
struct Running {
    child: Child,
}

impl Running {
    /// Reads the output until the program has ended.
    async fn follow(
        &mut self,
        run: &RunContext,
        limit: Duration,
        output: &mut (dyn FnMut(OutputStream, &[u8]) + Send),
    ) -> End {
        let mut stdout = self.child.stdout.take();
        let mut stderr = self.child.stderr.take();
        let (mut out, mut err) = (vec![0; 64 << 10], vec![0; 8 << 10]);
        let mut deadline = Instant::now() + limit;
        let mut exited = None;
        while exited.is_none() || stdout.is_some() || stderr.is_some() {
            tokio::select! {
                count = read_some(&mut stdout, &mut out), if stdout.is_some() => {
                    output(OutputStream::Stdout, &out[..count]);
                }
                count = read_some(&mut stderr, &mut err), if stderr.is_some() => {
                    output(OutputStream::Stderr, &err[..count]);
                }
                status = self.child.wait(), if exited.is_none() => match status {
                    Ok(status) => {
                        exited = Some(status);
                        deadline = Instant::now() + DRAIN;
                    }
                    Err(error) => return End::Lost(error),
                },
                () = run.cancel.cancelled() => return End::Cancelled,
                () = tokio::time::sleep_until(deadline) => match exited {
                    Some(_) => break,
                    None => return End::TimedOut,
                },
            }
        }
        exited.map_or(End::TimedOut, End::Exited)
    }

    /// Polite, then firm, then waits until it is gone.
    async fn stop(&mut self, run: &RunContext) {
        signal_group(&self.child, Signal::TERM);
        let grace = async {
            tokio::select! {
                () = tokio::time::sleep(GRACE) => {}
                () = run.hurry.cancelled() => {}
            }
        };
        tokio::select! {
            _ = self.child.wait() => return,
            () = grace => {}
        }
        signal_group(&self.child, Signal::KILL);
        let _ended = tokio::time::timeout(GRACE, self.child.wait()).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        signal_group(&self.child, Signal::KILL);
    }
}

/// Reads a piece; at the end of the stream, or on an error, the stream becomes `None`.
async fn read_some<R: AsyncRead + Unpin>(stream: &mut Option<R>, buffer: &mut [u8]) -> usize {
    let Some(open) = stream else { return 0 };
    let count = open.read(buffer).await.unwrap_or(0);
    if count == 0 {
        *stream = None;
    }
    count
}

/// The child leads its group. Its number is still its own for as long as it was not waited for.
fn signal_group(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process_group(pid, signal);
    }
}

/// Starts a program in a process group of its own that dies with this process.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    command.process_group(0);
    die_with_parent(command);
    command.spawn()
}

#[allow(unsafe_code, reason = "what happens between fork and exec can't be said otherwise")]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs in the child between fork and exec; it makes three system calls, takes no lock
    // and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // A core file of QEMU would hold the guest's memory, and with it secrets.
            rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
            // The parent may have died before the first call.
            if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::CHILD.into()) }
        });
    }
}

/// The error for a program that could not be started.
pub(crate) fn missing_or(error: io::Error, program: &Path, package: &str) -> MachineError {
    let name = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        return MachineError::host(
            format!("`{name}` is not installed"),
            format!(
                "install it (Debian, Ubuntu: `apt-get install {package}`); `dsimg doctor` names all that is missing"
            ),
        );
    }
    MachineError::host(format!("cannot start `{name}`: {error}"), "`dsimg doctor` looks at what dsimg needs")
}

/// `exited with 1`, `was killed by signal 9`.
pub(crate) fn describe_status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(9)) => "was killed (signal 9; if nobody did, the host may be out of memory)".to_owned(),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

#[cfg(test)]
mod tests;
