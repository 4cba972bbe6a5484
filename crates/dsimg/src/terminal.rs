//! The user's own terminal, or what stands in its place, at a shell in the machine.
//!
//! SIGINT, SIGTERM and SIGHUP are the caller's: it cancels the session's token on them. Ctrl-C itself is a key while
//! the terminal is raw, and goes to the machine.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::PanicHookInfo;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use dsimg_machine::{ExitStatus, Screen, ScreenSize, Session, SessionError, Terminal};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, isatty, tcgetattr,
    tcgetwinsize, tcsetattr,
};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Pieces of input that wait for the machine. From a terminal so many that the escape is read even when the machine
/// takes nothing; a file or pipe can wait.
const TYPED_AHEAD: usize = 1 << 16;
const READ_AHEAD: usize = 16;
const CHUNK: usize = 16 << 10;
const GOODBYE_LIMIT: Duration = Duration::from_millis(200);

/// Variables that the guest gets when its sshd lets them in.
const PASSED_ON: [&str; 2] = ["COLORTERM", "LANG"];

/// How the user and the machine parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Command(ExitStatus),
    /// The user typed Enter `~` `.`; what ran in the terminal is hung up on.
    Left,
}

/// The user's three streams and what their environment says.
#[derive(Debug)]
struct User {
    input: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
    environment: BTreeMap<String, String>,
}

/// Runs root's login shell, or `command`, with this process's own streams at it. In a terminal where both standard
/// input and output are one: raw, sized, and put back however this ends. Else only bytes go back and forth, and
/// the end of standard input is the end of the command's.
///
/// # Errors
/// The connection is lost, the session cancelled, or the user's streams fail.
pub(crate) async fn attach(session: &dyn Session, command: Option<&str>) -> Result<Ended, SessionError> {
    let user = User {
        input: io::stdin().as_fd().try_clone_to_owned().map_err(no_terminal)?,
        output: io::stdout().as_fd().try_clone_to_owned().map_err(no_terminal)?,
        errors: io::stderr().as_fd().try_clone_to_owned().map_err(no_terminal)?,
        environment: crate::environment::all(),
    };
    attach_user(session, command, &user).await
}

async fn attach_user(session: &dyn Session, command: Option<&str>, user: &User) -> Result<Ended, SessionError> {
    let (mut output, mut errors) = (writer(&user.output)?, writer(&user.errors)?);
    let (sizes, size) = watch::channel(size_of(&user.output));
    let mut screen = None;
    let mut raw = None;
    if isatty(&user.input) && isatty(&user.output) {
        let entered = Raw::enter(&user.input).map_err(no_terminal)?;
        let term = user.environment.get("TERM").map_or("dumb", String::as_str).to_owned();
        screen = Some(Screen { term, size, modes: entered.modes.clone() });
        raw = Some(entered);
    }
    let resized = signal(SignalKind::window_change()).map_err(no_terminal)?;
    let left = CancellationToken::new();
    let mut keyboard = Keyboard::start(&user.input, raw.is_some().then(|| left.clone())).map_err(no_terminal)?;
    let env = PASSED_ON.iter().filter_map(|name| user.environment.get_key_value(*name));
    let env = env.map(|(name, value)| (name.clone(), value.clone())).collect();
    let terminal = Terminal { screen, env, input: &mut keyboard, output: &mut output, errors: &mut errors };
    let ended = tokio::select! {
        biased;
        () = left.cancelled() => Ok(Ended::Left),
        outcome = session.interact(command, terminal) => outcome.map(Ended::Command),
        never = follow_size(resized, &user.output, &sizes) => match never {},
    };
    if raw.is_some() && !matches!(ended, Ok(Ended::Command(_))) {
        // Whatever is said next begins a line. A screen that takes nothing does not keep the user here.
        let begun = async {
            output.write_all(b"\r\n").await?;
            output.flush().await
        };
        let _not_shown = tokio::time::timeout(GOODBYE_LIMIT, begun).await;
    }
    // The reading ends first, so that no key is taken that is meant for whoever comes next.
    drop(keyboard);
    drop(raw);
    ended
}

fn no_terminal(source: io::Error) -> SessionError {
    SessionError::Terminal { action: "cannot use the terminal", source }
}

fn writer(stream: &OwnedFd) -> Result<tokio::fs::File, SessionError> {
    Ok(tokio::fs::File::from_std(File::from(stream.try_clone().map_err(no_terminal)?)))
}

async fn follow_size(mut resized: Signal, terminal: &OwnedFd, sizes: &watch::Sender<ScreenSize>) -> Infallible {
    while resized.recv().await.is_some() {
        sizes.send_replace(size_of(terminal));
    }
    std::future::pending().await
}

