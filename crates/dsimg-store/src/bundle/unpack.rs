//! Reading a bundle. Each header, each file and each gap is compared with what must be there; nothing of it is in the
//! store before all of it was found good.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use dsimg_plan::Digest;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::bundle::layout::{CONFIG, Descriptor, Index, Manifest};
use crate::bundle::tar::{BLOCK, END, blob_name, header, padding};
use crate::bundle::{BundleError, Members, check_name};
use crate::error::StoreError;
use crate::store::{BUFFER, LAYOUT, Store};
use crate::writer::sync_folder;

const MOST_OF_INDEX: u64 = 64 << 10;
const MOST_OF_MANIFEST: u64 = 256 << 20;
const MOST_OF_MEMBER: u64 = 256 << 20;

/// Puts the bundle's blobs into the store, and gives back its members.
///
/// # Errors
/// It is no bundle, a byte of it is not as it must be (named by what it belongs to), or the store can't take it.
pub fn unpack(bundle: &Path, store: &Store) -> Result<Members, BundleError> {
    let file = File::open(bundle).map_err(|source| BundleError::file("cannot read", bundle, source))?;
    let mut input = Input { inner: BufReader::with_capacity(BUFFER, file), path: bundle };
    let manifest = input.manifest()?;
    let staging = Staging::new(store)?;
    let (mut members, mut staged) = (Members::new(), BTreeSet::new());
    let mut seen = BTreeSet::from([manifest.0, Digest::of_bytes(CONFIG)]);
    for layer in &manifest.1.layers {
        let digest = layer.digest().ok_or_else(|| input.damaged(format!("{} has no sha256", layer.shown())))?;
        let is_new = seen.insert(digest.clone());
        match (layer.title(), layer.plain()) {
            (Some(title), _) => {
                check_name(title)?;
                let same = members.values().find(|bytes| Digest::of_bytes(bytes) == digest).cloned();
                let bytes = match same {
                    Some(bytes) if !is_new => bytes,
                    _ if digest == Digest::of_bytes(CONFIG) => CONFIG.to_vec(),
                    _ => input.member(layer, &digest)?,
                };
                members.insert(title.to_owned(), bytes);
            }
            (None, _) if !is_new => {
                // A file of somebody's may be the same as a member.
                let mut of_member = members.values().map(Vec::as_slice).chain([CONFIG]);
                let same = of_member.find(|bytes| Digest::of_bytes(bytes) == digest).map(<[u8]>::to_vec);
                if let Some(bytes) = same.filter(|_| !staged.contains(&digest)) {
                    staging.file(&digest)?.write(&bytes)?;
                    staged.insert(digest);
                }
            }
            (None, None) => {
                input.blob(layer, &digest, &mut staging.file(&digest)?)?;
                staged.insert(digest);
            }
            (None, Some(plain)) => {
                let (plain, size) =
                    plain.map_err(|()| input.damaged(format!("{} is packed, and does not say what", layer.shown())))?;
                input.packed(layer, &digest, (&plain, size), staging.file(&plain)?)?;
                staged.insert(plain);
            }
        }
    }
    input.end()?;
    staging.publish(&staged)?;
    Ok(members)
}

struct Input<'a> {
    inner: BufReader<File>,
    path: &'a Path,
}

