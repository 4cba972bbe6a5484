//! Single requests, read as they come.

use std::time::Duration;

use dsimg_download::{Access, Question};

use crate::rig::content;
use crate::server::{Reply, Server};

#[tokio::test]
async fn an_answer_of_any_status_is_read_piece_by_piece() {
    let body = content(300_000);
    let served = body.clone();
    let server = Server::start(move |request| match request.target.as_str() {
        "/old" => Reply::new(302, b"").header("Location", "/file"),
        "/file" => Reply::good(request, &served, "one").header("Content-Type", "text/x"),
        _ => Reply::new(404, b"no").header("Retry-After", "7"),
    })
    .await;
    let door = Access::default().door().await.unwrap();
    let url = server.url("/old").replace("http://", "http://me:secret@");
    let question = Question { url: &url, headers: vec![("range", "bytes=100-".to_owned())], head: false };
    let mut answer = door.ask(&question).await.unwrap();
    assert_eq!((answer.status(), answer.length(), answer.header("content-type")), (206, Some(299_900), Some("text/x")));
    assert_eq!(answer.url(), server.url("/file"));
    let mut read = Vec::new();
    while let Some(piece) = answer.chunk().await.unwrap() {
        read.extend_from_slice(&piece);
    }
    assert!(read == body[100..]);
    let none = server.url("/none");
    let answer = door.ask(&Question { url: &none, ..Question::default() }).await.unwrap();
    assert_eq!(
        (answer.status(), answer.reason(), answer.retry_after()),
        (404, "Not Found", Some(Duration::from_secs(7)))
    );
}

#[tokio::test]
async fn trouble_is_told_in_words_and_says_whether_to_try_again() {
    let server = Server::start(|_| Reply::new(200, &content(1000)).cut_at(10)).await;
    let access = Access { stall_limit: Duration::from_millis(200), ..Access::default() };
    let door = access.door().await.unwrap();
    let url = server.url("/cut");
    let mut answer = door.ask(&Question { url: &url, ..Question::default() }).await.unwrap();
    let trouble = loop {
        match answer.chunk().await {
            Ok(piece) => assert!(piece.is_some(), "an end that is none"),
            Err(trouble) => break trouble,
        }
    };
    assert!(trouble.passing && !trouble.why.is_empty(), "{trouble:?}");
    let trouble =
        door.ask(&Question { url: "http://me:secret@nowhere.invalid/", ..Question::default() }).await.unwrap_err();
    assert!(trouble.passing && !trouble.why.contains("secret"), "{trouble:?}");
    let trouble = door.ask(&Question { url: "no address", ..Question::default() }).await.unwrap_err();
    assert!(!trouble.passing && trouble.hint.is_some(), "{trouble:?}");
}
