//! An image's manifest and the lock it was built from, of any size.

use dsimg_manifest::lock::{AptIndex, Artifact as Blob, Deb, Distribution, Lock, LockedBase, LockedStage, RPackage};
use dsimg_manifest::manifest::{
    Artifact, BASE, BaseFacts, BuildFacts, Durations, FORMAT, HostFacts, ImageFacts, StageFacts, SystemFacts,
};
use dsimg_manifest::{Inventory, Manifest};

pub(crate) const EPOCH: i64 = 1_762_041_600;
const LIBRARY: &str = "/usr/local/lib/R/site-library";

pub(crate) fn blob(url: &str, digit: &str) -> Blob {
    Blob { url: url.to_owned(), sha256: digit.repeat(64), size: 1234 }
}

pub(crate) fn deb(name: &str, version: &str, stage: &str) -> Deb {
    let url = format!("http://deb.debian.org/debian/pool/main/x/{name}_{version}_amd64.deb");
    let is_base = stage == BASE;
    Deb {
        name: name.to_owned(),
        version: version.to_owned(),
        arch: "amd64".to_owned(),
        source: format!("{name}-source"),
        source_version: version.to_owned(),
        requested: !is_base,
        stage: stage.to_owned(),
        passing: false,
        index: (!is_base).then(|| "debian-trixie-main".to_owned()),
        origin: String::new(),
        licence: (!is_base).then(|| "GPL-2.0-or-later AND MIT".to_owned()),
        artifact: (!is_base).then(|| blob(&url, "d")),
    }
}

pub(crate) fn wheel(name: &str, version: &str, location: &str) -> Distribution {
    Distribution {
        name: name.to_owned(),
        version: version.to_owned(),
        location: location.to_owned(),
        requested: location == "/opt/ds",
        stage: "python".to_owned(),
        passing: false,
        index: "https://pypi.org/simple".to_owned(),
        licence: Some("see the file \"LICENSE\"".to_owned()),
        artifact: Some(blob(&format!("https://files.example.org/{name}-{version}-py3-none-any.whl"), "e")),
    }
}

pub(crate) fn tarball(name: &str, version: &str) -> RPackage {
    RPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        location: LIBRARY.to_owned(),
        requested: true,
        stage: "r".to_owned(),
        passing: false,
        repository: "https://cloud.r-project.org".to_owned(),
        commit: None,
        licence: Some("MIT".to_owned()),
        artifact: Some(blob(&format!("https://cloud.r-project.org/src/contrib/{name}_{version}.tar.gz"), "f")),
    }
}

/// One of each kind, one of them in two places.
pub(crate) fn lock() -> Lock {
    let stage = |label: &str, provisioner: &str| LockedStage {
        label: label.to_owned(),
        provisioner: provisioner.to_owned(),
        version: 1,
        inputs: serde_json::json!({"packages": [label]}),
    };
    Lock {
        epoch: EPOCH,
        base: LockedBase {
            kind: "bootstrap".to_owned(),
            source: "debian trixie amd64".to_owned(),
            id: None,
            sha256: "2".repeat(64),
        },
        stages: vec![stage("tools", "apt"), stage("python", "pip"), stage("r", "r")],
        indexes: vec![AptIndex {
            id: "debian-trixie-main".to_owned(),
            uri: "http://deb.debian.org/debian".to_owned(),
            suite: "trixie".to_owned(),
            component: "main".to_owned(),
            in_release: "3".repeat(64),
            date: "Sat, 08 Nov 2025 09:55:41 UTC".to_owned(),
            entries: "4".repeat(64),
        }],
        deb: vec![
            deb("git", "1:2.47.3-0+deb13u1", "tools"),
            deb("libc6", "2.41-12", BASE),
            Deb { passing: true, ..deb("make", "4.4.1-2", "r") },
        ],
        pypi: vec![
            wheel("numpy", "2.3.4", "/opt/ds"),
            wheel("numpy", "2.3.4", "/opt/web"),
            Distribution { passing: true, ..wheel("hatchling", "1.27.0", "") },
        ],
        cran: vec![
            tarball("digest", "0.6.37"),
            RPackage {
                commit: Some("r-lib/cli@0123abcd".to_owned()),
                repository: "github".to_owned(),
                ..tarball("cli", "3.6.5.9000")
            },
        ],
        ..Lock::default()
    }
}

/// Of the image that was built from the lock.
pub(crate) fn manifest(lock: &Lock) -> Manifest {
    let mut packages: Vec<_> = Inventory::of_lock("kvm", lock).entries.into_iter().map(|entry| entry.package).collect();
    for package in &mut packages {
        package.origin = match package.ecosystem.as_str() {
            "deb" => "Debian trixie main".to_owned(),
            "cran" if package.origin == "github" => "github:r-lib/cli@0123abcd".to_owned(),
            "cran" => "CRAN".to_owned(),
            _ => String::new(),
        };
    }
    packages.sort();
    let stage = |stage: &LockedStage| StageFacts {
        label: stage.label.clone(),
        provisioner: stage.provisioner.clone(),
        provisioner_version: stage.version,
        key: "5".repeat(64),
    };
    Manifest {
        format: FORMAT,
        image: ImageFacts { name: "ds-hub".to_owned(), version: "2026.11".to_owned(), summary: None },
        plan: "1".repeat(64),
        base: BaseFacts {
            kind: lock.base.kind.clone(),
            source: lock.base.source.clone(),
            id: None,
            sha256: lock.base.sha256.clone(),
        },
        system: SystemFacts {
            os: "Debian GNU/Linux 13 (trixie)".to_owned(),
            os_id: "debian".to_owned(),
            os_version: "13.2".to_owned(),
            kernel: "6.12.57+deb13-cloud-amd64".to_owned(),
            architecture: "amd64".to_owned(),
            python: Some("3.13.5".to_owned()),
            r: Some("4.5.0".to_owned()),
        },
        stages: lock.stages.iter().map(stage).collect(),
        packages,
        build: BuildFacts {
            reproducibility: None,
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
            durations: Durations::default(),
        },
    }
}
