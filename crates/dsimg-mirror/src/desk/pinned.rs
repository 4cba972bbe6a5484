//! Requests answered from a lock.

use super::{
    About, Address, AptFile, Arc, Desk, Expected, FetchedKind, Found, Incoming, RFile, Refusal, Reply, Request, Wanted,
    no_binary_index, place, python, r_about, respond,
};
use crate::apt::locked::{Made, gzip};
use crate::ask::Ask;
use crate::pins::{Pin, Pinned};
use crate::python::{metadata, render};
use crate::r::locked::{description, entry};
use crate::transfer::broken_thread;
use hyper::header::ACCEPT;
use tokio::task::spawn_blocking;

const NOT_LOCKED: &str = "to take it into the lock, run `dsimg lock`";

impl Desk {
    /// `None` for what comes from outside.
    pub(super) async fn pinned_reply(
        self: &Arc<Self>,
        pinned: &Pinned,
        ask: &Ask,
        request: &Request<Incoming>,
    ) -> Result<Option<Reply>, Refusal> {
        if let Some(pin) = pinned.file(ask.address()) {
            return self.pinned_file(pin, about(ask), request).await.map(Some);
        }
        let made = match ask {
            Ask::Apt(address) if pinned.exclusive => self.locked_apt(pinned, address),
            Ask::Apt(address) => self.partly_apt(pinned, address).await.transpose(),
            Ask::PythonPage(page) => match pinned.python.page(page) {
                Some(page) => {
                    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
                    let (bytes, content_type) = render::render(&page, accept);
                    Some(Ok(respond::page(bytes, content_type)))
                }
                // It came from another index.
                None if pinned.python.has(&page.name) => {
                    Some(Err(Refusal::not_found(format!("{} is not in the lock from {}", page.name, page.index))))
                }
                None => None,
            },
            Ask::PythonFile(address) => self.locked_metadata(pinned, address).await.transpose(),
            Ask::R(address) => self.locked_r(pinned, address, request).await.transpose(),
            Ask::File(_) => None,
        };
        match made {
            Some(reply) => reply.map(Some),
            None if pinned.exclusive => Err(self.miss(ask)),
            None => Ok(None),
        }
    }

    fn miss(&self, ask: &Ask) -> Refusal {
        let what = match ask {
            Ask::PythonPage(page) => format!("Python package {}", page.name),
            Ask::Apt(address) | Ask::PythonFile(address) | Ask::R(address) | Ask::File(address) => address.to_string(),
        };
        let why = format!("{what} is not in the lock");
        self.records.miss(&what, &why);
        Refusal::not_found(why).hint(NOT_LOCKED)
    }

    /// From the store; else from where it came from, if it is still the same there.
    async fn pinned_found(&self, pin: &Pin) -> Result<Found, Refusal> {
        let expected = Expected { sha256: Some(pin.sha256.clone()), size: Some(pin.size) };
        let found = self.fetcher.find(Wanted { expected, ..Wanted::any(pin.address.clone()) }).await;
        found.map_err(|refusal| {
            let Refusal { status, reason, hint } = refusal;
            let told = format!("{} is in the lock and not in the package store: {reason}", pin.shown);
            let advice =
                "take a store or a bundle (`dsimg bundle`) that has it, or run `dsimg lock` for what there is now";
            // Not 404: the guest's tools would take it for a package that there never was.
            let status = if status == 404 { 502 } else { status };
            Refusal::new(status, told).hint(hint.filter(|_| status == 500).unwrap_or_else(|| advice.to_owned()))
        })
    }

    async fn pinned_file(
        self: &Arc<Self>,
        pin: &Pin,
        about: About,
        request: &Request<Incoming>,
    ) -> Result<Reply, Refusal> {
        let found = self.pinned_found(pin).await?;
        let about = About { url: pin.address.as_str().to_owned(), ..about };
        Ok(self.deliver(found, about, request))
    }