/// A terminal that does not know its size, as a serial line, has that of a DEC VT100.
fn size_of(terminal: &OwnedFd) -> ScreenSize {
    match tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            ScreenSize { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => ScreenSize { columns: 80, rows: 24 },
    }
}

type Hook = dyn Fn(&PanicHookInfo<'_>) + Send + Sync;

/// A terminal in raw mode, until this is dropped or any thread panics.
struct Raw {
    before: Arc<Before>,
    /// As ssh encodes them.
    modes: Vec<(u8, u32)>,
    hook: Arc<Hook>,
}

/// A terminal and how it was; put back once.
struct Before(Mutex<Option<(OwnedFd, Termios)>>);

impl Before {
    fn restore(&self) {
        if let Some((terminal, termios)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // At once: a screen that takes nothing would be waited for.
            let _terminal_gone = tcsetattr(&terminal, OptionalActions::Now, &termios);
        }
    }
}

impl Raw {
    fn enter(terminal: &OwnedFd) -> io::Result<Self> {
        let termios = tcgetattr(terminal)?;
        let modes = modes_of(&termios);
        let mut raw = termios.clone();
        raw.make_raw();
        let before = Arc::new(Before(Mutex::new(Some((terminal.try_clone()?, termios)))));
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        // Before the report of a bug is printed.
        let hook: Arc<Hook> = Arc::from(std::panic::take_hook());
        let (restored, told) = (Arc::clone(&before), Arc::clone(&hook));
        std::panic::set_hook(Box::new(move |panic| {
            restored.restore();
            told(panic);
        }));
        Ok(Self { before, modes, hook })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.before.restore();
        // A panicking thread must not touch the hook; what is left there restores nothing more.
        if !std::thread::panicking() {
            let hook = Arc::clone(&self.hook);
            std::panic::set_hook(Box::new(move |panic| hook(panic)));
        }
    }
}

/// What the user types or pipes in. A thread reads it, since a file can't be waited for otherwise; it reads only what
/// is there, so that it ends with this and takes nothing from those who read after it.
struct Keyboard {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    current: VecDeque<u8>,
    thread: Option<(JoinHandle<()>, PipeWriter)>,
}

impl Keyboard {
    /// With `leave` the input is a terminal: the escape cancels it, and an end is an error.
    fn start(input: &OwnedFd, leave: Option<CancellationToken>) -> io::Result<Self> {
        let input = input.try_clone()?;
        let (stop, stopper) = io::pipe()?;
        let (sender, pieces) = mpsc::channel(if leave.is_some() { TYPED_AHEAD } else { READ_AHEAD });
        let thread = std::thread::Builder::new().name("keyboard".to_owned());
        let thread = thread.spawn(move || read_keys(&input, &stop, &sender, leave.as_ref()))?;
        Ok(Self { pieces, current: VecDeque::new(), thread: Some((thread, stopper)) })
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.pieces.close();
        if let Some((thread, stopper)) = self.thread.take() {
            drop(stopper);
            // It waits for nothing any more.
            let _panicked = thread.join();
        }
    }
}

impl AsyncRead for Keyboard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.pieces.poll_recv(context)) {
                Some(piece) => self.current = piece?.into(),
                None => return Poll::Ready(Ok(())),
            }
        }
        let (front, _) = self.current.as_slices();
        let length = front.len().min(buffer.remaining());
        buffer.put_slice(&front[..length]);
        self.current.drain(..length);
        Poll::Ready(Ok(()))
    }
}

/// Until the end of the input, a failure, the escape, or `stop` being closed.
fn read_keys(
    input: &OwnedFd,
    stop: &PipeReader,
    pieces: &mpsc::Sender<io::Result<Vec<u8>>>,
    leave: Option<&CancellationToken>,
) {
    let mut escape = Escape::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let (piece, left) = match wait_and_read(input, stop, &mut buffer) {
            Ok(None) => return,
            Ok(Some(0)) if leave.is_none() => return,
            Ok(Some(0)) => (Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed")), false),
            Ok(Some(length)) if leave.is_none() => (Ok(buffer[..length].to_vec()), false),
            Ok(Some(length)) => {
                let (typed, left) = escape.take(&buffer[..length]);
                (Ok(typed), left)
            }
            Err(error) => (Err(error), false),
        };
        if let (true, Some(leave)) = (left, leave) {
            leave.cancel();
        }
        let last = left || piece.is_err();
        let nobody_reads = pieces.blocking_send(piece).is_err();
        if last || nobody_reads {
            return;
        }
    }
}

/// How many bytes came; `None` when `stop` was closed first.
fn wait_and_read(input: &OwnedFd, stop: &PipeReader, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        let mut both = [PollFd::new(stop, PollFlags::IN), PollFd::new(input, PollFlags::IN)];
        match rustix::event::poll(&mut both, None) {
            Ok(_) if !both[0].revents().is_empty() => return Ok(None),
            Ok(_) if both[1].revents().is_empty() => continue,
            Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::io::read(input, &mut *buffer) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            read => return Ok(Some(read?)),
        }
    }
}

