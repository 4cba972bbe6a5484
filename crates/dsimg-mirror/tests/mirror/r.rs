//! A CRAN-like tree that moves on, asked as R asks.

use std::io::Write;

use dsimg_manifest::lock::{Lock, RPackage};
use dsimg_mirror::{FetchedKind, Mirror, MirrorSettings};
use dsimg_plan::Digest;

use crate::client::get;
use crate::rig::{Rig, artifact, empty_lock, of_kind};
use crate::upstream::Upstream;

const REPOSITORY: &str = "/cran/https/cran.example.org/src/contrib";

/// The current versions; what was there before is in the archive then.
fn publish(upstream: &Upstream, toys: &[(&str, &str)]) {
    upstream.with(|state| {
        let old: Vec<_> = state
            .files
            .keys()
            .filter(|path| path.starts_with("/cran/") && path.ends_with(".tar.gz"))
            .cloned()
            .collect();
        for path in old {
            let bytes = state.files.remove(&path).unwrap();
            let file = path.rsplit('/').next().unwrap();
            let name = file.split('_').next().unwrap();
            state.files.insert(format!("/cran/src/contrib/Archive/{name}/{file}"), bytes);
        }
    });
    let mut index = String::new();
    for (name, version) in toys {
        upstream.put(&format!("/cran/src/contrib/{name}_{version}.tar.gz"), package(name, version));
        index.push_str(&format!("Package: {name}\nVersion: {version}\nLicense: MIT\n\n"));
    }
    upstream.put("/cran/src/contrib/PACKAGES.gz", gzip(index.as_bytes()));
    upstream.put("/cran/src/contrib/PACKAGES", index);
}

