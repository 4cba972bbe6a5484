//! What a lock names, as blobs of a bundle.

use std::collections::BTreeSet;

use dsimg_machine::KnownBase;
use dsimg_manifest::Lock;
use dsimg_manifest::lock::Artifact;
use dsimg_plan::Digest;
use dsimg_store::{BundleBlob, Store};

use super::BundleFault;

/// Packages, tools, files, and what the lists of packages are made of, where the store has that: a host that got the lock without its
/// store makes these lists of the packages.
///
/// # Errors
/// An entry has no digest that could be one.
pub fn blobs_of(lock: &Lock, store: &Store) -> Result<BTreeSet<BundleBlob>, BundleFault> {
    let artifact = |artifact: &Artifact| blob(&artifact.sha256, artifact.file_name().to_owned());
    let indexes = lock.indexes.iter().flat_map(|index| {
        [
            blob(&index.in_release, format!("{}.InRelease", index.id)),
            blob(&index.entries, format!("{}.Packages", index.id)),
        ]
    });
    let is_here = |blob: &Result<BundleBlob, _>| blob.as_ref().map_or(true, |blob| store.find(&blob.digest).is_some());
    lock.artifacts().map(artifact).chain(indexes.filter(is_here)).collect()
}

/// The base's disk, from where it is.
#[must_use]
pub fn blob_of_base(base: &KnownBase) -> BundleBlob {
    let image = &base.image;
    BundleBlob {
        digest: image.sha256.clone(),
        name: format!("base-{}.qcow2", image.sha256.short()),
        compress: true,
        file: Some(image.path.clone()),
    }
}

/// Names of those that are not in the store.
#[must_use]
pub fn missing(blobs: &BTreeSet<BundleBlob>, store: &Store) -> Vec<String> {
    let is_missing = |blob: &&BundleBlob| blob.file.is_none() && store.size_of(&blob.digest).is_none();
    blobs.iter().filter(is_missing).map(|blob| blob.name.clone()).collect()
}

fn blob(sha256: &str, name: String) -> Result<BundleBlob, BundleFault> {
    match Digest::parse(sha256) {
        Some(digest) => Ok(BundleBlob { digest, name, compress: false, file: None }),
        None => Err(BundleFault::NoDigest { name }),
    }
}
