//! Builds that die, are cancelled, or belong to somebody else.

use std::collections::BTreeMap;
use std::time::Duration;

use dsimg_aws::{AwsBuilder, leftovers, remove};
use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{AwsKind, Builder, MachineError};
use serde_json::json;

use crate::build::{TestRun, build, plan, table};
use crate::rig;

/// As a process that is killed: nothing of it goes on.
async fn killed_after(milliseconds: u64, run: &TestRun) {
    let plan = plan(table());
    let build = build(&plan, run);
    let _killed = tokio::time::timeout(Duration::from_millis(milliseconds), build).await;
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn a_build_that_is_killed_at_any_moment_is_cleaned_up_after() {
    for step in 0..30 {
        rig::reset();
        let run = TestRun::new(&format!("killed-{step}"));
        killed_after(step * 20, &run).await;
        // A call that was under way may still have its effect.
        tokio::time::sleep(Duration::from_millis(100)).await;
        run.reclaim().await;
        let alive = rig::alive();
        let images = alive.get("images").map_or(0, Vec::len);
        let others: Vec<_> = alive.keys().filter(|kind| !["images", "snapshots"].contains(&kind.as_str())).collect();
        assert!(others.is_empty() && images <= 1, "killed after {} ms: {alive:?}", step * 20);
    }
}

/// As with `kill -9` while a call is under way: it may have its effect or not, and nobody hears of it.
#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn a_build_that_is_killed_in_a_call_is_cleaned_up_after() {
    let sequence = crate::faults::sequence().await;
    for (kind, action, nth) in crate::faults::at_calls(&["hang", "delay"], &sequence) {
        rig::reset();
        // A call that hangs has no effect; one that is delayed has it when nobody waits for it any more.
        rig::fault(action, kind, json!({"nth": nth, "seconds": 1.6}));
        let run = TestRun::new(&format!("{kind}-{action}-{nth}"));
        killed_after(1200, &run).await;
        rig::control("DELETE", "faults", &json!({}));
        tokio::time::sleep(Duration::from_millis(600)).await;
        run.reclaim().await;
        let mut alive = rig::alive();
        let images = alive.remove("images").unwrap_or_default();
        let snapshots = alive.remove("snapshots").unwrap_or_default();
        let what = format!("{kind} in {action} {nth}: {alive:?} {images:?} {snapshots:?}");
        assert!(alive.is_empty() && images.len() <= 1 && snapshots.len() == images.len(), "{what}");
    }
}

