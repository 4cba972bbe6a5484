//! Where a build's machine comes from: the deepest checkpoint that fits, or the base.

use std::time::{Duration, Instant};

use dsimg_checkpoint::{Checkpoint, Draft, Hold, Listing, StageLock, Store, StoreError};
use dsimg_machine::checkpoint::MEMORY;
use dsimg_machine::{BaseImage, Builder, Machine, MachineError, MemoryFit, RunContext, SavedMachine, Session};
use dsimg_plan::{Digest, Plan};
use dsimg_template::secret;
use tokio::task::spawn_blocking;

use crate::error::BuildError;
use crate::execute::Job;
use crate::guest::{settle, until_cancelled, wake};
use crate::outlook::reason;
use crate::save::Notes;

/// Between two looks whether another build is done with the same stage.
const PAUSE: Duration = Duration::from_millis(200);

/// Which checkpoints a build may start from, and whether it makes any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Start from the base, whatever there is.
    pub ignore: bool,
    /// The label of a stage that is run again, with all after it.
    pub from: Option<String>,
}

/// What checkpoints are compared with.
pub(crate) struct Wanted<'a> {
    pub(crate) store: &'a Store,
    pub(crate) base: &'a BaseImage,
    /// Of memory states that can be loaded; `None` where none can.
    pub(crate) memory: Option<&'a MemoryFit>,
}

/// A machine that runs and answers, and what was done to it.
pub(crate) struct Started {
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) session: Box<dyn Session>,
    /// What the machine stands on; `None`: the base.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// How many stages are in it.
    pub(crate) done: usize,
    /// Held while the machine stands on its files.
    pub(crate) holds: Vec<Hold>,
    /// Of the next stage.
    pub(crate) lock: Option<StageLock>,
}

/// Starts from the deepest checkpoint that is whole, or boots the base. One that is damaged or does not start is set
/// aside, with a word, and the next one is tried. Where another build makes the next stage, it is waited for.
///
/// # Errors
/// The base does not boot either, or the build is cancelled.
pub(crate) async fn start_from_deepest_checkpoint(
    job: &Job<'_>,
    wanted: &Wanted<'_>,
    run: &RunContext,
) -> Result<Started, BuildError> {
    let (mut told, mut with_memory) = (false, true);
    loop {
        let memory = wanted.memory.filter(|_| with_memory);
        let listing = wanted.store.list()?;
        let found = deepest(job.plan, &listing, &wanted.base.sha256, &job.checkpoints, jiff::Timestamp::now());
        let done = found.map_or(0, |(done, _)| done);
        let next = Next::after(job.plan, found.map(|(done, _)| done));
        let lock = wanted.store.lock_stage(next.key)?;
        if lock.is_none() && !job.checkpoints.ignore {
            if !told {
                run.info(format!("another build is making {}; waiting for it", next.name));
                told = true;
            }
            until_cancelled(run, pause()).await?;
            continue;
        }
        explain(job, &listing, &wanted.base.sha256, done, run);
        let Some((done, checkpoint)) = found else {
            let (machine, session) = boot((job.builder, job.plan), wanted.base, run).await?;
            return Ok(Started { machine, session, checkpoint: None, done: 0, holds: vec![], lock });
        };
        let opened = open_checkpoint((job.builder, job.plan), wanted.store, (&listing, checkpoint), memory, run);
        match opened.await {
            Ok(Opened { machine, session, holds }) => {
                let checkpoint = Some(checkpoint.clone());
                return Ok(Started { machine, session, checkpoint, done, holds, lock });
            }
            Err(error) => {
                with_memory = after_failure(error, checkpoint, wanted.store, with_memory, run)?;
                until_cancelled(run, pause()).await?;
            }
        }
    }
}

/// What is damaged is taken out of the store, and the next one is tried. A machine that does not start from files that
/// are whole is tried once more by a boot from its disk; it may be the host's trouble, so nothing is thrown away.
///
/// # Errors
/// It did not help either.
fn after_failure(
    error: BuildError,
    checkpoint: &Checkpoint,
    store: &Store,
    with_memory: bool,
    run: &RunContext,
) -> Result<bool, BuildError> {
    match error {
        // Removed, or looked at by a prune, since the store was listed.
        BuildError::Store(StoreError::Gone { .. } | StoreError::InUse { .. }) => Ok(with_memory),
        BuildError::Store(StoreError::Damaged(damage)) => {
            run.warn(format!("{damage}; it is set aside, and what it held is made anew"));
            let only_memory = damage.id == checkpoint.id && damage.is_of_memory();
            if !only_memory || store.drop_memory(checkpoint).is_err() {
                store.set_aside(&damage.id)?;
            }
            Ok(with_memory)
        }
        BuildError::Machine(MachineError::Missing { what }) => {
            run.warn(format!("{what}; the checkpoint is set aside, and what it held is made anew"));
            store.set_aside(&checkpoint.id)?;
            Ok(with_memory)
        }
        error if error.is_cancelled() || !with_memory => Err(error),
        error => {
            let name = &checkpoint.label;
            run.warn(format!(
                "the memory saved after `{name}` can't be used, so the machine boots from its disk: {error}"
            ));
            Ok(false)
        }
    }
}