impl Input<'_> {
    fn damaged(&self, what: impl Into<String>) -> BundleError {
        BundleError::Damaged { path: self.path.to_owned(), what: what.into() }
    }

    fn no_bundle(&self, what: impl Into<String>) -> BundleError {
        BundleError::NotABundle { path: self.path.to_owned(), what: what.into() }
    }

    /// Fills the buffer; `shown` names what it belongs to.
    fn exactly(&mut self, buffer: &mut [u8], shown: &str) -> Result<(), BundleError> {
        match self.inner.read_exact(buffer) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(format!("it ends within {shown}")))
            }
            Err(error) => Err(BundleError::file("cannot read", self.path, error)),
        }
    }

    fn bytes(&mut self, size: u64, most: u64, shown: &str) -> Result<Vec<u8>, BundleError> {
        if size > most {
            return Err(self.damaged(format!("{shown} has {size} bytes, more than the {most} that it may have")));
        }
        let mut bytes = vec![0; size as usize];
        self.exactly(&mut bytes, shown)?;
        Ok(bytes)
    }

    fn header(&mut self, name: &str, size: u64, shown: &str) -> Result<(), BundleError> {
        let mut found = [0; BLOCK];
        self.exactly(&mut found, &format!("the header of {shown}"))?;
        if found == header(name, size) {
            Ok(())
        } else {
            Err(self.damaged(format!("the header of {shown} was changed")))
        }
    }

    fn padding(&mut self, size: u64, shown: &str) -> Result<(), BundleError> {
        let mut gap = vec![0; padding(size)];
        self.exactly(&mut gap, &format!("the gap after {shown}"))?;
        match gap.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(self.damaged(format!("the gap after {shown} was changed"))),
        }
    }

    /// All before the layers.
    fn manifest(&mut self) -> Result<(Digest, Manifest), BundleError> {
        let start = format!("{}{LAYOUT}", String::from_utf8_lossy(&header("oci-layout", LAYOUT.len() as u64)));
        let mut found = vec![0; start.len()];
        if self.exactly(&mut found, "its beginning").is_err() || found != start.as_bytes() {
            return Err(self.no_bundle("it does not begin as one"));
        }
        self.padding(LAYOUT.len() as u64, "oci-layout")?;
        let index = self.index()?;
        let descriptor = index.manifest().cloned().zip(index.manifest().and_then(Descriptor::digest));
        let (descriptor, digest) = descriptor.ok_or_else(|| self.no_bundle("its index names no manifest"))?;
        let bytes = self.known(&digest, descriptor.size, MOST_OF_MANIFEST, "the manifest")?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| self.no_bundle(error.to_string()))?;
        if !manifest.is_a_bundle_s() {
            return Err(self.no_bundle("its manifest is of something else"));
        }
        self.known(&Digest::of_bytes(CONFIG), CONFIG.len() as u64, MOST_OF_MEMBER, "the configuration")?;
        Ok((digest, manifest))
    }

    /// The only file whose size is not known before.
    fn index(&mut self) -> Result<Index, BundleError> {
        let mut found = [0; BLOCK];
        self.exactly(&mut found, "the header of index.json")?;
        let size = ::tar::Header::from_byte_slice(&found).size().ok().filter(|size| *size <= MOST_OF_INDEX);
        let size = size.filter(|size| found == header("index.json", *size));
        let size = size.ok_or_else(|| self.damaged("the header of index.json was changed"))?;
        let bytes = self.bytes(size, MOST_OF_INDEX, "index.json")?;
        let index: Option<Index> = serde_json::from_slice(&bytes).ok();
        match index.filter(|index| index.is_canonical(&bytes)) {
            Some(index) => self.padding(size, "index.json").map(|()| index),
            None => Err(self.damaged("index.json was changed")),
        }
    }

    /// A file that is read as a whole.
    fn known(&mut self, digest: &Digest, size: u64, most: u64, shown: &str) -> Result<Vec<u8>, BundleError> {
        self.header(&blob_name(digest), size, shown)?;
        let bytes = self.bytes(size, most, shown)?;
        if Digest::of_bytes(&bytes) != *digest {
            return Err(self.damaged(format!("{shown} was changed")));
        }
        self.padding(size, shown)?;
        Ok(bytes)
    }

    fn member(&mut self, layer: &Descriptor, digest: &Digest) -> Result<Vec<u8>, BundleError> {
        self.known(digest, layer.size, MOST_OF_MEMBER, &layer.shown())
    }

    fn blob(&mut self, layer: &Descriptor, digest: &Digest, to: &mut StagedFile) -> Result<(), BundleError> {
        self.header(&blob_name(digest), layer.size, &layer.shown())?;
        self.copy(layer, digest, |bytes| to.write(bytes))?;
        self.padding(layer.size, &layer.shown())
    }

    fn packed(
        &mut self,
        layer: &Descriptor,
        digest: &Digest,
        (plain, size): (&Digest, u64),
        to: StagedFile,
    ) -> Result<(), BundleError> {
        let shown = layer.shown();
        self.header(&blob_name(digest), layer.size, &shown)?;
        let path = to.path.clone();
        let mut decoder = zstd::stream::write::Decoder::new(Limited { to, hasher: Sha256::new(), left: size })
            .map_err(|source| BundleError::file("cannot unpack a blob to", &path, source))?;
        let mut unpacked = Ok(());
        self.copy(layer, digest, |bytes| {
            // What is wrong with its bytes is told first: they are all read.
            if unpacked.is_ok() {
                unpacked = decoder.write_all(bytes);
            }
            Ok(())
        })?;
        let unpacked = unpacked.and_then(|()| decoder.flush());
        let Limited { hasher, left, .. } = decoder.into_inner();
        unpacked.map_err(|error| self.damaged(format!("{shown} can't be unpacked: {error}")))?;
        if left > 0 || Digest::of_hasher(hasher) != *plain {
            return Err(self.damaged(format!("{shown} unpacks to something else")));
        }
        self.padding(layer.size, &shown)
    }

    fn copy(
        &mut self,
        layer: &Descriptor,
        digest: &Digest,
        mut take: impl FnMut(&[u8]) -> Result<(), BundleError>,
    ) -> Result<(), BundleError> {
        let (mut hasher, mut buffer, mut left) = (Sha256::new(), vec![0; BUFFER], layer.size);
        while left > 0 {
            let length = left.min(BUFFER as u64) as usize;
            self.exactly(&mut buffer[..length], &layer.shown())?;
            hasher.update(&buffer[..length]);
            take(&buffer[..length])?;
            left -= length as u64;
        }
        if Digest::of_hasher(hasher) == *digest {
            Ok(())
        } else {
            Err(self.damaged(format!("{} was changed", layer.shown())))
        }
    }

    fn end(&mut self) -> Result<(), BundleError> {
        let mut end = Vec::new();
        let read = self.inner.by_ref().take(END as u64 + 1).read_to_end(&mut end);
        read.map_err(|source| BundleError::file("cannot read", self.path, source))?;
        if end == [0; END] { Ok(()) } else { Err(self.damaged("its end was changed")) }
    }
}

