use std::collections::BTreeMap;
use std::fs;

use dsimg_manifest::lock::{AptIndex, Artifact, Deb, LockedBase, LockedStage, Unfrozen, write_lock};
use dsimg_manifest::{Lock, LockFile};
use dsimg_plan::Digest;
use dsimg_store::Store;
use serde_json::Value;

use crate::place::{Place, Ran, qemu, template};

/// A QEMU that can't start its machine: a build that comes so far has all that it needs.
const REFUSING: &str = "echo 'no such device' >&2; exit 1";
const CACHE: &str = "home/.cache/dsimg";
/// What is of dsimg's own doing in a stage's inputs, and no part of a lock.
const HOW: [&str; 9] =
    ["provisioner", "version", "scripts", "steps", "timeout", "retries", "lock_timeout", "jobs", "secrets"];
const EXTRA: &str = "\n[[provision]]\nname = \"files\"\ntype = \"file\"\nsource = \"../common\"\n\
    destination = \"/opt/{{ place }}\"\n";

/// With a base in the cache, a package in the store, and a lock that names both.
fn locked() -> Place {
    let place = host();
    let text = template(&place).replace("[variables]\n", "[variables]\nplace = \"here\"\n");
    place.write("images/t.toml", &format!("{}{EXTRA}", text.replace("disk.qcow2", "../disk.qcow2")));
    place.write("common/run.sh", "echo hello\n");
    place.write("common/empty.json", "{}");
    let ran = place.dsimg(&["build", "images/t.toml"]);
    assert!(ran.err.contains("no such device"), "{ran:?}");
    write(&place, &lock(&place, &[]));
    place
}

fn host() -> Place {
    let place = Place::new();
    place.program("qemu-system-x86_64", &qemu(REFUSING));
    place
}

fn store(place: &Place) -> Store {
    Store::open(&place.path(CACHE)).unwrap()
}

fn write(place: &Place, lock: &Lock) {
    let file = LockFile { runs: BTreeMap::from([("kvm".to_owned(), lock.clone())]) };
    place.write("images/t.lock", &write_lock(&file));
}

/// As a build would have made it.
fn lock(place: &Place, arguments: &[&str]) -> Lock {
    let planned = place.dsimg(&[&["plan", "images/t.toml", "--format", "json"], arguments].concat()).out;
    let planned: Value = serde_json::from_str(&planned).unwrap();
    let stages = planned["plans"][0]["plan"]["stages"].as_array().unwrap();
    let stage = |stage: &Value| {
        let mut inputs = stage["inputs"].clone();
        inputs.as_object_mut().unwrap().retain(|name, _| !HOW.contains(&name.as_str()));
        let text = |name: &str| stage[name].as_str().unwrap().to_owned();
        LockedStage { label: text("label"), provisioner: text("provisioner"), version: 1, inputs }
    };
    let put = |text: &str| store(place).put_bytes(text.as_bytes()).unwrap().digest.to_string();
    let url = "http://deb.debian.org/debian/pool/h/hello_2.10-5_amd64.deb".to_owned();
    let (base, _) = dsimg_plan::inputs::hash_file(&place.path("disk.qcow2")).unwrap();
    Lock {
        epoch: 1,
        base: LockedBase {
            kind: "image".to_owned(),
            source: "disk.qcow2".to_owned(),
            id: None,
            sha256: base.to_string(),
        },
        stages: stages[..stages.len() - 1].iter().map(stage).collect(),
        indexes: vec![AptIndex {
            id: "debian".to_owned(),
            uri: "http://deb.debian.org/debian".to_owned(),
            suite: "trixie".to_owned(),
            component: "main".to_owned(),
            in_release: put("Suite: trixie"),
            date: String::new(),
            entries: put("Package: hello"),
        }],
        deb: vec![Deb {
            name: "hello".to_owned(),
            version: "2.10-5".to_owned(),
            arch: "amd64".to_owned(),
            source: "hello".to_owned(),
            source_version: "2.10-5".to_owned(),
            requested: true,
            stage: "first".to_owned(),
            passing: false,
            index: Some("debian".to_owned()),
            origin: String::new(),
            licence: None,
            artifact: Some(Artifact { url, sha256: put("a deb"), size: 5 }),
        }],
        ..Lock::default()
    }
}