    fn locked_apt(&self, pinned: &Pinned, address: &Address) -> Option<Result<Reply, Refusal>> {
        Some(match pinned.apt.make(&AptFile::of(address, &self.lists.suites()))? {
            Made::Bytes(bytes) => Ok(respond::page(bytes, "application/octet-stream")),
            Made::Absent(why) => Err(Refusal::not_found(why)),
        })
    }

    /// The metadata beside a locked wheel, out of it.
    async fn locked_metadata(&self, pinned: &Pinned, address: &Address) -> Result<Option<Reply>, Refusal> {
        let wheel = address.as_str().strip_suffix(".metadata").and_then(Address::parse).map(|(wheel, _)| wheel);
        let Some(pin) = wheel.and_then(|wheel| pinned.file(&wheel).cloned()) else { return Ok(None) };
        let found = self.pinned_found(&pin).await?;
        let bytes = self.of_whole(found, move |wheel| metadata::of_wheel(wheel, &pin.shown)).await?;
        Ok(Some(respond::page(bytes, "application/octet-stream")))
    }

    /// Reads something out of a file when all of it is there.
    async fn of_whole<T: Send + 'static>(
        &self,
        found: Found,
        read: impl FnOnce(&std::fs::File) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let file = found.file();
        found.whole().await?;
        spawn_blocking(move || read(&file)).await.map_err(|stopped| broken_thread(&stopped))?
    }

    async fn locked_r(
        self: &Arc<Self>,
        pinned: &Pinned,
        address: &Address,
        request: &Request<Incoming>,
    ) -> Result<Option<Reply>, Refusal> {
        match RFile::of(address) {
            RFile::BinaryIndex => Err(no_binary_index()),
            RFile::Index { repository, gzip: packed } if pinned.exclusive => {
                let index = self.locked_r_entries(pinned, &repository).await?.into_bytes();
                Ok(Some(respond::page(if packed { gzip(&index) } else { index }, "application/octet-stream")))
            }
            RFile::Package { repository, name, version } => {
                let package = pinned.r.find(&repository, &name, &version);
                let artifact = package.and_then(|package| package.artifact.as_ref());
                let place = artifact.and_then(|artifact| Address::parse(&artifact.url));
                match place.and_then(|(place, _)| pinned.file(&place).cloned()) {
                    Some(pin) => {
                        let about = r_about(&RFile::of(address), address);
                        self.pinned_file(&pin, about, request).await.map(Some)
                    }
                    None => Ok(None),
                }
            }
            RFile::Index { repository, gzip: packed } => {
                self.partly_r(pinned, address, &repository, packed).await.map(Some)
            }
            RFile::Other => Ok(None),
        }
    }

    /// An index's entries of the lock's packages, from their DESCRIPTIONs.
    pub(super) async fn locked_r_entries(&self, pinned: &Pinned, repository: &str) -> Result<String, Refusal> {
        let mut index = String::new();
        for package in pinned.r.packages(repository) {
            let Some(artifact) = &package.artifact else { continue };
            let Some(pin) = Address::parse(&artifact.url).and_then(|(place, _)| pinned.file(&place).cloned()) else {
                continue;
            };
            let found = self.pinned_found(&pin).await?;
            let description = self.of_whole(found, move |package| description(package, &pin.shown)).await?;
            index.push_str(&entry(&description));
        }
        Ok(index)
    }
}

/// What a file of the lock is recorded as.
fn about(ask: &Ask) -> About {
    match ask {
        Ask::Apt(address) => match place::names_of_file(address.file_name()) {
            Some((name, version, arch)) => {
                About { kind: FetchedKind::AptPackage, name, version, arch, ..About::file(address) }
            }
            None => About::file(address),
        },
        Ask::PythonFile(address) => python::python_about(address, None),
        Ask::R(address) => r_about(&RFile::of(address), address),
        Ask::PythonPage(page) => About::file(&page.address),
        Ask::File(address) => About::file(address),
    }
}
