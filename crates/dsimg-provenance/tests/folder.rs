//! Whole folders of images: each disagreement is named.

#![allow(clippy::unwrap_used, reason = "what panics here fails a test")]

mod sample;

use std::fs;
use std::path::Path;

use dsimg_provenance::{Findings, Keys, verify_folder};
use sample::{image, minisign_public_key, other_public_key, public_key};

fn keys() -> Keys {
    Keys { ed25519: vec![public_key()], minisign: vec![minisign_public_key()] }
}

fn verify(folder: &Path) -> Findings {
    verify_folder(folder, &keys()).unwrap()
}

/// The files that something is wrong with.
fn wrong(findings: &Findings) -> Vec<&str> {
    let mut files: Vec<_> = findings.problems.iter().map(|problem| problem.file.as_str()).collect();
    files.dedup();
    files
}

#[test]
fn a_folder_as_it_was_signed_is_good() {
    let folder = image();
    let findings = verify(folder.path());
    assert!(findings.is_good(), "{:?}", findings.problems);
    assert_eq!(findings.signed.len(), 2);
    assert_eq!(findings.verified.len(), 5);
    assert_eq!(findings.not_covered.iter().collect::<Vec<_>>(), ["build.log"]);
    assert_eq!(findings.statement.unwrap().subject.len(), 3);
    let without_keys = verify_folder(folder.path(), &Keys::default()).unwrap();
    assert!(without_keys.is_good() && without_keys.signed.is_empty());
}

#[test]
fn a_changed_file_is_named_with_all_that_it_disagrees_with() {
    for name in ["disk.qcow2", "sbom.cdx.json", "manifest.json"] {
        let folder = image();
        let file = folder.path().join(name);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        let findings = verify(folder.path());
        assert_eq!(wrong(&findings), [name]);
        let whose: Vec<_> = findings.problems.iter().map(|problem| problem.what.as_str()).collect();
        assert!(whose.iter().any(|what| what.contains("SHA256SUMS says")), "{whose:?}");
        assert!(whose.iter().any(|what| what.contains("provenance.dsse.json says")), "{whose:?}");
        assert!(findings.problems.iter().all(|problem| !problem.hint.is_empty()));
        assert!(!findings.verified.contains(name));
    }
}

#[test]
fn a_missing_file_is_named() {
    for name in ["disk.qcow2", "sbom.cdx.json", "manifest.json", "SHA256SUMS", "SHA256SUMS.minisig"] {
        let folder = image();
        fs::remove_file(folder.path().join(name)).unwrap();
        assert_eq!(wrong(&verify(folder.path())), [name], "{name}");
    }
    let folder = image();
    fs::remove_file(folder.path().join("provenance.dsse.json")).unwrap();
    fs::remove_file(folder.path().join("SHA256SUMS.minisig")).unwrap();
    assert_eq!(wrong(&verify(folder.path())), ["SHA256SUMS.minisig", "provenance.dsse.json"]);
}

/// Who changes a file and the checksums with it can't sign them.
#[test]
fn checksums_that_were_made_anew_are_not_signed() {
    let folder = image();
    let at = |name: &str| folder.path().join(name);
    let before = dsimg_provenance::checksums::sha256_of(&at("sbom.cdx.json")).unwrap();
    fs::write(at("sbom.cdx.json"), "[]").unwrap();
    let after = dsimg_provenance::checksums::sha256_of(&at("sbom.cdx.json")).unwrap();
    let sums = fs::read_to_string(at("SHA256SUMS")).unwrap().replace(&before, &after);
    fs::write(at("SHA256SUMS"), sums).unwrap();
    assert_eq!(wrong(&verify(folder.path())), ["SHA256SUMS.minisig", "sbom.cdx.json"]);
    assert!(verify_folder(folder.path(), &Keys::default()).unwrap().is_good(), "without keys nobody can know");
}

#[test]
fn a_file_that_was_added_to_the_checksums_is_in_no_statement() {
    let folder = image();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("extra.raw"), "x").unwrap();
    let digest = dsimg_provenance::checksums::sha256_of(&at("extra.raw")).unwrap();
    let sums = fs::read_to_string(at("SHA256SUMS")).unwrap() + &format!("{digest}  extra.raw\n");
    fs::write(at("SHA256SUMS"), sums).unwrap();
    let only_pem = Keys { ed25519: vec![public_key()], minisign: Vec::new() };
    let findings = verify_folder(folder.path(), &only_pem).unwrap();
    assert!(wrong(&findings).contains(&"extra.raw"), "{:?}", findings.problems);
}

#[test]
fn keys_of_others_are_told_from_changed_files() {
    let folder = image();
    let others = Keys { ed25519: vec![other_public_key()], minisign: Vec::new() };
    let findings = verify_folder(folder.path(), &others).unwrap();
    assert_eq!(wrong(&findings), ["SHA256SUMS.minisig", "provenance.dsse.json"]);
    assert!(findings.problems[1].what.contains(&public_key().id()), "{:?}", findings.problems);
    let one = Keys { ed25519: Vec::new(), minisign: vec![minisign_public_key()] };
    assert!(verify_folder(folder.path(), &one).unwrap().is_good());
}

#[test]
fn hostile_folders_are_refused_in_words() {
    let folder = image();
    let at = |name: &str| folder.path().join(name);
    let sums = fs::read_to_string(at("SHA256SUMS")).unwrap();
    for text in [format!("{}  ../../etc/passwd\n", "0".repeat(64)), "x".to_owned(), format!("{sums}{sums}")] {
        fs::write(at("SHA256SUMS"), text).unwrap();
        assert!(wrong(&verify_folder(folder.path(), &Keys::default()).unwrap()).contains(&"SHA256SUMS"));
    }
    fs::write(at("SHA256SUMS"), [0xff, 0xfe]).unwrap();
    assert_eq!(wrong(&verify(folder.path())), ["SHA256SUMS"]);
    fs::write(at("SHA256SUMS"), &sums).unwrap();
    fs::write(at("manifest.json"), "{\"format\": 1}").unwrap();
    fs::write(at("provenance.dsse.json"), "{}").unwrap();
    assert_eq!(wrong(&verify(folder.path())), ["manifest.json", "provenance.dsse.json"]);
    fs::remove_file(at("disk.qcow2")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("disk.qcow2")).unwrap();
    let findings = verify(folder.path());
    assert!(findings.problems.iter().any(|problem| problem.what.contains("not a file")), "{:?}", findings.problems);
    let error = verify_folder(&at("nothing"), &keys()).unwrap_err();
    assert!(error.to_string().contains("nothing") && !error.hint().is_empty());
}
