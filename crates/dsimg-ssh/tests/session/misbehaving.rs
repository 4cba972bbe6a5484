//! An ssh server in this process that ends its commands in ways OpenSSH rarely or never does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dsimg_machine::{ExitStatus, RemoteCommand, SessionError};
use dsimg_ssh::{SshSession, SshTarget, TemporaryKey};
use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, VerifiedPublicKey};
use russh::{Channel, ChannelId, Disconnect};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::sshd::exec;

/// What the server does once it has the whole command.
#[derive(Debug, Clone, Copy)]
enum Manner {
    StatusAfterEof,
    CloseWithoutStatus,
    OutputAfterStatus,
    RefuseCommands,
    RefuseChannels,
    Disconnect,
    NeverStart,
}

#[derive(Clone)]
struct Server {
    manner: Manner,
    received: Vec<u8>,
}

impl server::Handler for Server {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), russh::Error> {
        if matches!(self.manner, Manner::RefuseChannels) {
            reply.reject(russh::ChannelOpenFailure::ResourceShortage).await;
        } else {
            reply.accept().await;
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut server::Session,
    ) -> Result<(), russh::Error> {
        match self.manner {
            Manner::RefuseCommands => session.channel_failure(channel),
            _ => session.channel_success(channel),
        }
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut server::Session) -> Result<(), russh::Error> {
        self.received.extend_from_slice(data);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, session: &mut server::Session) -> Result<(), russh::Error> {
        let text = String::from_utf8(std::mem::take(&mut self.received)).unwrap();
        let marker = text.split('\'').find(|word| word.starts_with("dsimg-")).unwrap().to_owned();
        if !matches!(self.manner, Manner::NeverStart) {
            // In two packets, and with something before it that the command did not write.
            session.extended_data(channel, 1, format!("sudo: hello\n{}", &marker[..9]).into_bytes())?;
            session.extended_data(channel, 1, format!("{} 4242\nerr", &marker[9..]).into_bytes())?;
        }
        match self.manner {
            Manner::StatusAfterEof => {
                session.data(channel, "out")?;
                session.eof(channel)?;
                session.exit_status_request(channel, 9)?;
                session.close(channel)
            }
            Manner::OutputAfterStatus => {
                session.exit_status_request(channel, 0)?;
                session.data(channel, "out")?;
                session.eof(channel)?;
                session.close(channel)
            }
            Manner::CloseWithoutStatus => {
                session.data(channel, "out")?;
                session.eof(channel)?;
                session.close(channel)
            }
            Manner::Disconnect => session.disconnect(Disconnect::ByApplication, "going down", "en"),
            Manner::NeverStart => {
                session.extended_data(channel, 1, "sudo: no such thing\n")?;
                session.exit_status_request(channel, 0)?;
                session.close(channel)
            }
            Manner::RefuseCommands | Manner::RefuseChannels => Ok(()),
        }
    }
}

async fn start(manner: Manner) -> (SocketAddr, TemporaryKey) {
    let host_key = TemporaryKey::generate();
    let private = PrivateKey::from_openssh(host_key.private_openssh()).unwrap();
    let config = Arc::new(server::Config { keys: vec![private], ..server::Config::default() });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Server { manner, received: Vec::new() };
            let running = server::run_stream(Arc::clone(&config), stream, server).await.unwrap();
            tokio::spawn(running);
        }
    });
    (address, host_key)
}

async fn run(manner: Manner) -> Result<(ExitStatus, String, String), SessionError> {
    let (address, host_key) = start(manner).await;
    let key = TemporaryKey::generate();
    let target =
        SshTarget { address, user: "root".to_owned(), key, host_key: host_key.public(), elevate: false, via: None };
    let session = SshSession::connect(&target, &CancellationToken::new()).await?;
    let command = RemoteCommand::new(["true"]).with_timeout(Duration::from_secs(20));
    exec(&session, &command).await
}

fn lost(outcome: Result<(ExitStatus, String, String), SessionError>) -> String {
    match outcome {
        Err(SessionError::Lost { why }) => why,
        other => panic!("not taken as a lost connection: {other:?}"),
    }
}

#[tokio::test]
async fn a_status_after_the_end_of_output_counts() {
    let (status, stdout, stderr) = run(Manner::StatusAfterEof).await.unwrap();
    assert_eq!((status, stdout.as_str()), (ExitStatus::Code(9), "out"));
    assert_eq!(stderr, "sudo: hello\nerr", "the marker's line is not the command's output");
}

#[tokio::test]
async fn output_after_the_status_is_not_lost() {
    let (status, stdout, _) = run(Manner::OutputAfterStatus).await.unwrap();
    assert_eq!((status, stdout.as_str()), (ExitStatus::Code(0), "out"));
}

#[tokio::test]
async fn no_status_is_never_a_success() {
    lost(run(Manner::CloseWithoutStatus).await);
}

#[tokio::test]
async fn a_goodbye_is_a_lost_connection_with_its_words() {
    assert_eq!(lost(run(Manner::Disconnect).await), "the other side said: going down");
}

#[tokio::test]
async fn a_command_that_never_started_is_no_success_even_with_status_0() {
    let error = run(Manner::NeverStart).await.unwrap_err().to_string();
    assert_eq!(error, "`true` exited with 0: sudo: no such thing");
}

#[tokio::test]
async fn refusals_are_named() {
    assert_eq!(lost(run(Manner::RefuseCommands).await), "its sshd runs no commands");
    assert_eq!(lost(run(Manner::RefuseChannels).await), "its sshd opened no channel: too many sessions");
}
