//! Getting a file: from the store where that is right, from outside else.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dsimg_plan::Digest;
use dsimg_store::{Expected, Known, Store, StoreError, Stored};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::address::Address;
use crate::refusal::Refusal;
use crate::transfer::{self, Head, Outcome, Progress, Wanted, broken_thread};
use crate::upstream::Upstream;

/// So much has come before an answer begins: what breaks off earlier is told in words.
const BEGINNING: u64 = 256 << 10;
const MOST_OF_A_PAGE: u64 = 512 << 20;

/// Where files come from.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) store: Store,
    /// By address: what two ask for at once comes once.
    running: Arc<Mutex<HashMap<Address, watch::Receiver<Progress>>>>,
    /// Blobs that were read through and found good since the mirror started.
    checked: Arc<Mutex<BTreeSet<Digest>>>,
}

/// A file that can be handed out.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Stored { file: Arc<File>, stored: Stored, head: Head },
    Coming { head: Head, file: Arc<File>, progress: watch::Receiver<Progress> },
}

impl Fetcher {
    pub(crate) fn new(upstream: Upstream, store: Store) -> Self {
        Self { upstream: Arc::new(upstream), store, running: Arc::default(), checked: Arc::default() }
    }

    /// By its expected digest from the store; else from outside, where what did not change is taken from the store.
    pub(crate) async fn find(&self, mut wanted: Wanted) -> Result<Found, Refusal> {
        let known = self.store.known(wanted.address.as_str());
        if let Some(digest) = &wanted.expected.sha256 {
            let head = known.clone().filter(|known| known.sha256 == *digest).map(|known| head_of(&known));
            if let Some(limit) = wanted.age.as_ref().filter(|_| self.store.find(digest).is_some())
                && let Some(head) = &head
            {
                limit.check(head.last_modified.as_deref())?;
            }
            // Without a time to go by, the server is asked, where age counts.
            if (wanted.age.is_none() || head.is_some())
                && let Some(found) = self.stored(digest, head.unwrap_or_default()).await?
            {
                return Ok(found);
            }
        }
        let fits = |known: &Known| wanted.expected.sha256.as_ref().is_none_or(|digest| *digest == known.sha256);
        let is_of_mirror =
            |known: &Known| self.upstream.offline || known.mirror == self.upstream.mirror_of(&wanted.address);
        wanted.known = match known.filter(|known| fits(known) && is_of_mirror(known)) {
            Some(known) if self.is_good(&known.sha256).await? => Some(known),
            _ => None,
        };
        if self.upstream.offline {
            return match &wanted.known {
                Some(known) => self.known(known).await,
                None => Err(offline(&wanted.address)),
            };
        }
        self.fetch(wanted).await
    }

    async fn fetch(&self, wanted: Wanted) -> Result<Found, Refusal> {
        let address = wanted.address.clone();
        let age = wanted.age.clone();
        let mut progress = self.join_or_start(wanted);
        let begun = |state: &Progress| state.outcome.is_some() || state.good || state.available >= BEGINNING;
        let state = progress.wait_for(begun).await.map_err(|_| stopped(&address))?.clone();
        match (state.outcome, state.coming) {
            (Some(Outcome::Refused(refusal)), _) => Err(refusal),
            (Some(Outcome::Unchanged(known)), _) => {
                if let Some(limit) = age {
                    limit.check(known.last_modified.as_deref())?;
                }
                self.known(&known).await
            }
            (_, Some((head, file))) => Ok(Found::Coming { head, file, progress }),
            (_, None) => Err(stopped(&address)),
        }
    }

    fn join_or_start(&self, wanted: Wanted) -> watch::Receiver<Progress> {
        let address = wanted.address.clone();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = running.get(&address) {
            return progress.clone();
        }
        let progress = transfer::start(Arc::clone(&self.upstream), self.store.clone(), wanted);
        running.insert(address.clone(), progress.clone());
        let (mut end, fetcher) = (progress.clone(), self.clone());
        tokio::spawn(async move {
            let outcome =
                end.wait_for(|state| state.outcome.is_some()).await.ok().and_then(|state| state.outcome.clone());
            if let Some(Outcome::Stored(stored)) = outcome {
                fetcher.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(stored.digest);
            }
            fetcher.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        });
        progress
    }

    async fn known(&self, known: &Known) -> Result<Found, Refusal> {
        let found = self.stored(&known.sha256, head_of(known)).await?;
        found.ok_or_else(|| Refusal::of_store(&StoreError::Missing { digest: known.sha256.clone() }))
    }

