//! Where requests are answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dsimg_store::Expected;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, RANGE};
use hyper::{Method, Request};

use crate::address::Address;
use crate::age::AgeLimit;
use crate::apt::{AptFile, Lists, Repository, place};
use crate::ask::Ask;
use crate::fetch::{Fetcher, Found};
use crate::pins::Pinned;
use crate::python::page::PageFile;
use crate::r::RFile;
use crate::record::{About, FetchedKind, Records};
use crate::refusal::Refusal;
use crate::respond::{self, Reply};
use crate::transfer::{Head, Wanted};

mod apt;
mod partly;
mod pinned;
mod python;

/// Everything that answers are made of.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) fetcher: Fetcher,
    pub(crate) lists: Lists,
    /// Files that pages linked to.
    pub(crate) python: Mutex<HashMap<Address, PythonFacts>>,
    pub(crate) records: Arc<Records>,
    pub(crate) pinned: Option<Pinned>,
    /// Lists that a `Release` file named that was made here.
    pub(crate) partly: Mutex<HashMap<String, Arc<str>>>,
    pub(crate) min_age: Option<Duration>,
    /// The mirror's own.
    pub(crate) port: u16,
}

/// A file as the page of an index has it.
#[derive(Debug, Clone)]
pub(crate) struct PythonFacts {
    pub(crate) index: String,
    /// In its normal form.
    pub(crate) project: String,
    pub(crate) file: PageFile,
}

impl Desk {
    pub(crate) async fn answer(self: &Arc<Self>, request: &Request<Incoming>) -> Reply {
        self.reply(request).await.unwrap_or_else(|refusal| respond::refused(&refusal))
    }

    async fn reply(self: &Arc<Self>, request: &Request<Incoming>) -> Result<Reply, Refusal> {
        let ask = self.read(request)?;
        if let Some(pinned) = &self.pinned
            && let Some(reply) = self.pinned_reply(pinned, &ask, request).await?
        {
            return Ok(reply);
        }
        match &ask {
            Ask::Apt(address) => self.apt(address, request).await,
            Ask::PythonPage(page) => self.python_page(page, request).await,
            Ask::PythonFile(address) => self.python_file(address, request).await,
            Ask::R(address) => self.r(address, request).await,
            Ask::File(address) => self.file(address, request).await,
        }
    }

    fn read(&self, request: &Request<Incoming>) -> Result<Ask, Refusal> {
        if request.method() == Method::CONNECT {
            let told = "dsimg's mirror makes no tunnels: what comes through it is recorded and frozen";
            return Err(Refusal::new(405, told)
                .hint("for apt, write `http://HTTPS///HOST/PATH`; other tools must not use this address as a proxy"));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::new(405, format!("dsimg's mirror gives, and takes nothing: {}", request.method())));
        }
        let Some((ask, login)) = Ask::read(request.uri(), self.port) else {
            return Err(Refusal::not_found(format!("dsimg's mirror has no such place: {}", request.uri().path())));
        };
        let upstream = &self.fetcher.upstream;
        let host = upstream.rewrites.place_of(ask.address()).address.host().to_owned();
        let header = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        match (login, header) {
            (Some(login), _) => upstream.learn_login(&host, login),
            // Tools send an index's login along to where its files are; for them that is the same server, this one.
            (None, Some(header)) if !matches!(ask, Ask::PythonFile(_)) => {
                upstream.learn_header(&host, header.to_owned())
            }
            (None, _) => {}
        }
        Ok(ask)
    }

    async fn r(self: &Arc<Self>, address: &Address, request: &Request<Incoming>) -> Result<Reply, Refusal> {
        let file = RFile::of(address);
        let about = r_about(&file, address);
        let wanted = match &file {
            RFile::BinaryIndex => return Err(no_binary_index()),
            RFile::Package { name, version, .. } => {
                Wanted { age: self.age_limit(&format!("R package {name} {version}")), ..Wanted::any(address.clone()) }
            }
            RFile::Index { .. } | RFile::Other => Wanted::any(address.clone()),
        };
        let found = self.fetcher.find(wanted).await?;
        Ok(self.deliver(found, about, request))
    }

    async fn file(self: &Arc<Self>, address: &Address, request: &Request<Incoming>) -> Result<Reply, Refusal> {
        let found = self.fetcher.find(Wanted::any(address.clone())).await?;
        Ok(self.deliver(found, About::file(address), request))
    }

    fn age_limit(&self, package: &str) -> Option<AgeLimit> {
        Some(AgeLimit { min_age: self.min_age?, package: package.to_owned() })
    }

    /// Hands it out, and puts it on record once it is in the store.
    fn deliver(self: &Arc<Self>, found: Found, about: About, request: &Request<Incoming>) -> Reply {
        let only_head = request.method() == Method::HEAD;
        if !only_head {
            let (desk, pending, found) = (Arc::clone(self), self.records.expect(), found.clone());
            tokio::spawn(async move {
                match found.whole().await {
                    Ok(stored) => {
                        desk.saw(&about, &stored.digest);
                        pending.came(about, &stored);
                    }
                    // Of what outside did the guest was told.
                    Err(refusal) if refusal.status == 500 => pending.lost(refusal.reason),
                    Err(_) => {}
                }
            });
        }
        respond::file(found, request.headers(), only_head)
    }
}

pub(crate) fn no_binary_index() -> Refusal {
    Refusal::not_found("dsimg's mirror has indexes in plain text: PACKAGES.gz, PACKAGES")
}

pub(crate) fn r_about(file: &RFile, address: &Address) -> About {
    match file {
        RFile::Index { repository, .. } => {
            About { kind: FetchedKind::RIndex, repository: repository.clone(), ..About::file(address) }
        }
        RFile::Package { repository, name, version } => About {
            kind: FetchedKind::RPackage,
            repository: repository.clone(),
            name: name.clone(),
            version: version.clone(),
            ..About::file(address)
        },
        RFile::BinaryIndex | RFile::Other => About::file(address),
    }
}

impl About {
    pub(crate) fn file(address: &Address) -> Self {
        let (url, kind) = (address.as_str().to_owned(), FetchedKind::File);
        Self { kind, url, repository: String::new(), name: String::new(), version: String::new(), arch: String::new() }
    }
}
