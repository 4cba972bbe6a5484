//! Where a build's machine comes from: the deepest checkpoint that fits, or the base.

use std::time::Duration;

use dsimg_checkpoint::{Checkpoint, Hold, Listing, StageLock, Store};
use dsimg_machine::{BaseImage, Machine, MemoryFit, RunContext, SavedMachine, Session};
use dsimg_plan::{Digest, Plan};
use tokio::task::spawn_blocking;

use crate::error::BuildError;
use crate::execute::Job;
use crate::guest::{settle, until_cancelled, wake};

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
    let mut told = false;
    loop {
        let listing = wanted.store.list()?;
        let found = deepest(job.plan, &listing, &wanted.base.sha256, &job.checkpoints, jiff::Timestamp::now());
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
        let Some((done, checkpoint)) = found else {
            let (machine, session) = boot(job, wanted.base, run).await?;
            return Ok(Started { machine, session, checkpoint: None, done: 0, holds: vec![], lock });
        };
        match resume(job, wanted, &listing, checkpoint, run).await {
            Ok((machine, session, holds)) => {
                let checkpoint = Some(checkpoint.clone());
                return Ok(Started { machine, session, checkpoint, done, holds, lock });
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                let name = &checkpoint.label;
                run.warn(format!("the checkpoint after `{name}` can't be used and is set aside: {error}"));
                wanted.store.set_aside(&checkpoint.id)?;
            }
        }
    }
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
    let found: Vec<_> = stages.iter().map(|stage| listing.find(&stage.key, base)).collect();
    // A stage that got old takes along all that were made after it.
    let is_old = |(index, checkpoint): (usize, &Option<&Checkpoint>)| {
        let (Some(checkpoint), Some(limit)) = (checkpoint, stages[index].refresh) else { return false };
        now.duration_since(checkpoint.made).unsigned_abs() > limit.as_duration()
    };
    let fresh = found.iter().enumerate().position(|(index, found)| is_old((index, found))).unwrap_or(found.len());
    let of_stage = found[..fresh].iter().enumerate().rev().find_map(|(index, found)| Some((index + 1, (*found)?)));
    of_stage.or_else(|| Some((0, listing.find(&plan.disk_key, base)?)))
}

/// Of the plan's beginning, how many stages may be taken from a checkpoint.
fn reusable_stages(plan: &Plan, policy: &Policy) -> usize {
    let all = plan.stages.len().saturating_sub(1);
    let asked = policy.from.as_ref().and_then(|label| plan.stages.iter().position(|stage| stage.label == *label));
    let never = plan.stages.iter().position(|stage| !stage.cache);
    all.min(asked.unwrap_or(all)).min(never.unwrap_or(all))
}

/// Boots a machine on the base and waits until its first boot is over; one that does not come up is ended.
async fn boot(
    job: &Job<'_>,
    base: &BaseImage,
    run: &RunContext,
) -> Result<(Box<dyn Machine>, Box<dyn Session>), BuildError> {
    let machine = job.builder.boot(base, job.plan, run).await?;
    let connected = async {
        let session = until_cancelled(run, machine.connect()).await?;
        settle(session.as_ref(), run).await?;
        Ok(session)
    };
    match connected.await {
        Ok(session) => Ok((machine, session)),
        Err(error) => {
            machine.stop().await?;
            Err(error)
        }
    }
}

/// Starts a machine from a checkpoint, whose files are read back meanwhile: one that is damaged is never built on.
async fn resume(
    job: &Job<'_>,
    wanted: &Wanted<'_>,
    listing: &Listing,
    checkpoint: &Checkpoint,
    run: &RunContext,
) -> Result<(Box<dyn Machine>, Box<dyn Session>, Vec<Hold>), BuildError> {
    let chain = listing.chain(&checkpoint.id).unwrap_or_default();
    let holds = wanted.store.hold(&chain)?;
    wanted.store.touch(&checkpoint.id);
    let saved = saved_machine(wanted, checkpoint, run);
    let (store, members) = (wanted.store.clone(), chain.iter().copied().cloned().collect::<Vec<_>>());
    let with_memory = saved.memory.is_some();
    let verifying = spawn_blocking(move || verify(&store, &members, with_memory));
    let machine = match job.builder.resume(&saved, job.plan, run).await {
        Ok(machine) => machine,
        Err(error) => {
            // A reader that is dropped would go on reading what is about to be set aside.
            let verified = verifying.await;
            verified.unwrap_or(Ok(()))?;
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
    match (session, verified.unwrap_or(Ok(()))) {
        (Ok(session), Ok(())) => Ok((machine, session, holds)),
        (Err(error), _) | (_, Err(error)) => {
            machine.stop().await?;
            Err(error)
        }
    }
}

/// The checkpoint's files; a memory that does not fit is passed over with a word.
fn saved_machine(wanted: &Wanted<'_>, checkpoint: &Checkpoint, run: &RunContext) -> SavedMachine {
    let folder = wanted.store.folder_of(&checkpoint.id);
    let fits = match (&checkpoint.memory, wanted.memory) {
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

/// All layers that the machine stands on, and the memory it is started with.
fn verify(store: &Store, chain: &[Checkpoint], with_memory: bool) -> Result<(), BuildError> {
    for checkpoint in chain {
        if let Err(damage) = store.verify_disk(checkpoint) {
            store.set_aside(&checkpoint.id)?;
            return Err(BuildError::from(dsimg_checkpoint::StoreError::from(damage)));
        }
    }
    match chain.last() {
        Some(last) if with_memory => store.verify_memory(last).map_err(dsimg_checkpoint::StoreError::from)?,
        _ => {}
    }
    Ok(())
}
