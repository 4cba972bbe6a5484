//! One command on one channel, from the request to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dsimg_machine::{ExitStatus, OutputSink, OutputStream, RemoteCommand, SessionError};
use russh::{ChannelMsg, ChannelWriteHalf, Sig, client};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::command::Script;
use crate::connect::Link;
use crate::deadline::Deadline;
use crate::kill::{Leash, Patience};
use crate::queue::Queue;

/// How long a silence after a command's end may be, before and after the machine is asked whether it still answers,
/// while something that was left behind holds the output open.
pub(crate) const DRAIN_PAUSE: Duration = Duration::from_secs(1);
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(60);
pub(crate) const ROUND_TRIP_LIMIT: Duration = Duration::from_secs(10);
const CHUNK: usize = 256 << 10;

/// The bytes a command reads, and where they come from.
pub(crate) enum Input<'a> {
    Bytes(&'a [u8]),
    File { file: tokio::fs::File, path: &'a Path },
}

/// Where a command's output goes.
pub(crate) enum Output<'a> {
    Sink(&'a mut dyn OutputSink),
    /// stdout into the file, the end of stderr into the text.
    File {
        file: &'a mut tokio::fs::File,
        path: &'a Path,
        stderr: &'a mut Tail,
    },
}

/// Everything that ends a command early.
pub(crate) struct Limits<'a> {
    pub(crate) deadline: Deadline,
    pub(crate) cancel: &'a CancellationToken,
}

/// Runs the command to its end; `elevate` takes it through sudo. See [`dsimg_machine::Session::exec`].
pub(crate) async fn run(
    link: &Arc<Link>,
    command: &RemoteCommand,
    elevate: bool,
    input: Input<'_>,
    mut output: Output<'_>,
    limits: &Limits<'_>,
) -> Result<ExitStatus, SessionError> {
    let script = Script::new(command, elevate, new_marker())?;
    let mut leash = Leash::new(link, elevate);
    let outcome = tokio::select! {
        biased;
        () = limits.cancel.cancelled() => Err(SessionError::Cancelled),
        () = limits.deadline.passed() => {
            Err(SessionError::TimedOut { command: script.title.clone(), limit: limits.deadline.limit })
        }
        outcome = talk(link, &script, input, &mut output, &mut leash, &limits.deadline) => outcome,
    };
    match &outcome {
        Err(SessionError::Cancelled) => leash.kill(Patience::None).await,
        Err(SessionError::Lost { .. }) => leash.release(),
        Err(_) => leash.kill(Patience::Some).await,
        Ok(_) => leash.release(),
    }
    outcome
}

async fn talk(
    link: &Link,
    script: &Script,
    input: Input<'_>,
    output: &mut Output<'_>,
    leash: &mut Leash,
    deadline: &Deadline,
) -> Result<ExitStatus, SessionError> {
    let (read, write) = link.open_channel().await?.split();
    let (mut queue, write) = (Queue::fill_from(read), Arc::new(write));
    leash.holds_channel(&write);
    write.exec(true, script.request.as_str()).await.map_err(|_| link.lost())?;
    let mut listener = Listener::new(script, output, leash);
    let sending = send(&write, &script.prologue, input, deadline);
    tokio::pin!(sending);
    let mut sent = false;
    let status = loop {
        let message = tokio::select! {
            message = queue.next() => message,
            result = &mut sending, if !sent => {
                result?;
                sent = true;
                continue;
            }
        };
        deadline.progress();
        match message {
            None | Some(ChannelMsg::Close) => return Err(link.lost()),
            Some(message) => {
                if let Some(status) = listener.hear(message).await? {
                    break status;
                }
            }
        }
    };
    drain(link, &mut queue, &mut listener, deadline).await?;
    // Already closed by the other side, unless something still holds the output.
    let _already_closed = write.close().await;
    listener.finish(status).await
}

/// What a command wrote before it ended may still be on its way; what it left running may hold its output for ever.
async fn drain(
    link: &Link,
    queue: &mut Queue,
    listener: &mut Listener<'_, '_>,
    deadline: &Deadline,
) -> Result<(), SessionError> {
    let until = tokio::time::Instant::now() + DRAIN_LIMIT;
    let mut asked = false;
    while tokio::time::Instant::now() < until {
        match tokio::time::timeout(DRAIN_PAUSE, queue.next()).await {
            Ok(None | Some(ChannelMsg::Close)) => return Ok(()),
            Ok(Some(message)) => {
                asked &= matches!(message, ChannelMsg::WindowAdjusted { .. });
                deadline.progress();
                listener.hear(message).await?;
            }
            // A silence may also be a machine that stands still: only one that answers has nothing more to say.
            Err(_) if asked => return Ok(()),
            Err(_) => {
                link.round_trip(ROUND_TRIP_LIMIT).await;
                asked = true;
            }
        }
    }
    Ok(())
}

async fn send(
    write: &ChannelWriteHalf<client::Msg>,
    prologue: &[u8],
    input: Input<'_>,
    deadline: &Deadline,
) -> Result<(), SessionError> {
    let mut sender = Sender { write, deadline };
    sender.send(prologue.to_vec()).await;
    match input {
        Input::Bytes(bytes) => {
            for chunk in bytes.chunks(CHUNK) {
                sender.send(chunk.to_vec()).await;
            }
        }
        Input::File { mut file, path } => {
            sender.send_all(&mut file).await.map_err(|source| SessionError::HostFile {
                action: "cannot read",
                path: path.to_owned(),
                source,
            })?;
        }
    }
    let _command_gone = write.eof().await;
    Ok(())
}

/// A command may end without reading its stdin: a channel that takes nothing more is for the listener to judge.
struct Sender<'a> {
    write: &'a ChannelWriteHalf<client::Msg>,
    deadline: &'a Deadline,
}

