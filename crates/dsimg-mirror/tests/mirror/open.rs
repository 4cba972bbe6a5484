//! Files from outside: into the store and to the guest at once.

use std::time::Duration;

use dsimg_mirror::{FetchedKind, Mirror, MirrorSettings};
use dsimg_plan::Digest;

use crate::client::{ask, get};
use crate::rig::{Rig, content};
use crate::upstream::Fault;

#[tokio::test]
async fn a_file_comes_once_and_then_only_if_it_changed() {
    let (rig, body) = (Rig::new().await, content(3_000_000));
    rig.upstream.put("/other/a", body.clone());
    let mirror = rig.open().await;
    mirror.begin_stage("setup");
    let got = get(mirror.address(), "/file/https/example.org/a?x=1").await;
    assert_eq!((got.status, got.whole, got.body == body), (200, true, true));
    let record = mirror.take_record().await.unwrap();
    assert_eq!(record.len(), 1);
    assert_eq!((record[0].stage.as_str(), record[0].kind), ("setup", FetchedKind::File));
    assert_eq!((record[0].url.as_str(), record[0].size), ("https://example.org/a?x=1", 3_000_000));
    assert_eq!(rig.store.read(&record[0].sha256).unwrap(), body);
    assert_eq!(serde_json::from_str::<Vec<_>>(&serde_json::to_string(&record).unwrap()).ok(), Some(record));
    assert_eq!(rig.upstream.asked(), ["GET /other/a?x=1"]);

    let got = get(mirror.address(), "/file/https/example.org/a?x=1").await;
    assert_eq!((got.body == body, mirror.take_record().await.unwrap().len()), (true, 1));
    let asked = rig.upstream.requests();
    assert!(asked[0].headers.contains_key("if-none-match") && asked[0].headers.contains_key("if-modified-since"));
    rig.upstream.put("/other/a", "new");
    assert_eq!(get(mirror.address(), "/file/https/example.org/a?x=1").await.text(), "new");
    mirror.stop().await.unwrap();
}

#[tokio::test]
async fn another_mirror_is_not_asked_by_what_the_first_one_had() {
    let rig = Rig::new().await;
    rig.upstream.put("/other/a", "of the first");
    rig.upstream.put("/elsewhere/a", "of the second");
    let mirror = rig.open().await;
    assert_eq!(get(mirror.address(), "/file/https/example.org/a").await.text(), "of the first");
    mirror.stop().await.unwrap();
    rig.upstream.requests();

    let rewrites = vec![("https://example.org".to_owned(), rig.upstream.url("/elsewhere"))];
    let mirror = Mirror::start(MirrorSettings { rewrites, ..rig.settings() }).await.unwrap();
    assert_eq!(get(mirror.address(), "/file/https/example.org/a").await.text(), "of the second");
    let asked = rig.upstream.requests();
    assert!(!asked[0].headers.contains_key("if-none-match") && !asked[0].headers.contains_key("if-modified-since"));
    mirror.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_store_knows_is_given_offline_and_other_things_are_named() {
    let rig = Rig::new().await;
    rig.upstream.put("/other/a", "a");
    let mirror = rig.open().await;
    get(mirror.address(), "/file/https/example.org/a").await;
    mirror.take_record().await.unwrap();
    mirror.stop().await.unwrap();
    rig.upstream.asked();
    let mirror = dsimg_mirror::Mirror::start(MirrorSettings { offline: true, ..rig.settings() }).await.unwrap();
    assert_eq!(get(mirror.address(), "/file/https/example.org/a").await.text(), "a");
    let got = get(mirror.address(), "/file/https/example.org/b").await;
    assert_eq!(
        (got.status, got.reason.as_str()),
        (503, "https://example.org/b is not in the package store, and this build is offline")
    );
    assert!(rig.upstream.asked().is_empty());
}

#[tokio::test]
async fn two_guests_share_one_download() {
    let (rig, body) = (Rig::new().await, content(2_000_000));
    rig.upstream.put("/other/a", body.clone());
    rig.upstream.fault("/other/a", Fault::Slow(Duration::from_millis(300)));
    let mirror = rig.open().await;
    let url = "/file/https/example.org/a";
    let (one, two, part) = tokio::join!(
        get(mirror.address(), url),
        get(mirror.address(), url),
        ask(mirror.address(), "GET", url, &[("Range", "bytes=1999990-")])
    );
    assert!(one.body == body && two.body == body);
    assert_eq!((part.status, part.body.as_slice()), (206, &body[1_999_990..]));
    assert_eq!(part.headers["content-range"], "bytes 1999990-1999999/2000000");
    assert_eq!(rig.upstream.asked().len(), 1);
}

#[tokio::test]
async fn what_breaks_off_is_gone_on_with() {
    let (rig, body) = (Rig::new().await, content(1_000_000));
    rig.upstream.put("/other/a", body.clone());
    rig.upstream.fault("/other/a", Fault::CutAt(400_000));
    rig.upstream.fault("/other/a", Fault::Status(503));
    let mirror = rig.open().await;
    let got = get(mirror.address(), "/file/https/example.org/a").await;
    assert_eq!((got.status, got.whole, got.body == body), (200, true, true));
    let asked = rig.upstream.requests();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[2].headers["range"], "bytes=400000-");
    // Without a length, the end of the connection has to be believed.
    rig.upstream.put("/other/b", body.clone());
    rig.upstream.fault("/other/b", Fault::NoLength);
    let got = get(mirror.address(), "/file/https/example.org/b").await;
    assert_eq!((got.whole, got.body == body), (true, true));
}

