//! Hand-made advisories on disk, and images that they are about.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use dsimg_audit::{Report, Settings, Severity, audit};
use dsimg_manifest::Inventory;
use dsimg_manifest::lock::{AptIndex, Artifact, Deb, Distribution, Lock, LockedBase, RPackage};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

pub(crate) const CRITICAL: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
pub(crate) const MEDIUM: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N";

/// A record of the usual form: everything below `fixed` is affected.
pub(crate) fn record(id: &str, ecosystem: &str, name: &str, fixed: &str) -> Value {
    json!({
        "schema_version": "1.7.3", "id": id, "modified": "2026-11-19T12:00:00Z", "published": "2026-11-01T00:00:00Z",
        "summary": format!("something in {name}"),
        "severity": [{"type": "CVSS_V3", "score": CRITICAL}],
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
        }],
    })
}

/// What is in `over` takes the place of what is in `record`.
pub(crate) fn with(mut record: Value, over: Value) -> Value {
    for (key, value) in over.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

pub(crate) fn write_dump(file: &Path, records: &[Value]) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut zip = zip::ZipWriter::new(File::create(file).unwrap());
    for record in records {
        let name = format!("{}.json", record["id"].as_str().unwrap());
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(record.to_string().as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

fn blob() -> Option<Artifact> {
    Some(Artifact { url: "https://example.org/x".to_owned(), sha256: "ab".repeat(32), size: 1 })
}

/// An image of Debian 13 without packages.
pub(crate) fn lock() -> Lock {
    Lock {
        epoch: 1_762_041_600,
        base: LockedBase {
            kind: "bootstrap".to_owned(),
            source: "debian trixie amd64".to_owned(),
            id: None,
            sha256: "cd".repeat(32),
        },
        indexes: vec![AptIndex {
            id: "main".to_owned(),
            uri: "http://mirror.example/debian".to_owned(),
            suite: "trixie-security".to_owned(),
            component: "main".to_owned(),
            in_release: "1".repeat(64),
            date: String::new(),
            entries: "2".repeat(64),
        }],
        ..Lock::default()
    }
}

pub(crate) fn deb(name: &str, source: &str, source_version: &str) -> Deb {
    Deb {
        name: name.to_owned(),
        version: source_version.to_owned(),
        arch: "amd64".to_owned(),
        source: source.to_owned(),
        source_version: source_version.to_owned(),
        requested: true,
        stage: "tools".to_owned(),
        passing: false,
        index: Some("main".to_owned()),
        origin: String::new(),
        licence: None,
        artifact: blob(),
    }
}

pub(crate) fn wheel(name: &str, version: &str) -> Distribution {
    Distribution {
        name: name.to_owned(),
        version: version.to_owned(),
        location: "/opt/ds".to_owned(),
        requested: true,
        stage: "python".to_owned(),
        passing: false,
        index: "https://pypi.org/simple".to_owned(),
        licence: None,
        artifact: blob(),
    }
}

pub(crate) fn r_package(name: &str, version: &str) -> RPackage {
    RPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        location: "/usr/local/lib/R/site-library".to_owned(),
        requested: true,
        stage: "r".to_owned(),
        passing: false,
        repository: "https://cloud.r-project.org".to_owned(),
        commit: None,
        licence: None,
        artifact: blob(),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        threshold: Severity::High,
        allow_unchecked: false,
        max_age_days: Some(7),
        suppressions: Vec::new(),
        now: "2026-11-21T10:00:00Z".parse().unwrap(),
    }
}

pub(crate) fn run(lock: &Lock, folder: &Path) -> Report {
    run_with(lock, folder, &settings())
}

pub(crate) fn run_with(lock: &Lock, folder: &Path, settings: &Settings) -> Report {
    audit(&Inventory::of_lock("kvm", lock), folder, settings).unwrap()
}

/// Ids and the names they were found on.
pub(crate) fn found(report: &Report) -> Vec<(&str, &str)> {
    report.findings.iter().map(|finding| (finding.id.as_str(), finding.name.as_str())).collect()
}
