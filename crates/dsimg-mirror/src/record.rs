//! What was fetched, by stage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dsimg_plan::Digest;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A file that a stage was given. Its bytes are in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fetched {
    pub stage: String,
    pub kind: FetchedKind,
    /// As the guest asked for it, without a login.
    pub url: String,
    /// The apt repository as `URI SUITE COMPONENT`, the Python index, the R repository; empty where it is not known.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub repository: String,
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// By the index, or by the file's name; empty where neither says it. A Debian package's version has no epoch
    /// when it is by the file's name.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub arch: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchedKind {
    AptPackage,
    /// `InRelease`, `Packages` and what else lies beside them.
    AptIndex,
    PythonFile,
    /// What a wheel needs, which resolvers look at before they choose.
    PythonMetadata,
    RPackage,
    RIndex,
    File,
}

/// What is known about a file before its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) kind: FetchedKind,
    pub(crate) url: String,
    pub(crate) repository: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) arch: String,
}

/// Collects while the mirror runs.
#[derive(Debug)]
pub(crate) struct Records {
    inner: Mutex<Inner>,
    /// Files that were promised to the guest and are not in the store yet.
    pending: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    stage: String,
    fetched: BTreeSet<Fetched>,
    /// By what was asked for, why it was not given.
    misses: BTreeMap<String, String>,
    /// Given to the guest, and lost afterwards.
    lost: Vec<String>,
}

/// A file on its way; counts as pending while it lives.
#[derive(Debug)]
pub(crate) struct Pending {
    records: Arc<Records>,
    stage: String,
}

impl Records {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::default(), pending: watch::Sender::new(0) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin_stage(&self, label: &str) {
        label.clone_into(&mut self.inner().stage);
    }

    /// Of the stage that runs now.
    pub(crate) fn expect(self: &Arc<Self>) -> Pending {
        self.pending.send_modify(|count| *count += 1);
        Pending { records: Arc::clone(self), stage: self.inner().stage.clone() }
    }

    /// All since the last time, when nothing is on its way any more; and what was lost.
    pub(crate) async fn take(&self) -> (Vec<Fetched>, Vec<String>) {
        // It can't be closed: the sender is here.
        let mut pending = self.pending.subscribe();
        drop(pending.wait_for(|count| *count == 0).await);
        let mut inner = self.inner();
        let fetched = std::mem::take(&mut inner.fetched);
        (fetched.into_iter().collect(), std::mem::take(&mut inner.lost))
    }

    pub(crate) fn miss(&self, what: &str, why: &str) {
        self.inner().misses.insert(what.to_owned(), why.to_owned());
    }

    pub(crate) fn misses(&self) -> BTreeMap<String, String> {
        self.inner().misses.clone()
    }
}

impl Pending {
    pub(crate) fn came(self, about: About, stored: &dsimg_store::Stored) {
        let About { kind, url, repository, name, version, arch } = about;
        let (sha256, size) = (stored.digest.clone(), stored.size);
        let stage = self.stage.clone();
        self.records.inner().fetched.insert(Fetched {
            stage,
            kind,
            url,
            repository,
            sha256,
            size,
            name,
            version,
            arch,
        });
    }

    /// The guest has it, and the store has not.
    pub(crate) fn lost(self, why: String) {
        self.records.inner().lost.push(why);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.records.pending.send_modify(|count| *count -= 1);
    }
}