/// A build that is killed while it takes the tags off what it made: that call may have its effect in the midst of the clean-up.
#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn an_image_s_snapshot_goes_with_it_though_its_tags_vanish() {
    rig::reset();
    rig::fault("DeleteTags", "hang", json!({"seconds": 30}));
    let run = TestRun::new("vanishing");
    let plan = plan(table());
    let build = build(&plan, &run);
    let untagging = until(|| rig::calls().iter().any(|call| call == "DeleteTags"));
    tokio::select! {
        built = build => panic!("{built:?}"),
        () = untagging => {}
    }
    let alive = rig::alive();
    let (image, snapshot) = (alive["images"][0].clone(), alive["snapshots"][0].clone());
    let late = std::thread::spawn(move || {
        while !rig::calls().iter().any(|call| call == "DeregisterImage") {
            std::thread::sleep(Duration::from_millis(50));
        }
        let of_both =
            [("ResourceId.1", image.as_str()), ("ResourceId.2", snapshot.as_str()), ("Tag.1.Key", AWS_NAME_TAG)];
        rig::ec2("DeleteTags", &of_both);
    });
    rig::control("DELETE", "faults", &json!({}));
    rig::fault("DeregisterImage", "delay", json!({"seconds": 1.0}));
    run.reclaim().await;
    late.join().unwrap();
    assert_eq!(rig::alive(), BTreeMap::new());
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn a_cancel_cleans_up_before_it_returns() {
    for step in 0..20 {
        rig::reset();
        rig::control("POST", "settings", &json!({"pending": 0.2, "image": 0.2}));
        let run = TestRun::new(&format!("cancelled-{step}"));
        let cancel = run.context.cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(step * 40)).await;
            cancel.cancel();
        });
        let built = build(&plan(table()), &run).await;
        rig::control("POST", "settings", &json!({"pending": 0, "image": 0}));
        let mut alive = rig::alive();
        let images = alive.remove("images").unwrap_or_default();
        alive.remove("snapshots");
        let is_told = run.messages().iter().any(|message| message.ends_with("is in us-east-1 and stays"));
        assert!(
            alive.is_empty() && images.len() == usize::from(built.is_ok() || is_told),
            "{step}: {alive:?} {images:?} {built:?}"
        );
        assert!(matches!(built, Ok(_) | Err(MachineError::Cancelled)), "{step}: {built:?}");
        assert!(run.left().is_empty(), "{step}: {:?}", run.left());
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn an_ami_that_was_finished_before_the_cancel_stays_and_is_told() {
    rig::reset();
    // The first call after the AMI is finished.
    rig::fault("CreateTags", "delay", json!({"seconds": 2}));
    let run = TestRun::new("cancelled-late");
    let plan = plan(table());
    let cancelled_late = async {
        until(|| run.messages().iter().any(|message| message.ends_with("is there"))).await;
        run.context.cancel.cancel();
    };
    let (built, ()) = tokio::join!(build(&plan, &run), cancelled_late);
    assert!(matches!(built, Err(MachineError::Cancelled)), "{built:?}");
    let alive = rig::alive();
    assert_eq!((alive.len(), alive["images"].len(), alive["snapshots"].len()), (2, 1, 1), "{alive:?}");
    let stays = format!("the AMI {} is in us-east-1 and stays", alive["images"][0]);
    assert!(run.messages().contains(&stays), "{:?}", run.messages());
    assert!(run.left().is_empty(), "{:?}", run.left());
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn leftovers_are_told_with_their_build_and_only_they_are_removed() {
    rig::reset();
    rig::ec2("CreateSecurityGroup", &[("GroupName", "somebody-else"), ("GroupDescription", "x")]);
    let (run, plan) = (TestRun::new("left"), plan(table()));
    let builder = AwsBuilder::new("");
    builder.check_ready(&plan, &run.context).await.unwrap();
    let base = builder.prepare_base(&plan.base, &plan.network, &run.context).await.unwrap();
    drop(builder.boot(&base, &plan, &run.context).await.unwrap());

    let account = table().account;
    let found = leftovers(&account).await.unwrap();
    let kinds: Vec<_> = found.iter().map(|left| left.kind).collect();
    assert_eq!(kinds, [AwsKind::Instance, AwsKind::Volume, AwsKind::SecurityGroup, AwsKind::KeyPair]);
    let now = jiff::Timestamp::now();
    for left in &found {
        assert_eq!((left.build.as_deref(), left.name.as_str()), (Some("left"), "dsimg-left-aws-1"), "{left:?}");
        assert!(left.may_be_in_use(now) && left.made.is_some_and(|made| made <= now), "{left:?}");
        let hours = left.until.unwrap().duration_since(now).as_hours();
        assert!((7..=8).contains(&hours), "{left:?}");
    }
    for left in &found {
        remove(&account, left).await.unwrap();
        remove(&account, left).await.unwrap();
    }
    assert_eq!(leftovers(&account).await.unwrap(), []);
    let alive = rig::alive();
    assert_eq!((alive.len(), alive["security_groups"].len()), (1, 1), "{alive:?}");
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn a_group_that_is_in_use_for_a_while_is_deleted_then() {
    rig::reset();
    let violation = json!({"count": 3, "code": "DependencyViolation", "status": 400});
    rig::fault("DeleteSecurityGroup", "error", violation);
    let run = TestRun::new("in-use");
    build(&plan(table()), &run).await.unwrap();
    assert!(!rig::alive().contains_key("security_groups") && run.left().is_empty());
}
