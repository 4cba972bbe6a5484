//! A build on an instance of the rig that is a real machine, and a second one on the AMI that it made.
//!
//! Takes minutes where there is no KVM: `cargo test -p dsimg-aws --test machine -- --ignored`. It needs a base that
//! dsimg made, which any run of the other tests leaves, or `DSIMG_EC2_BASE`.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

#[path = "../control/build.rs"]
#[allow(dead_code, reason = "shared with the tests without machines")]
mod build;
#[path = "../control/rig.rs"]
#[allow(dead_code, reason = "shared with the tests without machines")]
mod rig;

use std::path::PathBuf;

use dsimg_aws::AwsBuilder;
use dsimg_machine::session::NoOutput;
use dsimg_machine::{Builder, Machine, Off, RemoteCommand, Session, Written};
use dsimg_plan::Plan;
use dsimg_plan::plan::PlannedBase;
use dsimg_template::template::aws::AmiSource;
use serde_json::json;

use crate::build::{TestRun, plan, table};

/// Says that this process was started with the rig's environment.
const IN_RIG: &str = "DSIMG_IN_RIG";

#[test]
#[ignore = "boots machines, for minutes"]
fn an_ami_is_built_and_boots() {
    if std::env::var_os(IN_RIG).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(build_and_boot());
    }
    assert!(base().is_some(), "no base that dsimg made is in the tests' cache; name one in DSIMG_EC2_BASE");
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--ignored", "--nocapture"]).envs(rig::start(&[])).env(IN_RIG, "yes");
    assert!(again.status().unwrap().success());
}

fn base() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("DSIMG_EC2_BASE") {
        return Some(path.into());
    }
    let cache =
        std::env::var_os("DSIMG_TEST_CACHE").map_or_else(|| PathBuf::from("/var/tmp/dsimg-tests"), PathBuf::from);
    let bases = std::fs::read_dir(cache.join("cache/bases")).ok()?.flatten();
    let disks = bases.map(|entry| entry.path().join("base.qcow2")).filter(|path| path.is_file());
    // Those that are downloaded are named by their digest.
    disks.min_by_key(|path| path.to_string_lossy().contains("sha256-"))
}

async fn build_and_boot() {
    let order = json!({"name": "debian-13-amd64-20261101", "path": base().unwrap()});
    let source = rig::control("POST", "images", &order)["ImageId"].as_str().unwrap().to_owned();
    let mut table = table();
    table.instance.root.size = dsimg_template::units::ByteSize(12 << 30);
    let first = plan(table.clone());

    let run = TestRun::new("real");
    let began = std::time::Instant::now();
    let written = build(&first, &run).await;
    eprintln!("built in {} s", began.elapsed().as_secs());
    let [ami] = &written.amis[..] else { panic!("{written:?}") };
    assert_eq!(ami.source.as_ref(), Some(&source));
    assert!(run.left().is_empty(), "{:?}", run.left());
    let alive = rig::alive();
    assert_eq!(alive.keys().collect::<Vec<_>>(), ["images", "snapshots"], "{alive:?}");

    let by_id = AmiSource { id: Some(ami.id.clone()), owner: None, name: None, filters: [].into(), user: None };
    let mut second = plan(table);
    second.base = PlannedBase::Ami(by_id);
    second.image.version = "2026.12".to_owned();
    let run = TestRun::new("second");
    let (machine, session) = start(&second, &run).await;
    assert_eq!(said(session.as_ref(), "cat /etc/built").await, "by dsimg");
    // Another instance, with keys of its own, that the same strict client knows.
    session.close().await.unwrap();
    machine.stop().await.unwrap();
    assert!(run.left().is_empty(), "{:?}", run.left());
    assert_eq!(rig::alive(), alive);
}

async fn build(plan: &Plan, run: &TestRun) -> Written {
    let (mut machine, session) = start(plan, run).await;
    assert_eq!(said(session.as_ref(), "id -u").await, "0");
    // The dead man's timer, for a little less than the six hours that the template gives.
    let timer = said(session.as_ref(), "systemctl show -P NextElapseUSecMonotonic dsimg-time-limit.timer").await;
    assert!(timer.starts_with("5h 5") || timer.starts_with("6h"), "{timer}");
    said(session.as_ref(), "echo 'by dsimg' >/etc/built").await;

    assert_eq!(machine.before_last_stage().await.unwrap(), Off::Power);
    let off = "cloud-init clean --logs 2>/dev/null; sync; \
               setsid bash -c 'sleep 0.1; systemctl poweroff --force' </dev/null >/dev/null 2>&1 &";
    session.exec(&RemoteCommand::bash(off), &mut NoOutput).await.unwrap();
    machine.wait_for_power_off().await.unwrap();
    let written = machine.write_image("ds-hub-2026.11", &run.context.work).await.unwrap();
    machine.stop().await.unwrap();
    written
}

async fn start(plan: &Plan, run: &TestRun) -> (Box<dyn Machine>, Box<dyn Session>) {
    let builder = AwsBuilder::new("");
    builder.check_ready(plan, &run.context).await.unwrap();
    let base = builder.prepare_base(&plan.base, &plan.network, &run.context).await.unwrap();
    let machine = builder.boot(&base, plan, &run.context).await.unwrap();
    let began = std::time::Instant::now();
    let session = machine.connect().await.unwrap_or_else(|error| panic!("{error}\n{}", machine.console_tail()));
    eprintln!("logged in {} s after the start", began.elapsed().as_secs());
    (machine, session)
}

async fn said(session: &dyn Session, text: &str) -> String {
    let bytes = session.read(&RemoteCommand::bash(text)).await.unwrap();
    String::from_utf8(bytes).unwrap().trim().to_owned()
}
