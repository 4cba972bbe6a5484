//! A whole manifest: its bytes, its schema, what people read, and what a reader refuses.

#![allow(clippy::unwrap_used, reason = "what panics here fails a test")]

mod schema;

use std::path::Path;

use dsimg_manifest::inspect::{added_by_dsimg, describe, list_packages};
use dsimg_manifest::manifest::{
    Ami, Artifact, BASE, BaseFacts, BuildFacts, Duration, Durations, FORMAT, HostFacts, ImageFacts, Level,
    Reproducibility, StageFacts, SystemFacts,
};
use dsimg_manifest::{Manifest, ManifestError, Package, attribute, parse_frozen};
use serde_json::{Value, json};

/// What freeze scripts print before the first stage and after each of two.
const BEFORE: &str = "\
deb\tbash\t5.2.37-2\tamd64\tDebian trixie main\t0
deb\tlibc6\t2.41-12\tamd64\tDebian trixie main\t0";
const AFTER_APT: &str = "\
deb\tbash\t5.2.37-2\tamd64\tDebian trixie main\t0
deb\tgit\t1:2.47.3-0\tamd64\tDebian trixie main\t1
deb\tlibc6\t2.41-12+deb13u1\tamd64\tDebian trixie main\t0";
const AFTER_PIP: &str = "\
deb\tbash\t5.2.37-2\tamd64\tDebian trixie main\t0
deb\tgit\t1:2.47.3-0\tamd64\tDebian trixie main\t1
deb\tlibc6\t2.41-12+deb13u1\tamd64\tDebian trixie main\t0
pypi\tnumpy\t2.5.1\t\tvenv:/opt/ds\t1
pypi\tsix\t1.17.0\t\tvenv:/opt/ds\t0";

fn packages() -> Vec<Package> {
    let base = parse_frozen(BEFORE).unwrap();
    let apt = attribute(&base, parse_frozen(AFTER_APT).unwrap(), "system libraries");
    attribute(&apt, parse_frozen(AFTER_PIP).unwrap(), "pip")
}

fn sample() -> Manifest {
    let digest = |digit: &str| digit.repeat(64);
    let stage = |label: &str, provisioner: &str, digit: &str| StageFacts {
        label: label.to_owned(),
        provisioner: provisioner.to_owned(),
        provisioner_version: 1,
        key: digest(digit),
    };
    Manifest {
        format: FORMAT,
        image: ImageFacts {
            name: "ds-hub".to_owned(),
            version: "2026.11".to_owned(),
            summary: Some("Python in /opt/ds".to_owned()),
        },
        plan: digest("1"),
        base: BaseFacts {
            kind: "bootstrap".to_owned(),
            source: "debian trixie amd64".to_owned(),
            id: None,
            sha256: digest("2"),
        },
        system: SystemFacts {
            os: "Debian GNU/Linux 13 (trixie)".to_owned(),
            os_id: "debian".to_owned(),
            os_version: "13.2".to_owned(),
            kernel: "6.12.57+deb13-cloud-amd64".to_owned(),
            architecture: "amd64".to_owned(),
            python: Some("3.13.5".to_owned()),
            r: None,
        },
        stages: vec![stage("system libraries", "apt", "3"), stage("pip", "pip", "4"), stage("hygiene", "hygiene", "5")],
        packages: packages(),
        build: build(),
    }
}

fn build() -> BuildFacts {
    let duration = |name: &str, ms| Duration { name: name.to_owned(), ms };
    BuildFacts {
        id: "20261121-101500-4711-9f2c".to_owned(),
        started: "2026-11-21T10:15:00Z".to_owned(),
        dsimg: "0.1.0".to_owned(),
        builder: "kvm".to_owned(),
        host: HostFacts {
            hypervisor: "qemu 10.0.2".to_owned(),
            accelerator: "tcg".to_owned(),
            cpus: 2,
            os: "Debian GNU/Linux 13 (trixie)".to_owned(),
        },
        artifacts: vec![Artifact {
            file: "ds-hub-2026.11.qcow2".to_owned(),
            format: "qcow2".to_owned(),
            size: 300_548_096,
            sha256: "6".repeat(64),
            virtual_size: 20 << 30,
        }],

        amis: Vec::new(),
        reproducibility: None,
        durations: Durations {
            total_ms: 83_000,
            resumed_after: Some("system libraries".to_owned()),
            phases: vec![
                duration("base", 1_500),
                duration("boot", 18_250),
                duration("prepare", 900),
                duration("freeze", 1_100),
                duration("checkpoint", 2_300),
                duration("power off", 2_000),
                duration("write image", 4_700),
            ],
            stages: vec![duration("system libraries", 31_000), duration("pip", 22_000), duration("hygiene", 1_500)],
        },
    }
}

fn ami() -> Ami {
    Ami {
        region: "eu-west-1".to_owned(),
        id: "ami-0fedcba9876543210".to_owned(),
        name: "ds-hub-2026.11".to_owned(),
        snapshots: vec!["snap-0123456789abcdef0".to_owned()],
        source: Some("ami-0123456789abcdef0".to_owned()),
        parameter: Some("/golden/ds-hub/latest".to_owned()),
    }
}

