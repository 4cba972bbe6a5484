//! A finished image goes where its template wants it. The image is there by then, whatever becomes of this.

use std::path::Path;
use std::time::Instant;

use dsimg_build::{BuildReport, record_published};
use dsimg_machine::{Artifact, Event, MachineError, Phase, RunContext};
use dsimg_manifest::Manifest;
use dsimg_plan::{Digest, Plan};
use dsimg_template::template::Publish;

use crate::failure::Failure;
use crate::wire;

/// In the image's folder: which publishers have done their work for it.
const DONE: &str = ".published";

/// Whether nothing is left to do for an image that is there.
pub(crate) fn is_done(plan: &Plan, folder: &Path) -> bool {
    plan.publish.is_empty() || std::fs::read_to_string(folder.join(DONE)).is_ok_and(|done| done == stamp(plan))
}

/// Looks before the build begins: an hour's work must not end with a refusal.
///
/// # Errors
/// One of them could not publish the image.
pub(crate) async fn check(plan: &Plan, state: &Path, run: &RunContext) -> Result<(), Failure> {
    for publish in &plan.publish {
        let publisher = wire::publisher_for(publish, &plan.image, state)?;
        publisher.check_ready(run).await.map_err(|error| cannot(publish, error))?;
    }
    Ok(())
}

/// All publishers in turn, and the AMIs into the image's files.
///
/// # Errors
/// One of them failed; the image stays, and the next build goes on with the rest.
pub(crate) async fn publish(
    report: BuildReport,
    plan: &Plan,
    state: &Path,
    run: &RunContext,
) -> Result<BuildReport, Failure> {
    let BuildReport { folder, mut manifest } = report;
    run.report(&Event::PhaseStarted { phase: Phase::Publish });
    let begun = Instant::now();
    let image = &plan.image;
    let names = (image.name.as_str(), image.version.as_str(), image.summary.as_deref());
    let image = dsimg_qemu::local_image(names, &folder, &files(&manifest), run).await?;
    for publish in &plan.publish {
        let published = wire::publisher_for(publish, &plan.image, state)?.publish(&image, run).await;
        let amis = published.map_err(|error| after_build(cannot(publish, error), &folder))?;
        manifest = record_published(&folder, manifest, amis)?;
    }
    let done = folder.join(DONE);
    std::fs::write(&done, stamp(plan)).map_err(|error| Failure::file("cannot write", &done, error))?;
    run.report(&Event::PhaseEnded { phase: Phase::Publish, elapsed: begun.elapsed() });
    Ok(BuildReport { folder, manifest })
}

/// Of the plan and of what is asked of the publishers.
fn stamp(plan: &Plan) -> String {
    Digest::of_value(&(plan.hash(), &plan.publish)).to_string()
}

fn files(manifest: &Manifest) -> Vec<Artifact> {
    let file = |file: &dsimg_manifest::manifest::Artifact| {
        Some(Artifact {
            file: file.file.clone(),
            format: file.format.clone(),
            size: file.size,
            sha256: Digest::parse(&file.sha256)?,
            virtual_size: file.virtual_size,
        })
    };
    manifest.build.artifacts.iter().filter_map(file).collect()
}

fn cannot(publish: &Publish, error: MachineError) -> Failure {
    Failure::from(error).of_build(&format!("publisher `{}`", publish.name))
}

fn after_build(failure: Failure, folder: &Path) -> Failure {
    failure.because(format!("the image itself is made: {}; the next `dsimg build` goes on from here", folder.display()))
}
