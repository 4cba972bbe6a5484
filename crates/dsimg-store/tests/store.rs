//! Putting, finding, checking, forgetting, on a real disk.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use dsimg_plan::Digest;
use dsimg_store::{Expected, Known, Pruning, Store, StoreError, Usage};

fn store() -> (tempfile::TempDir, Store) {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    (cache, store)
}

#[test]
fn what_is_put_is_found_by_its_digest() {
    let (cache, store) = store();
    let stored = store.put_bytes(b"hello").unwrap();
    assert_eq!(stored.digest, Digest::of_bytes(b"hello"));
    let path = store.find(&stored.digest).unwrap();
    assert_eq!(path, cache.path().join("store/blobs/sha256").join(stored.digest.as_str()));
    assert_eq!((store.size_of(&stored.digest), store.read(&stored.digest).unwrap()), (Some(5), b"hello".to_vec()));
    assert_eq!(store.find(&Digest::of_bytes(b"other")), None);
    assert!(matches!(store.verified(&Digest::of_bytes(b"other")), Err(StoreError::Missing { .. })));
    // A second opening finds it again.
    assert_eq!(Store::open(cache.path()).unwrap().put_bytes(b"hello").unwrap(), stored);
}

#[test]
fn it_is_an_oci_layout_and_nobody_else_s_business() {
    let (cache, store) = store();
    let blob = store.find(&store.put_bytes(b"x").unwrap().digest).unwrap();
    let folder = cache.path().join("store");
    let layout: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("oci-layout")).unwrap()).unwrap();
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
    let index: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["schemaVersion"], 2);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&blob), 0o600);
    for name in ["", "blobs", "blobs/sha256", "urls"] {
        assert_eq!(mode(&folder.join(name)), 0o700, "{name}");
    }
}