/// Finds `~.` at the beginning of a line, as ssh does; `~~` there is one `~`.
#[derive(Debug, Default)]
struct Escape(Place);

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Place {
    #[default]
    LineStart,
    /// After a `~` that is held back.
    Tilde,
    Within,
}

impl Escape {
    /// What is to be sent, and whether the user leaves.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut sent = Vec::with_capacity(typed.len() + 1);
        for byte in typed {
            match (self.0, byte) {
                (Place::LineStart, b'~') => {
                    self.0 = Place::Tilde;
                    continue;
                }
                (Place::Tilde, b'.') => return (sent, true),
                (Place::Tilde, b'~') => {}
                (Place::Tilde, _) => sent.push(b'~'),
                (Place::LineStart | Place::Within, _) => {}
            }
            sent.push(*byte);
            self.0 = if matches!(byte, b'\r' | b'\n') { Place::LineStart } else { Place::Within };
        }
        (sent, false)
    }
}

/// The terminal's modes by RFC 4254, section 8, so that Backspace and its kin are the same keys in the guest.
fn modes_of(termios: &Termios) -> Vec<(u8, u32)> {
    let keys = KEYS.iter().map(|(code, key)| {
        // 0 is Linux's "no such key", 255 is ssh's.
        let key = termios.special_codes[*key];
        (*code, if key == 0 { 255 } else { u32::from(key) })
    });
    let input = INPUT.iter().map(|(code, mode)| (*code, termios.input_modes.contains(*mode).into()));
    let local = LOCAL.iter().map(|(code, mode)| (*code, termios.local_modes.contains(*mode).into()));
    let output = OUTPUT.iter().map(|(code, mode)| (*code, termios.output_modes.contains(*mode).into()));
    let control = CONTROL.iter().map(|(code, mode)| (*code, termios.control_modes.contains(*mode).into()));
    let speeds = [(128, termios.input_speed()), (129, termios.output_speed())];
    keys.chain(input).chain(local).chain(output).chain(control).chain(speeds).collect()
}

const KEYS: [(u8, SpecialCodeIndex); 14] = [
    (1, SpecialCodeIndex::VINTR),
    (2, SpecialCodeIndex::VQUIT),
    (3, SpecialCodeIndex::VERASE),
    (4, SpecialCodeIndex::VKILL),
    (5, SpecialCodeIndex::VEOF),
    (6, SpecialCodeIndex::VEOL),
    (7, SpecialCodeIndex::VEOL2),
    (8, SpecialCodeIndex::VSTART),
    (9, SpecialCodeIndex::VSTOP),
    (10, SpecialCodeIndex::VSUSP),
    (12, SpecialCodeIndex::VREPRINT),
    (13, SpecialCodeIndex::VWERASE),
    (14, SpecialCodeIndex::VLNEXT),
    (18, SpecialCodeIndex::VDISCARD),
];

const INPUT: [(u8, InputModes); 13] = [
    (30, InputModes::IGNPAR),
    (31, InputModes::PARMRK),
    (32, InputModes::INPCK),
    (33, InputModes::ISTRIP),
    (34, InputModes::INLCR),
    (35, InputModes::IGNCR),
    (36, InputModes::ICRNL),
    (37, InputModes::IUCLC),
    (38, InputModes::IXON),
    (39, InputModes::IXANY),
    (40, InputModes::IXOFF),
    (41, InputModes::IMAXBEL),
    (42, InputModes::IUTF8),
];

const LOCAL: [(u8, LocalModes); 11] = [
    (50, LocalModes::ISIG),
    (51, LocalModes::ICANON),
    (53, LocalModes::ECHO),
    (54, LocalModes::ECHOE),
    (55, LocalModes::ECHOK),
    (56, LocalModes::ECHONL),
    (57, LocalModes::NOFLSH),
    (58, LocalModes::TOSTOP),
    (59, LocalModes::IEXTEN),
    (60, LocalModes::ECHOCTL),
    (61, LocalModes::ECHOKE),
];

const OUTPUT: [(u8, OutputModes); 5] = [
    (70, OutputModes::OPOST),
    (72, OutputModes::ONLCR),
    (73, OutputModes::OCRNL),
    (74, OutputModes::ONOCR),
    (75, OutputModes::ONLRET),
];

const CONTROL: [(u8, ControlModes); 4] =
    [(90, ControlModes::CS7), (91, ControlModes::CS8), (92, ControlModes::PARENB), (93, ControlModes::PARODD)];

#[cfg(test)]
mod tests;
