//! From an address to a session, and every way that fails.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use dsimg_machine::{RemoteCommand, SessionError};
use dsimg_ssh::{Bastion, NotReady, SshSession, SshTarget, TemporaryKey, wait_until_ready};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::sshd::{Sshd, exec};

fn alive() -> Option<String> {
    None
}

async fn wait(target: &SshTarget, seconds: u64) -> Result<SshSession, NotReady> {
    wait_until_ready(target, Duration::from_secs(seconds), &CancellationToken::new(), &alive).await
}

fn target_at(address: SocketAddr) -> SshTarget {
    let (key, host_key) = (TemporaryKey::generate(), TemporaryKey::generate().public());
    SshTarget { address, user: "debian".to_owned(), key, host_key, elevate: true, via: None }
}

#[tokio::test]
async fn a_machine_that_is_up_gives_a_session() {
    let sshd = Sshd::start();
    let session = wait(&sshd.target(), 20).await.unwrap();
    assert_eq!(exec(&session, &RemoteCommand::new(["echo", "hello"])).await.unwrap().1, "hello\n");
}

#[tokio::test]
async fn another_host_key_is_refused_before_any_login() {
    let sshd = Sshd::start();
    let mut target = sshd.target();
    let expected = TemporaryKey::generate().public();
    target.host_key = expected.clone();
    let Err(NotReady::Session(SessionError::HostKey { expected: told, got })) = wait(&target, 20).await else {
        panic!("the wrong key was taken");
    };
    assert_eq!((told, got), (expected.fingerprint(), sshd.host_key.public().fingerprint()));
    let error = SshSession::connect(&target, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, SessionError::HostKey { .. }), "{error}");
}

#[tokio::test]
async fn a_key_that_is_not_installed_is_tried_again_a_few_times_and_named() {
    let sshd = Sshd::start();
    let mut target = sshd.target();
    target.key = TemporaryKey::generate();
    let error = wait(&target, 5).await.unwrap_err().to_string();
    let expected = format!("no login within 5 s; last seen: login of `{}` refused: ", target.user);
    assert!(error.starts_with(&expected), "{error}");
    assert!((3..=4).contains(&sshd.count()), "{} tries", sshd.count());
}

#[tokio::test]
async fn a_key_that_is_installed_later_is_taken_then() {
    let sshd = Sshd::start();
    let mut target = sshd.target();
    target.key = TemporaryKey::generate();
    let (session, ()) = tokio::join!(wait(&target, 20), async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        std::fs::write(sshd.path("authorized_keys"), target.key.public_openssh()).unwrap();
    });
    session.unwrap();
}

#[tokio::test]
async fn a_closed_port_and_a_silent_one_are_told_apart() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = target_at(listener.local_addr().unwrap());
    // Accepted by the kernel, and never answered: as QEMU's user network does.
    let error = wait(&target, 3).await.unwrap_err().to_string();
    assert_eq!(error, "no login within 3 s; last seen: connected, but no ssh banner within 1 s");
    drop(listener);
    let error = wait(&target, 1).await.unwrap_err().to_string();
    assert_eq!(error, "no login within 1 s; last seen: connection refused");
}

#[tokio::test]
async fn a_port_that_hangs_up_is_named() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = target_at(listener.local_addr().unwrap());
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let error = wait(&target, 1).await.unwrap_err().to_string();
    assert!(error.contains("last seen: the connection was closed before the ssh banner"), "{error}");
}

#[tokio::test]
async fn a_server_that_comes_up_late_is_met_soon_after() {
    let sshd = Sshd::start();
    let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut target = sshd.target();
    let real = std::mem::replace(&mut target.address, front.local_addr().unwrap());
    let up = Instant::now() + Duration::from_secs(3);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = front.accept().await {
            if Instant::now() < up {
                held.push(stream);
                continue;
            }
            let mut server = tokio::net::TcpStream::connect(real).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut server).await });
        }
    });
    wait(&target, 20).await.unwrap();
    assert!(up.elapsed() < Duration::from_secs(3), "{:?} after it was up", up.elapsed());
}

#[tokio::test]
async fn a_death_and_a_cancel_end_the_waiting_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = target_at(listener.local_addr().unwrap());
    let started = Instant::now();
    let died = move || (started.elapsed() > Duration::from_secs(1)).then(|| "QEMU was killed".to_owned());
    let minute = Duration::from_secs(60);
    let error = wait_until_ready(&target, minute, &CancellationToken::new(), &died).await.unwrap_err();
    assert!(matches!(&error, NotReady::Died(why) if why == "QEMU was killed"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));

    let cancel = CancellationToken::new();
    let (outcome, ()) = tokio::join!(wait_until_ready(&target, minute, &cancel, &alive), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    });
    assert!(matches!(outcome, Err(NotReady::Cancelled)));
    assert!(started.elapsed() < Duration::from_secs(3));
}

/// Over one sshd to another.
fn through(bastion: &Sshd, machine: &Sshd) -> SshTarget {
    let (host, port) = (bastion.address.ip().to_string(), bastion.address.port());
    let login = bastion.target();
    let via = Bastion { host, port, user: login.user, key: login.key, host_key: login.host_key };
    SshTarget { via: Some(via), ..machine.target() }
}

#[tokio::test]
async fn a_machine_behind_a_bastion_gives_a_session() {
    let (bastion, machine) = (Sshd::start(), Sshd::start());
    let session = wait(&through(&bastion, &machine), 20).await.unwrap();
    assert_eq!(exec(&session, &RemoteCommand::new(["echo", "hello"])).await.unwrap().1, "hello\n");
    assert_eq!((bastion.count(), machine.count()), (1, 1));
    // Bytes in number, and the way back of both when it ends.
    let much = exec(&session, &RemoteCommand::bash("head -c 3000000 /dev/zero | tr '\\0' x")).await.unwrap().1;
    assert_eq!(much.len(), 3_000_000);
    dsimg_machine::Session::close(Box::new(session)).await.unwrap();
}

#[tokio::test]
async fn a_bastion_is_checked_like_a_machine() {
    let (bastion, machine) = (Sshd::start(), Sshd::start());
    let mut target = through(&bastion, &machine);
    target.via.as_mut().unwrap().host_key = TemporaryKey::generate().public();
    let Err(NotReady::Session(SessionError::HostKey { got, .. })) = wait(&target, 20).await else {
        panic!("the wrong key was taken");
    };
    assert!(got.ends_with("from the bastion 127.0.0.1"), "{got}");
    assert_eq!(machine.count(), 0);

    let mut target = through(&bastion, &machine);
    target.host_key = TemporaryKey::generate().public();
    let Err(NotReady::Session(SessionError::HostKey { got, .. })) = wait(&target, 20).await else {
        panic!("the wrong key was taken");
    };
    assert_eq!(got, machine.host_key.public().fingerprint());
}
