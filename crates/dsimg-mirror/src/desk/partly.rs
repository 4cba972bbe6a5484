//! Indexes of which some packages are bound to a lock, and the others are as outside.

use super::{
    About, Address, AptFile, Arc, Desk, Expected, FetchedKind, PoisonError, RFile, Refusal, Reply, Repository, Wanted,
    r_about, respond,
};
use crate::apt::locked::gzip;
use crate::apt::partly::{in_form, lists_of, merged, release};
use crate::apt::place::{ListFile, ReleaseKind};
use crate::apt::release::ReleaseFacts;
use crate::apt::stanza::{stanzas, text_of};
use crate::fetch::read_page;
use crate::pins::Pinned;
use crate::transfer::broken_thread;
use dsimg_plan::Digest;
use tokio::task::spawn_blocking;

/// In what lists are given that are made here.
const BYTES: &str = "application/octet-stream";

impl Desk {
    /// `None` for a package, and what else is no index.
    pub(super) async fn partly_apt(
        self: &Arc<Self>,
        pinned: &Pinned,
        address: &Address,
    ) -> Result<Option<Reply>, Refusal> {
        match AptFile::of(address, &self.lists.suites()) {
            AptFile::InRelease(_) | AptFile::Release(_, ReleaseKind::Signature) => {
                Err(Refusal::not_found("lists with packages of a lock are made here, and not signed"))
            }
            AptFile::OtherIndex(..) => Err(Refusal::not_found("lists of packages alone are given with a lock")),
            AptFile::Release(at, ReleaseKind::Release) => self.partly_release(pinned, &at).await.map(Some),
            AptFile::Packages(at, file) => {
                let made =
                    self.partly.lock().unwrap_or_else(PoisonError::into_inner).get(&list_key(&at, &file)).cloned();
                // Of a suite that is no more, the lock's.
                let list = made.unwrap_or_else(|| pinned.apt.list(&at, file.arch.as_deref()).into());
                let bytes = in_form(&list, &file.ending);
                let absent = || Refusal::not_found("lists that are made here are plain, or packed by gzip");
                bytes.map(|bytes| Some(respond::page(bytes, BYTES))).ok_or_else(absent)
            }
            AptFile::Package | AptFile::Other => Ok(None),
        }
    }

    /// Fetches what the suite has, puts the lock's packages in, and names the lists that came of it.
    async fn partly_release(self: &Arc<Self>, pinned: &Pinned, at: &Repository) -> Result<Reply, Refusal> {
        let facts = match self.upstream_release(at).await {
            Ok(facts) => facts,
            // A suite that is no more: what the lock has of it.
            Err(refusal) if refusal.status == 404 => {
                return Ok(respond::page(pinned.apt.release(at).into_bytes(), BYTES));
            }
            Err(refusal) => return Err(refusal),
        };
        let lists = match at.suite == "/" {
            true => vec![(String::new(), ListFile::default(), flat_forms(&facts))],
            false => lists_of(&facts, &pinned.apt.own_archs),
        };
        let mut made = Vec::new();
        for (component, file, forms) in lists {
            let at = Repository { component, ..at.clone() };
            let Some(form) = forms.first() else { continue };
            let upstream = self.upstream_list(&at, form, facts.digest_of(form).cloned()).await?;
            let list = merged(&upstream, &pinned.apt, &at, file.arch.as_deref());
            let path = form.trim_end_matches(".xz").trim_end_matches(".gz").to_owned();
            self.record_list(&at, &path, &list).await?;
            self.partly
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(list_key(&at, &file), list.clone().into());
            made.push((path, list));
        }
        Ok(respond::page(release(&facts, &pinned.apt.archs, &made).into_bytes(), BYTES))
    }

    async fn upstream_release(self: &Arc<Self>, at: &Repository) -> Result<ReleaseFacts, Refusal> {
        let folder = at.folder();
        let signed = self.apt_index(at, &format!("{folder}/InRelease"), None).await;
        let text = match signed {
            Err(refusal) if refusal.status == 404 => self.apt_index(at, &format!("{folder}/Release"), None).await,
            other => other,
        };
        Ok(ReleaseFacts::read(&text?))
    }

