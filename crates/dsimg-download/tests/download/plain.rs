//! The good days.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dsimg_download::{Access, Download, Expected, SmallRequest, expected_digest, fetch, fetch_bytes};
use dsimg_machine::{Event, MachineError};
use dsimg_template::template::{Checksum, Location};

use crate::rig::{Rig, cache_name, content, sha256, told};
use crate::server::{Reply, Server};

#[tokio::test]
async fn a_file_is_downloaded_once_and_named_by_its_digest() {
    let (rig, body) = (Rig::new(), content(3_000_000));
    let served = body.clone();
    let server = Server::start(move |request| Reply::good(request, &served, "one")).await;
    let path = rig.fetch(&server.url("/disk.raw"), &body).await.unwrap();
    assert_eq!(path, rig.cache.path().join("downloads").join(cache_name(&body)));
    assert!(std::fs::read(&path).unwrap() == body);
    assert_eq!(rig.fetch("http://nobody.invalid/other-place", &body).await.unwrap(), path);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(rig.downloads(), [cache_name(&body)], "something was left beside it");
}

#[tokio::test]
async fn progress_is_told_from_start_to_end() {
    let (rig, body) = (Rig::new(), content(3_000_000));
    let served = body.clone();
    let server = Server::start(move |request| Reply::good(request, &served, "one")).await;
    rig.fetch(&server.url("/disk.raw?x=/y"), &body).await.unwrap();
    let events = rig.events();
    let what = || "disk.raw".to_owned();
    let (first, last) = (events.first().unwrap(), events.last().unwrap());
    assert_eq!(*first, Event::Progress { what: what(), done: 0, total: Some(3_000_000) });
    assert!(events.contains(&Event::Progress { what: what(), done: 3_000_000, total: Some(3_000_000) }));
    assert_eq!(*last, Event::ProgressEnded { what: what() });
}

#[tokio::test]
async fn sha512_and_answers_without_a_length_work() {
    let (rig, body) = (Rig::new(), b"hello\n".to_vec());
    let server = Server::start(|_| Reply { endless: true, ..Reply::new(200, b"hello\n") }).await;
    let expected = Expected::Sha512(
        "e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931\
         f94aae41edda2c2b207a36e10f8bcb8d45223e54878f5b316e7ce3b6bc019629"
            .to_owned(),
    );
    let location = Location::Url(server.url("/hello"));
    let request = Download { location, expected: expected.clone(), access: Access::default() };
    let path = fetch(&request, rig.cache.path(), &rig.run).await.unwrap();
    assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("sha512-{}", expected.hex()));
    assert_eq!(std::fs::read(path).unwrap(), body);
}

#[tokio::test]
async fn a_file_on_this_host_is_checked_where_it_is() {
    let (rig, body) = (Rig::new(), content(100_000));
    let path = rig.cache.path().join("local.qcow2");
    std::fs::write(&path, &body).unwrap();
    let request = |expected| Download { location: Location::Path(path.clone()), expected, access: Access::default() };
    assert_eq!(fetch(&request(sha256(&body)), rig.cache.path(), &rig.run).await.unwrap(), path);
    let error = fetch(&request(sha256(b"other")), rig.cache.path(), &rig.run).await.unwrap_err();
    let text = told(&error);
    assert!(text.contains("local.qcow2` is not the file that was expected (it was left as it is)"), "{text}");
    assert!(text.contains(sha256(b"other").hex()) && text.contains(sha256(&body).hex()), "{text}");
    assert!(path.exists());
    let missing = Location::Path(rig.cache.path().join("missing"));
    let request = Download { location: missing, expected: sha256(b""), access: Access::default() };
    let error = fetch(&request, rig.cache.path(), &rig.run).await.unwrap_err();
    assert!(matches!(error, MachineError::File { action: "cannot read", .. }));
}

#[tokio::test]
async fn redirects_are_followed() {
    let (rig, body) = (Rig::new(), content(1000));
    let served = body.clone();
    let server = Server::start(move |request| match request.target.as_str() {
        "/latest" => Reply::new(302, b"").header("Location", "/2026/disk.raw"),
        _ => Reply::good(request, &served, "one"),
    })
    .await;
    rig.fetch(&server.url("/latest"), &body).await.unwrap();
    let round = Server::start(|_| Reply::new(302, b"").header("Location", "/again")).await;
    let text = told(&rig.fetch(&round.url("/again"), b"else").await.unwrap_err());
    assert!(text.contains("more than 10 redirects"), "{text}");
}

#[tokio::test]
async fn builds_that_want_the_same_file_download_it_once() {
    let (rig, body) = (Rig::new(), content(200_000));
    let (served, asked) = (body.clone(), std::sync::Arc::new(AtomicUsize::new(0)));
    let counter = std::sync::Arc::clone(&asked);
    let server = Server::start(move |request| {
        counter.fetch_add(1, Ordering::SeqCst);
        Reply::good(request, &served, "one").stalling(Duration::from_secs(1))
    })
    .await;
    let url = server.url("/disk.raw");
    let (one, two, three) = tokio::join!(rig.fetch(&url, &body), rig.fetch(&url, &body), rig.fetch(&url, &body));
    assert_eq!(one.unwrap(), two.unwrap());
    three.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(rig.said().matches("waiting for another build that downloads `http://").count(), 2, "{}", rig.said());
}