impl Sender<'_> {
    async fn send(&mut self, bytes: Vec<u8>) {
        let _command_gone = self.write.data_bytes(bytes).await;
        self.deadline.progress();
    }

    async fn send_all(&mut self, from: &mut (dyn AsyncRead + Send + Unpin)) -> std::io::Result<()> {
        loop {
            let mut buffer = vec![0; CHUNK];
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            buffer.truncate(length);
            self.send(buffer).await;
        }
    }
}

/// Hands the output on, and learns from the marker that the command runs and in which session.
struct Listener<'a, 'o> {
    script: &'a Script,
    output: &'a mut Output<'o>,
    leash: &'a mut Leash,
    /// stderr up to the marker; `None` once it was seen.
    before: Option<Vec<u8>>,
    status: Option<ExitStatus>,
}

impl<'a, 'o> Listener<'a, 'o> {
    fn new(script: &'a Script, output: &'a mut Output<'o>, leash: &'a mut Leash) -> Self {
        Self { script, output, leash, before: Some(Vec::new()), status: None }
    }

    /// The exit status, once it is there.
    async fn hear(&mut self, message: ChannelMsg) -> Result<Option<ExitStatus>, SessionError> {
        match message {
            ChannelMsg::Data { data } => self.output.take(OutputStream::Stdout, &data).await?,
            ChannelMsg::ExtendedData { data, ext: 1 } => self.hear_stderr(&data).await?,
            ChannelMsg::ExitStatus { exit_status } => self.status = Some(ExitStatus::Code(exit_status)),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                self.status = Some(ExitStatus::Signal(signal_text(signal_name)));
            }
            ChannelMsg::Failure => {
                return Err(SessionError::Lost { why: "its sshd runs no commands".to_owned() });
            }
            _ => {}
        }
        Ok(self.status.clone())
    }

    async fn hear_stderr(&mut self, data: &[u8]) -> Result<(), SessionError> {
        let Some(before) = &mut self.before else {
            return self.output.take(OutputStream::Stderr, data).await;
        };
        before.extend_from_slice(data);
        let Some((start, end, session)) = find_marker(before, &self.script.marker) else {
            return Ok(());
        };
        self.leash.holds_session(session);
        let mut rest = self.before.take().unwrap_or_default();
        rest.drain(start..end);
        if rest.is_empty() { Ok(()) } else { self.output.take(OutputStream::Stderr, &rest).await }
    }

    /// A command that never started is an error, with what sudo or the shell said.
    async fn finish(self, status: ExitStatus) -> Result<ExitStatus, SessionError> {
        self.output.flush().await?;
        match self.before {
            None => Ok(status),
            Some(before) => {
                let stderr = String::from_utf8_lossy(&before).trim().to_owned();
                Err(SessionError::Failed { command: self.script.title.clone(), status, stderr })
            }
        }
    }
}

impl Output<'_> {
    async fn take(&mut self, stream: OutputStream, bytes: &[u8]) -> Result<(), SessionError> {
        match (self, stream) {
            (Self::Sink(sink), _) => sink.write(stream, bytes),
            (Self::File { stderr, .. }, OutputStream::Stderr) => stderr.push(bytes),
            (Self::File { file, path, .. }, OutputStream::Stdout) => {
                file.write_all(bytes).await.map_err(|source| cannot_write(path, source))?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        match self {
            Self::Sink(_) => Ok(()),
            Self::File { file, path, .. } => file.flush().await.map_err(|source| cannot_write(path, source)),
        }
    }
}

pub(crate) fn cannot_write(path: &Path, source: std::io::Error) -> SessionError {
    SessionError::HostFile { action: "cannot write", path: path.to_owned(), source }
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    const LENGTH: usize = 4096;

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        if self.0.len() > 2 * Self::LENGTH {
            self.0.drain(..self.0.len() - Self::LENGTH);
        }
    }

    pub(crate) fn text(&self) -> String {
        let start = self.0.len().saturating_sub(Self::LENGTH);
        String::from_utf8_lossy(&self.0[start..]).trim().to_owned()
    }
}

/// Where the marker's line stands, and the session it names.
fn find_marker(text: &[u8], marker: &str) -> Option<(usize, usize, u32)> {
    let start = text.windows(marker.len()).position(|window| window == marker.as_bytes())?;
    let length = text[start..].iter().position(|byte| *byte == b'\n')?;
    let number = std::str::from_utf8(&text[start + marker.len()..start + length]).ok()?;
    Some((start, start + length + 1, number.trim().parse().ok()?))
}

/// Unguessable, so that nothing before the command can imitate it.
fn new_marker() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one(std::time::Instant::now());
    format!("dsimg-{:016x}{:016x}", random(), random())
}

/// Without the `SIG`.
pub(crate) fn signal_text(signal: Sig) -> String {
    match signal {
        Sig::ABRT => "ABRT".to_owned(),
        Sig::ALRM => "ALRM".to_owned(),
        Sig::FPE => "FPE".to_owned(),
        Sig::HUP => "HUP".to_owned(),
        Sig::ILL => "ILL".to_owned(),
        Sig::INT => "INT".to_owned(),
        Sig::KILL => "KILL".to_owned(),
        Sig::PIPE => "PIPE".to_owned(),
        Sig::QUIT => "QUIT".to_owned(),
        Sig::SEGV => "SEGV".to_owned(),
        Sig::TERM => "TERM".to_owned(),
        Sig::USR1 => "USR1".to_owned(),
        // What OpenSSH says of all that the standard has no name for.
        Sig::Custom(name) if name == "SIG@openssh.com" => "?".to_owned(),
        Sig::Custom(name) => name,
    }
}
