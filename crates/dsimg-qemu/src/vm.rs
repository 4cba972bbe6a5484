//! One QEMU process: started, watched and ended.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

use dsimg_machine::{MachineError, Resource, RunContext};

use crate::condition::Condition;
use crate::console::Console;
use crate::process::{describe_status, missing_or, start};
use crate::qmp::{Qmp, QmpError};
use crate::tail::{Tail, last_lines};

/// How long QEMU may take to end after it was asked to, and after it was killed.
const GRACE: Duration = Duration::from_secs(5);

/// A running QEMU. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Vm {
    process: OwnedFd,
    entry: Resource,
    pid: i32,
    qmp: Qmp,
    console: Console,
    exit: watch::Receiver<Option<ExitStatus>>,
    stderr: Arc<Mutex<Tail>>,
    run: RunContext,
}

impl Vm {
    /// Starts QEMU with arguments made by [`crate::arguments::arguments`] and waits until it answers.
    /// `console_log` must not exist yet.
    ///
    /// # Errors
    /// QEMU is missing, or did not accept the arguments: then the error has its own words.
    pub(crate) async fn start(
        program: &Path,
        arguments: &[String],
        console_log: &Path,
        run: &RunContext,
    ) -> Result<Self, MachineError> {
        let sockets = || -> std::io::Result<(UnixStream, Stdio)> {
            let (ours, theirs) = BlockingStream::pair()?;
            ours.set_nonblocking(true)?;
            Ok((UnixStream::from_std(ours)?, Stdio::from(OwnedFd::from(theirs))))
        };
        let no_socket = |error| MachineError::host(format!("cannot make a socket: {error}"), "look at `ulimit -n`");
        let (qmp, qmp_theirs) = sockets().map_err(no_socket)?;
        let (console, console_theirs) = sockets().map_err(no_socket)?;
        let console = Console::open(console, console_log)
            .map_err(|error| MachineError::file("cannot make the console's log", console_log, error))?;

        let mut command = Command::new(program);
        command.args(arguments).stdin(qmp_theirs).stdout(console_theirs).stderr(Stdio::piped());
        let child = start(&mut command).map_err(|error| missing_or(error, program, "qemu-system-x86"))?;
        // Until here the command holds QEMU's ends of the sockets; QEMU's death must close them.
        drop(command);
        let watched = Watched::new(child, run)?;
        let answer = tokio::select! {
            answer = Qmp::connect(qmp) => answer,
            () = run.cancel.cancelled() => return Err(watched.given_up().await),
        };
        match answer {
            Ok(qmp) => Ok(watched.with(qmp, console, run)),
            Err(error) => Err(watched.did_not_start(&error).await),
        }
    }

    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Stops the guest's processors.
    pub(crate) async fn pause(&self) -> Result<(), MachineError> {
        self.order("stop").await
    }

    /// Lets the guest's processors run.
    pub(crate) async fn go_on(&self) -> Result<(), MachineError> {
        self.order("cont").await
    }

    async fn order(&self, command: &str) -> Result<(), MachineError> {
        self.qmp.execute(command, json!({})).await.map(drop).map_err(|error| self.failed(error.to_string()))
    }

    pub(crate) fn condition(&self) -> Condition {
        self.qmp.condition().borrow().clone()
    }

    /// Asks to be told when the guest sets its network card up: QEMU tells once, after it was asked how the card is.
    pub(crate) async fn watch_network(&self) {
        if let Err(error) = self.qmp.execute("query-rx-filter", json!({})).await {
            self.run.debug(format!("it will not be known when the guest's network comes up: {error}"));
        }
    }

    /// Returns when the guest has set its network card up.
    pub(crate) async fn until_network_up(&self) {
        let mut condition = self.qmp.condition();
        // An error is QEMU's end, which is looked at elsewhere.
        let _ended = condition.wait_for(|condition| condition.network_up).await;
    }

    /// The port of 127.0.0.1 that leads to the guest's ssh.
    pub(crate) async fn ssh_port(&self) -> Result<u16, MachineError> {
        let table = self.qmp.human("info usernet").await.map_err(|error| self.failed(error.to_string()))?;
        forwarded_port(&table).ok_or_else(|| self.failed("QEMU forwards no port to the guest's ssh".to_owned()))
    }

