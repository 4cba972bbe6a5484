//! What every test needs: an outside, a store, and a mirror between.

use std::process::Output;

use dsimg_download::Access;
use dsimg_manifest::lock::{Artifact, Lock, LockedBase};
use dsimg_mirror::{Fetched, FetchedKind, Mirror, MirrorSettings, Pins};
use dsimg_store::Store;

use crate::upstream::Upstream;

pub(crate) struct Rig {
    _cache: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) upstream: Upstream,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        Self { _cache: cache, store, upstream: Upstream::start().await }
    }

    /// The same outside, and an empty store.
    pub(crate) async fn elsewhere(self) -> Self {
        Self { upstream: self.upstream, ..Self::new().await }
    }

    /// Addresses that everybody knows, asked for at the test's own server.
    pub(crate) fn settings(&self) -> MirrorSettings {
        let to = |prefix: &str, path: &str| (prefix.to_owned(), self.upstream.url(path));
        let rewrites = vec![
            to("http://deb.example.org/debian", "/debian"),
            to("https://pypi.example.org/simple", "/simple"),
            to("https://files.example.org", "/files"),
            to("https://cran.example.org", "/cran"),
            to("https://example.org", "/other"),
        ];
        MirrorSettings { rewrites, ..MirrorSettings::open(self.store.clone(), Access::default()) }
    }

    pub(crate) async fn open(&self) -> Mirror {
        Mirror::start(self.settings()).await.unwrap()
    }

    pub(crate) async fn locked(&self, lock: &Lock) -> Mirror {
        Mirror::start(MirrorSettings { pins: Some(pins(lock)), ..self.settings() }).await.unwrap()
    }

    pub(crate) async fn partly(&self, lock: &Lock, free: &[&str]) -> Mirror {
        Mirror::start(MirrorSettings { pins: Some(loose(lock, free)), ..self.settings() }).await.unwrap()
    }

    pub(crate) async fn locked_offline(&self, lock: &Lock) -> Mirror {
        Mirror::start(MirrorSettings { pins: Some(pins(lock)), offline: true, ..self.settings() }).await.unwrap()
    }
}

pub(crate) fn pins(lock: &Lock) -> Pins {
    Pins { lock: lock.clone(), exclusive: true, free: Default::default() }
}

/// What is not in the lock, and what is freed, comes from outside.
pub(crate) fn loose(lock: &Lock, free: &[&str]) -> Pins {
    Pins { exclusive: false, free: free.iter().map(|name| (*name).to_owned()).collect(), ..pins(lock) }
}

pub(crate) fn empty_lock() -> Lock {
    Lock {
        base: LockedBase { kind: "bootstrap".into(), source: "debian".into(), id: None, sha256: "ab".repeat(32) },
        ..Lock::default()
    }
}

pub(crate) fn artifact(fetched: &Fetched) -> Artifact {
    Artifact { url: fetched.url.clone(), sha256: fetched.sha256.to_string(), size: fetched.size }
}

pub(crate) fn of_kind(fetched: &[Fetched], kind: FetchedKind) -> Vec<&Fetched> {
    fetched.iter().filter(|file| file.kind == kind).collect()
}

/// Runs a program on a thread, while the test's own servers go on; shows what it said when it failed.
pub(crate) async fn run(mut command: std::process::Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Bytes that differ everywhere.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}