fn package(name: &str, version: &str) -> Vec<u8> {
    let description =
        format!("Package: {name}\nVersion: {version}\nImports: methods,\n  utils\nLicense: MIT\nTitle: Toy\n");
    let mut archive = tar::Builder::new(Vec::new());
    let nested = "Package: inner\nVersion: 9\n".to_owned();
    for (path, text) in [(format!("{name}/tests/x/DESCRIPTION"), nested), (format!("{name}/DESCRIPTION"), description)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    gzip(&archive.into_inner().unwrap())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> String {
    std::io::read_to_string(flate2::read::GzDecoder::new(bytes)).unwrap()
}

async fn lock_before(rig: &Rig) -> Lock {
    publish(&rig.upstream, &[("toy", "1.0"), ("other", "1.0")]);
    let mirror = rig.open().await;
    mirror.begin_stage("r");
    assert_eq!(get(mirror.address(), &format!("{REPOSITORY}/PACKAGES.rds")).await.status, 404);
    let index = get(mirror.address(), &format!("{REPOSITORY}/PACKAGES.gz")).await;
    assert!(gunzip(&index.body).starts_with("Package: toy\n"));
    assert_eq!(get(mirror.address(), &format!("{REPOSITORY}/toy_1.0.tar.gz")).await.body, package("toy", "1.0"));
    let fetched = mirror.take_record().await.unwrap();
    assert_eq!(of_kind(&fetched, FetchedKind::RIndex)[0].repository, "https://cran.example.org");
    let packages = of_kind(&fetched, FetchedKind::RPackage).into_iter().map(|file| RPackage {
        name: file.name.clone(),
        version: file.version.clone(),
        location: "/usr/local/lib/R/site-library".into(),
        requested: true,
        stage: file.stage.clone(),
        passing: false,
        repository: file.repository.clone(),
        commit: None,
        licence: None,
        artifact: Some(artifact(file)),
    });
    let lock = Lock { cran: packages.collect(), ..empty_lock() };
    assert_eq!((lock.cran.len(), lock.cran[0].version.as_str()), (1, "1.0"));
    lock
}

#[tokio::test]
async fn a_lock_gives_what_the_repository_moved_away() {
    let rig = Rig::new().await;
    let lock = lock_before(&rig).await;
    publish(&rig.upstream, &[("toy", "2.0"), ("new", "1.0")]);
    rig.upstream.asked();
    let mirror = rig.locked(&lock).await;
    let entry = "Package: toy\nVersion: 1.0\nImports: methods, utils\nLicense: MIT\n\n";
    assert_eq!(get(mirror.address(), &format!("{REPOSITORY}/PACKAGES")).await.text(), entry);
    assert_eq!(gunzip(&get(mirror.address(), &format!("{REPOSITORY}/PACKAGES.gz")).await.body), entry);
    for path in ["toy_1.0.tar.gz", "Archive/toy/toy_1.0.tar.gz"] {
        assert_eq!(get(mirror.address(), &format!("{REPOSITORY}/{path}")).await.body, package("toy", "1.0"), "{path}");
    }
    let record = mirror.take_record().await.unwrap();
    assert_eq!((record.len(), record[0].url.as_str()), (1, "https://cran.example.org/src/contrib/toy_1.0.tar.gz"));
    assert!(mirror.misses().is_empty());
    assert_eq!(get(mirror.address(), &format!("{REPOSITORY}/new_1.0.tar.gz")).await.status, 404);
    assert_eq!(mirror.misses().len(), 1);
    assert_eq!(get(mirror.address(), "/cran/https/bioc.example.org/src/contrib/PACKAGES").await.text(), "");
    assert!(rig.upstream.asked().is_empty());
}

#[tokio::test]
async fn a_lock_works_offline_and_names_what_is_missing() {
    let rig = Rig::new().await;
    let lock = lock_before(&rig).await;
    rig.upstream.end();
    let mirror = rig.locked_offline(&lock).await;
    assert_eq!(get(mirror.address(), &format!("{REPOSITORY}/toy_1.0.tar.gz")).await.status, 200);
    mirror.stop().await.unwrap();
    let digest = Digest::of_bytes(&package("toy", "1.0"));
    std::fs::write(rig.store.find(&digest).unwrap(), "changed").unwrap();
    let mirror = rig.locked_offline(&lock).await;
    let got = get(mirror.address(), &format!("{REPOSITORY}/toy_1.0.tar.gz")).await;
    assert!(got.reason.contains("toy 1.0 is in the lock") && got.reason.contains(digest.as_str()), "{}", got.reason);
}

#[tokio::test]
async fn what_is_too_young_is_refused() {
    let rig = Rig::new().await;
    publish(&rig.upstream, &[("toy", "1.0")]);
    let path = "/cran/src/contrib/toy_1.0.tar.gz";
    rig.upstream.with(|state| state.modified.insert(path.into(), jiff::Timestamp::now().as_second() - 3 * 86_400));
    let min_age = |days: u64| Some(std::time::Duration::from_secs(days * 86_400));
    let url = format!("{REPOSITORY}/toy_1.0.tar.gz");
    let mirror = Mirror::start(MirrorSettings { min_age: min_age(7), ..rig.settings() }).await.unwrap();
    let got = get(mirror.address(), &url).await;
    assert_eq!(
        (got.status, got.reason.as_str()),
        (403, "R package toy 1.0 is refused: it is 3 days old, and min_age is 7 days")
    );
    assert!(got.text().contains("hint: name an older version"), "{}", got.text());
    let mirror = Mirror::start(MirrorSettings { min_age: min_age(2), ..rig.settings() }).await.unwrap();
    assert_eq!(get(mirror.address(), &url).await.status, 200);
    mirror.take_record().await.unwrap();
    // In the store it is no older.
    let mirror = Mirror::start(MirrorSettings { min_age: min_age(7), ..rig.settings() }).await.unwrap();
    assert_eq!(get(mirror.address(), &url).await.status, 403);
    // What a lock has was looked at when the lock was made.
    let lock = lock_before(&rig).await;
    let pins = Some(crate::rig::pins(&lock));
    let mirror = Mirror::start(MirrorSettings { min_age: min_age(7), pins, ..rig.settings() }).await.unwrap();
    assert_eq!(get(mirror.address(), &url).await.status, 200);
}

#[tokio::test]
async fn what_is_freed_or_new_comes_from_outside_and_the_rest_stays() {
    let rig = Rig::new().await;
    let lock = lock_before(&rig).await;
    publish(&rig.upstream, &[("toy", "2.0"), ("new", "1.0")]);
    let mirror = rig.partly(&lock, &[]).await;
    let versions = |index: String| {
        let mut lines: Vec<_> = index.lines().filter(|line| line.starts_with(['P', 'V'])).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let index = gunzip(&get(mirror.address(), &format!("{REPOSITORY}/PACKAGES.gz")).await.body);
    assert_eq!(versions(index), ["Package: new", "Package: toy", "Version: 1.0", "Version: 1.0"]);
    assert_eq!(get(mirror.address(), &format!("{REPOSITORY}/toy_1.0.tar.gz")).await.body, package("toy", "1.0"));
    assert_eq!(get(mirror.address(), &format!("{REPOSITORY}/new_1.0.tar.gz")).await.body, package("new", "1.0"));
    let mirror = rig.partly(&lock, &["toy"]).await;
    let index = get(mirror.address(), &format!("{REPOSITORY}/PACKAGES")).await.text();
    assert_eq!(versions(index), ["Package: new", "Package: toy", "Version: 1.0", "Version: 2.0"]);
}