    /// Why nothing can be expected of the machine, or `None` while it runs.
    pub(crate) async fn trouble(&self) -> Option<String> {
        if let Some(status) = self.exit_status() {
            let told = self.condition().trouble();
            return Some(told.unwrap_or_else(|| format!("QEMU {}{}", describe_status(status), self.qemus_words())));
        }
        let condition = self.condition();
        if let Some(trouble) = condition.trouble() {
            return Some(trouble);
        }
        if condition.paused {
            let state = self.qmp.run_state().await.unwrap_or_else(|error| error.to_string());
            return (state != "running").then(|| format!("QEMU paused the machine ({state}){}", self.qemus_words()));
        }
        self.console.sign().borrow().map(str::to_owned)
    }

    /// Returns when there is trouble.
    pub(crate) async fn until_trouble(&self) -> String {
        let (mut exit, mut condition, mut sign) = (self.exit.clone(), self.qmp.condition(), self.console.sign());
        loop {
            // Mark before looking, so that what changes while we look is seen.
            exit.mark_unchanged();
            condition.mark_unchanged();
            sign.mark_unchanged();
            if let Some(trouble) = self.trouble().await {
                return trouble;
            }
            tokio::select! {
                Ok(()) = exit.changed() => {}
                Ok(()) = condition.changed() => {}
                Ok(()) = sign.changed() => {}
                // All senders are gone: the process has ended.
                else => return "QEMU is gone".to_owned(),
            }
        }
    }

    /// Waits until the process has ended; `None` when it did not within the limit.
    pub(crate) async fn exited_within(&self, limit: Duration) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(limit, exit.wait_for(Option::is_some)).await;
        match ended {
            Ok(Ok(status)) => *status,
            _ => None,
        }
    }

    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Ends QEMU, whatever state it is in, and strikes it out of the ledger.
    pub(crate) async fn stop(self) -> Result<(), MachineError> {
        if self.exit_status().is_none() {
            let hurry = self.run.hurry.clone();
            let politely = async {
                let _closed = self.qmp.execute_within(GRACE, "quit", json!({})).await;
                self.exited_within(GRACE).await
            };
            tokio::select! {
                _ = politely => {}
                () = hurry.cancelled() => {}
            }
        }
        if self.exit_status().is_none() {
            let _ = pidfd_send_signal(self.process.as_fd(), Signal::KILL);
            if self.exited_within(GRACE).await.is_none() {
                let what = format!("QEMU (process {}) was killed and still has not ended", self.pid);
                let hint = "it may hang in the host's kernel, for example on a network file system";
                return Err(MachineError::Machine { what, hint: Some(hint.to_owned()), console: String::new() });
            }
        }
        let struck = self.run.ledger.is_gone(self.entry.clone());
        struck.map_err(|error| MachineError::file("cannot write the ledger", self.run.ledger.path(), error))
    }

    /// An error about this machine, with the end of its console.
    pub(crate) fn failed(&self, what: String) -> MachineError {
        MachineError::Machine { what, hint: None, console: self.console.last_lines() }
    }

    /// What QEMU wrote to stderr, the end of it.
    pub(crate) fn stderr(&self) -> String {
        last_lines(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner).bytes(), usize::MAX)
    }

    /// What QEMU wrote to stderr, after a colon.
    fn qemus_words(&self) -> String {
        words_of(&self.stderr)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(self.process.as_fd(), Signal::KILL);
    }
}

/// A process that was started and does not answer yet.
struct Watched {
    process: OwnedFd,
    pid: i32,
    entry: Resource,
    exit: watch::Receiver<Option<ExitStatus>>,
    stderr: Arc<Mutex<Tail>>,
    run: RunContext,
}

