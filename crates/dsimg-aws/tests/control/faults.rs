//! Each fault at each call: what is left of it is one AMI or none, and nothing else.

use std::collections::BTreeMap;

use dsimg_aws::{leftovers, remove};
use dsimg_template::template::aws::AwsAccount;
use serde_json::json;

use crate::build::{TestRun, build, plan, table};
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
async fn sequence() -> Vec<(String, usize)> {
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
    let mut runs = 0;
    for kind in ["error", "error-after", "lost-request", "lost-reply", "throttle"] {
        for (action, nth) in &sequence {
            rig::reset();
            rig::fault(action, kind, json!({"nth": nth}));
            let run = TestRun::new(&format!("{kind}-{runs}"));
            let what = format!("{kind} at {action} {nth}");
            let built = build(&plan(table()), &run).await;
            check(&what, &run, built.is_ok()).await;
            assert!(built.is_ok(), "{what}: {}", built.unwrap_err());
            runs += 1;
        }
    }
    eprintln!("{runs} builds, each with one fault");
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
        let began = std::time::Instant::now();
        let built = build(&plan(table()), &run).await;
        check(&format!("refusal at {action} {nth}"), &run, built.is_ok()).await;
        failed += usize::from(built.is_err());
        eprintln!("{action} {nth}: {:.1} s", began.elapsed().as_secs_f64());
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
        check(&format!("{action} unknown"), &run, true).await;
        built.unwrap_or_else(|error| panic!("{action}: {error}"));
    }
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn throttling_at_half_of_all_calls_is_survived() {
    let runs: u64 = std::env::var("DSIMG_THROTTLED_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let began = std::time::Instant::now();
    let mut most = 0;
    for seed in 0..runs {
        rig::reset();
        rig::fault("*", "throttle", json!({"rate": 0.5, "seed": seed, "count": null}));
        let run = TestRun::new(&format!("throttled-{seed}"));
        let built = build(&plan(table()), &run).await;
        let outcomes = rig::outcomes();
        most = most.max(outcomes.iter().filter(|outcome| *outcome == "ok").count());
        check(&format!("throttled {seed}"), &run, true).await;
        built.unwrap_or_else(|error| panic!("{seed}: {error}"));
    }
    eprintln!("{runs} throttled builds in {:.1} s, at most {most} calls that were answered", began.elapsed().as_secs_f64());
    assert!(most <= 60, "{most}");
}
