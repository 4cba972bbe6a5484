//! A shell or a command with the user at its other end: keys in, what they show out, until it ends.

use std::convert::Infallible;
use std::time::Duration;

use dsimg_machine::{ExitStatus, Screen, ScreenSize, SessionError, Terminal};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty, client};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::command::{quote, title};
use crate::connect::Link;
use crate::exec::{DRAIN_LIMIT, DRAIN_PAUSE, ROUND_TRIP_LIMIT, signal_text};

const PTY_LIMIT: Duration = Duration::from_secs(30);
const CHUNK: usize = 16 << 10;

/// See [`dsimg_machine::Session::interact`]. When this is dropped, so should the link be: then sshd hangs up.
pub(crate) async fn interact(
    link: &Link,
    command: Option<&str>,
    elevate: bool,
    terminal: Terminal<'_>,
) -> Result<ExitStatus, SessionError> {
    let request = request(command, elevate)?;
    let (mut read, write) = link.open_channel().await?.split();
    for (name, value) in &terminal.env {
        // Without an answer: what sshd does not let in is left out, as with ssh.
        write.set_env(false, name.as_str(), value.as_str()).await.map_err(|_| link.lost())?;
    }
    let Terminal { screen, input, output, errors, .. } = terminal;
    let sizes = match screen {
        None => None,
        Some(screen) => Some(open_terminal(link, &mut read, &write, screen).await?),
    };
    match request {
        None => write.request_shell(true).await,
        Some(line) => write.exec(true, line.as_str()).await,
    }
    .map_err(|_| link.lost())?;
    // Side by side: a screen that takes nothing more must not keep the keys from the guest.
    tokio::select! {
        status = receive(link, read, output, errors) => status,
        failure = send(&write, input) => Err(failure),
        never = resize(&write, sizes) => match never {},
    }
}

/// What sshd is asked to run: `None` is the login's own shell.
fn request(command: Option<&str>, elevate: bool) -> Result<Option<String>, SessionError> {
    let Some(command) = command else {
        return Ok(elevate.then(|| "exec sudo -n -i".to_owned()));
    };
    if command.contains('\0') {
        let why = "a NUL byte can't be passed to a program".to_owned();
        return Err(SessionError::InvalidCommand { command: title(&[command.to_owned()]), why });
    }
    // `sudo -i COMMAND` would join and escape words, and lose line ends on the way.
    let sudo = if elevate { "sudo -n -H -- " } else { "" };
    Ok(Some(format!("exec {sudo}bash -l -c {}", quote(&format!("cd; {command}")))))
}

/// Returns what the terminal's size will be.
async fn open_terminal(
    link: &Link,
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<client::Msg>,
    mut screen: Screen,
) -> Result<watch::Receiver<ScreenSize>, SessionError> {
    let size = *screen.size.borrow_and_update();
    let modes: Vec<_> = screen.modes.iter().filter_map(|(code, value)| Some((Pty::from_u8(*code)?, *value))).collect();
    let asked = write.request_pty(true, &screen.term, size.columns, size.rows, 0, 0, &modes).await;
    asked.map_err(|_| link.lost())?;
    let answer = async {
        loop {
            match read.wait().await {
                Some(ChannelMsg::Success) => return Ok(()),
                Some(ChannelMsg::Failure) => {
                    return Err(SessionError::Lost { why: "its sshd gives no terminal".to_owned() });
                }
                None | Some(ChannelMsg::Close) => return Err(link.lost()),
                Some(_) => {}
            }
        }
    };
    match timeout(PTY_LIMIT, answer).await {
        Ok(answer) => answer.map(|()| screen.size),
        Err(_) => {
            Err(SessionError::Lost { why: format!("its sshd gave no terminal within {} s", PTY_LIMIT.as_secs()) })
        }
    }
}

/// Shows what comes until the command has ended and its last words are there.
async fn receive(
    link: &Link,
    mut read: ChannelReadHalf,
    output: &mut (dyn AsyncWrite + Send + Unpin),
    errors: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<ExitStatus, SessionError> {
    let status = loop {
        match read.wait().await {
            None | Some(ChannelMsg::Close) => return Err(link.lost()),
            Some(ChannelMsg::Failure) => {
                return Err(SessionError::Lost { why: "its sshd runs no commands".to_owned() });
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => break ExitStatus::Code(exit_status),
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => break ExitStatus::Signal(signal_text(signal_name)),
            Some(message) => show(message, output, errors).await?,
        }
    };
    // As for any command: what it left running may hold its output for ever.
    let until = Instant::now() + DRAIN_LIMIT;
    let mut asked = false;
    while Instant::now() < until {
        match timeout(DRAIN_PAUSE, read.wait()).await {
            Ok(None | Some(ChannelMsg::Close)) => break,
            Ok(Some(message)) => {
                asked &= !matches!(message, ChannelMsg::Data { .. } | ChannelMsg::ExtendedData { .. });
                show(message, output, errors).await?;
            }
            Err(_) if asked => break,
            Err(_) => {
                link.round_trip(ROUND_TRIP_LIMIT).await;
                asked = true;
            }
        }
    }
    Ok(status)
}

async fn show(
    message: ChannelMsg,
    output: &mut (dyn AsyncWrite + Send + Unpin),
    errors: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<(), SessionError> {
    match message {
        ChannelMsg::Data { data } => put(output, &data).await,
        ChannelMsg::ExtendedData { data, ext: 1 } => put(errors, &data).await,
        _ => Ok(()),
    }
    .map_err(|source| SessionError::Terminal { action: "cannot write to the terminal", source })
}

async fn put(to: &mut (dyn AsyncWrite + Send + Unpin), data: &[u8]) -> std::io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

/// Sends all input and its end, then waits to be dropped; returns only when the input fails.
async fn send(write: &ChannelWriteHalf<client::Msg>, input: &mut (dyn AsyncRead + Send + Unpin)) -> SessionError {
    let mut buffer = vec![0; CHUNK];
    loop {
        match input.read(&mut buffer).await {
            Ok(0) => break,
            // A command may end without reading its stdin; what became of it is heard on the other side.
            Ok(length) => {
                let _command_gone = write.data_bytes(buffer[..length].to_vec()).await;
            }
            Err(source) => return SessionError::Terminal { action: "cannot read from the terminal", source },
        }
    }
    let _command_gone = write.eof().await;
    std::future::pending().await
}

/// Tells the guest of every new size.
async fn resize(write: &ChannelWriteHalf<client::Msg>, sizes: Option<watch::Receiver<ScreenSize>>) -> Infallible {
    if let Some(mut sizes) = sizes {
        while sizes.changed().await.is_ok() {
            let size = *sizes.borrow_and_update();
            let _command_gone = write.window_change(size.columns, size.rows, 0, 0).await;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_and_a_command_are_roots() {
        assert_eq!(request(None, false).unwrap(), None);
        assert_eq!(request(None, true).unwrap().unwrap(), "exec sudo -n -i");
        assert_eq!(request(Some("echo 'a'"), false).unwrap().unwrap(), r"exec bash -l -c 'cd; echo '\''a'\'''");
        assert_eq!(request(Some("ls\npwd"), true).unwrap().unwrap(), "exec sudo -n -H -- bash -l -c 'cd; ls\npwd'");
        assert!(request(Some("a\0b"), true).is_err());
    }
}
