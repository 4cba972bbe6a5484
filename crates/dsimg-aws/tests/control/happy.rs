//! Nothing goes wrong.

use crate::build::{TestRun, build, plan, table};
use crate::rig;

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn a_build_leaves_one_ami_and_nothing_else() {
    let source = rig::reset();
    let run = TestRun::new("happy");
    let written = build(&plan(table()), &run).await.unwrap();
    let calls = rig::calls();
    eprintln!("{} calls: {}", calls.len(), calls.join(" "));
    assert!(calls.len() <= 60, "{} calls", calls.len());
    let [ami] = &written.amis[..] else { panic!("{written:?}") };
    assert_eq!(
        (ami.name.as_str(), ami.region.as_str(), ami.source.as_ref()),
        ("ds-hub-2026.11", "us-east-1", Some(&source))
    );
    let alive = rig::alive();
    assert_eq!(alive.keys().collect::<Vec<_>>(), ["images", "snapshots"], "{alive:?}");
    assert_eq!((&alive["images"], &alive["snapshots"]), (&vec![ami.id.clone()], &ami.snapshots));
    assert!(run.left().is_empty(), "{:?}", run.left());

    // What is finished does not look like a leftover, and keeps its other tags.
    let image = rig::ec2("DescribeImages", &[("ImageId.1", &ami.id)]);
    assert!(!image.contains("dsimg:temporary") && !image.contains("dsimg:until"), "{image}");
    for kept in ["dsimg:build", "<value>happy</value>", "<key>team</key>", "<key>cost</key>", "v2.0"] {
        assert!(image.contains(kept), "{kept}: {image}");
    }
    let snapshot = rig::ec2("DescribeSnapshots", &[("SnapshotId.1", &ami.snapshots[0])]);
    assert!(!snapshot.contains("dsimg:temporary") && snapshot.contains("<key>cost</key>"), "{snapshot}");
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn a_name_that_is_taken_costs_nothing() {
    rig::reset();
    build(&plan(table()), &TestRun::new("first")).await.unwrap();
    rig::control("DELETE", "calls", &serde_json::json!({}));
    let run = TestRun::new("second");
    let error = build(&plan(table()), &run).await.unwrap_err().to_string();
    assert!(error.contains("ds-hub-2026.11"), "{error}");
    let calls = rig::calls();
    assert!(calls.iter().all(|call| call.starts_with("Describe") || call.starts_with("Get")), "{calls:?}");
}
