//! Keys, envelopes and minisign's form, against the programs that others use.

#![allow(clippy::unwrap_used, reason = "what panics here fails a test")]

mod sample;

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dsimg_provenance::envelope::EnvelopeError;
use dsimg_provenance::{
    Envelope, KeyError, MinisignPublicKey, MinisignSecretKey, PublicKey, SigningKey, sign, verify_folder,
};
use sample::{image, other_public_key, public_key, read_key, signing_key, statement};
use tempfile::TempDir;

#[test]
fn a_statement_says_what_the_image_was_made_of() {
    let folder = image();
    insta::assert_json_snapshot!(statement(folder.path()));
}

#[test]
fn what_was_signed_is_verified() {
    let folder = image();
    let statement = statement(folder.path());
    let envelope = Envelope::from_json(&sign(&statement, &signing_key()).to_json()).unwrap();
    assert_eq!(envelope.verify(&[other_public_key(), public_key()]).unwrap(), (statement, public_key().id()));
    assert!(matches!(envelope.verify(&[other_public_key()]), Err(EnvelopeError::OtherKey(_))));
    assert!(matches!(envelope.verify(&[]), Err(EnvelopeError::OtherKey(_))));
}

#[test]
fn every_changed_byte_of_an_envelope_is_refused() {
    let folder = image();
    let text = sign(&statement(folder.path()), &signing_key()).to_json();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << (at % 7);
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        let verified = Envelope::from_json(&changed).and_then(|envelope| envelope.verify(&[public_key()]));
        assert!(verified.is_err(), "byte {at} of {}: {changed}", text.len());
    }
}

#[test]
fn what_is_signed_must_be_of_this_type() {
    let folder = image();
    let mut envelope = sign(&statement(folder.path()), &signing_key());
    envelope.payload_type = "text/plain".to_owned();
    assert_eq!(envelope.verify(&[public_key()]).unwrap_err(), EnvelopeError::Type("text/plain".to_owned()));
    envelope.signatures.clear();
    envelope.payload_type = "application/vnd.in-toto+json".to_owned();
    assert_eq!(envelope.verify(&[public_key()]).unwrap_err(), EnvelopeError::OtherKey("nobody".to_owned()));
}

/// The way that docs/provenance.md shows.
#[test]
fn openssl_verifies_an_envelope() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: no openssl here");
        return;
    }
    let folder = image();
    let envelope = sign(&statement(folder.path()), &signing_key());
    let payload = STANDARD.decode(&envelope.payload).unwrap();
    let mut message = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len()).into_bytes();
    message.extend(payload);
    let (content, signature) = (folder.path().join("message"), folder.path().join("signature"));
    fs::write(&signature, STANDARD.decode(&envelope.signatures[0].sig).unwrap()).unwrap();
    let verify = |message: &[u8]| {
        fs::write(&content, message).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]).arg(sample::key_file("key.pub.pem"));
        openssl.arg("-sigfile").arg(&signature).arg("-in").arg(&content).output().unwrap().status.success()
    };
    assert!(verify(&message));
    message[40] ^= 1;
    assert!(!verify(&message));
}

#[test]
fn keys_of_other_kinds_are_named() {
    let private = |name: &str| SigningKey::from_pem(&read_key(name)).unwrap_err();
    assert_eq!(private("encrypted.pem"), KeyError::EncryptedPem);
    for name in ["p256.pem", "key.pub.pem", "minisign.key", "SHA256SUMS"] {
        assert!(matches!(private(name), KeyError::Pem { kind: "private", .. }), "{name}");
        assert!(private(name).hint().contains("openssl genpkey"));
    }
    for name in ["key.pem", "minisign.pub"] {
        assert!(matches!(PublicKey::from_pem(&read_key(name)), Err(KeyError::Pem { kind: "public", .. })), "{name}");
    }
    for name in ["key.pem", "minisign.pub", "SHA256SUMS"] {
        let error = MinisignSecretKey::from_text(&read_key(name), None).unwrap_err();
        assert!(matches!(error, KeyError::Minisign { kind: "secret", .. }), "{name}: {error}");
    }
    for name in ["key.pub.pem", "minisign.key", "SHA256SUMS"] {
        let error = MinisignPublicKey::from_text(&read_key(name)).unwrap_err();
        assert!(matches!(error, KeyError::Minisign { kind: "public", .. }), "{name}: {error}");
    }
    let mut lines: Vec<_> = read_key("minisign.key").lines().map(ToOwned::to_owned).collect();
    lines[1] = lines[1].replace('A', "B");
    assert!(MinisignSecretKey::from_text(&lines.join("\n"), None).is_err());
}

#[test]
fn keys_are_never_printed() {
    let (pem, minisign) = (signing_key(), MinisignSecretKey::from_text(&read_key("minisign.key"), None).unwrap());
    assert_eq!(format!("{pem:?}"), format!("SigningKey({})", public_key().id()));
    let id = sample::minisign_public_key().id().to_owned();
    assert_eq!(format!("{minisign:?}"), format!("MinisignSecretKey({id})"));
    assert_eq!(PublicKey::from_pem(&public_key().to_pem()).unwrap(), public_key());
    assert!(read_key("minisign.pub").contains(&id), "as minisign shows it");
}

/// The id is what anybody can work out of the file: `openssl pkey -pubin -outform DER | sha256sum`.
#[test]
fn a_keys_id_is_the_digest_of_its_file() {
    let pem = read_key("key.pub.pem");
    let der = STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("der"), der).unwrap();
    let digest = dsimg_provenance::checksums::sha256_of(&folder.path().join("der")).unwrap();
    assert_eq!(public_key().id(), digest);
}

