//! The machine is saved after each stage, while the build goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dsimg_checkpoint::{Base, Checkpoint, FileFacts, Hold, Kind, Memory, StageLock, Store, StoreError};
use dsimg_machine::{BaseImage, Machine, MemoryFit, RunContext};
use dsimg_manifest::Frozen;
use dsimg_manifest::manifest::SystemFacts;
use dsimg_mirror::Fetched;
use dsimg_plan::{Digest, Plan};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::error::BuildError;

/// Layers that a disk may stand on. Each one is looked into for what is in none above it.
const LONGEST_CHAIN: u32 = 16;

/// What a build knows at a checkpoint beside the machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    pub(crate) packages: Frozen,
    pub(crate) system: SystemFacts,
    /// How long each stage took, in milliseconds.
    pub(crate) stages: Vec<(String, u64)>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    #[serde(default)]
    pub(crate) epoch: i64,
    /// What the stages were given by the repositories that dsimg serves, in their order.
    #[serde(default)]
    pub(crate) fetched: Vec<Fetched>,
    /// By stage, whom it called past dsimg.
    #[serde(default)]
    pub(crate) reached: BTreeMap<String, BTreeSet<String>>,
    /// Nobody could tell whom the stages called.
    #[serde(default)]
    pub(crate) unwatched: bool,
}

impl Notes {
    /// Those of a checkpoint; `None`: written by another dsimg in a form that this one does not know.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Option<Self> {
        let notes: Self = serde_json::from_value(checkpoint.notes.clone()).ok()?;
        // Those of the boot were not written once.
        // Nor was the epoch.
        (!notes.system.os.is_empty() && notes.epoch != 0).then_some(notes)
    }
}

/// A point of the build to save.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<'a> {
    pub(crate) kind: Kind,
    pub(crate) key: &'a Digest,
    pub(crate) locked_key: Option<&'a Digest>,
    pub(crate) label: &'a str,
    pub(crate) inputs: &'a serde_json::Value,
}

/// Saves one machine again and again. A checkpoint is published beside the next stage, and each stands on the one
/// before it.
#[derive(Debug)]
pub(crate) struct Saver<'a> {
    store: &'a Store,
    plan: &'a Plan,
    base: Base,
    /// What the first layer stands on.
    base_path: PathBuf,
    /// The machine stands on all that were saved.
    holds: Vec<Hold>,
    memory: Option<&'a MemoryFit>,
    last: Option<Checkpoint>,
    publishing: Option<JoinHandle<Result<Checkpoint, StoreError>>>,
    /// One that failed can't be stood on: the build goes on without.
    given_up: bool,
}

impl<'a> Saver<'a> {
    pub(crate) fn new(
        store: &'a Store,
        plan: &'a Plan,
        base: &BaseImage,
        memory: Option<&'a MemoryFit>,
        start: Option<Checkpoint>,
        run: &RunContext,
    ) -> Self {
        let path = base.path.strip_prefix(&run.cache).unwrap_or(&base.path);
        let facts = Base { path: path.to_string_lossy().into_owned(), sha256: base.sha256.clone() };
        Self {
            store,
            plan,
            base: facts,
            base_path: base.path.clone(),
            holds: Vec::new(),
            memory,
            last: start,
            publishing: None,
            given_up: false,
        }
    }

    /// Whether it is worth while to make ready for a checkpoint.
    pub(crate) fn is_on(&self, machine: &dyn Machine) -> bool {
        !self.given_up && machine.can_be_saved()
    }

    /// The right to make a stage; `None` while another build has it.
    ///
    /// # Errors
    /// The lock can't be made.
    pub(crate) fn lock_stage(&self, key: &Digest) -> Result<Option<StageLock>, BuildError> {
        Ok(self.store.lock_stage(key)?)
    }

