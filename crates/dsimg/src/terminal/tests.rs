use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use async_trait::async_trait;
use dsimg_machine::{OutputSink, RemoteCommand};
use rustix::process::{Signal as Sent, getpid, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::AsyncReadExt;

use super::*;

/// Tells what it was given, and then shows what is typed: `q` ends it, `!` is where it hangs.
struct Mirror;

#[async_trait]
impl Session for Mirror {
    async fn exec(&self, _: &RemoteCommand, _: &mut dyn OutputSink) -> Result<ExitStatus, SessionError> {
        unreachable!()
    }

    async fn read(&self, _: &RemoteCommand) -> Result<Vec<u8>, SessionError> {
        unreachable!()
    }

    async fn upload_tar(&self, _: &Path, _: &str) -> Result<(), SessionError> {
        unreachable!()
    }

    async fn download_tar(&self, _: &str, _: &Path) -> Result<(), SessionError> {
        unreachable!()
    }

    async fn write(&self, _: &str, _: u32, _: &[u8]) -> Result<(), SessionError> {
        unreachable!()
    }

    async fn close(self: Box<Self>) -> Result<(), SessionError> {
        unreachable!()
    }

    async fn interact(&self, _: Option<&str>, terminal: Terminal<'_>) -> Result<ExitStatus, SessionError> {
        let Terminal { mut screen, env, input, output, .. } = terminal;
        let told = match &screen {
            Some(Screen { term, size, modes }) => {
                format!("{term} {:?} {}\n", *size.borrow(), modes.contains(&(3, 127)))
            }
            None => "no screen\n".to_owned(),
        };
        output.write_all(format!("{env:?} {told}").as_bytes()).await.unwrap();
        output.flush().await.unwrap();
        let mut typed = [0; 1];
        loop {
            let resized = async {
                match &mut screen {
                    Some(screen) => screen.size.changed().await.unwrap(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = resized => output.write_all(b"resized\n").await.unwrap(),
                length = input.read(&mut typed) => {
                    let length = length.map_err(no_terminal)?;
                    match &typed[..length] {
                        b"" => return Ok(ExitStatus::Code(1)),
                        b"q" => return Ok(ExitStatus::Code(2)),
                        b"!" => std::future::pending::<()>().await,
                        byte => output.write_all(byte).await.unwrap(),
                    }
                }
            }
            output.flush().await.unwrap();
        }
    }
}

/// One terminal at a time: the panic hook is the whole process's, and a panic puts every terminal back.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The user's hands and eyes, and the terminal before them.
fn terminal() -> (File, OwnedFd) {
    let hands = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&hands).unwrap();
    unlockpt(&hands).unwrap();
    let terminal = ioctl_tiocgptpeer(&hands, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    resize(&terminal, 100, 40);
    (File::from(hands), terminal)
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

fn user(input: &OwnedFd, output: &OwnedFd) -> User {
    let environment = [("TERM", "vt220"), ("LANG", "C.UTF-8"), ("SECRET", "x")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let copy = |stream: &OwnedFd| stream.try_clone().unwrap();
    User { input: copy(input), output: copy(output), errors: copy(output), environment }
}

fn is_raw(terminal: &OwnedFd) -> bool {
    !tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ICANON)
}

/// On a thread: reads up to `text`.
async fn sees(hands: &File, text: &'static str) -> String {
    let mut hands = hands.try_clone().unwrap();
    tokio::task::spawn_blocking(move || {
        let (mut seen, mut byte) = (String::new(), [0]);
        while !seen.ends_with(text) {
            hands.read_exact(&mut byte).unwrap();
            seen.push(byte[0].into());
        }
        seen
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_terminal_is_raw_meanwhile_and_what_comes_later_is_not_eaten() {
    let _alone = ALONE.lock().await;
    let (mut hands, terminal) = terminal();
    let user = user(&terminal, &terminal);
    let (ended, ()) = tokio::join!(attach_user(&Mirror, None, &user), async {
        let told = sees(&hands, "\n").await;
        assert_eq!(told, "{\"LANG\": \"C.UTF-8\"} vt220 ScreenSize { columns: 100, rows: 40 } true\n");
        assert!(is_raw(&terminal));
        // Ctrl-C and Ctrl-D are keys.
        hands.write_all(b"a\x03\x04~").unwrap();
        assert_eq!(sees(&hands, "~").await, "a\x03\x04~");
        resize(&terminal, 10, 5);
        kill_process(getpid(), Sent::WINCH).unwrap();
        sees(&hands, "resized\n").await;
        hands.write_all(b"q").unwrap();
    });
    assert_eq!(ended.unwrap(), Ended::Command(ExitStatus::Code(2)));
    assert!(!is_raw(&terminal));
    hands.write_all(b"later\n").unwrap();
    let mut line = [0; 6];
    File::from(terminal).read_exact(&mut line).unwrap();
    assert_eq!(&line, b"later\n");
}

#[tokio::test]
async fn a_connection_that_hangs_can_be_left() {
    let _alone = ALONE.lock().await;
    let (mut hands, terminal) = terminal();
    let user = user(&terminal, &terminal);
    let (ended, ()) = tokio::join!(attach_user(&Mirror, None, &user), async {
        sees(&hands, "\n").await;
        hands.write_all(b"!").unwrap();
        for _ in 0..100 {
            hands.write_all(b"hello?\r").unwrap();
        }
        hands.write_all(b"~.").unwrap();
    });
    assert_eq!(ended.unwrap(), Ended::Left);
    assert!(!is_raw(&terminal));
}

#[tokio::test]
async fn a_terminal_that_goes_away_ends_it() {
    let _alone = ALONE.lock().await;
    let (hands, terminal) = terminal();
    let user = user(&terminal, &terminal);
    let (ended, ()) = tokio::join!(attach_user(&Mirror, None, &user), async {
        sees(&hands, "\n").await;
        drop(hands);
    });
    assert_eq!(ended.unwrap_err().to_string(), "cannot use the terminal");
}

#[tokio::test]
async fn what_is_piped_in_goes_whole_and_then_ends() {
    let ((reads, mut writes), (mut shown, shows)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let user = user(&reads.into(), &shows.into());
    // With what would leave a terminal.
    writes.write_all(b"id\n~.\nls").unwrap();
    drop(writes);
    let ended = attach_user(&Mirror, None, &user).await.unwrap();
    drop(user);
    assert_eq!(ended, Ended::Command(ExitStatus::Code(1)));
    let mut text = String::new();
    shown.read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"LANG\": \"C.UTF-8\"} no screen\nid\n~.\nls");
}

#[tokio::test]
async fn a_file_can_be_the_input_and_a_pipe_that_stays_open_holds_nothing_up() {
    let (_shown, shows) = io::pipe().unwrap();
    let shows = shows.into();
    let nothing = File::open("/dev/null").unwrap().into();
    let ended = attach_user(&Mirror, None, &user(&nothing, &shows)).await.unwrap();
    assert_eq!(ended, Ended::Command(ExitStatus::Code(1)));
    let (reads, mut writes) = io::pipe().unwrap();
    writes.write_all(b"q").unwrap();
    let ended = attach_user(&Mirror, None, &user(&reads.into(), &shows)).await.unwrap();
    assert_eq!(ended, Ended::Command(ExitStatus::Code(2)));
}

#[test]
fn a_panic_finds_the_terminal_as_it_was() {
    let _alone = ALONE.blocking_lock();
    let (_hands, terminal) = terminal();
    let raw = Raw::enter(&terminal).unwrap();
    assert!(is_raw(&terminal));
    // Without the thread's unwinding, as when it panics elsewhere.
    let panicked = catch_unwind(AssertUnwindSafe(|| panic!("on purpose")));
    assert!(panicked.is_err() && !is_raw(&terminal));
    drop(raw);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _raw = Raw::enter(&terminal).unwrap();
        panic!("on purpose");
    }));
    assert!(unwound.is_err() && !is_raw(&terminal));
}

#[test]
fn the_escape_counts_at_the_beginning_of_a_line_only() {
    let take = |pieces: &[&str]| {
        let mut escape = Escape::default();
        let mut sent = String::new();
        for piece in pieces {
            let (bytes, left) = escape.take(piece.as_bytes());
            sent.push_str(std::str::from_utf8(&bytes).unwrap());
            if left {
                return (sent, true);
            }
        }
        (sent, false)
    };
    assert_eq!(take(&["~."]), (String::new(), true));
    assert_eq!(take(&["ls\r", "~", ".x"]), ("ls\r".to_owned(), true));
    assert_eq!(take(&["cd ~.\r"]), ("cd ~.\r".to_owned(), false));
    assert_eq!(take(&["~~.\r~/bin\r", "~\r~."]), ("~.\r~/bin\r~\r".to_owned(), true));
}
