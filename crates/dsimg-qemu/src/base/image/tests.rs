use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256, Sha512};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use dsimg_plan::Digest;
use dsimg_plan::digest::hex;
use dsimg_template::template::Checksum;

use super::*;
use crate::testing::TestRun;

struct Case {
    run: TestRun,
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self { run: TestRun::new(), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn qemu_img(&self, arguments: &[&str]) {
        let status = Command::new("qemu-img").args(arguments).current_dir(self.folder.path()).status().unwrap();
        assert!(status.success(), "qemu-img {arguments:?}");
    }

    /// A disk of 8 MiB with some content.
    fn make_disk(&self) {
        let mut bytes = vec![7; 3 << 20];
        bytes.resize(8 << 20, 0);
        std::fs::write(self.path("disk.raw"), bytes).unwrap();
        self.qemu_img(&["convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"]);
        self.qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "disk.raw", "disk.vmdk"]);
    }

    fn source(&self, name: &str) -> ImageSource {
        let bytes = std::fs::read(self.path(name)).unwrap();
        ImageSource {
            location: Location::Path(self.path(name)),
            checksum: Checksum::Sha256(hex(&Sha256::digest(bytes))),
            format: None,
            user: Some("debian".to_owned()),
        }
    }

    async fn prepare(&self, source: &ImageSource) -> Result<BaseImage, MachineError> {
        prepare(source, Access::default(), &QemuImg::new("qemu-img"), &self.run.context).await
    }

    async fn refusal(&self, source: &ImageSource) -> String {
        let error = self.prepare(source).await.unwrap_err();
        assert!(matches!(error, MachineError::Refused { .. }), "{error:?}");
        let bases = std::fs::read_dir(self.run.context.cache.join("bases")).into_iter().flatten().flatten();
        let left: Vec<_> = bases.map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "left behind: {left:?}");
        error.to_string()
    }

    /// Same virtual disk as `disk.raw`.
    fn assert_is_the_disk(&self, base: &BaseImage) {
        assert_eq!(base.virtual_size, 8 << 20);
        assert_eq!(base.user, "debian");
        assert_eq!(base.sha256, Digest::of_bytes(&std::fs::read(&base.path).unwrap()));
        let path = base.path.display().to_string();
        self.qemu_img(&["compare", "-q", "-f", "qcow2", "-F", "raw", &path, "disk.raw"]);
    }
}

#[tokio::test]
async fn each_format_becomes_the_same_qcow2_and_is_found_again() {
    let case = Case::new();
    case.make_disk();
    for name in ["disk.qcow2", "disk.raw", "disk.vmdk"] {
        let source = case.source(name);
        let base = case.prepare(&source).await.unwrap();
        case.assert_is_the_disk(&base);
        assert_eq!(base.description, name);
        // From the cache, without the file.
        std::fs::rename(case.path(name), case.path("hidden")).unwrap();
        assert_eq!(case.prepare(&source).await.unwrap(), base);
        std::fs::rename(case.path("hidden"), case.path(name)).unwrap();
    }
}

#[tokio::test]
async fn a_packed_image_by_a_checksum_file() {
    let case = Case::new();
    case.make_disk();
    assert!(Command::new("gzip").arg(case.path("disk.qcow2")).status().unwrap().success());
    let bytes = std::fs::read(case.path("disk.qcow2.gz")).unwrap();
    let line = format!("{}  disk.qcow2.gz\n", hex(&Sha512::digest(bytes)));
    std::fs::write(case.path("SHA512SUMS"), line).unwrap();
    let checksum = Checksum::File(Location::Path(case.path("SHA512SUMS")));
    let source = ImageSource { checksum, ..case.source("disk.qcow2.gz") };
    case.assert_is_the_disk(&case.prepare(&source).await.unwrap());
}

#[tokio::test]
async fn a_wrong_checksum_is_refused() {
    let case = Case::new();
    case.make_disk();
    let source = ImageSource { checksum: Checksum::Sha256("0".repeat(64)), ..case.source("disk.qcow2") };
    let words = case.refusal(&source).await;
    assert!(words.contains("is not the one that was given") && words.contains(&"0".repeat(64)), "{words}");
}