#[test]
fn a_writer_that_is_dropped_or_wrong_leaves_nothing() {
    let (_cache, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write(b"hel").unwrap();
    drop(writer);
    let expected = Expected { sha256: Some(Digest::of_bytes(b"hello")), size: Some(5) };
    for (bytes, told) in [(&b"hell"[..], "it has 4 bytes, not 5"), (b"jello", "its sha256 is")] {
        let mut writer = store.writer().unwrap();
        writer.write(bytes).unwrap();
        let error = writer.finish(&expected).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    assert_eq!(store.usage().unwrap(), Usage::default());
    assert_eq!(fs::read_dir(store.folder().join(".incoming")).unwrap().count(), 0);
}

#[test]
fn two_writers_of_one_blob_agree() {
    let (_cache, store) = store();
    let (mut one, mut other) = (store.writer().unwrap(), store.writer().unwrap());
    one.write(b"hel").unwrap();
    other.write(b"hello").unwrap();
    one.write(b"lo").unwrap();
    let expected = Expected { sha256: Some(Digest::of_bytes(b"hello")), size: Some(5) };
    assert_eq!(one.finish(&expected).unwrap(), other.finish(&expected).unwrap());
    assert_eq!(store.usage().unwrap().blobs, 1);
}

#[test]
fn a_changed_byte_is_named_and_set_aside() {
    let (_cache, store) = store();
    let digest = store.put_bytes(b"hello").unwrap().digest;
    let path = store.find(&digest).unwrap();
    fs::write(&path, b"hellO").unwrap();
    let error = store.verified(&digest).unwrap_err().to_string();
    assert!(error.contains(digest.as_str()) && error.contains(path.to_str().unwrap()), "{error}");
    assert_eq!(store.find(&digest), None);
    assert!(matches!(store.verified(&digest), Err(StoreError::Missing { .. })));
    store.put_bytes(b"hello").unwrap();
    store.verified(&digest).unwrap();
}

#[test]
fn a_file_is_copied_in() {
    let (cache, store) = store();
    let path = cache.path().join("file");
    fs::write(&path, vec![7; 1_000_000]).unwrap();
    let stored = store.put_file(&path, &Expected::default()).unwrap();
    assert_eq!(stored.size, 1_000_000);
    store.verified(&stored.digest).unwrap();
    let wrong = Expected { size: Some(1), ..Expected::default() };
    assert!(matches!(store.put_file(&path, &wrong), Err(StoreError::WrongSize { expected: 1, found: 1_000_000 })));
}

fn known(store: &Store, url: &str, content: &[u8]) -> Known {
    let stored = store.put_bytes(content).unwrap();
    Known {
        url: url.to_owned(),
        sha256: stored.digest,
        size: stored.size,
        etag: Some("\"one\"".to_owned()),
        last_modified: None,
        content_type: None,
        mirror: None,
        redirected: None,
        fetched: jiff::Timestamp::from_second(1_700_000_000).unwrap(),
    }
}

#[test]
fn a_url_is_known_as_long_as_its_note_and_its_blob_are_good() {
    let (_cache, store) = store();
    let url = "https://example.org/a?b=c";
    assert_eq!(store.known(url), None);
    let note = known(&store, url, b"hello");
    store.remember(&note).unwrap();
    assert_eq!(store.known(url).as_ref(), Some(&note));
    assert_eq!(store.known("https://example.org/a"), None);
    // Another blob takes the place of the first.
    store.remember(&known(&store, url, b"other")).unwrap();
    assert_eq!(store.known(url).unwrap().sha256, Digest::of_bytes(b"other"));
    // Damage is absence.
    let file = fs::read_dir(store.folder().join("urls")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(store.known(url), None);
    fs::write(&file, String::from_utf8(whole).unwrap().replace(Digest::of_bytes(b"other").as_str(), "../../x"))
        .unwrap();
    assert_eq!(store.known(url), None);
    store.remember(&note).unwrap();
    fs::remove_file(store.find(&note.sha256).unwrap()).unwrap();
    assert_eq!(store.known(url), None);
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let (_cache, store) = store();
    let digests: Vec<_> = (0..4_u8).map(|n| store.put_bytes(&[n; 4096]).unwrap().digest).collect();
    for (age, digest) in digests.iter().enumerate() {
        let file = fs::File::options().append(true).open(store.find(digest).unwrap()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(1000 - age as u64)).unwrap();
    }
    store.remember(&known(&store, "https://example.org/1", &[1; 4096])).unwrap();
    // Putting it once more was a use of 1; so was looking for 0.
    store.mark_used(&digests[0]);
    let usage = store.usage().unwrap();
    assert_eq!(usage.blobs, 4);
    let pruning = Pruning { budget: usage.bytes - 1, older_than: None, keep_since: None };
    assert_eq!(store.foretell(&pruning).unwrap().blobs, 1);
    let left = || digests.iter().map(|digest| store.find(digest).is_some()).collect::<Vec<_>>();
    assert_eq!(left(), [true; 4]);
    assert_eq!(store.prune(&pruning).unwrap().blobs, 1);
    assert_eq!(left(), [true, true, false, true]);
    assert!(store.known("https://example.org/1").is_some());
    // 3 was used 997 seconds ago, and 1 within the last second, as 0.
    let ago = |seconds| Some(SystemTime::now() - Duration::from_secs(seconds));
    let old = Pruning { budget: u64::MAX, older_than: ago(900), keep_since: None };
    store.prune(&Pruning { keep_since: ago(1100), ..old }).unwrap();
    assert_eq!(left(), [true, true, false, true]);
    store.prune(&old).unwrap();
    assert_eq!(left(), [true, true, false, false]);
    store.prune(&Pruning { budget: 0, older_than: None, keep_since: None }).unwrap();
    assert_eq!(left(), [false; 4]);
    assert_eq!(fs::read_dir(store.folder().join("urls")).unwrap().count(), 0);
}

#[test]
fn pruning_leaves_a_living_writer_alone_and_sweeps_a_dead_one() {
    let (_cache, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write(b"hello").unwrap();
    let dead = store.folder().join(".incoming/left-by-a-crash");
    fs::write(&dead, b"half").unwrap();
    let folder = store.folder().join(".incoming/left-by-a-bundle");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("blob"), b"half").unwrap();
    let all = Pruning { budget: 0, older_than: None, keep_since: None };
    store.prune(&all).unwrap();
    assert!(dead.exists() && folder.exists(), "their writers may have begun just now");
    for path in [&dead, &folder] {
        fs::File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(61)).unwrap();
    }
    store.prune(&all).unwrap();
    assert!(!dead.exists() && !folder.exists());
    let digest = writer.finish(&Expected::default()).unwrap().digest;
    store.verified(&digest).unwrap();
}
