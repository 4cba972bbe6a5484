//! The second page that reads as a list: from a plan to an image's folder.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use dsimg_download::Access;
use dsimg_machine::{BaseImage, Builder, HostFacts, Machine, Phase, RunContext, Session};
use dsimg_manifest::Manifest;
use dsimg_plan::{Plan, Stage};
use dsimg_template::Catalog;

use crate::error::BuildError;
use crate::freeze::{Depth, read_packages, read_system};
use crate::guest::{Guest, Preparation, until_cancelled};
use crate::network;
use crate::output::OutputFolder;
use crate::prepare::prepare;
use crate::record::{Outcome, write_manifest};
use crate::stages::{StageSetting, clear_stage, run_last_stage, run_stage};
use crate::timings::Timings;
use crate::upload::Sources;

/// One plan and all that it is carried out with.
pub struct Job<'a> {
    pub plan: &'a Plan,
    pub builder: &'a dyn Builder,
    pub catalog: &'a Catalog,
    pub sources: Sources<'a>,
    /// The image's folder.
    pub target: &'a Path,
    /// Replace an image's folder that is there already.
    pub force: bool,
    pub access: &'a Access,
    /// RFC 3339, UTC.
    pub started: String,
    pub dsimg_version: &'a str,
    pub on_failure: Option<&'a dyn OnFailure>,
    /// The log file; a copy of it goes beside the image.
    pub log: &'a Path,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("builder", &self.plan.builder).field("target", &self.target).finish_non_exhaustive()
    }
}

/// Asked when a build failed while its machine runs.
#[async_trait]
pub trait OnFailure: Send + Sync {
    /// Returns when the machine may go. `ssh_command` leads into it.
    async fn keep(&self, failure: &str, ssh_command: &str);
}

/// What came out.
#[derive(Debug, Clone)]
pub struct BuildReport {
    pub folder: PathBuf,
    pub manifest: Manifest,
}

/// Carries out a plan: nothing of the build is left but the image's folder, or nothing at all.
///
/// # Errors
/// The host is not ready, the base can't be had, the machine or one of the stages fails, the image can't be
/// written, or the build is cancelled.
pub async fn execute(job: &Job<'_>, run: &RunContext) -> Result<BuildReport, BuildError> {
    let output = OutputFolder::reserve(job.target, job.force, run)?;
    match build_into(&output, job, run).await {
        Ok(manifest) => Ok(BuildReport { folder: output.publish(run)?, manifest }),
        Err(error) => {
            output.discard(run)?;
            Err(error)
        }
    }
}

async fn build_into(output: &OutputFolder, job: &Job<'_>, run: &RunContext) -> Result<Manifest, BuildError> {
    let mut timings = Timings::start();
    let host = job.builder.check_ready(job.plan, run).await?;
    let base = timings.phase(Phase::Base, run, make_base(job, run)).await?;
    let preparation = prepare(job, run).await?;
    let (mut machine, session) = timings.phase(Phase::Boot, run, start(job, &base, run)).await?;

    let provisioned = provision(machine.as_ref(), session, &preparation, output, job, &mut timings, run).await;
    let outcome = match provisioned {
        Ok(outcome) => finish(machine.as_mut(), outcome, output, job, &mut timings, run).await,
        Err(error) => {
            offer_to_keep(machine.as_ref(), &error, job, run).await;
            Err(error)
        }
    };
    // Whatever happened: the machine is ended before its fate is told.
    let stopped = machine.stop().await;
    let outcome = outcome?;
    stopped?;

    write_manifest(outcome, &Setting { job, host, base }, timings, output, run)
}

/// What the manifest says beside the outcome.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) host: HostFacts,
    pub(crate) base: BaseImage,
}

