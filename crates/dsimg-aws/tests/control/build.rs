//! A build as `dsimg-build` carries it out, but for the guest, which is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use dsimg_aws::AwsBuilder;
use dsimg_machine::{
    Builder, Event, Ledger, Level, Machine, MachineError, Off, Reporter, Resource, RunContext, Written,
};
use dsimg_plan::plan::PlannedBase;
use dsimg_plan::{Digest, Plan};
use dsimg_template::template::aws::{
    Address, AmiCheckpoints, AmiSource, AmiTable, AwsAccount, AwsEbsTable, InstanceTable, PlaceTable, ReachTable,
    Share, VolumeTable,
};
use dsimg_template::template::{BuilderTable, Image, Network};
use dsimg_template::units::{ByteSize, Timeout};

use crate::rig;

#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<String>>);

impl Reporter for Recorder {
    fn report(&self, _: &str, event: &Event) {
        if let Event::Message { level, text } = event
            && *level > Level::Debug
        {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

/// A run whose folders go away with it.
pub(crate) struct TestRun {
    pub(crate) context: RunContext,
    recorder: Arc<Recorder>,
    _folder: TempDir,
}

impl TestRun {
    pub(crate) fn new(build: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cache, work) = (folder.path().join("cache"), folder.path().join("work"));
        std::fs::create_dir(&cache).unwrap();
        std::fs::create_dir(&work).unwrap();
        let recorder = Arc::new(Recorder::default());
        let context = RunContext {
            build_id: build.to_owned(),
            builder: "aws".to_owned(),
            ledger: Arc::new(Ledger::open(&folder.path().join("ledger"), build).unwrap()),
            cache,
            work,
            reporter: Arc::clone(&recorder) as Arc<dyn Reporter>,
            cancel: CancellationToken::new(),
            hurry: CancellationToken::new(),
        };
        Self { context, recorder, _folder: folder }
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        self.recorder.0.lock().unwrap().clone()
    }

    /// As the next run of dsimg does with what a dead one left.
    pub(crate) async fn reclaim(&self) {
        let builder = AwsBuilder::new("");
        for left in self.left() {
            builder.reclaim(&left).await.unwrap_or_else(|error| panic!("{left:?}: {error}"));
            self.context.ledger.is_gone(left).unwrap();
        }
    }

    pub(crate) fn left(&self) -> Vec<Resource> {
        self.context.ledger.open_entries().unwrap()
    }
}

pub(crate) fn table() -> AwsEbsTable {
    let root = VolumeTable {
        size: ByteSize(20 << 30),
        kind: "gp3".to_owned(),
        iops: None,
        throughput: None,
        encrypted: None,
        kms_key: None,
    };
    AwsEbsTable {
        account: AwsAccount { region: "us-east-1".to_owned(), profile: None },
        instance: InstanceTable {
            types: vec!["t3.small".to_owned()],
            spot: None,
            profile: None,
            user_data: None,
            root,
            volumes: vec![],
            time_limit: Timeout::from_minutes(360),
            boot_timeout: Timeout::from_minutes(10),
        },
        place: PlaceTable::default(),
        reach: ReachTable {
            address: Address::Auto,
            bastion: None,
            security_groups: vec![],
            allow_from: vec![],
            ssh_user: None,
            ssh_port: 22,
        },
        ami: AmiTable {
            name: None,
            description: None,
            copies: BTreeMap::new(),
            share: Share { accounts: BTreeSet::new(), ..Share::default() },
            tags: BTreeMap::from([("team".to_owned(), "data".to_owned())]),
            deprecate_after: None,
            deregistration_protection: false,
            boot_mode: None,
            require_imds_v2: true,
            tpm: false,
            replace: false,
            parameter: None,
        },
        tags: BTreeMap::from([("cost".to_owned(), "42".to_owned())]),
        checkpoint: AmiCheckpoints::None,
    }
}

pub(crate) fn plan(table: AwsEbsTable) -> Plan {
    let ami = AmiSource {
        id: None,
        owner: Some("136693071363".to_owned()),
        name: Some("debian-13-amd64-*".to_owned()),
        filters: BTreeMap::new(),
        user: None,
    };
    Plan {
        format: 1,
        image: Image {
            name: "ds-hub".to_owned(),
            version: "2026.11".to_owned(),
            summary: Some("A hub".to_owned()),
            seal: false,
        },
        cell: None,
        builder: "aws".to_owned(),
        machine: BuilderTable::AwsEbs(Box::new(table)),
        base: PlannedBase::Ami(ami),
        disk_key: Digest::of_bytes(b"disk"),
        disk_inputs: serde_json::Value::Null,
        network: Network::default(),
        stages: vec![],
        publish: vec![],
        user_data: None,
    }
}

/// What a build does, in its order.
pub(crate) async fn build(plan: &Plan, run: &TestRun) -> Result<Written, MachineError> {
    build_with(plan, run, async |off| go_off(off)).await
}

/// The same with another guest.
pub(crate) async fn build_with(
    plan: &Plan,
    run: &TestRun,
    guest: impl AsyncFnOnce(Off),
) -> Result<Written, MachineError> {
    let run = &run.context;
    let builder = AwsBuilder::new("");
    builder.check_ready(plan, run).await?;
    let base = builder.prepare_base(&plan.base, &plan.network, run).await?;
    let mut machine = builder.boot(&base, plan, run).await?;
    let written = finish(machine.as_mut(), guest, run.work.as_path()).await;
    machine.stop().await?;
    written
}

async fn finish(
    machine: &mut dyn Machine,
    guest: impl AsyncFnOnce(Off),
    folder: &Path,
) -> Result<Written, MachineError> {
    guest(machine.before_last_stage().await?).await;
    machine.wait_for_power_off().await?;
    machine.write_image("ds-hub-2026.11", folder).await
}

/// The guest powers itself off, and EC2 does what the instance was told to do then.
pub(crate) fn go_off(off: Off) {
    let Some(id) = rig::alive().remove("instances").and_then(|ids| ids.into_iter().next()) else { return };
    if off == Off::Halt {
        return;
    }
    let attribute = [("InstanceId", id.as_str()), ("Attribute", "instanceInitiatedShutdownBehavior")];
    let told = undisturbed(|| rig::ec2("DescribeInstanceAttribute", &attribute));
    let action = if told.contains(">stop<") { "StopInstances" } else { "TerminateInstances" };
    undisturbed(|| rig::ec2(action, &[("InstanceId.1", &id)]));
}

/// What the guest does is no call that a fault is meant for.
fn undisturbed<T>(call: impl FnOnce() -> T) -> T {
    let faults = rig::control("GET", "faults", &serde_json::json!({}));
    rig::control("DELETE", "faults", &serde_json::json!({}));
    let result = call();
    for fault in faults.as_array().unwrap() {
        let mut order = fault.clone();
        let struck = order["struck"].as_u64().unwrap_or_default();
        if order["count"].as_u64().is_some_and(|count| struck >= count) {
            continue;
        }
        order.as_object_mut().unwrap().remove("id");
        rig::control("POST", "faults", &order);
    }
    result
}
