//! What the packages of a lock say of their licences.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dsimg_licence::{Kind, Licence, LicenceError, licence_of};
use dsimg_manifest::Lock;
use dsimg_manifest::lock::Artifact;
use dsimg_plan::Digest;
use dsimg_store::Store;

/// What `before` does not know is read from each package's file in the store, on all processors: a deb takes a tenth of a
/// second, as the licence is behind its other files. Those that can't be read are given back, and stay without a licence.
pub(super) fn fill_licences(lock: &mut Lock, before: Option<Lock>, store: &Store) -> Vec<LicenceError> {
    let known = before.map(known_licences).unwrap_or_default();
    let files = files(lock, &known, store);
    let (licences, unreadable) = read_all(&files);
    for (kind, artifact, licence) in packages(lock) {
        let Some(artifact) = artifact else { continue };
        let key = (order(kind), artifact.sha256.clone());
        let read = licences.get(&key).map(|licence| licence.as_str().to_owned());
        *licence = read.or_else(|| known.get(&key).cloned().flatten());
    }
    unreadable
}

type Key = (u8, String);

/// By file; `None` for those that say nothing. A lock without any licence was written before these were read.
fn known_licences(mut before: Lock) -> BTreeMap<Key, Option<String>> {
    let known: BTreeMap<_, _> = packages(&mut before)
        .filter_map(|(kind, artifact, licence)| Some(((order(kind), artifact?.sha256.clone()), licence.clone())))
        .collect();
    if known.values().any(Option::is_some) { known } else { BTreeMap::new() }
}

fn order(kind: Kind) -> u8 {
    match kind {
        Kind::Deb => 0,
        Kind::Python => 1,
        Kind::R => 2,
    }
}

fn packages(lock: &mut Lock) -> impl Iterator<Item = (Kind, Option<&Artifact>, &mut Option<String>)> {
    let deb = lock.deb.iter_mut().map(|one| (Kind::Deb, one.artifact.as_ref(), &mut one.licence));
    let pypi = lock.pypi.iter_mut().map(|one| (Kind::Python, one.artifact.as_ref(), &mut one.licence));
    let cran = lock.cran.iter_mut().map(|one| (Kind::R, one.artifact.as_ref(), &mut one.licence));
    deb.chain(pypi).chain(cran)
}

/// Each once: a distribution may be in several environments.
fn files(lock: &mut Lock, known: &BTreeMap<Key, Option<String>>, store: &Store) -> Vec<(Key, Kind, PathBuf)> {
    let mut files = BTreeMap::new();
    for (kind, artifact, _) in packages(lock) {
        let Some(artifact) = artifact else { continue };
        let key = (order(kind), artifact.sha256.clone());
        let path = Digest::parse(&artifact.sha256).and_then(|digest| store.find(&digest));
        if let Some(path) = path.filter(|_| !known.contains_key(&key)) {
            files.insert(key, (kind, path));
        }
    }
    files.into_iter().map(|(key, (kind, path))| (key, kind, path)).collect()
}

fn read_all(files: &[(Key, Kind, PathBuf)]) -> (BTreeMap<Key, Licence>, Vec<LicenceError>) {
    let (next, found) = (AtomicUsize::new(0), Mutex::new((BTreeMap::new(), Vec::new())));
    let work = || {
        while let Some((key, kind, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let licence = licence_of(*kind, path);
            let mut found = found.lock().expect("nobody panics with it");
            match licence {
                Ok(Some(licence)) => drop(found.0.insert(key.clone(), licence)),
                Ok(None) => {}
                Err(error) => found.1.push(error),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    found.into_inner().expect("nobody panics with it")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use dsimg_manifest::lock::Distribution;

    use super::*;

    fn wheel(licence: &str) -> Vec<u8> {
        let mut wheel = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        wheel.start_file("a-1.dist-info/METADATA", stored).unwrap();
        write!(wheel, "Metadata-Version: 2.4\nName: a\nVersion: 1\nLicense-Expression: {licence}\n\n").unwrap();
        wheel.finish().unwrap().into_inner()
    }

    fn distribution(sha256: &Digest, location: &str) -> Distribution {
        Distribution {
            name: "a".to_owned(),
            version: "1".to_owned(),
            location: location.to_owned(),
            requested: true,
            stage: "python".to_owned(),
            passing: false,
            index: String::new(),
            licence: None,
            artifact: Some(Artifact { url: "https://x/a".to_owned(), sha256: sha256.to_string(), size: 1 }),
        }
    }

    #[test]
    fn licences_are_read_from_the_packages_in_the_store() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let good = store.put_bytes(&wheel("BSD-3-Clause")).unwrap().digest;
        let bad = store.put_bytes(b"no wheel").unwrap().digest;
        let gone = Digest::of_bytes(b"not in the store");
        let pypi = [(&good, "/a"), (&good, "/b"), (&bad, "/a"), (&gone, "/a")];
        let mut lock =
            Lock { pypi: pypi.iter().map(|(digest, place)| distribution(digest, place)).collect(), ..Lock::default() };
        let unreadable = fill_licences(&mut lock, None, &store);
        let licences: Vec<_> = lock.pypi.iter().map(|one| one.licence.as_deref()).collect();
        assert_eq!(licences, [Some("BSD-3-Clause"), Some("BSD-3-Clause"), None, None]);
        assert_eq!(unreadable.len(), 1, "{unreadable:?}");
        // What an earlier lock knows is not read again, and what it does not know of these bytes is not there.
        let mut before = lock.clone();
        before.pypi[0].licence = Some("MIT".to_owned());
        before.pypi[1].licence = Some("MIT".to_owned());
        let unreadable = fill_licences(&mut lock, Some(before), &store);
        assert_eq!(lock.pypi[0].licence.as_deref(), Some("MIT"));
        assert_eq!(unreadable.len(), 0, "{unreadable:?}");
    }
}
