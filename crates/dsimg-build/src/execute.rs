//! The second page that reads as a list: from a plan to an image's folder.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use dsimg_checkpoint::{Checkpoint, Kind, StageLock, Store};
use dsimg_download::Access;
use dsimg_machine::{
    BaseImage, Builder, HostFacts, KnownBase, Machine, MemoryFit, Phase, RunContext, Session, Written,
};
use dsimg_manifest::{Lock, Manifest};
use dsimg_mirror::MirrorSettings;
use dsimg_plan::plan::pinned_key;
use dsimg_plan::{Digest, Plan, Stage};
use dsimg_template::Catalog;

use crate::base;
use crate::error::BuildError;
use crate::files;
use crate::freeze::read_machine;
use crate::guest::Guest;
use crate::lock::{Stock, differing, fill_origins, pins_of_records};
use crate::network;
use crate::output::OutputFolder;
use crate::prepare::{Preparation, prepare};
use crate::record::{Outcome, locked_base, write_manifest};
use crate::save::{Notes, Point, Saver};
use crate::stages::{DROP_CACHES, StageSetting, run_last_stage, run_stage, tidy_after};
use crate::start::{Policy, Started, Wanted, deepest, start_from_deepest_checkpoint};
use crate::supply::Supply;
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
    /// Which checkpoints it may start from.
    pub checkpoints: Policy,
    /// The repositories that dsimg serves to the machine; `None`: it asks the outside itself.
    pub repositories: Option<MirrorSettings>,
    /// What the plan's stages are bound to.
    pub lock: Option<KeptLock<'a>>,
    /// Of the plan as the template has it, by which the image is known again.
    pub plan_hash: Digest,
    /// Nobody outside is asked for anything: what is needed is in the package store.
    pub offline: Option<Carried<'a>>,
}

/// What a bundle brought beside packages.
#[derive(Debug, Clone, Copy)]
pub struct Carried<'a> {
    /// Their bytes are in the package store, or in the cache of bases already.
    pub bases: &'a [KnownBase],
}

/// A lock that fits all stages of the plan.
#[derive(Debug, Clone, Copy)]
pub struct KeptLock<'a> {
    pub lock: &'a Lock,
    /// Of the lock's file.
    pub sha256: &'a Digest,
    /// Packages that differ from it in the end are a failure, not a word in the manifest.
    pub strict: bool,
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
    /// What a lock is made of; `None` for an image that was there before.
    pub stock: Option<Stock>,
}

/// Carries out a plan: nothing of the build is left but the image's folder, or nothing at all.
///
/// # Errors
/// The host is not ready, the base can't be had, the machine or one of the stages fails, the image can't be
/// written, or the build is cancelled.
pub async fn execute(job: &Job<'_>, run: &RunContext) -> Result<BuildReport, BuildError> {
    let output = OutputFolder::reserve(job.target, job.force, run)?;
    match build_into(&output, job, run).await {
        Ok((manifest, stock)) => Ok(BuildReport { folder: output.publish(run)?, manifest, stock: Some(stock) }),
        Err(error) => {
            output.discard(run)?;
            Err(error)
        }
    }
}

async fn build_into(output: &OutputFolder, job: &Job<'_>, run: &RunContext) -> Result<(Manifest, Stock), BuildError> {
    let mut timings = Timings::start();
    let ready = make_ready(job, &mut timings, run).await?;
    let outcome = carry_out(&ready, Until::Image(output), job, &mut timings, run).await?;
    let stock = stock_of(outcome.notes.clone(), &ready.base, job);
    let Ready { host, base, .. } = ready;
    let manifest = write_manifest(outcome, &Setting { job, host, base }, timings, output, run)?;
    Ok((manifest, stock))
}

/// All stages of a plan but the last, and what they brought: what a lock is made of. No image is made, and no machine is
/// started where a checkpoint knows it all.
///
/// # Errors
/// As of [`execute`].
pub async fn take_stock(job: &Job<'_>, run: &RunContext) -> Result<Stock, BuildError> {
    let mut timings = Timings::start();
    let ready = make_ready(job, &mut timings, run).await?;
    let notes = match notes_of_all_stages(&ready, job)? {
        Some(notes) => notes,
        None => carry_out(&ready, Until::LastStage, job, &mut timings, run).await?.notes,
    };
    Ok(stock_of(notes, &ready.base, job))
}