    /// A blob, checked; `None` when it is missing. One that is damaged is missing where it can be fetched anew.
    pub(crate) async fn stored(&self, digest: &Digest, mut head: Head) -> Result<Option<Found>, Refusal> {
        if !self.is_good(digest).await? {
            return Ok(None);
        }
        let cannot = |error: std::io::Error| Refusal::new(500, format!("dsimg: cannot read blob {digest}: {error}"));
        let Some(path) = self.store.find(digest) else { return Ok(None) };
        let file = File::open(path).map_err(cannot)?;
        let size = file.metadata().map_err(cannot)?.len();
        self.store.mark_used(digest);
        head.length = Some(size);
        let stored = Stored { digest: digest.clone(), size };
        Ok(Some(Found::Stored { file: Arc::new(file), stored, head }))
    }

    /// Whether it is in the store by its digest or its address, or on its way.
    pub(crate) fn is_at_hand(&self, wanted: &Wanted) -> bool {
        let by_digest = wanted.expected.sha256.as_ref().is_some_and(|digest| self.store.find(digest).is_some());
        by_digest
            || self.store.known(wanted.address.as_str()).is_some()
            || self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&wanted.address)
    }

    /// Reads a blob through, once.
    async fn is_good(&self, digest: &Digest) -> Result<bool, Refusal> {
        if self.checked.lock().unwrap_or_else(PoisonError::into_inner).contains(digest) {
            return Ok(self.store.find(digest).is_some());
        }
        let (store, wanted) = (self.store.clone(), digest.clone());
        let read: Result<PathBuf, StoreError> =
            spawn_blocking(move || store.verified(&wanted)).await.map_err(|stopped| broken_thread(&stopped))?;
        match read {
            Ok(_) => {
                self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
                Ok(true)
            }
            Err(StoreError::Missing { .. }) => Ok(false),
            Err(StoreError::Damaged { .. }) if !self.upstream.offline => Ok(false),
            Err(error) => Err(Refusal::of_store(&error)),
        }
    }
}

impl Found {
    pub(crate) fn head(&self) -> &Head {
        match self {
            Self::Stored { head, .. } | Self::Coming { head, .. } => head,
        }
    }

    /// Its bytes, as far as they are there.
    pub(crate) fn file(&self) -> Arc<File> {
        match self {
            Self::Stored { file, .. } | Self::Coming { file, .. } => Arc::clone(file),
        }
    }

    /// When all of it is in the store.
    pub(crate) async fn whole(self) -> Result<Stored, Refusal> {
        match self {
            Self::Stored { stored, .. } => Ok(stored),
            Self::Coming { mut progress, head, .. } => {
                let end = progress.wait_for(|state| state.outcome.is_some()).await;
                match end.ok().and_then(|state| state.outcome.clone()) {
                    Some(Outcome::Stored(stored)) => Ok(stored),
                    Some(Outcome::Refused(refusal)) => Err(refusal),
                    Some(Outcome::Unchanged(_)) | None => Err(Refusal::new(502, format!("{} went away", head.url))),
                }
            }
        }
    }
}

/// A page in the store, unpacked where the server packed it.
pub(crate) async fn read_page(store: &Store, digest: Digest) -> Result<Vec<u8>, Refusal> {
    let store = store.clone();
    let read = spawn_blocking(move || store.read(&digest)).await.map_err(|stopped| broken_thread(&stopped))?;
    let bytes = read.map_err(|error| Refusal::of_store(&error))?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let unpacked = flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(MOST_OF_A_PAGE).read_to_end(&mut plain);
    unpacked.map_err(|error| Refusal::new(502, format!("a page came packed and can't be unpacked: {error}")))?;
    Ok(plain)
}

fn head_of(known: &Known) -> Head {
    Head {
        length: Some(known.size),
        etag: known.etag.clone(),
        last_modified: known.last_modified.clone(),
        content_type: known.content_type.clone(),
        content_encoding: None,
        url: known.redirected.clone().unwrap_or_else(|| known.url.clone()),
    }
}

impl Wanted {
    /// Whatever it is.
    pub(crate) fn any(address: Address) -> Self {
        Self { address, expected: Expected::default(), known: None, accept: None, compressed: false, age: None }
    }
}

fn offline(address: &Address) -> Refusal {
    Refusal::new(503, format!("{address} is not in the package store, and this build is offline"))
        .hint("build once with a network, or from a bundle that has it")
}

fn stopped(address: &Address) -> Refusal {
    Refusal::new(503, format!("{address}: the mirror is stopping"))
}
