//! Going on where an earlier try stopped, and not where that is wrong.

use std::time::Duration;

use crate::rig::{Rig, cache_name, content, told};
use crate::server::{Reply, Server};

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_behind_what_is_there() {
    let (rig, body) = (Rig::new(), content(1_000_000));
    let served = body.clone();
    let server = Server::start(move |request| {
        let reply = Reply::good(request, &served, "one");
        let length = reply.body.len();
        // Three times broken, each time a little later.
        if request.number < 3 { reply.cut_at(length / 2) } else { reply }
    })
    .await;
    let path = rig.fetch(&server.url("/disk.raw"), &body).await.unwrap();
    assert!(std::fs::read(path).unwrap() == body);
    let starts: Vec<_> = server.requests().iter().map(crate::server::Request::range_start).collect();
    assert_eq!(starts, [None, Some(500_000), Some(750_000), Some(875_000)]);
    assert_eq!(server.requests()[1].headers["if-range"], "\"one\"");
    assert!(rig.said().contains("broken off after 500000 of 1000000 bytes"), "{}", rig.said());
    assert_eq!(rig.downloads(), [cache_name(&body)]);
}

#[tokio::test]
async fn a_later_run_goes_on_after_a_cancelled_one() {
    let (rig, body) = (Rig::new(), content(1_000_000));
    let served = body.clone();
    let server = Server::start(move |request| match request.number {
        0 => Reply::good(request, &served, "one").cut_at(600_000).stalling(Duration::from_secs(30)),
        _ => Reply::good(request, &served, "one"),
    })
    .await;
    let url = server.url("/disk.raw");
    let cancel = rig.run.cancel.clone();
    let (outcome, ()) = tokio::join!(rig.fetch(&url, &body), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
    });
    assert!(matches!(outcome, Err(dsimg_machine::MachineError::Cancelled)));
    let mut next = Rig::new();
    next.cache = rig.cache;
    assert!(std::fs::read(next.fetch(&url, &body).await.unwrap()).unwrap() == body);
    assert_eq!(server.requests()[1].range_start(), Some(600_000));
    assert_eq!(server.requests()[1].headers["if-range"], "\"one\"");
    assert_eq!(next.downloads(), [cache_name(&body)]);
}

#[tokio::test]
async fn a_server_without_ranges_sends_it_all_again() {
    let (rig, body) = (Rig::new(), content(300_000));
    rig.leave_partial(&body, &body[..100_000]);
    let served = body.clone();
    let server = Server::start(move |_| Reply::new(200, &served)).await;
    assert!(std::fs::read(rig.fetch(&server.url("/disk.raw"), &body).await.unwrap()).unwrap() == body);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.requests()[0].range_start(), Some(100_000));
}

#[tokio::test]
async fn a_file_that_changed_between_two_tries_is_started_over() {
    let (rig, old, body) = (Rig::new(), vec![0; 400_000], content(400_000));
    let served = body.clone();
    let server = Server::start(move |request| match request.number {
        0 => Reply::good(request, &old, "old").cut_at(200_000),
        _ => Reply::good(request, &served, "new"),
    })
    .await;
    assert!(std::fs::read(rig.fetch(&server.url("/disk.raw"), &body).await.unwrap()).unwrap() == body);
    assert_eq!(server.requests().len(), 2, "If-Range was not understood");
}

#[tokio::test]
async fn a_changed_file_is_noticed_where_if_range_is_not_looked_at() {
    for (etag, old_length) in [("new", 400_000), ("old", 500_000)] {
        let (rig, old, body) = (Rig::new(), vec![0; old_length], content(400_000));
        let served = body.clone();
        let server = Server::start(move |request| match request.number {
            0 => Reply::good(request, &old, "old").cut_at(200_000),
            _ => {
                let mut request = request.clone();
                request.headers.remove("if-range");
                Reply::good(&request, &served, etag)
            }
        })
        .await;
        assert!(std::fs::read(rig.fetch(&server.url("/disk.raw"), &body).await.unwrap()).unwrap() == body);
        let starts: Vec<_> = server.requests().iter().map(crate::server::Request::range_start).collect();
        assert_eq!(starts, [None, Some(200_000), None], "{etag}");
        assert!(!rig.said().contains("its pieces"), "noticed only at the end: {}", rig.said());
    }
}

#[tokio::test]
async fn pieces_that_make_no_whole_are_downloaded_once_more_in_one() {
    let (rig, body) = (Rig::new(), content(400_000));
    rig.leave_partial(&body, &[7; 150_000]);
    let served = body.clone();
    let server = Server::start(move |request| Reply::good(request, &served, "one")).await;
    assert!(std::fs::read(rig.fetch(&server.url("/disk.raw"), &body).await.unwrap()).unwrap() == body);
    assert_eq!(server.requests().len(), 2);
    assert!(rig.said().contains("its pieces don't belong together"), "{}", rig.said());
}

#[tokio::test]
async fn a_complete_partial_needs_no_byte_more() {
    let (rig, body) = (Rig::new(), content(10_000));
    rig.leave_partial(&body, &body);
    let served = body.clone();
    let server = Server::start(move |request| Reply::good(request, &served, "one")).await;
    rig.fetch(&server.url("/disk.raw"), &body).await.unwrap();
    assert_eq!(server.requests().len(), 1, "416 says that all of it is here");
}

#[tokio::test]
async fn a_partial_longer_than_the_file_is_started_over() {
    let (rig, body) = (Rig::new(), content(10_000));
    rig.leave_partial(&body, &content(20_000));
    let served = body.clone();
    let server = Server::start(move |request| Reply::good(request, &served, "one")).await;
    assert!(std::fs::read(rig.fetch(&server.url("/disk.raw"), &body).await.unwrap()).unwrap() == body);
}

#[tokio::test]
async fn another_mirror_goes_on_with_what_the_first_one_sent() {
    let (rig, body) = (Rig::new(), content(500_000));
    let served = body.clone();
    let first = Server::start(move |request| match request.number {
        0 => Reply::good(request, &served, "one").cut_at(300_000),
        _ => Reply::new(404, b""),
    })
    .await;
    let text = told(&rig.fetch(&first.url("/disk.raw"), &body).await.unwrap_err());
    assert!(text.contains("answers 404 Not Found"), "{text}");
    let served = body.clone();
    let second = Server::start(move |request| Reply::good(request, &served, "other")).await;
    assert!(std::fs::read(rig.fetch(&second.url("/disk.raw"), &body).await.unwrap()).unwrap() == body);
    assert_eq!(second.requests()[0].range_start(), Some(300_000));
    assert_eq!(second.requests()[0].headers.get("if-range"), None, "its ETag is another server's word");
}