/// Takes no more than was promised.
struct Limited {
    to: StagedFile,
    hasher: Sha256,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        self.left =
            self.left.checked_sub(length).ok_or_else(|| io::Error::other("there is more in it than it says"))?;
        self.hasher.update(bytes);
        self.to.file.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Blobs that wait beside the store until all are there. Dropped, they go.
struct Staging<'a> {
    store: &'a Store,
    folder: TempDir,
    /// Locked, so that who sweeps leftovers sees that it lives.
    _lock: File,
}

struct StagedFile {
    file: File,
    path: PathBuf,
}

impl<'a> Staging<'a> {
    fn new(store: &'a Store) -> Result<Self, BundleError> {
        let incoming = store.incoming();
        let cannot = |source| BundleError::file("cannot make a folder in", &incoming, source);
        let folder = TempDir::new_in(&incoming).map_err(cannot)?;
        let lock = File::open(folder.path()).map_err(cannot)?;
        // No harm where the file system has no locks.
        let _unlocked = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        Ok(Self { store, folder, _lock: lock })
    }

    fn file(&self, digest: &Digest) -> Result<StagedFile, BundleError> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.folder.path().join(digest.as_str());
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|source| BundleError::file("cannot write", &path, source))?;
        Ok(StagedFile { file, path })
    }

    fn publish(self, digests: &BTreeSet<Digest>) -> Result<(), BundleError> {
        let staged = |digest: &Digest| self.folder.path().join(digest.as_str());
        for digest in digests {
            let path = staged(digest);
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|source| BundleError::file("cannot write", &path, source))?;
        }
        for digest in digests {
            let (from, to) = (staged(digest), self.store.path_of(digest));
            fs::rename(&from, &to).map_err(|source| StoreError::file("cannot write", &to, source))?;
        }
        sync_folder(self.store.blobs());
        Ok(())
    }
}

impl StagedFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        self.file.write_all(bytes).map_err(|source| BundleError::file("cannot write", &self.path, source))
    }
}
