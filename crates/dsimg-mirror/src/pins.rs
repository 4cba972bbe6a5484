//! What is bound to a lock.

use std::collections::{BTreeMap, BTreeSet};

use dsimg_manifest::lock::{Artifact, Lock};
use dsimg_plan::Digest;

use crate::address::Address;
use crate::apt::locked::LockedApt;
use crate::apt::regained::regained;
use crate::error::MirrorError;
use crate::fetch::Fetcher;
use crate::python::locked::LockedPython;
use crate::r::locked::LockedR;

/// A lock, and how far it binds.
#[derive(Debug, Clone)]
pub struct Pins {
    pub lock: Lock,
    /// Nothing is given but what the lock has. Else, packages that it does not have come from outside.
    pub exclusive: bool,
    /// Names of packages of the lock that come from outside all the same, where it is not exclusive.
    pub free: BTreeSet<String>,
}

/// A lock, ready to answer from.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) exclusive: bool,
    pub(crate) apt: LockedApt,
    pub(crate) python: LockedPython,
    pub(crate) r: LockedR,
    /// All that the lock has bytes of, by its address.
    files: BTreeMap<Address, Pin>,
}

/// One file of a lock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pin {
    pub(crate) address: Address,
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
    /// `git 1:2.47.3`, or a file's name.
    pub(crate) shown: String,
}

impl Pinned {
    /// What the lock's lists were made of is fetched where the store does not have it.
    pub(crate) async fn read(mut pins: Pins, fetcher: &Fetcher) -> Result<Self, MirrorError> {
        if !pins.exclusive {
            free(&mut pins.lock, &pins.free);
        }
        let regained = regained(&pins.lock, fetcher).await?;
        let lock = &pins.lock;
        let mut files = BTreeMap::new();
        let deb = lock.deb.iter().map(|deb| (deb.artifact.as_ref(), format!("{} {}", deb.name, deb.version)));
        let pypi = lock
            .pypi
            .iter()
            .map(|package| (package.artifact.as_ref(), format!("{} {}", package.name, package.version)));
        let cran = lock
            .cran
            .iter()
            .map(|package| (package.artifact.as_ref(), format!("{} {}", package.name, package.version)));
        let other = lock.files.iter().map(|file| (Some(&file.artifact), file.artifact.file_name().to_owned()));
        for (artifact, shown) in deb.chain(pypi).chain(cran).chain(other) {
            let Some(artifact) = artifact else { continue };
            let pin = Pin::of(artifact, shown)?;
            files.insert(pin.address.clone(), pin);
        }
        let (apt, python, r) =
            (LockedApt::read(lock, regained, &fetcher.store)?, LockedPython::read(lock), LockedR::read(lock));
        Ok(Self { exclusive: pins.exclusive, apt, python, r, files })
    }

    pub(crate) fn file(&self, address: &Address) -> Option<&Pin> {
        self.files.get(address)
    }
}

impl Pin {
    pub(crate) fn of(artifact: &Artifact, shown: String) -> Result<Self, MirrorError> {
        let parsed = Address::parse(&artifact.url).zip(Digest::parse(&artifact.sha256));
        match parsed {
            Some(((address, _), sha256)) => Ok(Self { address, sha256, size: artifact.size, shown }),
            None => Err(MirrorError::Unreadable {
                what: format!("the lock's entry of {shown} has no address and sha256 that can be used"),
                hint: "make the lock anew with `dsimg lock`",
            }),
        }
    }
}

/// Takes packages out of the lock.
fn free(lock: &mut Lock, names: &BTreeSet<String>) {
    lock.deb.retain(|deb| !names.contains(&deb.name));
    lock.pypi.retain(|package| !names.contains(&package.name));
    lock.cran.retain(|package| !names.contains(&package.name));
}
