//! A stage's files on their way into the guest: one tar stream for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use dsimg_machine::RunContext;
use dsimg_plan::plan::{FileKind, PlannedFile};
use dsimg_plan::{Digest, Step};
use dsimg_template::secret::{self, Secret};

use crate::error::BuildError;
use crate::guest::Guest;

/// Where the files of a stage come from and what is put into their placeholders.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The template's folder.
    pub folder: &'a Path,
    pub secrets: &'a BTreeMap<String, Secret>,
}

/// Puts everything that these steps upload and write into the guest.
///
/// Texts with secrets go by themselves, so that no file on the host ever holds one.
///
/// # Errors
/// A file that changed since the plan was made, or that the guest does not take.
pub(crate) async fn put_files(
    steps: &[Step],
    stage: &str,
    sources: Sources<'_>,
    guest: &Guest<'_>,
    run: &RunContext,
) -> Result<(), BuildError> {
    let mut texts = Vec::new();
    let mut files = Vec::new();
    for step in steps {
        match step {
            Step::Write { to, mode, content } => texts.push((to.clone(), *mode, content.clone())),
            Step::Upload { files: uploaded } => files.extend(uploaded.iter().cloned()),
            Step::Run { .. } | Step::Fetch { .. } | Step::Reboot => {}
        }
    }
    for file in files.extract_if(.., |file| rendered_secret(file)).collect::<Vec<_>>() {
        if let FileKind::Rendered { content, executable } = file.kind {
            texts.push((file.path, if executable { 0o755 } else { 0o644 }, content));
        }
    }
    let (secret_texts, plain): (Vec<_>, Vec<_>) =
        texts.into_iter().partition(|(_, _, content)| secret::mentions_secret(content));

    if !plain.is_empty() || !files.is_empty() {
        let archive = run.work.join("upload.tar");
        let folder = sources.folder.to_owned();
        let packed = archive.clone();
        tokio::task::spawn_blocking(move || pack(&packed, &plain, &files, &folder))
            .await
            .expect("packing does not panic")?;
        let sent = guest.bring(&archive, "/").await;
        std::fs::remove_file(&archive).map_err(|error| BuildError::file("cannot remove", &archive, error))?;
        sent?;
    }
    for (to, mode, content) in secret_texts {
        let mangled = || BuildError::MangledSecret { stage: stage.to_owned() };
        let content = secret::reveal(&content, sources.secrets).ok_or_else(mangled)?;
        guest.session().write(&to, mode, content.as_bytes()).await.map_err(dsimg_machine::MachineError::from)?;
    }
    Ok(())
}

fn rendered_secret(file: &PlannedFile) -> bool {
    matches!(&file.kind, FileKind::Rendered { content, .. } if secret::mentions_secret(content))
}

fn pack(
    archive: &Path,
    texts: &[(String, u32, String)],
    files: &[PlannedFile],
    folder: &Path,
) -> Result<(), BuildError> {
    let unwritable = |error| BuildError::file("cannot write", archive, error);
    let mut tar = tar::Builder::new(BufWriter::new(File::create(archive).map_err(unwritable)?));
    let mut made = BTreeSet::new();
    for (to, mode, content) in texts {
        append_parents(&mut tar, to, &mut made).map_err(unwritable)?;
        append_bytes(&mut tar, to, *mode, content.as_bytes()).map_err(unwritable)?;
    }
    for file in files {
        append_parents(&mut tar, &file.path, &mut made).map_err(unwritable)?;
        append_file(&mut tar, file, folder, archive)?;
    }
    let unwritable = |error| BuildError::file("cannot write", archive, error);
    tar.into_inner().and_then(|mut file| file.flush()).map_err(unwritable)
}

/// Folders of the build's own are named with their mode; tar makes those of the guest's disk by itself,
/// and leaves the ones that are there as they are.
fn append_parents<W: Write>(tar: &mut tar::Builder<W>, path: &str, made: &mut BTreeSet<String>) -> io::Result<()> {
    let own = format!("{}/", dsimg_plan::make::GUEST_FOLDER);
    let Some(inner) = path.strip_prefix(&own) else { return Ok(()) };
    let mut at = own.trim_end_matches('/').to_owned();
    let parts: Vec<_> = inner.split('/').collect();
    for part in &parts[..parts.len() - 1] {
        at = format!("{at}/{part}");
        if made.insert(at.clone()) {
            append_folder(tar, &at, 0o711)?;
        }
    }
    Ok(())
}

fn append_file<W: Write>(
    tar: &mut tar::Builder<W>,
    file: &PlannedFile,
    folder: &Path,
    archive: &Path,
) -> Result<(), BuildError> {
    let unwritable = |error| BuildError::file("cannot write", archive, error);
    let mode = |executable: bool| if executable { 0o755 } else { 0o644 };
    match &file.kind {
        FileKind::Folder => append_folder(tar, &file.path, 0o755).map_err(unwritable),
        FileKind::Symlink { target } => {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, relative(&file.path), target).map_err(unwritable)
        }
        FileKind::Rendered { content, executable } => {
            append_bytes(tar, &file.path, mode(*executable), content.as_bytes()).map_err(unwritable)
        }
        FileKind::File { sha256, size, executable } => {
            let Some(source) = &file.source else { return Ok(()) };
            let path = folder.join(source);
            let unreadable = |error| BuildError::file("cannot read", &path, error);
            let mut reader = HashingReader::new(File::open(&path).map_err(unreadable)?.take(*size));
            let mut header = header(tar::EntryType::Regular, mode(*executable), *size);
            tar.append_data(&mut header, relative(&file.path), &mut reader).map_err(unwritable)?;
            let (digest, count) = reader.finish();
            let is_longer = reader_has_more(&path, *size).map_err(unreadable)?;
            if digest == *sha256 && count == *size && !is_longer {
                Ok(())
            } else {
                Err(BuildError::Changed { path: source.clone() })
            }
        }
    }
}

fn reader_has_more(path: &Path, size: u64) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.len() > size)
}

pub(crate) fn append_folder<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32) -> io::Result<()> {
    tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), format!("{}/", relative(path)), io::empty())
}

pub(crate) fn append_bytes<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    tar.append_data(&mut header(tar::EntryType::Regular, mode, content.len() as u64), relative(path), content)
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Owned by root, made at the epoch: the same files give the same archive.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1);
    header
}

/// Hashes what passes through.
struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
    count: u64,
}

impl<R> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), count: 0 }
    }

    fn finish(self) -> (Digest, u64) {
        (Digest::of_hasher(self.hasher), self.count)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}