    async fn upstream_list(&self, at: &Repository, form: &str, digest: Option<Digest>) -> Result<String, Refusal> {
        let url = format!("{}/{form}", at.folder());
        let address = Address::parse(&url).map(|(address, _)| address).ok_or_else(|| no_address(&url))?;
        let expected = Expected { sha256: digest, size: None };
        let stored = self.fetcher.find(Wanted { expected, ..Wanted::any(address) }).await?.whole().await?;
        self.read_text(stored.digest, url).await
    }

    /// The text of an index, which is put on record.
    async fn apt_index(
        self: &Arc<Self>,
        at: &Repository,
        url: &str,
        digest: Option<Digest>,
    ) -> Result<String, Refusal> {
        let address = Address::parse(url).map(|(address, _)| address).ok_or_else(|| no_address(url))?;
        let pending = self.records.expect();
        let expected = Expected { sha256: digest, size: None };
        let stored = self.fetcher.find(Wanted { expected, ..Wanted::any(address.clone()) }).await?.whole().await?;
        let about = About { kind: FetchedKind::AptIndex, repository: at.shown(), ..About::file(&address) };
        self.saw(&about, &stored.digest);
        pending.came(about, &stored);
        self.read_text(stored.digest, url.to_owned()).await
    }

    async fn read_text(&self, digest: Digest, shown: String) -> Result<String, Refusal> {
        let store = self.fetcher.store.clone();
        let read = spawn_blocking(move || {
            let bytes = store.read(&digest).map_err(|error| Refusal::of_store(&error))?;
            text_of(&bytes).map_err(|error| Refusal::new(502, format!("{shown} can't be read: {error}")))
        });
        read.await.map_err(|stopped| broken_thread(&stopped))?
    }

    /// The list as the guest gets it is what a lock is made from.
    async fn record_list(self: &Arc<Self>, at: &Repository, path: &str, list: &str) -> Result<(), Refusal> {
        let url = format!("{}/{path}", at.folder());
        let address = Address::parse(&url).map(|(address, _)| address).ok_or_else(|| no_address(&url))?;
        let (pending, store, bytes) = (self.records.expect(), self.fetcher.store.clone(), list.as_bytes().to_vec());
        let stored =
            spawn_blocking(move || store.put_bytes(&bytes)).await.map_err(|stopped| broken_thread(&stopped))?;
        let stored = stored.map_err(|error| Refusal::of_store(&error))?;
        let about = About { kind: FetchedKind::AptIndex, repository: at.shown(), ..About::file(&address) };
        self.lists.saw_list(at.clone(), stored.digest.clone());
        pending.came(about, &stored);
        Ok(())
    }

    /// An index of R packages.
    pub(super) async fn partly_r(
        self: &Arc<Self>,
        pinned: &Pinned,
        address: &Address,
        repository: &str,
        packed: bool,
    ) -> Result<Reply, Refusal> {
        let pending = self.records.expect();
        let stored = self.fetcher.find(Wanted::any(address.clone())).await?.whole().await?;
        pending.came(r_about(&RFile::of(address), address), &stored);
        let text = read_page(&self.fetcher.store, stored.digest).await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let others = stanzas(&text).filter(|stanza| {
            let name = stanza.field("Package");
            name.is_none_or(|name| !pinned.r.names.contains(name))
        });
        let mut index: String = others.map(|stanza| format!("{}\n\n", stanza.0)).collect();
        index.push_str(&self.locked_r_entries(pinned, repository).await?);
        let index = index.into_bytes();
        Ok(respond::page(if packed { gzip(&index) } else { index }, BYTES))
    }
}

fn list_key(at: &Repository, file: &ListFile) -> String {
    format!("{} {} {}", at.folder(), at.component, file.arch.as_deref().unwrap_or_default())
}

fn flat_forms(facts: &ReleaseFacts) -> Vec<String> {
    let forms = ["Packages.xz", "Packages.gz", "Packages"].map(str::to_owned);
    forms.into_iter().filter(|form| facts.digest_of(form).is_some()).collect()
}

fn no_address(url: &str) -> Refusal {
    Refusal::not_found(format!("dsimg's mirror can't ask for {url}"))
}
