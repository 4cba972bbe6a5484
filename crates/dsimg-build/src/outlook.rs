//! Which stages come from a checkpoint, and why the others do not.

use dsimg_checkpoint::{Listing, differences};
use dsimg_plan::make::fetches;
use dsimg_plan::{Digest, Plan, Stage};
use jiff::Timestamp;

use crate::start::{Policy, deepest};

/// What a build will do with one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// When its checkpoint, or a later one that holds it, was made.
    Cached { made: Timestamp },
    /// In words, such as `packages: + polars`.
    WillRun { why: String },
}

/// One for each stage of the plan.
#[must_use]
pub fn outlook(plan: &Plan, listing: &Listing, base: Option<&Digest>, policy: &Policy, now: Timestamp) -> Vec<Outlook> {
    let start = base.and_then(|base| deepest(plan, listing, base, policy, now));
    let done = start.map_or(0, |(done, _)| done);
    let outlook = |(index, stage): (usize, &Stage)| match start {
        Some((_, checkpoint)) if index < done => Outlook::Cached { made: checkpoint.made },
        _ if index == done => Outlook::WillRun { why: reason(plan, stage, listing, base, policy) },
        _ => Outlook::WillRun { why: format!("follows `{}`", plan.stages[index - 1].label) },
    };
    plan.stages.iter().enumerate().map(outlook).collect()
}

/// The base on which this plan's checkpoints stand, as far as there are any.
#[must_use]
pub fn known_base<'l>(plan: &Plan, listing: &'l Listing) -> Option<&'l Digest> {
    let is_of_plan = |key: &Digest| *key == plan.disk_key || plan.stages.iter().any(|stage| stage.key == *key);
    let newest = listing.checkpoints.iter().rev().find(|checkpoint| is_of_plan(&checkpoint.key));
    newest.map(|checkpoint| &checkpoint.base.sha256)
}

/// Why the first stage that runs is not taken from a checkpoint.
#[must_use]
pub fn reason(plan: &Plan, stage: &Stage, listing: &Listing, base: Option<&Digest>, policy: &Policy) -> String {
    if plan.stages.last().is_some_and(|last| last.key == stage.key) {
        return "the last stage ends with the machine off".to_owned();
    }
    if policy.ignore {
        return "`--no-cache`".to_owned();
    }
    if policy.from.as_ref() == Some(&stage.label) {
        return format!("`--from {}`", stage.label);
    }
    if !stage.cache {
        let why = if fetches(&stage.steps) { "it brings a file out of the machine" } else { "`cache = false`" };
        return why.to_owned();
    }
    if let Some(limit) = stage.refresh.filter(|_| base.is_some_and(|base| listing.find(&stage.key, base).is_some())) {
        return format!("its checkpoint is older than {limit}");
    }
    let Some(last) = listing.latest_of_stage(&plan.image.name, &stage.label) else {
        return "not built yet".to_owned();
    };
    let changed = differences(&last.inputs, &stage.inputs);
    match (changed.is_empty(), last.key == stage.key) {
        (false, _) => changed.join("; "),
        (true, true) => "its checkpoint, or one that it stands on, is gone".to_owned(),
        (true, false) => "what is before it changed".to_owned(),
    }
}
