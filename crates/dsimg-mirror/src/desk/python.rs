//! Requests of uv and pip, answered from outside.

use super::{
    About, Address, Arc, Desk, FetchedKind, Head, Incoming, Method, PoisonError, PythonFacts, RANGE, Refusal, Reply,
    Request, Wanted, respond,
};
use crate::age::is_older;
use crate::ask::{PythonPage, normal_name};
use crate::fetch::read_page;
use crate::python::page::ACCEPT;
use crate::python::{FileName, Page, render};
use dsimg_plan::Digest;
use hyper::header::ACCEPT as ACCEPT_HEADER;

impl Desk {
    /// The index's page, with links to here.
    pub(super) async fn python_page(&self, asked: &PythonPage, request: &Request<Incoming>) -> Result<Reply, Refusal> {
        let mut page = self.read_python_page(asked).await?;
        self.learn_files(asked, &page);
        if let Some(min_age) = self.min_age {
            // One that does not say when it came is judged when it is downloaded.
            page.files.retain(|file| file.uploaded().is_none_or(|time| is_older(time, min_age)));
        }
        let accept = request.headers().get(ACCEPT_HEADER).and_then(|accept| accept.to_str().ok());
        let (bytes, content_type) = render::render(&page, accept);
        Ok(respond::page(bytes, content_type))
    }

    async fn read_python_page(&self, asked: &PythonPage) -> Result<Page, Refusal> {
        let wanted = Wanted { accept: Some(ACCEPT), compressed: true, ..Wanted::any(asked.address.clone()) };
        let found = self.fetcher.find(wanted).await?;
        let at = Address::parse(&found.head().url).map_or_else(|| asked.address.clone(), |(address, _)| address);
        let stored = found.whole().await?;
        let bytes = read_page(&self.fetcher.store, stored.digest).await?;
        let mut page = Page::parse(&bytes, &asked.name, &at).ok_or_else(|| {
            Refusal::new(502, format!("{} is no page of a Python index", asked.address))
                .hint("an index's address ends in `/simple`, as a rule")
        })?;
        let rewrites = &self.fetcher.upstream.rewrites;
        for file in &mut page.files {
            if let Some(login) = file.login.take() {
                self.fetcher.upstream.learn_login(file.address.host(), login);
            }
            file.address = rewrites.public_name(file.address.clone());
        }
        Ok(page)
    }

    fn learn_files(&self, asked: &PythonPage, page: &Page) {
        let mut known = self.python.lock().unwrap_or_else(PoisonError::into_inner);
        for file in &page.files {
            let (index, project) = (asked.index.clone(), asked.name.clone());
            known.insert(file.address.clone(), PythonFacts { index, project, file: file.clone() });
        }
    }

    fn facts(&self, address: &Address) -> Option<PythonFacts> {
        self.python.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }

    pub(super) async fn python_file(
        self: &Arc<Self>,
        address: &Address,
        request: &Request<Incoming>,
    ) -> Result<Reply, Refusal> {
        let beside = address.as_str().strip_suffix(".metadata").and_then(Address::parse).map(|(wheel, _)| wheel);
        let facts = self.facts(beside.as_ref().unwrap_or(address));
        let about = python_about(address, facts.as_ref());
        let mut wanted = Wanted::any(address.clone());
        if let Some(PythonFacts { file, .. }) = &facts {
            let hashes = if beside.is_some() { file.core_metadata.as_ref() } else { Some(&file.hashes) };
            wanted.expected.sha256 = hashes.and_then(|hashes| hashes.get("sha256")).and_then(|hex| Digest::parse(hex));
            wanted.expected.size = file.size.filter(|_| beside.is_none());
        }
        if beside.is_none() {
            let says_age = facts.as_ref().is_some_and(|facts| facts.file.uploaded().is_some());
            wanted.age = self.age_limit(&format!("{} {}", about.name, about.version)).filter(|_| !says_age);
            if let Some(reply) = self.glance(&wanted, request).await? {
                return Ok(reply);
            }
        }
        let found = self.fetcher.find(wanted).await?;
        Ok(self.deliver(found, about, request))
    }

    /// Resolvers look into a large file for its metadata alone, where an index has them not beside it: only its head,
    /// or a part of it. That needs no whole download, and is not what gets installed.
    async fn glance(&self, wanted: &Wanted, request: &Request<Incoming>) -> Result<Option<Reply>, Refusal> {
        let only_head = request.method() == Method::HEAD;
        let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
        if !only_head && range.is_none() || self.fetcher.is_at_hand(wanted) || self.fetcher.upstream.offline {
            return Ok(None);
        }
        let upstream = &self.fetcher.upstream;
        if only_head {
            return Ok(Some(respond::only_head(&Head::of(&upstream.head(&wanted.address).await?))));
        }
        let headers = || {
            let range = ("range", range.unwrap_or_default().to_owned());
            vec![range, ("accept-encoding", "identity".to_owned())]
        };
        let answer = upstream.patiently(|| upstream.ask(&wanted.address, headers(), false)).await?;
        Ok(Some(respond::passed_on(answer)))
    }
}

pub(super) fn python_about(address: &Address, facts: Option<&PythonFacts>) -> About {
    let (file_name, kind) = match address.file_name().strip_suffix(".metadata") {
        Some(wheel) => (wheel, FetchedKind::PythonMetadata),
        None => (address.file_name(), FetchedKind::PythonFile),
    };
    let file_name = facts.map_or(file_name, |facts| facts.file.file_name.as_str());
    let names = FileName::parse(file_name, facts.map(|facts| facts.project.as_str()));
    let (name, version) = names.map(|found| (normal_name(&found.name), found.version)).unwrap_or_default();
    let repository = facts.map(|facts| facts.index.clone()).unwrap_or_default();
    About { kind, repository, name, version, ..About::file(address) }
}