fn stock_of(notes: Notes, base: &BaseImage, job: &Job<'_>) -> Stock {
    let Notes { packages, fetched, reached, epoch, .. } = notes;
    Stock { epoch, base: locked_base(&job.plan.base, base), packages, fetched, reached }
}

/// What a build has before its machine starts.
struct Ready {
    host: HostFacts,
    base: BaseImage,
    preparation: Preparation,
    memory: Option<MemoryFit>,
    store: Store,
}

async fn make_ready(job: &Job<'_>, timings: &mut Timings, run: &RunContext) -> Result<Ready, BuildError> {
    let host = job.builder.check_ready(job.plan, run).await?;
    let base = timings.phase(Phase::Base, run, make_base(job, run)).await?;
    check_base(&base, job)?;
    let preparation = prepare(job, run).await?;
    let memory = job.builder.memory_fit(job.plan, run).await?;
    Ok(Ready { host, base, preparation, memory, store: Store::new(&run.cache) })
}

/// A lock is of one base.
fn check_base(base: &BaseImage, job: &Job<'_>) -> Result<(), BuildError> {
    match job.lock {
        Some(kept) if kept.lock.base.sha256 != base.sha256.as_str() => Err(BuildError::OtherBase {
            locked: kept.lock.base.sha256.clone(),
            found: base.sha256.clone(),
            description: base.description.clone(),
        }),
        _ => Ok(()),
    }
}

/// How far a build goes.
#[derive(Clone, Copy)]
enum Until<'a> {
    Image(&'a OutputFolder),
    /// All stages but the last.
    LastStage,
}

/// A machine is started, does what it shall, and is ended.
async fn carry_out(
    ready: &Ready,
    until: Until<'_>,
    job: &Job<'_>,
    timings: &mut Timings,
    run: &RunContext,
) -> Result<Outcome, BuildError> {
    let Ready { base, preparation, memory, store, .. } = ready;
    let wanted = Wanted { store, base, memory: memory.as_ref() };
    let started = start_from_deepest_checkpoint(job, &wanted, run);
    let Started { mut machine, session, checkpoint, done, holds: _holds, lock } =
        timings.phase(Phase::Boot, run, started).await?;

    let mut saver = Saver::new(store, job.plan, base, memory.as_ref(), checkpoint.clone(), run);
    let start = Start { machine: machine.as_ref(), session, checkpoint: checkpoint.as_ref(), done, lock };
    let provisioned = provision(start, until, &mut saver, preparation, job, timings, run).await;
    let outcome = match (provisioned, until) {
        (Ok(outcome), Until::Image(output)) => finish(machine.as_mut(), outcome, output, job, timings, run).await,
        (Ok(outcome), Until::LastStage) => Ok(outcome),
        (Err(error), _) => {
            offer_to_keep(machine.as_ref(), &error, job, run).await;
            Err(error)
        }
    };
    saver.end(run).await;
    // Whatever happened: the machine is ended before its fate is told.
    let stopped = machine.stop().await;
    let outcome = outcome?;
    stopped?;
    Ok(outcome)
}

/// Those of the checkpoint after the last stage that leaves one.
fn notes_of_all_stages(ready: &Ready, job: &Job<'_>) -> Result<Option<Notes>, BuildError> {
    let listing = ready.store.list()?;
    let found = deepest(job.plan, &listing, &ready.base.sha256, &job.checkpoints, jiff::Timestamp::now());
    let all = job.plan.stages.len() - 1;
    Ok(found.filter(|(done, _)| *done == all).and_then(|(_, checkpoint)| Notes::of(checkpoint)))
}

/// What the manifest says beside the outcome.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) host: HostFacts,
    pub(crate) base: BaseImage,
}

