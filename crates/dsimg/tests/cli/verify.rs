use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use dsimg_manifest::lock::{LockedImage, write_lock};
use dsimg_manifest::manifest::{Level, Reproducibility};
use dsimg_manifest::{Lock, LockFile, Manifest};
use dsimg_provenance::checksums::sha256_of;
use dsimg_tree::{Disk, Times, read_tree};

use crate::disks::{Tree, image};
use crate::place::{Place, Ran, template};
use crate::sample;

const IMAGE: &str = "images/hub-1";

fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dsimg-provenance/tests/keys").join(name)
}

fn write_lock_of(place: &Place, lock: &Lock) {
    let runs = BTreeMap::from([("kvm".to_owned(), lock.clone())]);
    place.write("team.lock", &write_lock(&LockFile { runs }));
}

fn write_manifest(place: &Place, manifest: &Manifest) {
    place.write(&format!("{IMAGE}/manifest.json"), &manifest.to_json());
    let sha256 = sha256_of(&place.path(&format!("{IMAGE}/manifest.json"))).unwrap();
    place.write(&format!("{IMAGE}/SHA256SUMS"), &manifest.checksums(&[("manifest.json", sha256)]));
}

/// An image of the sample's packages; its lock; the digest of its files.
fn made(place: &Place) -> (Manifest, Lock, String) {
    Tree::new(place, "tree").file("etc/motd", "hello");
    image(place, "tree", IMAGE);
    let disk = place.path(&format!("{IMAGE}/disk.raw"));
    let tree = read_tree(&Disk::open(&disk).unwrap().root().unwrap()).unwrap().digest(Times::LeftOut).to_string();
    let lock = sample::lock();
    let mut manifest = sample::manifest(&lock);
    let artifact = &mut manifest.build.artifacts[0];
    (artifact.file, artifact.format) = ("disk.raw".to_owned(), "raw".to_owned());
    artifact.sha256 = sha256_of(&disk).unwrap();
    artifact.size = std::fs::metadata(&disk).unwrap().len();
    manifest.build.reproducibility = Some(Reproducibility {
        level: Level::R2,
        reasons: Vec::new(),
        epoch: lock.epoch,
        lock: None,
        tree: Some(tree.clone()),
    });
    write_manifest(place, &manifest);
    write_lock_of(place, &lock);
    (manifest, lock, tree)
}

fn verify(place: &Place, more: &[&str]) -> Ran {
    place.dsimg(&[&["verify", IMAGE], more].concat())
}

