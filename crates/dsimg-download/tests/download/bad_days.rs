//! Servers that fail, stall, lie or refuse.

use std::time::{Duration, Instant};

use dsimg_download::Access;
use dsimg_machine::MachineError;

use crate::rig::{Rig, content, sha256, told};
use crate::server::{Reply, Server};

#[tokio::test]
async fn a_wrong_file_is_refused_in_words_and_removed() {
    let rig = Rig::new();
    let server = Server::start(|_| Reply::new(200, b"something else")).await;
    let url = server.url("/disk.raw");
    let error = rig.fetch(&url, b"what was asked for").await.unwrap_err();
    assert!(matches!(error, MachineError::Refused { .. }));
    let expected = format!(
        "`{url}` is not the file that was expected (it was removed again)\n  expected sha256 {}\n  got      sha256 {} \
         (14 bytes)",
        sha256(b"what was asked for").hex(),
        sha256(b"something else").hex()
    );
    assert_eq!(error.to_string(), expected);
    assert!(rig.downloads().is_empty(), "{:?}", rig.downloads());
    assert_eq!(server.requests().len(), 1, "what came in one piece is not asked for again");
}

#[tokio::test]
async fn errors_that_may_pass_are_tried_again_and_said() {
    let (rig, body) = (Rig::new(), content(1000));
    let served = body.clone();
    let server = Server::start(move |request| match request.number {
        0 => Reply::new(503, b"").header("Retry-After", "2"),
        1 => Reply::new(429, b""),
        _ => Reply::good(request, &served, "one"),
    })
    .await;
    let started = Instant::now();
    rig.fetch(&server.url("/disk.raw"), &body).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(4), "the pauses were not kept");
    let said = rig.said();
    assert!(said.contains("the server answers 503 Service Unavailable; try 2 of 5 in 2 s"), "{said}");
    assert!(said.contains("the server answers 429 Too Many Requests; try 3 of 5 in 2 s"), "{said}");
}

#[tokio::test]
async fn a_server_that_never_recovers_is_given_up() {
    let rig = Rig::new();
    let server = Server::start(|_| Reply::new(500, b"").header("Retry-After", "0")).await;
    let error = rig.fetch(&server.url("/disk.raw"), b"x").await.unwrap_err();
    assert!(matches!(error, MachineError::TryAgain { .. }));
    let text = told(&error);
    assert!(text.contains("5 tries failed, the last: the server answers 500 Internal Server Error"), "{text}");
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn refusals_are_not_tried_again() {
    let rig = Rig::new();
    for (status, words) in [(404, "answers 404 Not Found"), (403, "answers 403 Forbidden"), (407, "answers 407 Proxy")]
    {
        let server = Server::start(move |_| Reply::new(status, b"")).await;
        let error = rig.fetch(&server.url("/disk.raw"), b"x").await.unwrap_err();
        assert!(matches!(error, MachineError::Refused { .. }) && error.to_string().contains(words), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
    let error = rig.fetch("http://[broken", b"x").await.unwrap_err();
    assert!(matches!(error, MachineError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_always_ends_early_is_given_up_with_its_lengths() {
    let (rig, body) = (Rig::new(), content(5000));
    let served = body.clone();
    let server = Server::start(move |_| Reply::new(200, &served).cut_at(1000)).await;
    let text = told(&rig.fetch(&server.url("/disk.raw"), &body).await.unwrap_err());
    assert!(text.contains("broken off after 1000 of 5000 bytes"), "{text}");
    // What came is kept for the next run.
    assert_eq!(rig.downloads().len(), 2, "{:?}", rig.downloads());
}

#[tokio::test]
async fn a_server_that_stalls_is_left_and_asked_again() {
    let (rig, body) = (Rig::new(), content(2000));
    let served = body.clone();
    let server = Server::start(move |request| {
        let reply = Reply::good(request, &served, "one");
        if request.number == 0 { reply.cut_at(500).stalling(Duration::from_secs(30)) } else { reply }
    })
    .await;
    let access = Access { stall_limit: Duration::from_secs(1), ..Access::default() };
    let started = Instant::now();
    rig.fetch_with(&server.url("/disk.raw"), &body, access).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(rig.said().contains("broken off after 500 of 2000 bytes: nothing more came"), "{}", rig.said());
}

#[tokio::test]
async fn a_cancel_ends_a_stalled_download_at_once() {
    let rig = Rig::new();
    let server = Server::start(|_| Reply::new(200, &[0; 100]).cut_at(50).stalling(Duration::from_secs(30))).await;
    let cancel = rig.run.cancel.clone();
    let started = Instant::now();
    let url = server.url("/disk.raw");
    let (outcome, ()) = tokio::join!(rig.fetch(&url, b"x"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    });
    assert!(matches!(outcome, Err(MachineError::Cancelled)));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_file_larger_than_the_disk_is_refused_before_it_is_written() {
    let rig = Rig::new();
    let server = Server::start(|_| {
        let mut reply = Reply::new(200, b"beginning");
        reply.claimed = Some(1 << 60);
        reply
    })
    .await;
    let error = rig.fetch(&server.url("/disk.raw"), b"x").await.unwrap_err();
    assert!(matches!(error, MachineError::HostNotReady { .. }), "{error}");
    assert!(error.to_string().contains("a download needs 1152921504606846976 more"), "{error}");
}

#[tokio::test]
async fn a_refused_connection_is_told_without_the_password() {
    let rig = Rig::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let text = told(&rig.fetch(&format!("http://me:hunter2@{address}/x"), b"x").await.unwrap_err());
    assert!(text.contains("Connection refused"), "{text}");
    assert!(text.contains("http://***@") && !format!("{text}{}", rig.said()).contains("hunter2"), "{text}");
}
