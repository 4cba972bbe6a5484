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

/// Reads each package's file in the store, on all processors: a deb takes some milliseconds. Those that can't be read are
/// given back, and stay without a licence.
pub(super) fn fill_licences(lock: &mut Lock, store: &Store) -> Vec<LicenceError> {
    let files = files(lock, store);
    let (licences, unreadable) = read_all(&files);
    for (kind, artifact, licence) in packages(lock) {
        let key = artifact.map(|artifact| (order(kind), artifact.sha256.clone()));
        *licence = key.and_then(|key| licences.get(&key).cloned()).map(|licence| licence.as_str().to_owned());
    }
    unreadable
}

type Key = (u8, String);

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
fn files(lock: &mut Lock, store: &Store) -> Vec<(Key, Kind, PathBuf)> {
    let mut files = BTreeMap::new();
    for (kind, artifact, _) in packages(lock) {
        let Some(artifact) = artifact else { continue };
        if let Some(path) = Digest::parse(&artifact.sha256).and_then(|digest| store.find(&digest)) {
            files.insert((order(kind), artifact.sha256.clone()), (kind, path));
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

    use dsimg_manifest::lock::{Distribution, LockedBase};

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
        let base = LockedBase { kind: String::new(), source: String::new(), id: None, sha256: String::new() };
        let gone = Digest::of_bytes(b"not in the store");
        let pypi = [(&good, "/a"), (&good, "/b"), (&bad, "/a"), (&gone, "/a")];
        let mut lock = Lock {
            epoch: 0,
            base,
            tools: Vec::new(),
            stages: Vec::new(),
            indexes: Vec::new(),
            deb: Vec::new(),
            pypi: pypi.iter().map(|(digest, place)| distribution(digest, place)).collect(),
            cran: Vec::new(),
            files: Vec::new(),
            unfrozen: Vec::new(),
            image: None,
        };
        let unreadable = fill_licences(&mut lock, &store);
        let licences: Vec<_> = lock.pypi.iter().map(|one| one.licence.as_deref()).collect();
        assert_eq!(licences, [Some("BSD-3-Clause"), Some("BSD-3-Clause"), None, None]);
        assert_eq!(unreadable.len(), 1, "{unreadable:?}");
    }
}