fn bundle(place: &Place, arguments: &[&str]) -> Ran {
    place.dsimg(&[&["bundle", "images/t.toml", "-o", "b"], arguments].concat())
}

/// The bundle of one place, on another host.
fn carried(from: &Place) -> Place {
    let to = host();
    fs::copy(from.path("b"), to.path("b")).unwrap();
    to
}

fn refused(ran: &Ran, code: i32, texts: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{ran:?}");
    texts.iter().for_each(|text| assert!(ran.err.contains(text), "no `{text}` in:\n{}", ran.err));
}

/// Changes the last byte of what is found first.
fn flip(place: &Place, path: &str, what: &[u8]) {
    let mut bytes = fs::read(place.path(path)).unwrap();
    let at = bytes.windows(what.len()).position(|window| window == what).unwrap();
    bytes[at + what.len() - 1] ^= 1;
    fs::write(place.path(path), bytes).unwrap();
}

#[test]
fn a_bundle_has_all_that_a_build_asks_for() {
    let place = locked();
    let packed = bundle(&place, &[]);
    assert_eq!(packed.code, Some(0), "{packed:?}");
    assert!(packed.out.ends_with("for `kvm`\nnext, on the other host:\n  dsimg build --offline b\n"), "{packed:?}");
    refused(&bundle(&place, &[]), 2, &["`b` is there already", "--force"]);
    let first = fs::read(place.path("b")).unwrap();
    assert_eq!(bundle(&place, &["--force"]).code, Some(0));
    assert_eq!(fs::read(place.path("b")).unwrap(), first, "the same content gives the same bytes");

    let other = carried(&place);
    let built = other.dsimg(&["build", "--offline", "b"]);
    refused(&built, 1, &["unpacking b\n", "no such device"]);
    other.assert_nothing_left();
    assert_eq!(other.files(&format!("{CACHE}/bundles")), [""; 0]);
    let (base, _) = dsimg_plan::inputs::hash_file(&place.path("disk.qcow2")).unwrap();
    let adopted = format!("{CACHE}/bases/adopted-{base}/base.qcow2");
    assert_eq!(fs::read(other.path(&adopted)).unwrap(), fs::read(place.path("disk.qcow2")).unwrap());
    assert!(store(&other).find(&base).is_none(), "a disk is not kept twice");
    // Once more from what is there; and what was changed in the store is put right.
    let deb = Digest::of_bytes(b"a deb");
    fs::write(store(&other).find(&deb).unwrap(), "a bed").unwrap();
    refused(&other.dsimg(&["build", "--offline", "b"]), 1, &["no such device"]);
    assert!(store(&other).find(&base).is_none());
    store(&other).verified(&deb).unwrap();
    assert_eq!(other.dsimg(&["cache", "verify"]).code, Some(0));
}

#[test]
fn one_byte_changed_is_refused_by_name() {
    let place = locked();
    assert_eq!(bundle(&place, &[]).code, Some(0));
    let deb = Digest::of_bytes(b"a deb");
    let other = carried(&place);
    flip(&other, "b", b"a deb");
    let named = format!("`hello_2.10-5_amd64.deb` (sha256:{deb}) was changed");
    refused(&other.dsimg(&["build", "--offline", "b"]), 2, &["the bundle `b` is damaged", &named]);
    assert_eq!(other.files(&format!("{CACHE}/store/blobs")), [""; 0]);

    let other = carried(&place);
    flip(&other, "b", b"version = \"2.10-5");
    refused(&other.dsimg(&["build", "--offline", "b"]), 2, &["the bundle `b` is damaged", "`images/t.lock`"]);

    fs::write(store(&place).find(&deb).unwrap(), "a dob").unwrap();
    refused(&bundle(&place, &["--force"]), 2, &["hello_2.10-5_amd64.deb: blob", deb.as_str(), "is damaged"]);
    refused(&bundle(&place, &["--force"]), 1, &["not in the package store", "hello_2.10-5_amd64.deb", "--no-cache"]);
    flip(&place, "images/t.lock", b"version = \"2.10-5");
    refused(&bundle(&place, &["--force"]), 2, &["`images/t.lock`", "its content is not what was written"]);
}

