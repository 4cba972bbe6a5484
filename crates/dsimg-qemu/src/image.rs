//! The disk of a machine that is off becomes the image's files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use futures_util::future::try_join_all;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use dsimg_machine::{Artifact, MachineError, RunContext};
use dsimg_plan::Digest;
use dsimg_template::template::{Compression, DiskFormat};

use crate::disk::{QemuImg, Target};

/// Writes one file for each format into `folder`, checks it, brings it safely to the host's disk and hashes it.
/// The formats are written side by side: one waits for the disk while another compresses.
pub(crate) async fn write_image(
    tools: &QemuImg,
    disk: &Path,
    (name, folder): (&str, &Path),
    (formats, compression): (&[DiskFormat], Compression),
    run: &RunContext,
) -> Result<Vec<Artifact>, MachineError> {
    let virtual_size = tools.info(disk, Some("qcow2"), run).await?.virtual_size;
    let writing = formats.iter().map(|format| async move {
        let file = format!("{name}.{}", format.as_str());
        let path = folder.join(&file);
        let target = Target { format: *format, compression };
        tools.convert((disk, "qcow2"), (&path, target), (&file, virtual_size), run).await?;
        tools.check(&path, *format, run).await?;
        let (size, sha256) = settle(&path, &run.cancel).await?;
        Ok(Artifact { file, format: format.as_str().to_owned(), size, sha256, virtual_size })
    });
    try_join_all(writing).await
}

/// Brings a file safely to the disk and gives its size and sha256.
///
/// # Errors
/// The file can't be read or synced, or the build was cancelled.
pub(crate) async fn settle(path: &Path, cancel: &CancellationToken) -> Result<(u64, Digest), MachineError> {
    let (path, cancel) = (path.to_owned(), cancel.clone());
    let hashing = spawn_blocking(move || {
        let mut file = File::open(&path).map_err(|error| MachineError::file("cannot read", &path, error))?;
        file.sync_all().map_err(|error| MachineError::file("cannot sync", &path, error))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut size = 0;
        loop {
            if cancel.is_cancelled() {
                return Err(MachineError::Cancelled);
            }
            let count = file.read(&mut buffer).map_err(|error| MachineError::file("cannot read", &path, error))?;
            if count == 0 {
                return Ok((size, Digest::of_hasher(hasher)));
            }
            hasher.update(&buffer[..count]);
            size += count as u64;
        }
    });
    match hashing.await {
        Ok(result) => result,
        // The runtime is going down.
        Err(_) => Err(MachineError::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_hashed_unless_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"abc").unwrap();
        let cancel = CancellationToken::new();
        assert_eq!(settle(&path, &cancel).await.unwrap(), (3, Digest::of_bytes(b"abc")));
        cancel.cancel();
        assert!(matches!(settle(&path, &cancel).await, Err(MachineError::Cancelled)));
    }
}