#[test]
fn those_who_deploy_find_the_ids_by_region() {
    let mut manifest = sample();
    manifest.build.amis = vec![ami()];
    let outputs: Value = serde_json::from_str(&manifest.outputs()).unwrap();
    assert_eq!(outputs["amis"]["eu-west-1"]["id"], "ami-0fedcba9876543210");
    assert_eq!(outputs["files"][0]["sha256"], manifest.build.artifacts[0].sha256.as_str());
    manifest.image.name = "2-ds.hub".to_owned();
    let (name, variables) = manifest.terraform_variables();
    assert_eq!(name, "2-ds.hub.auto.tfvars.json");
    let variables: Value = serde_json::from_str(&variables).unwrap();
    assert_eq!(variables["image_2_ds_hub_amis"], json!({"eu-west-1": "ami-0fedcba9876543210"}));
    assert_eq!(variables["image_2_ds_hub_version"], manifest.image.version);
}

#[test]
fn a_manifest_keeps_to_its_schema() {
    let schema = schema::read();
    let value: Value = serde_json::from_str(&sample().to_json()).unwrap();
    assert_eq!(schema::problems(&schema, &value), [""; 0]);
}

/// So that the test above can fail: every kind of mistake is found.
#[test]
fn what_is_no_manifest_does_not_keep_to_the_schema() {
    let schema = schema::read();
    type Spoil = fn(&mut Value);
    let mistakes: [(&str, Spoil); 8] = [
        ("$: `plan` is missing", |value| drop(value.as_object_mut().unwrap().remove("plan"))),
        ("$: `extra` is not allowed", |value| value["extra"] = json!(1)),
        ("$.format: not 1", |value| value["format"] = json!(2)),
        ("$.build.artifacts[0].size: not of type integer", |value| value["build"]["artifacts"][0]["size"] = json!("1")),
        ("$.stages[1].key: does not match", |value| value["stages"][1]["key"] = json!("abc")),
        ("$.base.kind: not one of", |value| value["base"]["kind"] = json!("floppy")),
        ("$.packages[0].requested: not of type boolean", |value| value["packages"][0]["requested"] = json!(null)),
        ("$.build.host.cpus: below 1", |value| value["build"]["host"]["cpus"] = json!(0)),
    ];
    for (expected, spoil) in mistakes {
        let mut value = serde_json::to_value(sample()).unwrap();
        spoil(&mut value);
        let found = schema::problems(&schema, &value);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
    }
}

#[test]
fn every_key_of_a_manifest_is_in_the_schema_and_the_other_way_round() {
    let mut whole = sample();
    whole.system.r = Some("4.5.0".to_owned());
    whole.base.id = Some("ami-0123456789abcdef0".to_owned());
    whole.build.amis = vec![ami()];
    for package in &mut whole.packages {
        package.location = "/opt/ds".to_owned();
        package.architecture = "amd64".to_owned();
        package.origin = "Debian trixie main".to_owned();
        package.source = "openssl 3.5.1-1".to_owned();
    }
    whole.build.reproducibility = Some(Reproducibility {
        level: Level::R2,
        reasons: vec!["the image is not sealed".to_owned()],
        epoch: 1_762_041_600,
        lock: Some("ab".repeat(32)),
        tree: Some("cd".repeat(32)),
    });
    let written = schema::keys_of(&serde_json::to_value(whole).unwrap());
    assert_eq!(written, schema::keys_in(&schema::read()));
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let first = sample();
    let mut second = sample();
    second.packages.reverse();
    second.packages.sort();
    second.build.id = "another".to_owned();
    second.build.artifacts[0].sha256 = "7".repeat(64);
    assert_ne!(first.to_json(), second.to_json());
    second.build = first.build.clone();
    assert_eq!(first.to_json(), second.to_json());
    assert!(first.to_json().ends_with("}\n"));
    assert_eq!(Manifest::from_json(&first.to_json()).unwrap(), first);
}

#[test]
fn what_can_not_be_read_is_told_in_words() {
    let error = |text: &str| Manifest::from_json(text).unwrap_err();
    assert!(matches!(error("{"), ManifestError::Syntax(_)));
    assert!(error("<html>").to_string().starts_with("it is not JSON: "));
    let newer = sample().to_json().replacen("\"format\": 1", "\"format\": 2", 1).replacen("\"plan\"", "\"plans\"", 1);
    assert_eq!(error(&newer).to_string(), "its format is 2, and this version of dsimg reads format 1");
    assert!(error("{}").to_string().contains("missing field `format`"));
    let unknown = sample().to_json().replacen("\"plan\"", "\"plans\"", 1);
    assert!(error(&unknown).to_string().starts_with("it is not a manifest of an image: unknown field `plans`"));
}

#[test]
fn packages_know_the_stage_that_brought_their_version() {
    let stage = |name: &str| packages().into_iter().find(|package| package.name == name).unwrap().stage;
    assert_eq!(stage("bash"), BASE);
    assert_eq!(stage("git"), "system libraries");
    assert_eq!(stage("libc6"), "system libraries", "a new version of what the base held");
    assert_eq!(stage("six"), "pip");
}

#[test]
fn people_read_what_is_in_it_and_how_long_it_took() {
    insta::assert_snapshot!("inspect", describe(&sample()));
    insta::assert_snapshot!("packages", list_packages(&sample()));
    let added = added_by_dsimg(&sample());
    assert_eq!(added.total(), 18_250 + 900 + 1_100 + 2_300 + 1_500 + 2_000 + 4_700);
}

#[test]
fn the_checksums_are_as_sha256sum_reads_them() {
    let sums = sample().checksums(&[("manifest.json", "8".repeat(64))]);
    let expected = format!("{}  ds-hub-2026.11.qcow2\n{}  manifest.json\n", "6".repeat(64), "8".repeat(64));
    assert_eq!(sums, expected);
}

#[test]
fn the_schema_is_where_the_docs_say() {
    assert!(Path::new(schema::PATH).is_file());
}
