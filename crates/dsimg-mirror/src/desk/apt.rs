//! Requests of apt, answered from outside.

use super::{
    About, Address, AptFile, Arc, Desk, Expected, FetchedKind, Incoming, Refusal, Reply, Repository, Request, Wanted,
    place,
};
use crate::record::Fetched;
use dsimg_plan::Digest;

impl Desk {
    pub(super) async fn apt(
        self: &Arc<Self>,
        address: &Address,
        request: &Request<Incoming>,
    ) -> Result<Reply, Refusal> {
        let file = AptFile::of(address, &self.lists.suites());
        let (wanted, about) = match &file {
            AptFile::Package => self.apt_package(address).await,
            AptFile::Other => (Wanted::any(address.clone()), About::file(address)),
            AptFile::InRelease(at) | AptFile::Release(at, _) => index(address, at, None),
            AptFile::Packages(at, list) => index(address, at, list.digest.clone()),
            AptFile::OtherIndex(at, digest) => index(address, at, digest.clone()),
        };
        let found = self.fetcher.find(wanted).await?;
        Ok(self.deliver(found, about, request))
    }

    async fn apt_package(&self, address: &Address) -> (Wanted, About) {
        let (name, version, arch) = place::names_of_file(address.file_name()).unwrap_or_default();
        let mut about = About { kind: FetchedKind::AptPackage, name, version, arch, ..About::file(address) };
        let mut wanted = Wanted::any(address.clone());
        if let Some(listed) = self.lists.find(address.as_str(), &self.fetcher.store).await {
            (about.name, about.version, about.arch) = (listed.name, listed.version, listed.arch);
            about.repository = listed.repository;
            wanted.expected = Expected { sha256: Some(listed.sha256), size: Some(listed.size) };
        }
        wanted.age = self.age_limit(&format!("package {} {}", about.name, about.version));
        (wanted, about)
    }

    /// A file is in the store: what it says counts from now on.
    pub(super) fn saw(self: &Arc<Self>, about: &About, digest: &Digest) {
        if about.kind != FetchedKind::AptIndex {
            return;
        }
        let Some((address, _)) = Address::parse(&about.url) else { return };
        match AptFile::of(&address, &self.lists.suites()) {
            AptFile::InRelease(at) => self.lists.saw_suite(&at),
            AptFile::Packages(at, _) => {
                self.lists.saw_list(at, digest.clone());
                // Now, while the guest's apt reads it too.
                let desk = Arc::clone(self);
                tokio::spawn(async move { desk.lists.find("", &desk.fetcher.store).await });
            }
            _ => {}
        }
    }
}

impl Desk {
    /// As [`Self::saw`], of what a mirror before this one handed out.
    pub(crate) fn saw_earlier(&self, fetched: &Fetched) {
        let Some((address, _)) = Address::parse(&fetched.url) else { return };
        match AptFile::of(&address, &self.lists.suites()) {
            AptFile::InRelease(at) => self.lists.saw_suite(&at),
            AptFile::Packages(at, _) => {
                // What was found then is right, whatever is known now.
                let at = Repository::read(&fetched.repository).unwrap_or(at);
                self.lists.saw_list(at, fetched.sha256.clone());
            }
            _ => {}
        }
    }
}

fn index(address: &Address, at: &Repository, digest: Option<Digest>) -> (Wanted, About) {
    let expected = Expected { sha256: digest, size: None };
    let about = About { kind: FetchedKind::AptIndex, repository: at.shown(), ..About::file(address) };
    (Wanted { expected, ..Wanted::any(address.clone()) }, about)
}
