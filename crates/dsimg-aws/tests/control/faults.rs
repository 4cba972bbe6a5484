//! Each fault at each call: what is left of it is one AMI or none, and nothing else.

use std::collections::BTreeMap;

use dsimg_aws::{leftovers, remove};
use dsimg_template::template::aws::AwsAccount;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::build::{TestRun, build, build_with, plan, table};
use crate::rig;

fn account() -> AwsAccount {
    table().account
}

/// After all means to clean up were used: at most one AMI with its snapshot.
async fn check(what: &str, run: &TestRun, made: bool) {
    rig::control("DELETE", "faults", &json!({}));
    run.reclaim().await;
    let after_reclaim = rig::alive();
    for left in leftovers(&account()).await.unwrap() {
        remove(&account(), &left).await.unwrap();
    }
    let mut alive = rig::alive();
    // The ledger alone is enough; the tags are for when it is lost.
    assert_eq!(alive, after_reclaim, "{what}: the ledger did not know of all");
    let images = alive.remove("images").unwrap_or_default();
    let snapshots = alive.remove("snapshots").unwrap_or_default();
    assert!(alive.is_empty(), "{what}: {alive:?}");
    assert!(images.len() <= 1 && snapshots.len() == images.len(), "{what}: {images:?} {snapshots:?}");
    assert!(!made || images.len() == 1, "{what}: the build made nothing");
}

/// Every call of an undisturbed build, by action and how many of its kind there were before.
pub(crate) async fn sequence() -> Vec<(String, usize)> {
    rig::reset();
    build(&plan(table()), &TestRun::new("sequence")).await.unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let own = rig::calls().into_iter().filter(|call| call != "StopInstances");
    let number = |call: String| {
        let count = seen.entry(call.clone()).or_default();
        *count += 1;
        (call, *count)
    };
    own.map(number).collect()
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn each_fault_that_passes_at_each_call_is_survived() {
    let sequence = sequence().await;
    let faults = at_calls(&["error", "error-after", "lost-request", "lost-reply", "throttle"], &sequence);
    for (kind, action, nth) in &faults {
        rig::reset();
        rig::fault(action, kind, json!({"nth": nth}));
        let run = TestRun::new(&format!("{kind}-{action}-{nth}"));
        let what = format!("{kind} at {action} {nth}");
        let built = build(&plan(table()), &run).await;
        check(&what, &run, built.is_ok()).await;
        assert!(built.is_ok(), "{what}: {}", built.unwrap_err());
    }
    eprintln!("{} builds of {} calls, each with one fault", faults.len(), sequence.len());
}

/// Each kind at each call with `DSIMG_EVERY_FAULT`; without it, each call is struck by one of them, in turn.
pub(crate) fn at_calls<'a>(kinds: &[&'a str], calls: &'a [(String, usize)]) -> Vec<(&'a str, &'a str, usize)> {
    let every = std::env::var_os("DSIMG_EVERY_FAULT").is_some();
    let of_call = |(place, (action, nth)): (usize, &'a (String, usize))| {
        let chosen = kinds.iter().enumerate().filter(move |(number, _)| every || *number == place % kinds.len());
        chosen.map(|(_, kind)| (*kind, action.as_str(), *nth)).collect::<Vec<_>>()
    };
    calls.iter().enumerate().flat_map(of_call).collect()
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn each_refusal_at_each_call_leaves_nothing() {
    let sequence = sequence().await;
    let mut failed = 0;
    for (action, nth) in &sequence {
        rig::reset();
        // From there on: a right that is missing.
        rig::fault(action, "error", json!({"nth": nth, "count": null, "code": "UnauthorizedOperation", "status": 403}));
        let run = TestRun::new(&format!("refused-{action}-{nth}"));
        let built = build(&plan(table()), &run).await;
        check(&format!("refusal at {action} {nth}"), &run, built.is_ok()).await;
        failed += usize::from(built.is_err());
    }
    eprintln!("{failed} of {} builds failed", sequence.len());
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn what_is_just_made_may_be_unknown_for_a_moment() {
    for action in ["ImportKeyPair", "CreateSecurityGroup", "RunInstances", "CreateImage"] {
        rig::reset();
        rig::fault(action, "not-found", json!({"describes": 3, "count": null}));
        let run = TestRun::new(&format!("unknown-{action}"));
        let built = build(&plan(table()), &run).await;
        let error = built.as_ref().err().map(ToString::to_string);
        check(&format!("{action} unknown"), &run, built.is_ok()).await;
        assert_eq!(error, None, "{action}");
    }
}

/// `DSIMG_THROTTLED_RUNS` says how many, with half of all calls throttled; without it, some builds with a fifth, which
/// takes a fifth of the time. They run beside each other, as each of them waits most of the time.
#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn throttled_calls_are_survived() {
    let runs = std::env::var("DSIMG_THROTTLED_RUNS").ok().and_then(|text| text.parse().ok());
    let (runs, rate) = runs.map_or((5, 0.2), |runs: usize| (runs, 0.5));
    let began = std::time::Instant::now();
    let mut calls = 0;
    let numbers: Vec<_> = (0..runs).collect();
    // In accounts of their own: where thousands of dead instances are listed, the rig is what takes the time.
    for some in numbers.chunks(BESIDE_EACH_OTHER) {
        rig::reset();
        rig::fault("*", "throttle", json!({"rate": rate, "seed": some[0], "count": null}));
        let builds = futures_util::stream::iter(some.iter().copied().map(throttled)).buffer_unordered(some.len());
        let failed: Vec<_> = builds.filter_map(async |failure| failure).collect().await;
        assert!(failed.is_empty(), "{} of {} failed, such as: {}", failed.len(), some.len(), failed[0]);
        let alive = rig::alive();
        assert_eq!(alive.keys().collect::<Vec<_>>(), ["images", "snapshots"]);
        assert_eq!((alive["images"].len(), alive["snapshots"].len()), (some.len(), some.len()));
        calls += rig::answered();
        eprintln!("{} of {runs} throttled builds in {} s", some[some.len() - 1] + 1, began.elapsed().as_secs());
    }
    // Two of the calls of each build are its guest's.
    let calls = calls as f64 / runs as f64;
    eprintln!("{calls:.1} answered calls each");
    assert!(calls <= 60.0);
}

const BESIDE_EACH_OTHER: usize = 50;

/// Why it failed, if it did.
async fn throttled(number: usize) -> Option<String> {
    let run = TestRun::new(&format!("throttled-{number}"));
    let mut plan = plan(table());
    plan.image.version = format!("1.{number}");
    let guest = async |_| {
        let name = format!("dsimg-throttled-{number}-aws-1");
        let power_off = tokio::task::spawn_blocking(move || {
            let filter = [("Filter.1.Name", "tag:dsimg:temporary"), ("Filter.1.Value.1", name.as_str())];
            let told = rig::ec2_patiently("DescribeInstances", &filter);
            let id = told.split_once("<instanceId>").unwrap().1.split_once('<').unwrap().0.to_owned();
            rig::ec2_patiently("StopInstances", &[("InstanceId.1", &id)]);
        });
        power_off.await.unwrap();
    };
    match build_with(&plan, &run, guest).await {
        Err(error) => Some(format!("{number}: {error}")),
        Ok(_) if !run.left().is_empty() => Some(format!("{number}: left {:?}", run.left())),
        Ok(_) => None,
    }
}
