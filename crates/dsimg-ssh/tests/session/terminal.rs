//! A shell with a user at its other end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dsimg_machine::{ExitStatus, Screen, ScreenSize, Session, SessionError, Terminal};
use dsimg_ssh::SshSession;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::sshd::{Sshd, eventually, is_running};

const SIZE: ScreenSize = ScreenSize { columns: 91, rows: 37 };

/// A user who types and looks.
struct User {
    keys: Option<DuplexStream>,
    sizes: watch::Sender<ScreenSize>,
    shown: Arc<Mutex<String>>,
}

impl User {
    async fn types(&mut self, text: &str) {
        self.keys.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    async fn sees(&self, text: &str) {
        eventually(&format!("{text:?} is shown"), || self.shown().contains(text)).await;
    }
}

/// Sits down at `command`; the second thing comes to the command's end. `term` is `None` for a user without a screen.
fn sit_down<'a>(
    session: &'a SshSession,
    command: Option<&'a str>,
    term: Option<&str>,
) -> (User, impl Future<Output = Result<ExitStatus, SessionError>> + 'a) {
    let ((keys, mut input), (mut output, mut look)) = (duplex(4096), duplex(4096));
    let (sizes, size) = watch::channel(SIZE);
    let screen = term.map(|term| Screen { term: term.to_owned(), size, modes: vec![(3, 0x08), (42, 1)] });
    let shown = Arc::new(Mutex::new(String::new()));
    let user = User { keys: Some(keys), sizes, shown: Arc::clone(&shown) };
    let sitting = async move {
        let env = BTreeMap::from([("LC_DSIMG".to_owned(), "let in".to_owned()), ("NOT_ME".to_owned(), "x".to_owned())]);
        let mut errors = tokio::io::sink();
        let terminal = Terminal { screen, env, input: &mut input, output: &mut output, errors: &mut errors };
        let outcome = session.interact(command, terminal).await;
        drop(output);
        outcome
    };
    let looking = async move {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = look.read(&mut buffer).await {
            shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    (user, async { tokio::join!(sitting, looking).0 })
}

#[tokio::test]
async fn a_command_has_a_terminal_of_this_name_and_size() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (user, sitting) = sit_down(&session, Some("echo \"<$TERM>\"; stty size; stty -a; tty"), Some("xterm-256color"));
    assert_eq!(sitting.await.unwrap(), ExitStatus::Code(0));
    let shown = user.shown();
    assert!(shown.contains("<xterm-256color>\r\n37 91\r\n"), "{shown}");
    assert!(shown.contains("erase = ^H;") && shown.contains(" iutf8"), "its modes did not arrive: {shown}");
    assert!(shown.contains("/dev/pts/"), "{shown}");
}

#[tokio::test]
async fn a_new_size_is_seen() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let command = "trap 'stty size; exit 3' WINCH; stty size; while :; do sleep 0.1; done";
    let (user, sitting) = sit_down(&session, Some(command), Some("xterm"));
    let (status, ()) = tokio::join!(sitting, async {
        user.sees("37 91\r\n").await;
        user.sizes.send(ScreenSize { columns: 120, rows: 50 }).unwrap();
    });
    assert_eq!(status.unwrap(), ExitStatus::Code(3));
    assert!(user.shown().ends_with("37 91\r\n50 120\r\n"), "{}", user.shown());
}

#[tokio::test]
async fn a_login_shell_takes_what_is_typed_and_its_exit_status_comes_back() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (mut user, sitting) = sit_down(&session, None, Some("dumb"));
    let (status, ()) = tokio::join!(sitting, async {
        user.types("shopt -q login_shell && echo $((40 + 2)) is a login''shell\n").await;
        user.sees("42 is a loginshell\r\n").await;
        // Ctrl-C ends the command, not the shell.
        user.types("echo be''gun; sleep 1000\n").await;
        user.sees("begun\r\n").await;
        user.types("\x03").await;
        user.types("exit 7\n").await;
    });
    assert_eq!(status.unwrap(), ExitStatus::Code(7));
    assert!(user.shown().contains("login''shell"), "what was typed was not echoed: {}", user.shown());
}

#[tokio::test]
async fn a_shell_by_sudo_is_roots_and_keeps_the_terminal() {
    let sshd = Sshd::start();
    let mut target = sshd.target();
    target.elevate = true;
    let session = SshSession::connect(&target, &CancellationToken::new()).await.unwrap();
    let (mut user, sitting) = sit_down(&session, None, Some("xterm"));
    let (status, ()) = tokio::join!(sitting, async {
        user.types("echo \"<$(id -un) $HOME $TERM $(stty size) $PWD>\"; exit 4\n").await;
    });
    assert_eq!(status.unwrap(), ExitStatus::Code(4));
    assert!(user.shown().contains("<root /root xterm 37 91 /root>"), "{}", user.shown());
    let (user, sitting) = sit_down(&session, Some("echo \"<$(id -un) $HOME $TERM $PWD>\""), Some("xterm"));
    assert_eq!(sitting.await.unwrap(), ExitStatus::Code(0));
    assert!(user.shown().contains("<root /root xterm /root>\r\n"), "{}", user.shown());
}