#[tokio::test]
async fn who_waits_for_a_download_that_fails_takes_it_over() {
    let (rig, body) = (Rig::new(), content(50_000));
    let served = body.clone();
    // The first gets rubbish, the second what it wants.
    let server = Server::start(move |request| match request.number {
        0 => Reply::new(200, b"rubbish").stalling(Duration::from_millis(500)),
        _ => Reply::good(request, &served, "one"),
    })
    .await;
    let url = server.url("/disk.raw");
    let (one, two) = tokio::join!(rig.fetch(&url, &body), rig.fetch(&url, &body));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    assert_eq!(rig.downloads(), [cache_name(&body)]);
}

#[tokio::test]
async fn a_checksum_file_gives_the_digest_of_the_file_beside_it() {
    let rig = Rig::new();
    let digest = "a".repeat(64);
    let text = format!("{digest}  disk.qcow2\n{}  other.qcow2\n", "b".repeat(64));
    let server = Server::start(move |_| Reply::new(200, text.as_bytes())).await;
    let sums = || Checksum::File(Location::Url(server.url("/SHA256SUMS")));
    let of = |name: &str| Location::Url(format!("https://example.org/{name}"));
    let access = Access::default();
    let found = expected_digest(&sums(), &of("disk.qcow2"), &access, &rig.run).await.unwrap();
    assert_eq!(found, Expected::Sha256(digest.clone()));
    let error = expected_digest(&sums(), &of("none.qcow2"), &access, &rig.run).await.unwrap_err();
    assert!(told(&error).contains("has no sha256 or sha512 for `none.qcow2`"), "{}", told(&error));
    let written = Checksum::Sha256(digest.clone());
    assert_eq!(expected_digest(&written, &of("x"), &access, &rig.run).await.unwrap().hex(), digest);
}

#[tokio::test]
async fn small_things_are_read_whole_or_refused() {
    let rig = Rig::new();
    let server = Server::start(|request| match request.target.as_str() {
        "/old/" => Reply::new(301, b"").header("Location", "/new/"),
        _ => Reply::new(200, b"{}").header("Content-Type", "Application/JSON; charset=utf-8"),
    })
    .await;
    let location = Location::Url(server.url("/old/"));
    let request = SmallRequest { location, accept: Some("application/json"), access: Access::default() };
    let small = fetch_bytes(&request, 2, &rig.run).await.unwrap();
    assert_eq!((small.bytes.as_slice(), small.media_type.as_str()), (&b"{}"[..], "application/json"));
    assert_eq!(small.url, server.url("/new/"));
    assert_eq!(server.requests()[0].headers["accept"], "application/json");
    let error = fetch_bytes(&request, 1, &rig.run).await.unwrap_err();
    assert!(told(&error).contains("larger than 1 bytes"), "{}", told(&error));
    let path = rig.cache.path().join("sums");
    std::fs::write(&path, "12345").unwrap();
    let request = SmallRequest { location: Location::Path(path), ..request };
    assert_eq!(fetch_bytes(&request, 5, &rig.run).await.unwrap().bytes, b"12345");
    fetch_bytes(&request, 4, &rig.run).await.unwrap_err();
}

#[tokio::test]
async fn a_proxy_is_asked_for_what_it_is_meant_for() {
    let (rig, body) = (Rig::new(), content(1000));
    let served = body.clone();
    let proxy = Server::start(move |request| Reply::good(request, &served, "one")).await;
    let access = Access { http_proxy: Some(format!("http://me:secret@{}", proxy.address)), ..Access::default() };
    rig.fetch_with("http://mirror.example.org/disk.raw", &body, access.clone()).await.unwrap();
    let asked = &proxy.requests()[0];
    assert_eq!(asked.target, "http://mirror.example.org/disk.raw");
    assert_eq!(asked.headers["proxy-authorization"], "Basic bWU6c2VjcmV0");

    let direct = Server::start(|_| Reply::new(200, b"direct")).await;
    let access = Access { no_proxy: vec!["127.0.0.1".to_owned()], ..access };
    rig.fetch_with(&direct.url("/x"), b"direct", access).await.unwrap();
    assert_eq!(proxy.requests().len(), 1);
}

#[test]
fn the_environment_s_proxies_count_where_the_template_names_none() {
    let environment = dsimg_download::ProxyEnvironment {
        http: Some(String::new()),
        https: Some("http://secure.example.org:1".to_owned()),
        all: Some("http://all.example.org:2".to_owned()),
        no: Some("localhost, .corp.example,".to_owned()),
    };
    let filled = Access::default().or_environment(&environment);
    assert_eq!(filled.http_proxy.as_deref(), Some("http://all.example.org:2"));
    assert_eq!(filled.https_proxy.as_deref(), Some("http://secure.example.org:1"));
    assert_eq!(filled.no_proxy, ["localhost", ".corp.example"]);
    let named = Access { http_proxy: Some("http://mine.example.org:3".to_owned()), ..Access::default() };
    assert_eq!(named.clone().or_environment(&environment), named);
}