#[tokio::test]
async fn evil_images_are_refused_in_words() {
    let case = Case::new();
    case.make_disk();
    case.qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "disk.qcow2", "backed.qcow2"]);
    assert!(case.refusal(&case.source("backed.qcow2")).await.contains("`backed.qcow2` names a backing file"));
    case.qemu_img(&["create", "-q", "-f", "qcow2", "-o", "data_file=outside", "outside.qcow2", "1M"]);
    assert!(case.refusal(&case.source("outside.qcow2")).await.contains("external data file"));
    std::fs::write(
        case.path("passwd.vmdk"),
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\
         RW 8 FLAT \"/etc/passwd\" 0\n",
    )
    .unwrap();
    assert!(case.refusal(&case.source("passwd.vmdk")).await.contains("whose content is in other files"));
}

#[tokio::test]
async fn a_qcow2_that_was_published_truncated_is_refused() {
    let case = Case::new();
    case.make_disk();
    let bytes = std::fs::read(case.path("disk.qcow2")).unwrap();
    for (length, words) in [(bytes.len() / 2, "is damaged"), (50, "cut short"), (0, "is empty")] {
        std::fs::write(case.path("cut.qcow2"), &bytes[..length]).unwrap();
        let told = case.refusal(&case.source("cut.qcow2")).await;
        assert!(told.contains(words), "{length} bytes: {told}");
    }
}

#[tokio::test]
async fn a_format_that_the_content_contradicts_is_refused() {
    let case = Case::new();
    case.make_disk();
    let source = ImageSource { format: Some(DiskFormat::Raw), ..case.source("disk.qcow2") };
    let words = case.refusal(&source).await;
    assert!(words.contains("says that the base image `disk.qcow2` is raw, and by its content it is qcow2"), "{words}");
}

#[tokio::test]
async fn internal_snapshots_do_not_come_along() {
    let case = Case::new();
    case.make_disk();
    case.qemu_img(&["snapshot", "-c", "before", "disk.qcow2"]);
    let base = case.prepare(&case.source("disk.qcow2")).await.unwrap();
    let info = QemuImg::new("qemu-img").info(&base.path, Some("qcow2"), &case.run.context).await.unwrap();
    assert!(info.snapshots.is_empty());
    case.assert_is_the_disk(&base);
}

#[tokio::test]
async fn two_builds_at_once_make_it_once() {
    let case = Case::new();
    case.make_disk();
    let source = case.source("disk.vmdk");
    let (one, two) = tokio::join!(case.prepare(&source), case.prepare(&source));
    assert_eq!(one.unwrap(), two.unwrap());
    let conversions = case
        .run
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::ProgressEnded { what } if what.starts_with("converting")));
    assert_eq!(conversions.count(), 1);
}

#[tokio::test]
async fn a_missing_file_is_told() {
    let case = Case::new();
    let source = ImageSource {
        location: Location::Path(case.path("missing.qcow2")),
        checksum: Checksum::Sha256("0".repeat(64)),
        format: None,
        user: None,
    };
    assert!(case.refusal(&source).await.contains("missing.qcow2 is not there"));
}

/// Answers each request with the same bytes, and counts them.
async fn serve(bytes: Vec<u8>, requests: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            requests.fetch_add(1, Ordering::Relaxed);
            let mut request = vec![0; 4096];
            let _read = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    format!("http://{address}/images/disk.qcow2?build=7")
}

#[tokio::test]
async fn a_url_is_downloaded_once_and_kept_as_the_base_only() {
    let case = Case::new();
    case.make_disk();
    let requests = Arc::new(AtomicUsize::new(0));
    let url = serve(std::fs::read(case.path("disk.qcow2")).unwrap(), Arc::clone(&requests)).await;
    let source = ImageSource { location: Location::Url(url), ..case.source("disk.qcow2") };
    let base = case.prepare(&source).await.unwrap();
    case.assert_is_the_disk(&base);
    assert_eq!(base.description, "disk.qcow2");
    assert_eq!(case.prepare(&source).await.unwrap(), base);
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    let downloads: Vec<_> = std::fs::read_dir(case.run.context.cache.join("downloads")).unwrap().flatten().collect();
    let large = downloads.iter().filter(|file| file.metadata().unwrap().len() > 0);
    assert_eq!(large.count(), 0, "{downloads:?}");
}