async fn make_base(job: &Job<'_>, run: &RunContext) -> Result<BaseImage, BuildError> {
    if let Some(base) = base::of_lock(job, run).await? {
        return Ok(base);
    }
    // Builders watch for the cancel themselves: a call that is dropped half-way could not clean up.
    let mangled = || BuildError::MangledSecret { stage: "network".to_owned() };
    let network = network::reveal(&job.plan.network, job.sources.secrets).ok_or_else(mangled)?;
    Ok(job.builder.prepare_base(&job.plan.base, &network, run).await?)
}

/// A machine that answers, with what was done to it.
struct Start<'a> {
    machine: &'a dyn Machine,
    session: Box<dyn Session>,
    /// What it was started from; `None`: booted on the base.
    checkpoint: Option<&'a Checkpoint>,
    /// Stages that are in it.
    done: usize,
    /// Of the next stage.
    lock: Option<StageLock>,
}

/// All stages that are not in the machine yet, and what was installed after each. The machine is saved after each.
async fn provision(
    start: Start<'_>,
    until: Until<'_>,
    saver: &mut Saver<'_>,
    preparation: &Preparation,
    job: &Job<'_>,
    timings: &mut Timings,
    run: &RunContext,
) -> Result<Outcome, BuildError> {
    let (machine, done) = (start.machine, start.done);
    let image_folder = match until {
        Until::Image(output) => output.path(),
        Until::LastStage => &run.work,
    };
    let setting = StageSetting { sources: job.sources, image_folder, run };
    let (last, stages) = job.plan.stages.split_last().expect("every plan ends with the hygiene stage");
    let count = job.plan.stages.len();
    let mut notes = start.checkpoint.and_then(Notes::of).unwrap_or_default();
    if let Some(checkpoint) = start.checkpoint {
        timings.resume(&checkpoint.label, &notes.stages);
    }
    tell_start(start.checkpoint, done, count, run);

    let supply = Supply::open(job.repositories.as_ref(), &notes.fetched, run).await?;
    let mut guest = Guest::new(machine, start.session, preparation, supply.address(), run);
    timings.phase(Phase::Prepare, run, guest.prepare()).await?;
    let mut lock = start.lock;
    if start.checkpoint.is_none() {
        // Taken before those who wait for the boot find it: what comes after it is made once, too.
        let next = stages.first().map(|stage| saver.lock_stage(&stage.key)).transpose()?.flatten();
        let lock = std::mem::replace(&mut lock, next);
        let plan = job.plan;
        notes = freeze(&guest, notes, None, DROP_CACHES, timings, run).await?;
        let (key, inputs) = (&plan.disk_key, &plan.disk_inputs);
        let point = Point { kind: Kind::Boot, key, locked_key: None, label: "boot", inputs };
        timings.phase(Phase::Checkpoint, run, saver.save(machine, point, (&notes, lock), run)).await?;
    }
    // What the boot itself called is no stage's.
    machine.calls().await?;

    for (index, stage) in stages.iter().enumerate().skip(done) {
        if index > done {
            // Where another build is at it, too, both go on: each has its own machine.
            lock = saver.lock_stage(&stage.key)?;
        }
        supply.begin_stage(&stage.label);
        let ran = timings.stage(stage, index + 1, count, run, run_stage(stage, &mut guest, setting)).await;
        if let Err(error) = ran {
            supply.tell_misses(run);
            save_failure(stage, &error, saver, machine, &notes, run).await?;
            return Err(cut(stage)(error));
        }
        notes.fetched.extend(supply.take_record().await.map_err(cut(stage))?);
        note_calls(machine, &stage.label, &mut notes, run).await?;
        let tidy = tidy_after(stage, saver.is_on(machine));
        notes = freeze(&guest, notes, Some(stage), &tidy, timings, run).await.map_err(cut(stage))?;
        if let Some(kept) = job.lock {
            fill_origins(&mut notes.packages, kept.lock);
        }
        notes.stages = timings.stages();
        let locked_key = locked_key(job, index, &notes);
        let (key, label, inputs) = (&stage.key, &stage.label, &stage.inputs);
        let point = Point { kind: Kind::Stage, key, locked_key: locked_key.as_ref(), label, inputs };
        let saved = saver.save(machine, point, (&notes, lock.take()), run);
        timings.phase(Phase::Checkpoint, run, saved).await.map_err(cut(stage))?;
    }
    check_against_lock(&notes, job)?;
    if matches!(until, Until::Image(_)) {
        timings.stage(last, count, count, run, run_last_stage(last, &mut guest, setting)).await.map_err(cut(last))?;
    }
    supply.close().await?;
    Ok(Outcome { notes, tree: None, written: Written::default() })
}