impl Watched {
    /// Puts the process into the ledger. There is no way to write it down before it has a number; a death of
    /// this process in between is covered by the kernel, which then kills the child.
    fn new(mut child: Child, run: &RunContext) -> Result<Self, MachineError> {
        let no_process = |what: &str| MachineError::host(format!("cannot watch QEMU: {what}"), "build again");
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| no_process("it has no number"))?;
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(error) => {
                let _already_gone = child.start_kill();
                return Err(no_process(&error.to_string()));
            }
        };
        let number = pid.as_raw_nonzero().get();
        let entry = Resource::Process { pid: number, started: started(number).unwrap_or_default() };
        if let Err(error) = run.ledger.will_make(entry.clone()) {
            let _already_gone = child.start_kill();
            return Err(MachineError::file("cannot write the ledger", run.ledger.path(), error));
        }
        let stderr = Arc::new(Mutex::new(Tail::new(8 << 10)));
        let (ended, exit) = watch::channel(None);
        let words = child.stderr.take();
        tokio::spawn(reap(child, words, Arc::clone(&stderr), ended));
        Ok(Self { process, pid: number, entry, exit, stderr, run: run.clone() })
    }

    fn with(self, qmp: Qmp, console: Console, run: &RunContext) -> Vm {
        Vm {
            process: self.process,
            entry: self.entry,
            pid: self.pid,
            qmp,
            console,
            exit: self.exit,
            stderr: self.stderr,
            run: run.clone(),
        }
    }

    /// Ends what there is of the process, and says why it never answered.
    async fn did_not_start(mut self, error: &QmpError) -> MachineError {
        // It closes the connection before it ends by itself: its own exit code tells more than our signal.
        let patience = match error {
            QmpError::Closed { .. } => GRACE,
            _ => Duration::ZERO,
        };
        if tokio::time::timeout(patience, self.exit.wait_for(Option::is_some)).await.is_err() {
            self.kill().await;
        }
        self.strike();
        let words = words_of(&self.stderr);
        let what = match *self.exit.borrow() {
            Some(status) => format!("QEMU did not start: it {}{words}", describe_status(status)),
            None => format!("QEMU did not start: {error}{words}"),
        };
        let hint = Some("look at `qemu_args` in the template; `dsimg doctor` looks at the host".to_owned());
        MachineError::Machine { what, hint, console: String::new() }
    }

    /// The build was cancelled before it answered.
    async fn given_up(mut self) -> MachineError {
        self.kill().await;
        self.strike();
        MachineError::Cancelled
    }

    async fn kill(&mut self) {
        let _ = pidfd_send_signal(self.process.as_fd(), Signal::KILL);
        let _ended = tokio::time::timeout(GRACE, self.exit.wait_for(Option::is_some)).await;
    }

    /// It is gone whether or not that can be written down.
    fn strike(&self) {
        let _written = self.run.ledger.is_gone(self.entry.clone());
    }
}

/// Reads what the process says until its end, and only then tells that it has ended.
async fn reap(
    mut child: Child,
    stderr: Option<ChildStderr>,
    tail: Arc<Mutex<Tail>>,
    ended: watch::Sender<Option<ExitStatus>>,
) {
    let listen = async {
        let Some(mut stderr) = stderr else { return };
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..count]);
        }
    };
    let (status, ()) = tokio::join!(child.wait(), listen);
    // If waiting fails, the sender is dropped, which those who wait take as the end too.
    if let Ok(status) = status {
        ended.send_replace(Some(status));
    }
}

fn words_of(stderr: &Mutex<Tail>) -> String {
    let words = last_lines(&stderr.lock().unwrap_or_else(PoisonError::into_inner).bytes(), 6);
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// When a process started, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
/// `None` when there is no such process, or it is dead and only not waited for.
pub(crate) fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, in brackets, is the program's name and may hold anything.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    fields.nth(18)?.parse().ok().filter(|_| !is_dead)
}

/// Reads the table that QEMU's `info usernet` prints: the port that is forwarded to port 22.
fn forwarded_port(table: &str) -> Option<u16> {
    let forwards = table.lines().filter(|line| line.contains("TCP[HOST_FORWARD]"));
    forwards.map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|fields| match fields[..] {
        [_, _, _, port, _, "22", ..] => port.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
