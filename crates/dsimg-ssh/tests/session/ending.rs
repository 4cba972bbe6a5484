//! How commands end that do not end by themselves, and what is left of them.

use std::time::{Duration, Instant};

use dsimg_machine::session::NoOutput;
use dsimg_machine::{ExitStatus, RemoteCommand, Session, SessionError};
use dsimg_ssh::SshSession;
use tokio_util::sync::CancellationToken;

use crate::sshd::{Sshd, eventually, exec, is_running};

/// Writes the numbers of three processes that would live long: a child, one with a process group of its own, and one
/// that does not mind SIGTERM. Then waits.
fn stubborn(sshd: &Sshd) -> (RemoteCommand, impl Fn() -> Vec<String>) {
    let file = sshd.path("pids");
    let text = format!(
        "sleep 1000 & echo $! >{0}.new\nset -m; sleep 1000 & echo $! >>{0}.new; set +m\n\
         sh -c 'trap \"\" TERM; echo $$ >>{0}.new; mv {0}.new {0}; while :; do sleep 1; done'",
        file.display()
    );
    let pids = move || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    (RemoteCommand::bash(&text), pids)
}

#[tokio::test]
async fn a_passed_limit_ends_every_process_of_the_command() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (command, pids) = stubborn(&sshd);
    let command = command.with_timeout(Duration::from_secs(2));
    let started = Instant::now();
    let error = exec(&session, &command).await.unwrap_err();
    assert!(matches!(error, SessionError::TimedOut { limit, .. } if limit == Duration::from_secs(2)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert_eq!(pids().len(), 3);
    assert!(pids().iter().all(|pid| !is_running(pid)), "{:?} still run", pids());
    assert!(exec(&session, &RemoteCommand::new(["true"])).await.unwrap().0.success());
}

#[tokio::test]
async fn a_flood_can_be_ended() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let command = RemoteCommand::new(["yes"]).with_timeout(Duration::from_secs(1));
    let error = session.exec(&command, &mut NoOutput).await.unwrap_err();
    assert!(matches!(error, SessionError::TimedOut { .. }), "{error}");
    assert!(exec(&session, &RemoteCommand::new(["true"])).await.unwrap().0.success());
}

#[tokio::test]
async fn a_command_may_clean_up_when_its_time_is_over() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let file = sshd.path("cleaned");
    let text = format!("trap 'echo yes >{}; exit 1' TERM; while :; do sleep 0.1; done", file.display());
    let command = RemoteCommand::bash(&text).with_timeout(Duration::from_secs(1));
    exec(&session, &command).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "yes\n");
}

#[tokio::test]
async fn a_cancel_ends_the_command_at_once() {
    let sshd = Sshd::start();
    let cancel = CancellationToken::new();
    let session = SshSession::connect(&sshd.target(), &cancel).await.unwrap();
    let (command, pids) = stubborn(&sshd);
    let later = cancel.clone();
    let (outcome, cancelled) = tokio::join!(exec(&session, &command), async {
        eventually("three processes run", || pids().len() == 3).await;
        later.cancel();
        Instant::now()
    });
    assert!(matches!(outcome, Err(SessionError::Cancelled)));
    assert!(cancelled.elapsed() < Duration::from_secs(4), "{:?}", cancelled.elapsed());
    assert!(pids().iter().all(|pid| !is_running(pid)), "{:?} still run", pids());
    let next = exec(&session, &RemoteCommand::new(["true"])).await;
    assert!(matches!(next, Err(SessionError::Cancelled)));
}

#[tokio::test]
async fn a_command_that_is_dropped_is_ended() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (command, pids) = stubborn(&sshd);
    tokio::select! {
        outcome = exec(&session, &command) => panic!("it ended by itself: {outcome:?}"),
        () = eventually("three processes run", || pids().len() == 3) => {}
    }
    eventually("the processes are gone", || pids().iter().all(|pid| !is_running(pid))).await;
}

#[tokio::test]
async fn a_process_left_in_the_background_is_not_waited_for() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let started = Instant::now();
    let (status, stdout, _) = exec(&session, &RemoteCommand::bash("sleep 30 & echo $!; exit 5")).await.unwrap();
    assert_eq!(status, ExitStatus::Code(5));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(is_running(&stdout), "it was not meant to be ended");
    exec(&session, &RemoteCommand::bash(&format!("kill {stdout}"))).await.unwrap();
}

#[tokio::test]
async fn a_dropped_connection_is_never_a_success() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let command = RemoteCommand::bash("echo started; sleep 5");
    let (outcome, ()) = tokio::join!(exec(&session, &command), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sshd.drop_connections();
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, SessionError::Lost { .. }), "{error}");
    let error = exec(&session, &RemoteCommand::new(["true"])).await.unwrap_err();
    assert!(matches!(error, SessionError::Lost { .. }), "{error}");
}