/// By which a build from a lock of what was fetched until now would find the stage. A build that is bound to a whole lock looks
/// by that key in the first place.
fn locked_key(job: &Job<'_>, index: usize, notes: &Notes) -> Option<Digest> {
    let repositories = job.repositories.as_ref()?;
    if repositories.pins.as_ref().is_some_and(|pins| pins.exclusive) {
        return None;
    }
    let stage = &job.plan.stages[index];
    let pins: Vec<_> = pins_of_records(job.plan, &notes.fetched).into_iter().take(index + 1).map(Some).collect();
    Some(pinned_key(stage.open_key.as_ref().unwrap_or(&stage.key), &pins))
}

/// Whom the stage called past dsimg; what it was is told at once, as nobody can lock it.
async fn note_calls(machine: &dyn Machine, label: &str, notes: &mut Notes, run: &RunContext) -> Result<(), BuildError> {
    let Some(calls) = machine.calls().await? else {
        notes.unwatched = true;
        return Ok(());
    };
    if !calls.is_empty() {
        let shown = calls.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        run.info(format!("stage `{label}` used the network by itself, which no lock can bind: {shown}"));
        notes.reached.entry(label.to_owned()).or_default().extend(calls);
    }
    Ok(())
}

/// # Errors
/// The lock is to be kept to, and the machine has other packages.
fn check_against_lock(notes: &Notes, job: &Job<'_>) -> Result<(), BuildError> {
    let Some(kept) = job.lock.filter(|kept| kept.strict) else { return Ok(()) };
    let differing = differing(kept.lock, &notes.packages);
    if differing.is_empty() { Ok(()) } else { Err(BuildError::DiffersFromLock { differing }) }
}

fn tell_start(checkpoint: Option<&Checkpoint>, done: usize, count: usize, run: &RunContext) {
    match (checkpoint, done) {
        (None, _) => {}
        (Some(_), 0) => run.info("the base's boot comes from a checkpoint"),
        (Some(checkpoint), done) => {
            run.info(format!("stages 1 to {done} of {count} come from the checkpoint after `{}`", checkpoint.label));
        }
    }
}

/// What is installed now; what is new since the last time came with `stage`. Beside it runs `beside` in the guest.
async fn freeze(
    guest: &Guest<'_>,
    before: Notes,
    stage: Option<&Stage>,
    beside: &str,
    timings: &mut Timings,
    run: &RunContext,
) -> Result<Notes, BuildError> {
    let now = timings.phase(Phase::Freeze, run, read_machine(guest, beside)).await?;
    let packages = match stage {
        Some(stage) => dsimg_manifest::attribute(&before.packages, now.packages, &stage.label),
        None => now.packages,
    };
    Ok(Notes { packages, system: now.system, epoch: now.epoch, ..before })
}

/// The machine as a failed stage left it, to look into.
async fn save_failure(
    stage: &Stage,
    error: &BuildError,
    saver: &mut Saver<'_>,
    machine: &dyn Machine,
    notes: &Notes,
    run: &RunContext,
) -> Result<(), BuildError> {
    if !matches!(error, BuildError::Stage { .. }) {
        return Ok(());
    }
    let (key, label, inputs) = (&stage.key, &stage.label, &stage.inputs);
    let point = Point { kind: Kind::Failed, key, locked_key: None, label, inputs };
    saver.save(machine, point, (notes, None), run).await
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
    if job.plan.image.seal {
        outcome.tree = Some(timings.phase(Phase::Seal, run, machine.seal(outcome.notes.epoch)).await?);
    }
    let name = format!("{}-{}", job.plan.image.name, job.plan.image.version);
    outcome.written = timings.phase(Phase::Write, run, machine.write_image(&name, output.path())).await?;
    if outcome.tree.is_none() && job.lock.is_some() {
        outcome.tree = files::digest_of(&outcome.written, output.path(), run).await?;
    }
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
