//! The manifest, written last.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dsimg_machine::{Ami, Artifact, BaseImage, RunContext, Written};
use dsimg_manifest::lock::{LockedBase, write_lock};
use dsimg_manifest::manifest::{self, Manifest};
use dsimg_manifest::outputs::OUTPUTS;
use dsimg_manifest::sbom::{SBOM, sbom};
use dsimg_manifest::{Lock, LockFile};
use dsimg_plan::Digest;
use dsimg_plan::plan::PlannedBase;
use dsimg_template::template::Location;

use crate::error::BuildError;
use crate::execute::Setting;
use crate::lock::{Facts, reproducibility};
use crate::output::OutputFolder;
use crate::save::Notes;
use crate::timings::Timings;

/// The lock that the image was built from, in its folder.
pub const IMAGE_LOCK: &str = "image.lock";

/// Of the statement of what the image was made of, and of its checksums.
const SIGNATURES: [&str; 2] = ["provenance.dsse.json", "SHA256SUMS.minisig"];

/// What the machine became.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) notes: Notes,
    /// Of the listing of all files, where it was read.
    pub(crate) tree: Option<Digest>,
    pub(crate) written: Written,
}

/// Writes log, manifest and checksums beside the image's files.
pub(crate) fn write_manifest(
    outcome: Outcome,
    setting: &Setting<'_>,
    timings: Timings,
    output: &OutputFolder,
    run: &RunContext,
) -> Result<Manifest, BuildError> {
    let log = output.path().join("build.log");
    fs::copy(setting.job.log, &log).map_err(|error| BuildError::file("cannot write", &log, error))?;
    let manifest = make_manifest(outcome, setting, timings, run);
    let lock = setting.job.lock.map(|kept| kept.lock);
    if let Some(lock) = lock {
        write(&output.path().join(IMAGE_LOCK), &image_lock(lock, &setting.job.plan.run_name()))?;
    }
    write(&output.path().join(SBOM), &sbom(&manifest, lock))?;
    write_all(output.path(), &manifest)?;
    Ok(manifest)
}

/// Without what the first image came to: that of the first and the next build is the same.
fn image_lock(lock: &Lock, run_name: &str) -> String {
    let lock = Lock { image: None, ..lock.clone() };
    write_lock(&LockFile { runs: BTreeMap::from([(run_name.to_owned(), lock)]) })
}

/// Puts the AMIs that an image was published as into the files of its folder.
///
/// # Errors
/// A file can't be written; the manifest is whole, the old one or the new one.
pub fn record_published(folder: &Path, manifest: Manifest, amis: Vec<Ami>) -> Result<Manifest, BuildError> {
    let mut manifest = manifest;
    let published = |known: &manifest::Ami| amis.iter().any(|ami| ami.region == known.region && ami.name == known.name);
    manifest.build.amis.retain(|known| !published(known));
    manifest.build.amis.extend(amis.into_iter().map(ami));
    manifest.build.amis.sort();
    write_all(folder, &manifest)?;
    // They were of the files as they were; whoever has the key signs these, too.
    for signature in SIGNATURES {
        let file = folder.join(signature);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BuildError::file("cannot remove", &file, error));
            }
            _ => {}
        }
    }
    Ok(manifest)
}

/// The manifest last.
fn write_all(folder: &Path, manifest: &Manifest) -> Result<(), BuildError> {
    let text = manifest.to_json();
    let mut documents = vec![("manifest.json", Digest::of_bytes(text.as_bytes()).to_string())];
    for name in [IMAGE_LOCK, SBOM] {
        let file = folder.join(name);
        if file.is_file() {
            let bytes = fs::read(&file).map_err(|error| BuildError::file("cannot read", &file, error))?;
            documents.push((name, Digest::of_bytes(&bytes).to_string()));
        }
    }
    let checksums = manifest.checksums(&documents);
    write(&folder.join(OUTPUTS), &manifest.outputs())?;
    if !manifest.build.amis.is_empty() {
        let (name, variables) = manifest.terraform_variables();
        write(&folder.join(name), &variables)?;
    }
    write(&folder.join("SHA256SUMS"), &checksums)?;
    write(&folder.join("manifest.json"), &text)
}

fn make_manifest(outcome: Outcome, setting: &Setting<'_>, timings: Timings, run: &RunContext) -> Manifest {
    let (job, plan) = (setting.job, setting.job.plan);
    let mut packages = outcome.notes.packages;
    packages.sort();
    let artifacts: Vec<_> = outcome.written.files.into_iter().map(artifact).collect();
    let disks = artifacts.iter().map(|artifact| (artifact.format.clone(), artifact.sha256.clone())).collect();
    let facts = Facts {
        epoch: outcome.notes.epoch,
        lock: job.lock.map(|kept| kept.lock),
        strict: job.lock.is_some_and(|kept| kept.strict),
        packages: &packages,
        reached: &outcome.notes.reached,
        watched: !outcome.notes.unwatched,
        sealed: plan.image.seal,
        tree: outcome.tree.as_ref().map(Digest::as_str),
        disks: &disks,
    };
    let reproducibility = reproducibility(&facts, job.lock.map(|kept| kept.sha256.to_string()));
    Manifest {
        format: manifest::FORMAT,
        image: manifest::ImageFacts {
            name: plan.image.name.clone(),
            version: plan.image.version.clone(),
            summary: plan.image.summary.clone(),
        },
        plan: job.plan_hash.to_string(),
        base: base_facts(&plan.base, &setting.base),
        system: outcome.notes.system,
        stages: plan.stages.iter().map(stage_facts).collect(),
        packages,
        build: manifest::BuildFacts {
            id: run.build_id.clone(),
            started: job.started.clone(),
            dsimg: job.dsimg_version.to_owned(),
            builder: plan.builder.clone(),
            host: manifest::HostFacts {
                hypervisor: setting.host.hypervisor.clone(),
                accelerator: setting.host.accelerator.clone(),
                cpus: setting.host.cpus,
                os: setting.host.os.clone(),
            },
            artifacts,
            amis: outcome.written.amis.into_iter().map(ami).collect(),
            durations: timings.durations(),
            reproducibility: Some(reproducibility),
        },
    }
}