/// Says why the first stage that runs was not found.
fn explain(job: &Job<'_>, listing: &Listing, base: &Digest, done: usize, run: &RunContext) {
    let Some(stage) = job.plan.stages.get(done).filter(|_| done + 1 < job.plan.stages.len()) else { return };
    let why = reason(job.plan, stage, listing, Some(base), &job.checkpoints);
    run.info(format!("stage `{}` runs: {}", stage.label, secret::describe(&why)));
}

/// What a build makes first.
struct Next<'a> {
    key: &'a Digest,
    name: String,
}

impl<'a> Next<'a> {
    fn after(plan: &'a Plan, done: Option<usize>) -> Self {
        match done.and_then(|done| plan.stages.get(done)) {
            Some(stage) => Self { key: &stage.key, name: format!("the same stage `{}`", stage.label) },
            None => Self { key: &plan.disk_key, name: "the same start".to_owned() },
        }
    }
}

async fn pause() -> Result<(), BuildError> {
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// The checkpoint to start from, and how many stages are in it. The last stage is never in one: it ends with the
/// machine off.
#[must_use]
pub fn deepest<'l>(
    plan: &Plan,
    listing: &'l Listing,
    base: &Digest,
    policy: &Policy,
    now: jiff::Timestamp,
) -> Option<(usize, &'l Checkpoint)> {
    if policy.ignore {
        return None;
    }
    let stages = &plan.stages[..reusable_stages(plan, policy)];
    // One whose notes can't be read could be built on, but not told of in the manifest.
    let find = |key| listing.find(key, base).filter(|checkpoint| Notes::of(checkpoint).is_some());
    let found: Vec<_> = stages.iter().map(|stage| find(&stage.key)).collect();
    // A stage that got old takes along all that were made after it.
    let is_old = |(index, checkpoint): (usize, &Option<&Checkpoint>)| {
        let (Some(checkpoint), Some(limit)) = (checkpoint, stages[index].refresh) else { return false };
        now.duration_since(checkpoint.made).unsigned_abs() > limit.as_duration()
    };
    let fresh = found.iter().enumerate().position(|(index, found)| is_old((index, found))).unwrap_or(found.len());
    let of_stage = found[..fresh].iter().enumerate().rev().find_map(|(index, found)| Some((index + 1, (*found)?)));
    of_stage.or_else(|| Some((0, find(&plan.disk_key)?)))
}

/// Of the plan's beginning, how many stages may be taken from a checkpoint.
fn reusable_stages(plan: &Plan, policy: &Policy) -> usize {
    let all = plan.stages.len().saturating_sub(1);
    let asked = policy.from.as_ref().and_then(|label| plan.stages.iter().position(|stage| stage.label == *label));
    let never = plan.stages.iter().position(|stage| !stage.cache);
    all.min(asked.unwrap_or(all)).min(never.unwrap_or(all))
}

/// Boots a machine on the base and waits until its first boot is over; one that does not come up is ended. One that is gone
/// is tried once more: emulators crash now and then at a boot (seen with QEMU 10.0.2 without KVM, at one boot of some
/// hundreds).
async fn boot(
    (builder, plan): (&dyn Builder, &Plan),
    base: &BaseImage,
    run: &RunContext,
) -> Result<(Box<dyn Machine>, Box<dyn Session>), BuildError> {
    let mut is_first = true;
    loop {
        let machine = builder.boot(base, plan, run).await?;
        let connected = async {
            let session = until_cancelled(run, machine.connect()).await?;
            settle(session.as_ref(), run).await?;
            Ok::<_, BuildError>(session)
        };
        let error = match connected.await {
            Ok(session) => return Ok((machine, session)),
            Err(error) => error,
        };
        let is_gone = machine.trouble().await.is_some();
        machine.stop().await?;
        if !is_first || !is_gone || error.is_cancelled() {
            return Err(error);
        }
        run.warn(format!("{error}; it is tried once more"));
        is_first = false;
    }
}

/// A machine that goes on from a checkpoint.
#[allow(missing_debug_implementations, reason = "machines and sessions have no form of their own")]
pub struct Opened {
    pub machine: Box<dyn Machine>,
    pub session: Box<dyn Session>,
    /// Held while the machine stands on their files.
    pub holds: Vec<Hold>,
}