fn write_signed(folder: &Path, signature: &str) {
    fs::write(folder.join("disk.qcow2"), "disk").unwrap();
    fs::write(folder.join("manifest.json"), "{}").unwrap();
    fs::write(folder.join("SHA256SUMS"), read_key("SHA256SUMS")).unwrap();
    fs::write(folder.join("SHA256SUMS.minisig"), signature).unwrap();
}

/// Whether the folder's checksums are taken as signed by the key.
fn is_signed(signature: &str, key: &MinisignPublicKey) -> bool {
    let folder = TempDir::new().unwrap();
    write_signed(folder.path(), signature);
    let keys = dsimg_provenance::Keys { ed25519: Vec::new(), minisign: vec![key.clone()] };
    let findings = verify_folder(folder.path(), &keys).unwrap();
    assert_eq!(findings.signed.is_empty(), findings.problems.iter().any(|at| at.file == "SHA256SUMS.minisig"));
    !findings.signed.is_empty()
}

#[test]
fn minisigns_own_signatures_are_verified() {
    let key = sample::minisign_public_key();
    let signature = read_key("SHA256SUMS.minisig");
    assert!(is_signed(&signature, &key));
    let protected = MinisignPublicKey::from_text(&read_key("protected.pub")).unwrap();
    assert!(is_signed(&read_key("protected.minisig"), &protected));
    assert!(!is_signed(&signature, &protected));
    assert!(!is_signed(&read_key("legacy.minisig"), &key), "of the whole file in memory: not made any more");
    // The untrusted comment is not signed.
    let start = signature.find('\n').unwrap() + 1;
    for at in start..signature.trim_end().len() {
        let mut bytes = signature.clone().into_bytes();
        bytes[at] ^= 1;
        assert!(!is_signed(&String::from_utf8(bytes).unwrap(), &key), "byte {at}");
    }
    for length in 0..signature.trim_end().len() {
        assert!(!is_signed(&signature[..length], &key), "cut at {length}");
    }
}

#[test]
fn one_key_signs_in_both_forms() {
    let key = MinisignSecretKey::from_signing_key(&signing_key()).unwrap();
    let signature = key.sign(read_key("SHA256SUMS").as_bytes(), "two\nlines").unwrap();
    assert!(signature.contains("trusted comment: two lines\n"));
    let public = MinisignPublicKey::from_public_key(&public_key()).unwrap();
    assert_eq!(key.public().unwrap().id(), public.id());
    assert!(is_signed(&signature, &public));
    assert!(!is_signed(&signature, &sample::minisign_public_key()));
    let folder = TempDir::new().unwrap();
    write_signed(folder.path(), &signature);
    let keys = dsimg_provenance::Keys { ed25519: vec![public_key()], minisign: Vec::new() };
    assert_eq!(verify_folder(folder.path(), &keys).unwrap().signed.len(), 1);
}

#[test]
fn minisign_itself_verifies_what_was_signed() {
    let Some(minisign) = std::env::var_os("MINISIGN").or_else(|| {
        let found = Command::new("minisign").arg("-v").output().is_ok();
        found.then(|| "minisign".into())
    }) else {
        eprintln!("skipped: no minisign here, and MINISIGN names none");
        return;
    };
    let pairs = [
        (MinisignSecretKey::from_signing_key(&signing_key()).unwrap(), MinisignPublicKey::text_of(&public_key())),
        (MinisignSecretKey::from_text(&read_key("minisign.key"), None).unwrap(), read_key("minisign.pub")),
    ];
    for (secret, public) in pairs {
        let folder = TempDir::new().unwrap();
        write_signed(folder.path(), &secret.sign(read_key("SHA256SUMS").as_bytes(), "ds-hub").unwrap());
        fs::write(folder.path().join("key.pub"), public).unwrap();
        let verify = || {
            let mut command = Command::new(&minisign);
            command.args(["-V", "-p", "key.pub", "-m", "SHA256SUMS"]).current_dir(folder.path());
            command.output().unwrap()
        };
        let output = verify();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("Trusted comment: ds-hub"));
        fs::write(folder.path().join("SHA256SUMS"), "x").unwrap();
        assert!(!verify().status.success());
    }
}

/// With the password that its key is protected by, and with another.
fn check_protected(text: &str, public: &str, password: &str) {
    assert_eq!(MinisignSecretKey::from_text(text, None).unwrap_err(), KeyError::PasswordMissing);
    let key = MinisignSecretKey::from_text(text, Some(password)).unwrap();
    let signature = key.sign(read_key("SHA256SUMS").as_bytes(), "x").unwrap();
    assert!(is_signed(&signature, &MinisignPublicKey::from_text(public).unwrap()));
    assert_eq!(MinisignSecretKey::from_text(text, Some("other words")).unwrap_err(), KeyError::PasswordWrong);
}

#[test]
fn protected_keys_want_their_password() {
    let (mut public, mut secret) = (Vec::new(), Vec::new());
    let password = Some("some words".to_owned());
    minisign::KeyPair::generate_and_write_encrypted_keypair(&mut public, &mut secret, None, password).unwrap();
    check_protected(&String::from_utf8(secret).unwrap(), &String::from_utf8(public).unwrap(), "some words");
}

#[test]
#[ignore = "a key as minisign itself protects it takes 1 GiB of memory and, in this build, 20 seconds"]
fn minisigns_own_protected_keys_want_their_password() {
    check_protected(&read_key("protected.key"), &read_key("protected.pub"), "secret words");
}