/// The base as a lock has it.
pub(crate) fn locked_base(base: &PlannedBase, image: &BaseImage) -> LockedBase {
    let manifest::BaseFacts { kind, source, id, sha256 } = base_facts(base, image);
    LockedBase { kind, source, id, sha256 }
}

fn base_facts(base: &PlannedBase, image: &BaseImage) -> manifest::BaseFacts {
    let (kind, source) = match base {
        PlannedBase::Bootstrap(bootstrap) => {
            let distro = match bootstrap.distro {
                dsimg_template::template::Distro::Debian => "debian",
                dsimg_template::template::Distro::Ubuntu => "ubuntu",
            };
            ("bootstrap", format!("{distro} {} {}", bootstrap.suite, bootstrap.arch))
        }
        PlannedBase::Image(image) => (
            "image",
            match &image.location {
                Location::Url(url) => url.clone(),
                // The file's name says what it is; where it lay on this host is nobody else's business.
                Location::Path(path) => {
                    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
                }
            },
        ),
        PlannedBase::Ami(_) => ("ami", image.description.clone()),
    };
    let (id, sha256) = (image.id.clone(), image.sha256.to_string());
    manifest::BaseFacts { kind: kind.to_owned(), source, id, sha256 }
}

fn stage_facts(stage: &dsimg_plan::Stage) -> manifest::StageFacts {
    manifest::StageFacts {
        label: stage.label.clone(),
        provisioner: stage.provisioner.clone(),
        provisioner_version: stage.provisioner_version,
        key: stage.key.to_string(),
    }
}

fn artifact(artifact: Artifact) -> manifest::Artifact {
    manifest::Artifact {
        file: artifact.file,
        format: artifact.format,
        size: artifact.size,
        sha256: artifact.sha256.to_string(),
        virtual_size: artifact.virtual_size,
    }
}

fn ami(ami: Ami) -> manifest::Ami {
    let Ami { region, id, name, snapshots, source, parameter } = ami;
    manifest::Ami { region, id, name, snapshots, source, parameter }
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), BuildError> {
    let write = || {
        let new = path.with_extension("new");
        fs::write(&new, text)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| BuildError::file("cannot write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let value = serde_json::json!({
            "format": 1, "image": {"name": "ds", "version": "1"}, "plan": "1".repeat(64),
            "base": {"kind": "image", "source": "disk.qcow2", "sha256": "2".repeat(64)},
            "system": {"os": "Debian", "os_id": "debian", "os_version": "13", "kernel": "6", "architecture": "amd64"},
            "stages": [], "packages": [],
            "build": {"id": "1", "started": "2026-11-21T10:15:00Z", "dsimg": "0.1.0", "builder": "kvm",
                "host": {"hypervisor": "qemu", "accelerator": "tcg", "cpus": 1, "os": "Debian"},
                "artifacts": [{"file": "ds-1.qcow2", "format": "qcow2", "size": 1, "sha256": "3".repeat(64),
                               "virtual_size": 1}],
                "durations": {"total_ms": 1, "phases": [], "stages": []}}});
        Manifest::from_json(&value.to_string()).unwrap()
    }

    #[test]
    fn checksums_are_of_all_that_tells_what_the_image_is_and_signatures_of_other_files_go() {
        let folder = tempfile::tempdir().unwrap();
        for name in [SBOM, SIGNATURES[0], SIGNATURES[1]] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        let names = || {
            let sums = fs::read_to_string(folder.path().join("SHA256SUMS")).unwrap();
            sums.lines().map(|line| line[66..].to_owned()).collect::<Vec<_>>()
        };
        write_all(folder.path(), &manifest()).unwrap();
        assert_eq!(names(), ["ds-1.qcow2", "manifest.json", SBOM]);
        assert!(folder.path().join(SIGNATURES[0]).exists());
        fs::write(folder.path().join(IMAGE_LOCK), "").unwrap();
        let published = record_published(folder.path(), manifest(), Vec::new()).unwrap();
        assert_eq!(names(), ["ds-1.qcow2", "manifest.json", IMAGE_LOCK, SBOM]);
        assert_eq!(published, manifest());
        assert!(!SIGNATURES.iter().any(|name| folder.path().join(name).exists()));
    }
}
