//! Files into the machine and out of it.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use dsimg_machine::{Session, SessionError};

use crate::sshd::Sshd;

fn tar(arguments: &[&str], archive: &Path, folder: &Path) {
    let status = Command::new("tar").arg("-f").arg(archive).arg("-C").arg(folder).args(arguments).status().unwrap();
    assert!(status.success());
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

/// Bytes that no compression and no repetition hides anything of.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

#[tokio::test]
async fn a_written_file_has_its_content_mode_and_parents() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let path = sshd.path("new folder/it's/-odd\n$name");
    let content: Vec<u8> = (0..=255).collect();
    session.write(path.to_str().unwrap(), 0o640, &content).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o640, 0o755));
    session.write(path.to_str().unwrap(), 0o755, b"").await.unwrap();
    assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (Vec::new(), 0o755));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "something was left beside it");
}

#[tokio::test]
async fn a_large_content_is_written_whole() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (path, content) = (sshd.path("large"), noise(20 << 20));
    session.write(path.to_str().unwrap(), 0o600, &content).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == content);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_an_error_with_the_reason() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let folder = sshd.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let error = session.write(folder.to_str().unwrap(), 0o600, b"x").await.unwrap_err().to_string();
    assert!(error.contains("cannot overwrite directory"), "{error}");
    assert_eq!(
        std::fs::read_dir(sshd.folder.path())
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".dsimg-") })
            .count(),
        0
    );
    let error = session.write("/proc/no/such", 0o600, b"x").await.unwrap_err();
    assert!(matches!(error, SessionError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn a_hundred_mebibytes_go_up_and_come_back_on_connections_of_their_own() {
    let sshd = Sshd::with_settings("RekeyLimit 16M");
    let session = sshd.connect().await;
    let source = sshd.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("noise"), noise(100 << 20)).unwrap();
    std::fs::write(source.join("script"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(source.join("script"), PermissionsExt::from_mode(0o4755)).unwrap();
    let archive = sshd.path("up.tar");
    tar(&["-c", "noise", "script"], &archive, &source);
    let target = sshd.path("far/away");

    let started = Instant::now();
    session.upload_tar(&archive, target.to_str().unwrap()).await.unwrap();
    let up = started.elapsed();
    let back = sshd.path("back.tar");
    session.download_tar(target.to_str().unwrap(), &back).await.unwrap();
    println!("100 MiB: up {up:?}, down {:?}", started.elapsed() - up);
    assert_eq!(sshd.count(), 3);

    let unpacked = sshd.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    tar(&["-x", "-p"], &back, &unpacked);
    assert!(std::fs::read(unpacked.join("away/noise")).unwrap() == noise(100 << 20));
    assert_eq!(mode(&unpacked.join("away/script")), 0o4755);
    assert!(!sshd.path("back.tar.partial").exists());
}

#[tokio::test]
async fn unpacking_leaves_existing_folders_and_links_as_they_are() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let source = sshd.path("source");
    std::fs::create_dir_all(source.join("lib")).unwrap();
    std::fs::write(source.join("lib/new"), "new").unwrap();
    std::fs::set_permissions(&source, PermissionsExt::from_mode(0o700)).unwrap();
    let archive = sshd.path("small.tar");
    tar(&["-c", "--owner=4711", "--group=4711", "."], &archive, &source);
    let target = sshd.path("target");
    std::fs::create_dir_all(target.join("usr/lib")).unwrap();
    symlink("usr/lib", target.join("lib")).unwrap();
    std::fs::set_permissions(&target, PermissionsExt::from_mode(0o755)).unwrap();

    session.upload_tar(&archive, target.to_str().unwrap()).await.unwrap();
    assert!(target.join("lib").is_symlink(), "the link was replaced");
    assert_eq!(std::fs::read_to_string(target.join("usr/lib/new")).unwrap(), "new");
    assert_eq!(mode(&target), 0o755);
    assert_eq!(target.join("usr/lib/new").metadata().unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_eq!(sshd.count(), 1, "a small archive needs no second connection");
}

#[tokio::test]
async fn failing_transfers_say_why_and_leave_nothing() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let archive = sshd.path("broken.tar");
    let error = session.upload_tar(&archive, "/tmp").await.unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.ends_with("broken.tar"), "{error}");
    std::fs::write(&archive, noise(100_000)).unwrap();
    let error = session.upload_tar(&archive, sshd.path("to").to_str().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("This does not look like a tar archive"), "{error}");
    let down = sshd.path("down.tar");
    let error = session.download_tar("/no/such/thing", &down).await.unwrap_err().to_string();
    assert!(error.contains("/no/such"), "{error}");
    assert!(!down.exists() && !sshd.path("down.tar.partial").exists());
}

#[tokio::test]
async fn a_single_file_comes_down_under_its_name() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    std::fs::write(sshd.path("-log"), "line\n").unwrap();
    let archive = sshd.path("log.tar");
    session.download_tar(sshd.path("-log").to_str().unwrap(), &archive).await.unwrap();
    let unpacked = sshd.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    tar(&["-x"], &archive, &unpacked);
    assert_eq!(std::fs::read_to_string(unpacked.join("-log")).unwrap(), "line\n");
}
