//! Where a lock fits a plan, and where it does not.

use dsimg_checkpoint::differences;
use dsimg_manifest::Lock;
use dsimg_manifest::lock::LockedStage;
use dsimg_plan::{Digest, Plan, Stage};

use super::pins::pins;

/// The digests of secrets are of one host's key; which secrets there are stands in the parameters.
const HOW: [&str; 9] =
    ["provisioner", "version", "scripts", "steps", "timeout", "retries", "lock_timeout", "jobs", "secrets"];

/// A place where a template asks for something else than when its lock was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The stage's label.
    pub stage: String,
    /// In words, such as `packages: + polars`.
    pub why: String,
}

/// In the order of the plan; empty: the lock is the plan's.
#[must_use]
pub fn misfits(lock: &Lock, plan: &Plan) -> Vec<Misfit> {
    let stages = without_last(plan);
    let of_plan = stages.iter().enumerate().filter_map(|(index, stage)| {
        let why = misfit(lock, index, stage)?;
        Some(Misfit { stage: stage.label.clone(), why })
    });
    let is_gone = |locked: &&LockedStage| !stages.iter().any(|stage| stage.label == locked.label);
    let gone = lock.stages.iter().filter(is_gone);
    let gone = gone.map(|locked| Misfit { stage: locked.label.clone(), why: "the template has it no more".to_owned() });
    of_plan.chain(gone).collect()
}

/// For each stage but the last what the lock binds it to; `None` where it does not fit.
#[must_use]
pub fn pins_of(lock: &Lock, plan: &Plan) -> Vec<Option<Digest>> {
    let deb = lock.deb.iter().map(|package| (&package.stage, package.artifact.as_ref()));
    let pypi = lock.pypi.iter().map(|package| (&package.stage, package.artifact.as_ref()));
    let cran = lock.cran.iter().map(|package| (&package.stage, package.artifact.as_ref()));
    let files = lock.files.iter().map(|file| (&file.stage, Some(&file.artifact)));
    let all = deb.chain(pypi).chain(cran).chain(files);
    let pins = pins(plan, all.filter_map(|(stage, artifact)| Some((stage.as_str(), artifact?.sha256.as_str()))));
    let fits = without_last(plan).iter().enumerate().map(|(index, stage)| misfit(lock, index, stage).is_none());
    pins.into_iter().zip(fits).map(|(pin, fits)| fits.then_some(pin)).collect()
}

/// Of a stage's inputs those by which the template asks for something; how dsimg goes about it may change from version to
/// version, and the lock stays.
#[must_use]
pub(super) fn what_is_asked_for(stage: &Stage) -> serde_json::Value {
    let mut inputs = stage.inputs.clone();
    if let Some(inputs) = inputs.as_object_mut() {
        inputs.retain(|name, _| !HOW.contains(&name.as_str()));
    }
    inputs
}

fn without_last(plan: &Plan) -> &[Stage] {
    plan.stages.split_last().map_or(&[], |(_, stages)| stages)
}

fn misfit(lock: &Lock, index: usize, stage: &Stage) -> Option<String> {
    let Some(place) = lock.stages.iter().position(|locked| locked.label == stage.label) else {
        return Some("it is not in the lock".to_owned());
    };
    let locked = &lock.stages[place];
    if locked.provisioner != stage.provisioner || locked.version != stage.provisioner_version {
        let (old, new) = (&locked.provisioner, &stage.provisioner);
        return Some(format!("it was `{old}` {}, and is `{new}` {}", locked.version, stage.provisioner_version));
    }
    let changed = differences(&locked.inputs, &what_is_asked_for(stage));
    if !changed.is_empty() {
        return Some(changed.join("; "));
    }
    (place != index).then(|| "it has another place among the stages".to_owned())
}