#[test]
fn the_level_that_an_images_bytes_prove_is_told() {
    let place = Place::new();
    let (manifest, lock, tree) = made(&place);
    let ran = verify(&place, &["--lock", "team.lock"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    insta::assert_snapshot!("first", ran.out);
    let with = |image: LockedImage, more: &[&str]| {
        write_lock_of(&place, &Lock { image: Some(image), ..lock.clone() });
        verify(&place, &[&["--lock", "team.lock"], more].concat())
    };
    let other = with(LockedImage { tree: "9".repeat(64), disks: BTreeMap::new() }, &[]);
    assert!(other.code == Some(0) && other.out.contains("its files are not all those of the lock's first image"));
    let other = with(LockedImage { tree: "9".repeat(64), disks: BTreeMap::new() }, &["--level", "r3"]);
    assert_eq!(other.code, Some(6), "{other:?}");
    assert!(other.err.contains("R2 (the same packages, byte for byte) is proved, and R3 (the same files) was to be"));
    let same = with(LockedImage { tree: tree.clone(), disks: BTreeMap::new() }, &["--level", "R3"]);
    assert!(same.code == Some(0) && same.out.contains("R3 (the same files)"), "{same:?}");
    let disk = BTreeMap::from([("raw".to_owned(), manifest.build.artifacts[0].sha256.clone())]);
    let sealed = with(LockedImage { tree, disks: disk }, &["--level", "R4", "--format", "json"]);
    assert_eq!(sealed.code, Some(0), "{sealed:?}");
    let json: serde_json::Value = serde_json::from_str(&sealed.out).unwrap();
    assert_eq!((&json["proved"], &json["ok"]), (&"R4".into(), &true.into()));
}

#[test]
fn an_image_that_was_built_before_its_lock_is_not_said_to_have_none() {
    let place = Place::new();
    let (mut manifest, _, _) = made(&place);
    let claimed = manifest.build.reproducibility.as_mut().unwrap();
    (claimed.level, claimed.reasons) = (Level::R0, vec![dsimg_build::lock::NO_LOCK.to_owned()]);
    write_manifest(&place, &manifest);
    let ran = verify(&place, &["--lock", "team.lock"]);
    assert!(ran.out.contains("R1 (the same versions)") && ran.out.contains("it was built without a lock"), "{ran:?}");
    assert!(!ran.out.contains("there is no lock"), "{ran:?}");
}

#[test]
fn each_disagreement_is_named() {
    let wrong = |spoil: &dyn Fn(&Place, Manifest, Lock)| {
        let place = Place::new();
        let (manifest, lock, _) = made(&place);
        spoil(&place, manifest, lock);
        let ran = verify(&place, &["--lock", "team.lock"]);
        assert_eq!(ran.code, Some(6), "{ran:?}");
        assert!(ran.out.contains("R0 (its content is known)"), "{ran:?}");
        ran.out
    };
    let disk = format!("{IMAGE}/disk.raw");
    let one_byte = wrong(&|place, _, _| {
        let mut bytes = std::fs::read(place.path(&disk)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(place.path(&disk), bytes).unwrap();
    });
    assert!(one_byte.contains("WRONG: disk.raw: its sha256 is"), "{one_byte}");
    let package = wrong(&|place, _, mut lock| {
        lock.pypi[0].version = "2.3.5".to_owned();
        write_lock_of(place, &lock);
    });
    assert!(package.contains("- pypi numpy 2.3.5 in /opt/ds, + pypi numpy 2.3.4 in /opt/ds"), "{package}");
    let base = wrong(&|place, _, mut lock| {
        lock.base.sha256 = "9".repeat(64);
        write_lock_of(place, &lock);
    });
    assert!(base.contains("another base than the lock"), "{base}");
    // Whoever changes a file may change the checksums as well.
    let adapted = wrong(&|place, mut manifest, _| {
        Tree::new(place, "tree").file("etc/motd", "gotcha");
        image(place, "tree", IMAGE);
        manifest.build.artifacts[0].sha256 = sha256_of(&place.path(&disk)).unwrap();
        write_manifest(place, &manifest);
    });
    assert!(adapted.contains("WRONG: disk.raw: its files are not those that the manifest tells of"), "{adapted}");
}

const TOKEN: [&str; 2] = ["--var", "token=hunter22"];

/// The image that a template would give is there already: nothing is built, but it is signed.
fn place_to_sign() -> Place {
    let place = Place::new();
    let (mut manifest, ..) = made(&place);
    place.write("t.toml", &template(&place).replace("name = \"ds\"", "name = \"hub\""));
    let plan: serde_json::Value =
        serde_json::from_str(&place.dsimg(&[&["plan", "t.toml", "--format", "json"], &TOKEN[..]].concat()).out)
            .unwrap();
    manifest.plan = plan["plans"][0]["hash"].as_str().unwrap().to_owned();
    write_manifest(&place, &manifest);
    place
}

#[test]
fn an_image_is_signed_and_its_signatures_are_checked() {
    let place = place_to_sign();
    let (private, public, other) = (key("key.pem"), key("key.pub.pem"), key("other.pub.pem"));
    let unsigned = verify(&place, &["--key", public.to_str().unwrap()]);
    assert_eq!(unsigned.code, Some(6), "{unsigned:?}");
    assert!(unsigned.out.contains("it is missing: nobody signed"), "{unsigned:?}");
    let arguments = [
        "build",
        "t.toml",
        "--sign",
        private.to_str().unwrap(),
        "--builder-id",
        "https://ci.example.org/7",
        TOKEN[0],
        TOKEN[1],
    ];
    let built = place.dsimg(&arguments);
    assert_eq!(built.code, Some(0), "{built:?}");
    let good =
        verify(&place, &["--key", public.to_str().unwrap(), "--minisign-key", key("minisign.pub").to_str().unwrap()]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.out.contains("signed       SHA256SUMS by the minisign key"), "{good:?}");
    assert!(good.out.contains("provenance.dsse.json by the key"), "{good:?}");
    let wrong = verify(&place, &["--key", other.to_str().unwrap()]);
    assert_eq!(wrong.code, Some(6), "{wrong:?}");
    let envelope: serde_json::Value =
        serde_json::from_str(&place.read(&format!("{IMAGE}/provenance.dsse.json"))).unwrap();
    let statement = decoded(envelope["payload"].as_str().unwrap());
    assert!(statement.contains("https://ci.example.org/7") && statement.contains("\"name\":\"t.toml\""), "{statement}");
    assert!(!statement.contains("hunter22"), "{statement}");
    // Signed once: the second time changes nothing.
    let before = place.read(&format!("{IMAGE}/SHA256SUMS.minisig"));
    assert_eq!(place.dsimg(&arguments).code, Some(0));
    assert_eq!(place.read(&format!("{IMAGE}/SHA256SUMS.minisig")), before);
}

fn decoded(base64: &str) -> String {
    let script = ["-c", "printf %s \"$0\" | base64 -d", base64];
    String::from_utf8(Command::new("sh").args(script).output().unwrap().stdout).unwrap()
}

#[test]
fn nothing_is_signed_that_is_not_as_it_was_written() {
    let place = place_to_sign();
    let disk = place.path(&format!("{IMAGE}/disk.raw"));
    let mut bytes = std::fs::read(&disk).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&disk, bytes).unwrap();
    let built = place.dsimg(&["build", "t.toml", TOKEN[0], TOKEN[1], "--sign", key("key.pem").to_str().unwrap()]);
    assert_eq!(built.code, Some(6), "{built:?}");
    assert!(built.err.contains("is not as its checksums say, so it is not signed"), "{built:?}");
    assert!(!place.path(&format!("{IMAGE}/provenance.dsse.json")).exists());
    let told =
        place.dsimg(&["build", "t.toml", "--json", TOKEN[0], TOKEN[1], "--sign", key("key.pem").to_str().unwrap()]);
    let last: serde_json::Value = serde_json::from_str(told.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["exit_code"]), (&"result".into(), &6.into()), "{told:?}");
}

#[test]
fn a_lock_that_is_not_there_is_told_before_anything_is_read() {
    let place = Place::new();
    made(&place);
    let ran = verify(&place, &["--lock", "none.lock"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.err.contains("there is no lock `none.lock`\nhint: `dsimg lock TEMPLATE`"), "{ran:?}");
}

#[test]
fn a_wrong_key_is_told_before_anything_is_made() {
    let place = Place::new();
    place.write("t.toml", &template(&place));
    let refused = |name: &str, words: &str| {
        let mut command = place.command(&["build", "t.toml"]);
        let ran = place.ran(command.env("DSIMG_SIGN_KEY", key(name)).output().unwrap());
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
        place.assert_nothing_left();
    };
    refused("none", "cannot read the key");
    refused("key.pub.pem", "it is no Ed25519 private key in PEM");
    refused("encrypted.pem", "it is an encrypted PEM key");
    let id = place.dsimg(&["build", "t.toml", "--sign", key("key.pem").to_str().unwrap(), "--builder-id", "me"]);
    assert_eq!(id.code, Some(2), "{id:?}");
    let public = place.dsimg(&["verify", ".", "--key", key("key.pem").to_str().unwrap()]);
    assert!(public.code == Some(2) && public.err.contains("it is no Ed25519 public key"), "{public:?}");
}
