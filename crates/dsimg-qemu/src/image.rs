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

use crate::disk::{Layout, QemuImg, Source, Target};

/// Writes one file for each format into `folder`, checks it, brings it safely to the host's disk and hashes it.
/// The formats are written side by side: one waits for the disk while another compresses.
pub(crate) async fn write_image(
    tools: &QemuImg,
    (disk, virtual_size): (Source<'_>, u64),
    (name, folder): (&str, &Path),
    (formats, compression, layout): (&[DiskFormat], Compression, Layout),
    run: &RunContext,
) -> Result<Vec<Artifact>, MachineError> {
    let writing = formats.iter().map(|format| async move {
        let file = format!("{name}.{}", format.as_str());
        let path = folder.join(&file);
        let target = Target { format: *format, compression, layout };
        tools.convert(disk, (&path, target), (&file, virtual_size), run).await?;
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
    use std::process::Command;

    use dsimg_machine::Event;

    use super::*;
    use crate::testing::TestRun;

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

    #[tokio::test]
    async fn each_format_holds_the_same_disk() {
        let run = TestRun::new();
        let folder = run.context.work.clone();
        let qemu_img = |arguments: &[&str]| {
            let status = Command::new("qemu-img").args(arguments).current_dir(&folder).status().unwrap();
            assert!(status.success(), "qemu-img {arguments:?}");
        };
        let mut bytes = vec![7; 2 << 20];
        bytes.resize(6 << 20, 0);
        std::fs::write(folder.join("disk.raw"), bytes).unwrap();
        qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "disk.raw", "base.qcow2"]);
        let tools = QemuImg::new("qemu-img");
        let (base, saved, top) = (folder.join("base.qcow2"), folder.join("saved.qcow2"), folder.join("top.qcow2"));
        tools.create_overlay(&base, &saved, 8 << 20, &run.context).await.unwrap();
        tools.create_overlay(&saved, &top, 8 << 20, &run.context).await.unwrap();
        // As that of a checkpoint, which is read from another place.
        qemu_img(&["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "../elsewhere.qcow2", "saved.qcow2"]);
        let layers = [top, saved, base];
        let disk = (Source::Layers(&layers), 8 << 20);
        for compression in [Compression::Zstd, Compression::Zlib, Compression::None] {
            let output = tempfile::tempdir().unwrap();
            let formats = (DiskFormat::ALL.as_slice(), compression, Layout::Ordered);
            let written = write_image(&tools, disk, ("image", output.path()), formats, &run.context).await.unwrap();
            let names: Vec<_> = written.iter().map(|artifact| artifact.file.as_str()).collect();
            assert_eq!(names, ["image.qcow2", "image.raw", "image.vmdk", "image.vhdx"]);
            for artifact in written {
                let path = output.path().join(&artifact.file);
                let content = std::fs::read(&path).unwrap();
                assert_eq!((artifact.size, artifact.virtual_size), (content.len() as u64, 8 << 20));
                assert_eq!(artifact.sha256, Digest::of_bytes(&content));
                let path = path.display().to_string();
                qemu_img(&["compare", "-q", "-f", "raw", "-F", &artifact.format, "disk.raw", &path]);
            }
        }
        let ended = run.events().into_iter().filter(|event| matches!(event, Event::ProgressEnded { .. }));
        assert_eq!(ended.count(), 12);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_as_that() {
        let run = TestRun::new();
        let qemu_img = run.script("echo 'qemu-img: error while writing: No space left on device' >&2; exit 1");
        let formats = ([DiskFormat::Qcow2].as_slice(), Compression::Zstd, Layout::Quick);
        let output = ("image", run.context.work.as_path());
        let disk = (Source::File(Path::new("disk.qcow2"), "qcow2"), 100);
        let error = write_image(&QemuImg::new(qemu_img), disk, output, formats, &run.context).await;
        let error = error.unwrap_err();
        assert!(matches!(error, MachineError::HostNotReady { .. }), "{error:?}");
        assert!(error.to_string().contains("error while writing: No space left on device"), "{error}");
    }
}