async fn make_base(job: &Job<'_>, run: &RunContext) -> Result<BaseImage, BuildError> {
    // Builders watch for the cancel themselves: a call that is dropped half-way could not clean up.
    let mangled = || BuildError::MangledSecret { stage: "network".to_owned() };
    let network = network::reveal(&job.plan.network, job.sources.secrets).ok_or_else(mangled)?;
    Ok(job.builder.prepare_base(&job.plan.base, &network, run).await?)
}

/// Boots a machine and waits until it can be talked to; one that does not come up is ended.
async fn start(
    job: &Job<'_>,
    base: &BaseImage,
    run: &RunContext,
) -> Result<(Box<dyn Machine>, Box<dyn Session>), BuildError> {
    let machine = job.builder.boot(base, job.plan, run).await?;
    match until_cancelled(run, machine.connect()).await {
        Ok(session) => Ok((machine, session)),
        Err(error) => {
            machine.stop().await?;
            Err(error)
        }
    }
}

/// All stages, and what was installed after each.
async fn provision(
    machine: &dyn Machine,
    session: Box<dyn Session>,
    preparation: &Preparation,
    output: &OutputFolder,
    job: &Job<'_>,
    timings: &mut Timings,
    run: &RunContext,
) -> Result<Outcome, BuildError> {
    let setting = StageSetting { sources: job.sources, image_folder: output.path(), run };
    let mut guest = Guest::new(machine, session, preparation, run);
    timings.phase(Phase::Prepare, run, guest.prepare()).await?;
    let (last, stages) = job.plan.stages.split_last().expect("every plan ends with the hygiene stage");
    let count = job.plan.stages.len();
    let depth = |done: usize| if done == stages.len() { Depth::Origins } else { Depth::Versions };

    let mut packages = timings.phase(Phase::Freeze, run, read_packages(&guest, depth(0))).await?;
    for (index, stage) in stages.iter().enumerate() {
        timings.stage(stage, index + 1, count, run, run_stage(stage, &mut guest, setting)).await.map_err(cut(stage))?;
        let frozen = read_packages(&guest, depth(index + 1));
        let after = timings.phase(Phase::Freeze, run, frozen).await.map_err(cut(stage))?;
        packages = dsimg_manifest::attribute(&packages, after, &stage.label);
        clear_stage(stage, &guest).await.map_err(cut(stage))?;
    }
    let system = timings.phase(Phase::Freeze, run, read_system(&guest)).await?;
    timings.stage(last, count, count, run, run_last_stage(last, &mut guest, setting)).await.map_err(cut(last))?;
    Ok(Outcome { packages, system, artifacts: Vec::new() })
}

/// Power off and write the image's files.
async fn finish(
    machine: &mut dyn Machine,
    mut outcome: Outcome,
    output: &OutputFolder,
    job: &Job<'_>,
    timings: &mut Timings,
    run: &RunContext,
) -> Result<Outcome, BuildError> {
    timings.phase(Phase::PowerOff, run, machine.wait_for_power_off()).await?;
    let name = format!("{}-{}", job.plan.image.name, job.plan.image.version);
    outcome.artifacts = timings.phase(Phase::Write, run, machine.write_image(&name, output.path())).await?;
    Ok(outcome)
}

/// Puts the stage's name to errors that don't carry it.
fn cut(stage: &Stage) -> impl Fn(BuildError) -> BuildError + '_ {
    |error| match error {
        BuildError::Stage { .. } | BuildError::MangledSecret { .. } => error,
        error if error.is_cancelled() => error,
        error => BuildError::StageCut { stage: stage.label.clone(), source: Box::new(error) },
    }
}

async fn offer_to_keep(machine: &dyn Machine, error: &BuildError, job: &Job<'_>, run: &RunContext) {
    let Some(on_failure) = job.on_failure.filter(|_| !error.is_cancelled()) else { return };
    if machine.trouble().await.is_some() {
        return;
    }
    match machine.ssh_command().await {
        Ok(command) => on_failure.keep(&error.to_string(), &command).await,
        Err(why) => run.warn(format!("the machine can't be kept: {why}")),
    }
}
