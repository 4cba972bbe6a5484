//! Bills of materials: their text, that they agree with manifest and lock, and that CycloneDX's own reader takes them.

#![allow(clippy::unwrap_used, reason = "what panics here fails a test")]

mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use dsimg_manifest::lock::{Lock, LockFile, parse_lock, write_lock};
use dsimg_manifest::manifest::BASE;
use dsimg_manifest::sbom::sbom;
use serde_json::Value;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// As many packages as a real image has.
fn large() -> Lock {
    let mut lock = sample::lock();
    lock.deb.extend((0..100).map(|number| sample::deb(&format!("base-{number}"), "1.0-1", BASE)));
    lock.deb.extend((0..200).map(|number| sample::deb(&format!("lib-{number}"), "1:2.0~rc1-1+deb13u1", "tools")));
    lock.pypi.extend((0..30).map(|number| sample::wheel(&format!("wheel-{number}"), "1.0.post1+cpu", "/opt/ds")));
    lock.cran.extend((0..20).map(|number| sample::tarball(&format!("Rpkg{number}"), "1.95-4.9")));
    lock
}

#[test]
fn it_is_written_as_people_expect() {
    let lock = sample::lock();
    insta::assert_snapshot!("with-lock", sbom(&sample::manifest(&lock), Some(&lock)));
    insta::assert_snapshot!("without-lock", sbom(&sample::manifest(&lock), None));
}

#[test]
fn the_same_image_gives_the_same_text_and_another_one_another_number() {
    let lock = sample::lock();
    let mut manifest = sample::manifest(&lock);
    let first = sbom(&manifest, Some(&lock));
    manifest.build.id = "another".to_owned();
    manifest.build.started = "2027-01-01T00:00:00Z".to_owned();
    assert_eq!(sbom(&manifest, Some(&lock)), first, "when it was built is not in it");
    manifest.build.artifacts[0].sha256 = "7".repeat(64);
    assert_ne!(parsed(&sbom(&manifest, Some(&lock)))["serialNumber"], parsed(&first)["serialNumber"]);
}

#[test]
fn counts_agree_with_the_manifest_and_the_lock() {
    let file = LockFile { runs: BTreeMap::from([("kvm".to_owned(), large())]) };
    let lock = parse_lock(&write_lock(&file)).unwrap().runs.remove("kvm").unwrap();
    let manifest = sample::manifest(&lock);
    let bom = parsed(&sbom(&manifest, Some(&lock)));
    let components = bom["components"].as_array().unwrap();
    assert_eq!(components.len(), manifest.packages.len());
    let count = |ecosystem: &str| {
        components
            .iter()
            .filter(|component| component["purl"].as_str().unwrap().starts_with(&format!("pkg:{ecosystem}/")))
            .count()
    };
    // One of the debs and one of the distributions were needed on the way only, and one R package is GitHub's.
    assert_eq!(count("deb"), lock.deb.len() - 1);
    assert_eq!(count("pypi"), lock.pypi.len() - 1);
    assert_eq!(count("cran") + count("github"), lock.cran.len());
    assert_eq!(count("github"), 1);
    let names: BTreeSet<_> = components.iter().map(|component| component["bom-ref"].as_str().unwrap()).collect();
    assert_eq!(names.len(), components.len());
    let with_bytes = components.iter().filter(|component| component.get("hashes").is_some()).count();
    assert_eq!(components.len() - with_bytes, 101, "all but the base's");
    let requested = bom["dependencies"][0]["dependsOn"].as_array().unwrap();
    assert_eq!(requested.len(), manifest.packages.iter().filter(|package| package.requested).count());
    assert!(requested.iter().all(|name| names.contains(name.as_str().unwrap())));
}

#[test]
fn what_is_not_known_to_be_whole_is_not_called_so() {
    let aggregate = |lock: Option<&Lock>, provisioner: &str| {
        let mut manifest = sample::manifest(&sample::lock());
        manifest.stages[0].provisioner = provisioner.to_owned();
        parsed(&sbom(&manifest, lock))["compositions"][0]["aggregate"].as_str().unwrap().to_owned()
    };
    let mut lock = sample::lock();
    assert_eq!(aggregate(Some(&lock), "apt"), "complete");
    assert_eq!(aggregate(Some(&lock), "shell"), "incomplete");
    assert_eq!(aggregate(None, "apt"), "unknown");
    let reached = BTreeSet::from(["example.org:443".to_owned()]);
    lock.unfrozen.push(dsimg_manifest::lock::Unfrozen { stage: "tools".to_owned(), reached });
    assert_eq!(aggregate(Some(&lock), "apt"), "incomplete");
}

/// The official schema and reader, see `tests/sbom`.
#[test]
#[ignore = "makes a Python environment with packages from PyPI"]
fn cyclonedx_takes_it() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sbom/check.sh");
    let folder = std::env::temp_dir().join(format!("dsimg-sbom-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("sbom.cdx.json");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        Command::new(&script).arg(&file).output().unwrap()
    };
    let lock = large();
    let manifest = sample::manifest(&lock);
    for text in [sbom(&manifest, Some(&lock)), sbom(&manifest, None)] {
        let output = check(&text);
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{answer}{}", String::from_utf8_lossy(&output.stderr));
        assert!(answer.contains(&format!(": {} components", manifest.packages.len())), "{answer}");
    }
    // So that the check can fail.
    let spoilt = sbom(&sample::manifest(&sample::lock()), None).replace("\"library\"", "\"book\"");
    assert!(!check(&spoilt).status.success());
    fs::remove_dir_all(folder).unwrap();
}