    /// Saves the machine as it is, and gives the stage's lock back when the checkpoint is whole. That it can't be saved
    /// is told and stops nothing.
    ///
    /// # Errors
    /// The build is cancelled, or the machine can't go on.
    pub(crate) async fn save(
        &mut self,
        machine: &dyn Machine,
        point: Point<'_>,
        (notes, lock): (&Notes, Option<StageLock>),
        run: &RunContext,
    ) -> Result<(), BuildError> {
        if !self.is_on(machine) {
            return Ok(());
        }
        match self.try_save(machine, point, (notes, lock), run).await {
            Err(error) if error.is_cancelled() || machine.trouble().await.is_some() => Err(error),
            Err(error) => {
                self.given_up = true;
                run.warn(format!("no checkpoint after `{}`, nor after what follows: {error}", point.label));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn try_save(
        &mut self,
        machine: &dyn Machine,
        point: Point<'_>,
        (notes, lock): (&Notes, Option<StageLock>),
        run: &RunContext,
    ) -> Result<(), BuildError> {
        self.settle().await?;
        let draft = self.store.draft(&run.work)?;
        machine.save(draft.path(), &self.parent_as_written(), self.memory.is_some()).await?;
        let mut checkpoint = self.describe(point, notes, run);
        if checkpoint.depth > LONGEST_CHAIN {
            machine.flatten(draft.path(), &self.parent(), (&self.base_path, &self.base_as_written())).await?;
            (checkpoint.parent, checkpoint.depth) = (None, 1);
        }
        let store = self.store.clone();
        self.publishing = Some(spawn_blocking(move || {
            let published = store.publish(draft, checkpoint);
            // Those who wait for the stage find it now.
            drop(lock);
            published
        }));
        Ok(())
    }

    /// What the machine's disk stood on when it was saved last.
    fn parent(&self) -> PathBuf {
        match &self.last {
            Some(parent) => self.store.folder_of(&parent.id).join(dsimg_machine::checkpoint::DISK),
            None => self.base_path.clone(),
        }
    }

    /// The same as the layer's header names it: by its way from the layer's folder, so that a cache can be moved.
    fn parent_as_written(&self) -> PathBuf {
        match &self.last {
            Some(parent) => Path::new("..").join(&parent.id).join(dsimg_machine::checkpoint::DISK),
            None => self.base_as_written(),
        }
    }

    fn base_as_written(&self) -> PathBuf {
        // `checkpoints` and the layer's own folder. A path that is absolute replaces them.
        Path::new("../..").join(&self.base.path)
    }

    fn describe(&self, point: Point<'_>, notes: &Notes, run: &RunContext) -> Checkpoint {
        // Filled in when the file is read.
        let unknown = || FileFacts { size: 0, allocated: 0, sha256: Digest::of_bytes(&[]) };
        let name = Digest::of_value(&(&run.builder, point.key, point.kind));
        Checkpoint {
            format: 0,
            id: format!("{}-{}", run.build_id, name.short()),
            parent: self.last.as_ref().map(|parent| parent.id.clone()),
            base: self.base.clone(),
            depth: self.last.as_ref().map_or(0, |parent| parent.depth) + 1,
            key: point.key.clone(),
            locked_key: point.locked_key.cloned(),
            kind: point.kind,
            label: point.label.to_owned(),
            image: self.plan.image.name.clone(),
            inputs: point.inputs.clone(),
            disk: unknown(),
            memory: self.memory.map(|fit| Memory { key: fit.key.clone(), facts: fit.facts.clone(), file: unknown() }),
            access: unknown(),
            made: jiff::Timestamp::now(),
            notes: serde_json::to_value(notes).unwrap_or_default(),
        }
    }

    /// Waits until the last checkpoint is whole.
    ///
    /// # Errors
    /// It could not be published.
    pub(crate) async fn settle(&mut self) -> Result<(), BuildError> {
        if let Some(publishing) = self.publishing.take() {
            // The runtime is going down.
            let published = publishing.await.map_err(|_| BuildError::Cancelled)?;
            let published = published?;
            self.holds.extend(self.store.hold(&[&published])?);
            self.last = Some(published);
        }
        Ok(())
    }

    /// The last one is finished, or told about.
    pub(crate) async fn end(mut self, run: &RunContext) {
        if let Err(error) = self.settle().await {
            run.warn(format!("the last checkpoint is not kept: {error}"));
        }
    }
}
