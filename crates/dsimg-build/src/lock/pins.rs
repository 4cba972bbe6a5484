//! What a stage is bound to: the digests of all that it was the first to fetch.

use std::collections::{BTreeMap, BTreeSet};

use dsimg_mirror::{Fetched, FetchedKind};
use dsimg_plan::{Digest, Plan};

/// Of each stage of the plan, without the last, from what was fetched until now.
pub(crate) fn pins_of_records(plan: &Plan, fetched: &[Fetched]) -> Vec<Digest> {
    let is_package = |kind| !matches!(kind, FetchedKind::AptIndex | FetchedKind::PythonMetadata | FetchedKind::RIndex);
    let files = fetched.iter().filter(|file| is_package(file.kind));
    pins(plan, files.map(|file| (file.stage.as_str(), file.sha256.as_str())))
}

/// Of each stage of the plan, without the last. Of stages that are not in the plan nothing is said.
pub(crate) fn pins<'a>(plan: &Plan, files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Digest> {
    let mut by_stage: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (stage, sha256) in files {
        by_stage.entry(stage).or_default().insert(sha256);
    }
    let mut seen = BTreeSet::new();
    let (_, stages) = plan.stages.split_last().expect("every plan ends with the hygiene stage");
    let pin = |stage: &dsimg_plan::Stage| {
        let files = by_stage.remove(stage.label.as_str()).unwrap_or_default();
        let new: Vec<_> = files.into_iter().filter(|sha256| seen.insert(*sha256)).collect();
        Digest::of_value(&new)
    };
    stages.iter().map(pin).collect()
}