#[tokio::test]
async fn what_fails_outside_is_told_on_the_status_line() {
    let rig = Rig::new().await;
    let mirror = rig.open().await;
    let host = rig.upstream.address.to_string();
    let got = get(mirror.address(), "/file/https/example.org/none").await;
    assert_eq!((got.status, got.reason), (404, format!("{host} answers 404 Not Found for http://{host}/other/none")));
    rig.upstream.put("/other/a", content(100));
    for _ in 0..3 {
        rig.upstream.fault("/other/a", Fault::Status(500));
    }
    let got = get(mirror.address(), "/file/https/example.org/a").await;
    assert_eq!((got.status, rig.upstream.asked().len()), (502, 4));
    assert!(
        got.reason.contains("answers 500 Internal Server Error") && got.reason.ends_with("(3 tries)"),
        "{}",
        got.reason
    );
    assert!(got.text().contains("hint: check the network"), "{}", got.text());
    for length in [60, 20, 10] {
        rig.upstream.fault("/other/a", Fault::CutAt(length));
    }
    // Each try brought something, so there is a fourth.
    assert_eq!(get(mirror.address(), "/file/https/example.org/a").await.body, content(100));
    rig.upstream.end();
    let got = get(mirror.address(), "/file/https/example.org/other").await;
    assert_eq!(got.status, 502);
    assert!(got.reason.starts_with(&format!("{host}: ")) && got.reason.contains("onnection refused"), "{}", got.reason);
    assert!(mirror.take_record().await.unwrap().iter().all(|file| file.url == "https://example.org/a"));
}

#[tokio::test]
async fn the_mirror_is_no_way_around() {
    let rig = Rig::new().await;
    let mirror = rig.open().await;
    for (method, target, status) in [
        ("CONNECT", "example.org:443", 405),
        ("POST", "/file/https/example.org/a", 405),
        ("GET", "/", 404),
        ("GET", "/file/https/169.254.169.254/latest/meta-data/", 404),
        ("GET", "http://169.254.169.254/latest/meta-data/", 404),
    ] {
        let got = ask(mirror.address(), method, target, &[]).await;
        assert_eq!((got.status, got.text().is_empty()), (status, false), "{method} {target}");
    }
    assert!(rig.upstream.asked().is_empty());
}

#[tokio::test]
async fn a_damaged_blob_is_fetched_anew() {
    let (rig, body) = (Rig::new().await, content(1000));
    rig.upstream.put("/other/a", body.clone());
    let url = "/file/https/example.org/a";
    let mirror = rig.open().await;
    get(mirror.address(), url).await;
    mirror.take_record().await.unwrap();
    mirror.stop().await.unwrap();
    let path = rig.store.find(&Digest::of_bytes(&body)).unwrap();
    std::fs::write(&path, content(1000).iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    let mirror = rig.open().await;
    assert!(get(mirror.address(), url).await.body == body);
    mirror.take_record().await.unwrap();
    rig.store.verified(&Digest::of_bytes(&body)).unwrap();
}

#[tokio::test]
async fn logins_go_to_their_host_and_into_no_record() {
    let rig = Rig::new().await;
    rig.upstream.put("/x/a", "a");
    rig.upstream.put("/x/b", "b");
    let settings = MirrorSettings { rewrites: Vec::new(), ..rig.settings() };
    let mirror = dsimg_mirror::Mirror::start(settings).await.unwrap();
    let host = rig.upstream.address;
    get(mirror.address(), &format!("/file/http/me:s%40cret@{host}/x/a")).await;
    let asked = rig.upstream.requests();
    assert_eq!(asked[0].headers["authorization"], "Basic bWU6c0BjcmV0");
    let record = mirror.take_record().await.unwrap();
    assert_eq!(record[0].url, format!("http://{host}/x/a"));
    let stored = std::fs::read_dir(rig.store.folder().join("urls"))
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    assert!(stored.into_iter().all(|text| !text.contains("cret")));
    // apt sends it as a header.
    let header = [("Authorization", "Basic eDp5")];
    ask(mirror.address(), "GET", &format!("http://{host}/x/b"), &header).await;
    assert_eq!(rig.upstream.requests()[0].headers["authorization"], "Basic eDp5");
}