#[test]
fn what_is_not_here_or_can_t_be_frozen_is_named() {
    let place = locked();
    let good = lock(&place, &[]);
    let mut other = good.clone();
    other.base.sha256 = "0".repeat(64);
    write(&place, &other);
    refused(&bundle(&place, &[]), 1, &["the lock's base (disk.qcow2, sha256 000000000000…) is not on this host"]);

    let mut open = good.clone();
    let reached = ["example.org:443".to_owned()].into();
    open.unfrozen = vec![Unfrozen { stage: "first".to_owned(), reached }];
    write(&place, &open);
    refused(&bundle(&place, &[]), 2, &["stage `first` used the network by itself (example.org:443)"]);
    let text = place.read("images/t.toml");
    place.write("images/t.toml", &format!("{text}\n[network]\naccess = \"packages\"\n"));
    assert_eq!(bundle(&place, &[]).code, Some(0));

    place.write("images/t.toml", &text.replace("../common", "/etc/os-release"));
    write(&place, &lock(&place, &[]));
    refused(&bundle(&place, &["--force"]), 2, &["can't go into a bundle", "a path relative to the template"]);
    place.write("images/t.toml", &text.replace("echo hello", "echo other"));
    refused(&bundle(&place, &["--force"]), 2, &["no longer fits", "stage `first`"]);
    fs::remove_file(place.path("images/t.lock")).unwrap();
    refused(&bundle(&place, &["--force"]), 2, &["there is no lock"]);
}

#[test]
fn values_go_along_and_secrets_do_not() {
    let place = locked();
    let given = ["--var", "place=there \"x\"", "--var", "token=hunter22hunter22"];
    write(&place, &lock(&place, &given));
    let mut command = place.command(&[&["bundle", "images/t.toml", "-o", "b"], &given[..]].concat());
    let packed = place.ran(command.env("DSIMG_VAR_of_another_template", "1").output().unwrap());
    assert_eq!(packed.code, Some(0), "{packed:?}");
    let bytes = fs::read(place.path("b")).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"place = \"there \\\"x\\\"\"\n") && !has(b"hunter22"));

    let other = carried(&place);
    refused(
        &other.dsimg(&["build", "--offline", "b"]),
        2,
        &["sensitive variable `token` had a value", "DSIMG_VAR_token"],
    );
    let secret = ["build", "--offline", "b", "--var", "token=hunter22hunter22"];
    refused(&other.dsimg(&secret), 1, &["no such device"]);
    let flag = [&secret[..], &["--var", "place=elsewhere"]].concat();
    refused(&other.dsimg(&flag), 2, &["no longer fits", "stage `files`: destination", "that it was made with"]);
}

#[test]
fn what_works_on_aws_is_refused() {
    let place = locked();
    let aws = "\n[[builder]]\nname = \"aws\"\ntype = \"aws-ebs\"\nregion = \"eu-west-1\"\n";
    let ami = "[base]\nami = { owner = \"136693071363\", name = \"debian-13-amd64-*\" }\n";
    let text = place.read("images/t.toml").replace("[base]\n", ami);
    place.write("images/t.toml", &format!("{text}{aws}"));
    refused(&bundle(&place, &[]), 2, &["builder `aws` works on AWS", "--only"]);
    assert_eq!(bundle(&place, &["--only", "kvm"]).code, Some(0));
}

#[test]
fn a_bundle_is_for_what_it_was_made_for() {
    let place = locked();
    let second = "\n[[builder]]\nname = \"second\"\ntype = \"qemu\"\n";
    let text = place.read("images/t.toml");
    place.write("images/t.toml", &format!("{text}{second}"));
    refused(&bundle(&place, &[]), 2, &["has nothing for `second`"]);
    assert_eq!(bundle(&place, &["--only", "kvm"]).code, Some(0));
    let other = carried(&place);
    refused(&other.dsimg(&["build", "--offline", "b"]), 1, &["no such device"]);
    let second = other.dsimg(&["build", "--offline", "b", "--only", "second"]);
    refused(&second, 2, &["the bundle has nothing for `second`", "it was made for `kvm`"]);
    refused(&place.dsimg(&["build", "--offline", "images/t.toml"]), 2, &["is no bundle of dsimg"]);
    let none = place.dsimg(&["build", "--offline", "none"]);
    refused(&none, 2, &["error: there is no bundle `none`\nhint: `dsimg bundle TEMPLATE --output none` makes one"]);
}
