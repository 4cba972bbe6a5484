//! What the lists of packages that passed through say about the packages.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use dsimg_plan::Digest;
use dsimg_store::Store;
use tokio::task::spawn_blocking;

use crate::apt::place::Repository;
use crate::apt::stanza::{stanzas, text_of};

/// A package as a list has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    pub(crate) sha256: Digest,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) arch: String,
    /// As [`Repository::shown`].
    pub(crate) repository: String,
}

/// Lists are read when they are first needed: reading a large one takes a processor half a second.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    suites: Mutex<BTreeSet<String>>,
    unread: Mutex<Vec<(Repository, Digest)>>,
    /// By address. Who comes while lists are read waits for them.
    read: tokio::sync::Mutex<HashMap<String, Listed>>,
}

impl Lists {
    pub(crate) fn suites(&self) -> BTreeSet<String> {
        self.suites.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An `InRelease` was there.
    pub(crate) fn saw_suite(&self, repository: &Repository) {
        self.suites.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.folder());
    }

    /// A list is in the store.
    pub(crate) fn saw_list(&self, repository: Repository, blob: Digest) {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if !unread.contains(&(repository.clone(), blob.clone())) {
            unread.push((repository, blob));
        }
    }

    /// What the lists say about the package at this address.
    pub(crate) async fn find(&self, address: &str, store: &Store) -> Option<Listed> {
        let mut read = self.read.lock().await;
        let unread = std::mem::take(&mut *self.unread.lock().unwrap_or_else(PoisonError::into_inner));
        for (repository, blob) in unread {
            let store = store.clone();
            let listed = spawn_blocking(move || {
                // A list that can't be read says nothing; the guest's apt says what is wrong with it.
                let text = store.read(&blob).ok().and_then(|bytes| text_of(&bytes).ok()).unwrap_or_default();
                listed(&text, &repository)
            });
            read.extend(listed.await.unwrap_or_default());
        }
        read.get(address).cloned()
    }
}

fn listed(text: &str, repository: &Repository) -> Vec<(String, Listed)> {
    let shown = repository.shown();
    let packages = stanzas(text).filter_map(|stanza| {
        // One walk over the lines: there are a hundred thousand stanzas.
        let [mut name, mut version, mut arch, mut file, mut size, mut sha256] = [""; 6];
        for line in stanza.0.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let place = match key {
                "Package" => &mut name,
                "Version" => &mut version,
                "Architecture" => &mut arch,
                "Filename" => &mut file,
                "Size" => &mut size,
                "SHA256" => &mut sha256,
                _ => continue,
            };
            *place = value.trim();
        }
        let listed = Listed {
            sha256: Digest::parse(sha256)?,
            size: size.parse().ok()?,
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            repository: shown.clone(),
        };
        Some((repository.file(file), listed))
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_packages_by_their_address() {
        let at = Repository { uri: "http://a.org".into(), suite: "x".into(), component: "main".into() };
        let text = format!(
            "Package: a\nVersion: 1:2\nArchitecture: all\nFilename: pool/a_2_all.deb\nSize: 5\nSHA256: {}\n\n\
             Package: old\nFilename: pool/old.deb\nMD5sum: x\n",
            Digest::of_bytes(b"a")
        );
        let found = listed(&text, &at);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.as_str(), found[0].1.version.as_str()), ("http://a.org/pool/a_2_all.deb", "1:2"));
    }
}
