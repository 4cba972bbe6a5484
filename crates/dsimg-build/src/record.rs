//! The manifest, written last.

use std::fs;
use std::path::Path;

use dsimg_machine::{Ami, Artifact, RunContext, Written};
use dsimg_manifest::Frozen;
use dsimg_manifest::manifest::{self, Manifest, SystemFacts};
use dsimg_manifest::outputs::OUTPUTS;
use dsimg_plan::Digest;
use dsimg_plan::plan::PlannedBase;
use dsimg_template::template::Location;

use crate::error::BuildError;
use crate::execute::Setting;
use crate::output::OutputFolder;
use crate::timings::Timings;

/// What the machine became.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) packages: Frozen,
    pub(crate) system: SystemFacts,
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
    write_all(output.path(), &manifest)?;
    Ok(manifest)
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
    Ok(manifest)
}

/// The manifest last.
fn write_all(folder: &Path, manifest: &Manifest) -> Result<(), BuildError> {
    let text = manifest.to_json();
    let checksums = manifest.checksums(Digest::of_bytes(text.as_bytes()).as_str());
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
    let mut packages = outcome.packages;
    packages.sort();
    Manifest {
        format: manifest::FORMAT,
        image: manifest::ImageFacts {
            name: plan.image.name.clone(),
            version: plan.image.version.clone(),
            summary: plan.image.summary.clone(),
        },
        plan: plan.hash().to_string(),
        base: base_facts(&plan.base, setting),
        system: outcome.system,
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
            artifacts: outcome.written.files.into_iter().map(artifact).collect(),
            amis: outcome.written.amis.into_iter().map(ami).collect(),
            durations: timings.durations(),
        },
    }
}

fn base_facts(base: &PlannedBase, setting: &Setting<'_>) -> manifest::BaseFacts {
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
        PlannedBase::Ami(_) => ("ami", setting.base.description.clone()),
    };
    let (id, sha256) = (setting.base.id.clone(), setting.base.sha256.to_string());
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