/// Starts a machine from a checkpoint, which is not changed by it. Its files are read back meanwhile: one that is
/// damaged is never built on.
///
/// # Errors
/// A file of it is gone or damaged, or the machine does not start or answer.
pub async fn open_checkpoint(
    (builder, plan): (&dyn Builder, &Plan),
    store: &Store,
    (listing, checkpoint): (&Listing, &Checkpoint),
    memory: Option<&MemoryFit>,
    run: &RunContext,
) -> Result<Opened, BuildError> {
    let chain = listing.chain(&checkpoint.id).unwrap_or_default();
    let holds = store.hold(&chain)?;
    store.touch(&checkpoint.id);
    let mut saved = saved_machine(store, memory, checkpoint, run);
    let with_memory = saved.memory.is_some();
    // Gone when the machine has read it.
    let unpacked = if with_memory { unpack(store, checkpoint, run).await? } else { None };
    saved.memory = unpacked.as_ref().map(|draft| draft.path().join(MEMORY)).or(saved.memory);
    let (reader, members) = (store.clone(), chain.iter().copied().cloned().collect::<Vec<_>>());
    // One that was unpacked was checked by it.
    let reads_memory = with_memory && unpacked.is_none();
    let verifying = spawn_blocking(move || verify(&reader, &members, reads_memory));
    let machine = match builder.resume(&saved, plan, run).await {
        Ok(machine) => machine,
        Err(error) => {
            // What is damaged says more than what became of it.
            verifying.await.unwrap_or(Err(BuildError::Cancelled))?;
            return Err(error.into());
        }
    };
    let connected = async {
        let session = until_cancelled(run, machine.connect()).await?;
        if with_memory {
            wake(session.as_ref(), run).await?;
        } else {
            settle(session.as_ref(), run).await?;
        }
        Ok::<_, BuildError>(session)
    };
    let (session, verified) = tokio::join!(connected, verifying);
    match (session, verified.unwrap_or(Err(BuildError::Cancelled))) {
        (Ok(session), Ok(())) => Ok(Opened { machine, session, holds }),
        (_, Err(error)) | (Err(error), _) => {
            machine.stop().await?;
            Err(error)
        }
    }
}

/// The checkpoint's files; a memory that does not fit is passed over with a word.
fn saved_machine(store: &Store, wanted: Option<&MemoryFit>, checkpoint: &Checkpoint, run: &RunContext) -> SavedMachine {
    let folder = store.folder_of(&checkpoint.id);
    let fits = match (&checkpoint.memory, wanted) {
        (Some(memory), Some(wanted)) if memory.key == wanted.key => true,
        (Some(memory), Some(wanted)) => {
            let why = wanted.differences(&memory.facts);
            run.info(format!(
                "the memory saved after `{}` does not fit ({why}): booting from its disk",
                checkpoint.label
            ));
            false
        }
        _ => {
            run.info(format!("no memory was saved after `{}`: booting from its disk", checkpoint.label));
            false
        }
    };
    SavedMachine::in_folder(&folder, fits)
}

/// The memory of a checkpoint that is held, in the build's work folder, where the store keeps it compressed.
async fn unpack(store: &Store, checkpoint: &Checkpoint, run: &RunContext) -> Result<Option<Draft>, BuildError> {
    if !store.is_compressed(&checkpoint.id) {
        return Ok(None);
    }
    let draft = store.draft(&run.work)?;
    let start = Instant::now();
    let unpacking = spawn_blocking({
        let (store, checkpoint, cancel) = (store.clone(), checkpoint.clone(), run.cancel.clone());
        move || {
            store.unpack_memory(&checkpoint, draft.path(), || cancel.is_cancelled())?;
            Ok::<_, StoreError>(draft)
        }
    });
    match unpacking.await.map_err(|_| BuildError::Cancelled)? {
        Err(_) if run.cancel.is_cancelled() => Err(BuildError::Cancelled),
        Err(error) => Err(error.into()),
        Ok(draft) => {
            let (name, seconds) = (&checkpoint.label, start.elapsed().as_secs_f64());
            run.info(format!("the memory saved after `{name}` was compressed: unpacked in {seconds:.1} s"));
            Ok(Some(draft))
        }
    }
}

/// All layers that the machine stands on, and the memory it is started with.
fn verify(store: &Store, chain: &[Checkpoint], with_memory: bool) -> Result<(), BuildError> {
    for checkpoint in chain {
        store.verify_disk(checkpoint).map_err(StoreError::from)?;
    }
    match chain.last() {
        Some(last) if with_memory => store.verify_memory(last).map_err(StoreError::from)?,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