#[tokio::test]
async fn variables_arrive_where_sshd_lets_them_in() {
    let sshd = Sshd::with_settings("AcceptEnv LC_*");
    let session = sshd.connect().await;
    let (user, sitting) = sit_down(&session, Some("echo \"<$LC_DSIMG|$NOT_ME>\""), Some("dumb"));
    assert!(sitting.await.unwrap().success());
    assert!(user.shown().contains("<let in|>"), "{}", user.shown());
}

#[tokio::test]
async fn without_a_screen_input_and_its_end_reach_the_command() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (mut user, sitting) = sit_down(&session, Some("tty; sort; echo err >&2; exit 5"), None);
    let (status, ()) = tokio::join!(sitting, async {
        user.types("b\na\n").await;
        user.keys = None;
    });
    assert_eq!(status.unwrap(), ExitStatus::Code(5));
    assert!(user.shown().ends_with("not a tty\na\nb\n"), "{}", user.shown());
    let (mut user, sitting) = sit_down(&session, None, None);
    let (status, ()) = tokio::join!(sitting, async {
        user.types("echo piped; exit 6").await;
        user.keys = None;
    });
    assert_eq!(status.unwrap(), ExitStatus::Code(6));
    assert!(user.shown().ends_with("piped\n"), "{}", user.shown());
}

#[tokio::test]
async fn much_is_shown_whole() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (user, sitting) = sit_down(&session, Some("seq 300000"), Some("dumb"));
    assert!(sitting.await.unwrap().success());
    let shown = user.shown();
    assert!(shown.ends_with("\r\n299999\r\n300000\r\n"));
    assert_eq!(shown.lines().filter(|line| line.parse::<u32>().is_ok()).count(), 300_000);
}

#[tokio::test]
async fn a_lost_connection_is_an_error() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (user, sitting) = sit_down(&session, Some("echo begun; sleep 1000"), Some("dumb"));
    let (outcome, ()) = tokio::join!(sitting, async {
        user.sees("begun").await;
        sshd.drop_connections();
    });
    let error = outcome.unwrap_err().to_string();
    assert_eq!(error, "the connection to the machine was lost: the other side closed it");
}

#[tokio::test]
async fn a_killed_server_is_an_error() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (user, sitting) = sit_down(&session, Some("echo begun; sleep 1000"), Some("dumb"));
    let (outcome, ()) = tokio::join!(sitting, async {
        user.sees("begun").await;
        sshd.kill_servers();
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, SessionError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_cancel_ends_it_and_what_runs_in_it_even_while_nothing_is_read() {
    let sshd = Sshd::start();
    let cancel = CancellationToken::new();
    let session = SshSession::connect(&sshd.target(), &cancel).await.unwrap();
    let (mut input, (mut output, _nobody_looks)) = (tokio::io::empty(), duplex(64));
    let (_sizes, size) = watch::channel(SIZE);
    let file = sshd.path("pid");
    let command = format!("echo $$ >{0}.new; mv {0}.new {0}; yes", file.display());
    let terminal = Terminal {
        screen: Some(Screen { term: "dumb".to_owned(), size, modes: Vec::new() }),
        env: BTreeMap::new(),
        input: &mut input,
        output: &mut output,
        errors: &mut tokio::io::sink(),
    };
    let (outcome, cancelled) = tokio::join!(session.interact(Some(&command), terminal), async {
        eventually("the command runs", || file.exists()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
        Instant::now()
    });
    assert!(matches!(outcome, Err(SessionError::Cancelled)), "{outcome:?}");
    assert!(cancelled.elapsed() < Duration::from_secs(2), "{:?}", cancelled.elapsed());
    let pid = std::fs::read_to_string(file).unwrap();
    eventually("the command is gone", || !is_running(&pid)).await;
}

#[tokio::test]
async fn a_user_who_is_gone_is_an_error() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (mut input, (mut output, nobody)) = (tokio::io::empty(), duplex(64));
    drop(nobody);
    let errors = &mut tokio::io::sink();
    let terminal = Terminal { screen: None, env: BTreeMap::new(), input: &mut input, output: &mut output, errors };
    let error = session.interact(Some("echo hello; sleep 1000"), terminal).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot write to the terminal");
}

#[tokio::test]
async fn an_sshd_without_terminals_is_named() {
    let sshd = Sshd::with_settings("PermitTTY no");
    let session = sshd.connect().await;
    let (_user, sitting) = sit_down(&session, None, Some("dumb"));
    let error = sitting.await.unwrap_err().to_string();
    assert_eq!(error, "the connection to the machine was lost: its sshd gives no terminal");
}
