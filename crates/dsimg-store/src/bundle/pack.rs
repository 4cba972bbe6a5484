//! Writing a bundle: one stream, and there whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dsimg_plan::Digest;
use dsimg_plan::inputs::hash_file;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::bundle::layout::{CONFIG, Descriptor, Index, Manifest, json};
use crate::bundle::tar::{END, blob_name, header, padding};
use crate::bundle::{BundleBlob, BundleError, Members, check_name};
use crate::error::StoreError;
use crate::store::{BUFFER, LAYOUT, Store};
use crate::writer::sync_folder;

/// Of zstd: what a disk is packed to in less time than it is read.
const LEVEL: i32 = 6;

/// What one layer's bytes are read from.
enum Content<'a> {
    Bytes(&'a [u8]),
    Blob(&'a BundleBlob),
    Packed(File),
}

/// Writes the members, and the blobs from the store or their files, to `out`, which appears when all of it is on the disk. Blobs are
/// checked while they are read.
///
/// # Errors
/// A blob is missing or damaged, a name is none, or the file can't be written.
pub fn pack(store: &Store, out: &Path, members: &Members, blobs: &BTreeSet<BundleBlob>) -> Result<(), BundleError> {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let layers = layers(store, folder, members, blobs)?;
    let manifest = json(&Manifest::of(layers.iter().map(|(descriptor, _)| descriptor.clone()).collect()));
    let cannot_write = |source| BundleError::file("cannot write", out, source);
    let file = NamedTempFile::new_in(folder).map_err(cannot_write)?;
    let mut output = Output { inner: BufWriter::with_capacity(BUFFER, file), path: out };
    output.file("oci-layout", LAYOUT.as_bytes())?;
    output.file("index.json", &json(&Index::of(&manifest)))?;
    output.file(&blob_name(&Digest::of_bytes(&manifest)), &manifest)?;
    output.file(&blob_name(&Digest::of_bytes(CONFIG)), CONFIG)?;
    let mut written = BTreeSet::from([Digest::of_bytes(&manifest), Digest::of_bytes(CONFIG)]);
    for (descriptor, content) in layers {
        let digest = descriptor.digest().expect("it was made of one");
        if !written.insert(digest.clone()) {
            continue;
        }
        match content {
            Content::Bytes(bytes) => output.file(&blob_name(&digest), bytes)?,
            Content::Blob(blob) => output.blob(store, blob, descriptor.size)?,
            Content::Packed(file) => output.stream(&digest, descriptor.size, file, &descriptor.shown())?,
        }
    }
    output.bytes(&[0; END])?;
    let file = output.inner.into_inner().map_err(|error| cannot_write(error.into_error()))?;
    file.as_file().sync_all().map_err(cannot_write)?;
    file.persist(out).map_err(|error| cannot_write(error.error))?;
    sync_folder(folder.to_owned());
    Ok(())
}

fn layers<'a>(
    store: &Store,
    folder: &Path,
    members: &'a Members,
    blobs: &'a BTreeSet<BundleBlob>,
) -> Result<Vec<(Descriptor, Content<'a>)>, BundleError> {
    let mut layers = Vec::new();
    for (name, bytes) in members {
        check_name(name)?;
        layers.push((Descriptor::member(name, bytes), Content::Bytes(bytes)));
    }
    for blob in blobs {
        let missing = || BundleError::Blob {
            name: blob.name.clone(),
            source: StoreError::Missing { digest: blob.digest.clone() },
        };
        let size = match &blob.file {
            None => store.size_of(&blob.digest).ok_or_else(missing)?,
            Some(path) => fs::metadata(path).map_err(|source| BundleError::file("cannot read", path, source))?.len(),
        };
        layers.push(match blob.compress {
            false => (Descriptor::blob(&blob.name, &blob.digest, size), Content::Blob(blob)),
            true => {
                let (file, digest, packed_size) = compress(store, blob, folder)?;
                let of = Descriptor::packed_blob(&blob.name, &blob.digest, size, &digest, packed_size);
                (of, Content::Packed(file))
            }
        });
    }
    Ok(layers)
}

/// Its size has to be known before it is written, so it is packed beside the bundle first.
fn compress(store: &Store, blob: &BundleBlob, folder: &Path) -> Result<(File, Digest, u64), BundleError> {
    let path = verified(store, blob)?;
    let packed = (|| {
        let mut packed = tempfile::tempfile_in(folder)?;
        zstd::stream::copy_encode(File::open(path)?, BufWriter::with_capacity(BUFFER, &packed), LEVEL)?;
        let size = packed.seek(SeekFrom::End(0))?;
        packed.seek(SeekFrom::Start(0))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match packed.read(&mut buffer)? {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
        packed.seek(SeekFrom::Start(0))?;
        Ok((packed, Digest::of_hasher(hasher), size))
    })();
    packed.map_err(|source| BundleError::file("cannot pack a blob in", folder, source))
}

/// Where the blob is, read back and found good.
fn verified(store: &Store, blob: &BundleBlob) -> Result<PathBuf, BundleError> {
    let Some(path) = &blob.file else {
        let damaged = |source| BundleError::Blob { name: blob.name.clone(), source };
        return store.verified(&blob.digest).map_err(damaged);
    };
    let (found, _) = hash_file(path).map_err(|source| BundleError::file("cannot read", path, source))?;
    if found == blob.digest {
        Ok(path.clone())
    } else {
        Err(BundleError::Changed { path: path.clone(), digest: blob.digest.clone() })
    }
}

struct Output<'a> {
    inner: BufWriter<NamedTempFile>,
    path: &'a Path,
}

impl Output<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        let written = self.inner.write_all(bytes);
        written.map_err(|source| BundleError::file("cannot write", self.path, source))
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let size = bytes.len() as u64;
        self.bytes(&header(name, size))?;
        self.bytes(bytes)?;
        self.bytes(&vec![0; padding(size)])
    }

    fn blob(&mut self, store: &Store, blob: &BundleBlob, size: u64) -> Result<(), BundleError> {
        let path = blob.file.clone().unwrap_or_else(|| store.path_of(&blob.digest));
        let file = File::open(&path).map_err(|source| BundleError::file("cannot read", &path, source))?;
        match self.stream(&blob.digest, size, file, &blob.name) {
            // The store says what is wrong with it, and sets it aside.
            Err(BundleError::Damaged { .. }) => match verified(store, blob) {
                Err(error) => Err(error),
                Ok(path) => Err(BundleError::file("it changed while it was read:", &path, io::ErrorKind::Other.into())),
            },
            other => other,
        }
    }

    /// Exactly these bytes, or an error.
    fn stream(&mut self, digest: &Digest, size: u64, mut from: File, shown: &str) -> Result<(), BundleError> {
        self.bytes(&header(&blob_name(digest), size))?;
        let (mut hasher, mut buffer, mut left) = (Sha256::new(), vec![0; BUFFER], size);
        while left > 0 {
            let most = left.min(BUFFER as u64) as usize;
            let read = from.read(&mut buffer[..most]);
            let length = read.map_err(|source| BundleError::file("cannot read a blob for", self.path, source))?;
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            self.bytes(&buffer[..length])?;
            left -= length as u64;
        }
        if left > 0 || Digest::of_hasher(hasher) != *digest {
            let what = format!("{shown} is not what it was when it was stored");
            return Err(BundleError::Damaged { path: self.path.to_owned(), what });
        }
        self.bytes(&vec![0; padding(size)])
    }
}
