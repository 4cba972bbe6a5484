//! An image's folder, and what signs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dsimg_manifest::Manifest;
use dsimg_manifest::lock::{Lock, LockFile, parse_lock};
use dsimg_provenance::checksums::sha256_of;
use dsimg_provenance::{Build, MinisignPublicKey, MinisignSecretKey, PublicKey, SigningKey, Statement, Subject, sign};
use tempfile::TempDir;

pub(crate) fn key_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

pub(crate) fn read_key(name: &str) -> String {
    fs::read_to_string(key_file(name)).unwrap()
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_pem(&read_key("key.pem")).unwrap()
}

pub(crate) fn public_key() -> PublicKey {
    PublicKey::from_pem(&read_key("key.pub.pem")).unwrap()
}

pub(crate) fn other_public_key() -> PublicKey {
    PublicKey::from_pem(&read_key("other.pub.pem")).unwrap()
}

pub(crate) fn minisign_public_key() -> MinisignPublicKey {
    MinisignPublicKey::from_text(&read_key("minisign.pub")).unwrap()
}

pub(crate) fn lock() -> Lock {
    let artifact = |url: &str, digit: &str| serde_json::json!({"url": url, "sha256": digit.repeat(64), "size": 7});
    let mut deb = artifact("http://deb.debian.org/debian/pool/main/g/git/git_2.47.3-0_amd64.deb", "a");
    for (key, value) in [
        ("name", "git"),
        ("version", "1:2.47.3-0"),
        ("arch", "amd64"),
        ("source", "git"),
        ("source_version", "1:2.47.3-0"),
        ("stage", "tools"),
        ("index", "debian-trixie-main"),
    ] {
        deb[key] = value.into();
    }
    deb["requested"] = true.into();
    let mut wheel = artifact("https://files.example.org/numpy-2.3.4-py3-none-any.whl", "b");
    for (key, value) in
        [("name", "numpy"), ("version", "2.3.4"), ("stage", "python"), ("index", "https://pypi.org/simple")]
    {
        wheel[key] = value.into();
    }
    wheel["requested"] = true.into();
    // In two environments, and one file.
    let in_venv = |venv: &str| {
        let mut wheel = wheel.clone();
        wheel["location"] = venv.into();
        wheel
    };
    let index = serde_json::json!({
        "id": "debian-trixie-main", "uri": "http://deb.debian.org/debian", "suite": "trixie", "component": "main",
        "in_release": "c".repeat(64), "date": "Sat, 08 Nov 2025 09:55:41 UTC", "entries": "d".repeat(64)});
    let lock: Lock = serde_json::from_value(serde_json::json!({
        "epoch": 1_762_041_600, "base": {"kind": "bootstrap", "source": "debian trixie", "sha256": "2".repeat(64)},
        "stages": [], "indexes": [index], "deb": [deb], "pypi": [in_venv("/opt/ds"), in_venv("/opt/web")]}))
    .unwrap();
    let file = LockFile { runs: BTreeMap::from([("kvm".to_owned(), lock)]) };
    parse_lock(&dsimg_manifest::lock::write_lock(&file)).unwrap().runs.remove("kvm").unwrap()
}

/// Of an image with the one file `disk.qcow2`.
pub(crate) fn manifest(sha256: &str) -> Manifest {
    let value = serde_json::json!({
        "format": 1, "image": {"name": "ds-hub", "version": "2026.11"}, "plan": "1".repeat(64),
        "base": {"kind": "bootstrap", "source": "debian trixie", "sha256": "2".repeat(64)},
        "system": {"os": "Debian GNU/Linux 13 (trixie)", "os_id": "debian", "os_version": "13.2",
                   "kernel": "6.12", "architecture": "amd64"},
        "stages": [], "packages": [],
        "build": {"id": "20261121-101500-4711-9f2c", "started": "2026-11-21T10:15:00Z", "dsimg": "0.1.0",
                  "builder": "kvm",
                  "host": {"hypervisor": "qemu", "accelerator": "kvm", "cpus": 2, "os": "Debian"},
                  "artifacts": [{"file": "disk.qcow2", "format": "qcow2", "size": 4, "sha256": sha256, "virtual_size": 9}],
                  "durations": {"total_ms": 83_500, "phases": [], "stages": []}}});
    Manifest::from_json(&value.to_string()).unwrap()
}

pub(crate) fn statement(folder: &Path) -> Statement {
    let subject = |name: &str| Subject { name: name.to_owned(), sha256: sha256_of(&folder.join(name)).unwrap() };
    let lock = lock();
    let manifest = manifest(&subject("disk.qcow2").sha256);
    Statement::of_build(&Build {
        manifest: &manifest,
        lock: Some(&lock),
        template: Subject { name: "ds-hub.toml".to_owned(), sha256: "3".repeat(64) },
        run: "kvm".to_owned(),
        variables: BTreeMap::from([("release".to_owned(), "2026.11".to_owned())]),
        builder_id: "https://ci.example.org/jobs/images".to_owned(),
        documents: ["manifest.json", "sbom.cdx.json"].map(subject).to_vec(),
        byproducts: vec![subject("build.log")],
    })
}

/// A folder as a build leaves it, signed in both ways.
pub(crate) fn image() -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("disk.qcow2", "disk");
    write("sbom.cdx.json", "{}");
    write("build.log", "it went well");
    let digest = |name: &str| sha256_of(&folder.path().join(name)).unwrap();
    write("manifest.json", &manifest(&digest("disk.qcow2")).to_json());
    let line = |name: &str| format!("{}  {name}\n", digest(name));
    let sums: String = ["disk.qcow2", "manifest.json", "sbom.cdx.json"].map(line).concat();
    write("SHA256SUMS", &sums);
    let minisign = MinisignSecretKey::from_text(&read_key("minisign.key"), None).unwrap();
    write("SHA256SUMS.minisig", &minisign.sign(sums.as_bytes(), "ds-hub 2026.11").unwrap());
    write("provenance.dsse.json", &sign(&statement(folder.path()), &signing_key()).to_json());
    folder
}
