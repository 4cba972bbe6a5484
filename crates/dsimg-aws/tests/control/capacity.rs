//! Where there is no capacity, another place, type or market is tried.

use dsimg_aws::AwsBuilder;
use dsimg_machine::{Builder, MachineError, Off};
use dsimg_template::template::aws::{AwsEbsTable, Spot};
use serde_json::json;

use crate::build::{TestRun, build, plan, table};
use crate::rig;

async fn started(table: AwsEbsTable, name: &str) -> (Result<Off, MachineError>, TestRun) {
    let (run, plan) = (TestRun::new(name), plan(table));
    let builder = AwsBuilder::new("");
    builder.check_ready(&plan, &run.context).await.unwrap();
    let base = builder.prepare_base(&plan.base, &plan.network, &run.context).await.unwrap();
    let off = match builder.boot(&base, &plan, &run.context).await {
        Ok(machine) => {
            let off = machine.before_last_stage().await;
            machine.stop().await.unwrap();
            off
        }
        Err(error) => Err(error),
    };
    assert!(rig::alive().is_empty(), "{:?}", rig::alive());
    assert!(run.left().is_empty(), "{:?}", run.left());
    (off, run)
}

fn tried(run: &TestRun) -> Vec<String> {
    let messages = run.messages().into_iter();
    messages.filter_map(|text| text.strip_prefix("starting ").map(str::to_owned)).collect()
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn another_zone_is_tried_at_once() {
    rig::reset();
    for zone in ["us-east-1a", "us-east-1b"] {
        rig::fault("RunInstances", "capacity", json!({"zone": zone, "count": null}));
    }
    let mut table = table();
    table.place.zones = ["us-east-1a", "us-east-1b", "us-east-1c"].map(str::to_owned).to_vec();
    let (off, run) = started(table, "zones").await;
    assert_eq!(off.unwrap(), Off::Power);
    assert_eq!(tried(&run)[2..], ["t3.small in us-east-1c, on demand"]);
    let asked = rig::calls().into_iter().filter(|call| call == "RunInstances").count();
    assert_eq!(asked, 4, "one rehearsal, and one try in each zone");
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn spot_gives_way_to_on_demand() {
    rig::reset();
    let mut table = table();
    table.instance.spot = Some(Spot { max_price: Some("0.01".to_owned()), on_demand_fallback: true });
    table.place.zones = vec!["us-east-1b".to_owned()];
    let (off, run) = started(table, "spot").await;
    assert_eq!(off.unwrap(), Off::Power);
    assert_eq!(tried(&run), ["t3.small in us-east-1b, spot", "t3.small in us-east-1b, on demand"]);
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn a_spot_instance_is_halted_and_leaves_nothing() {
    rig::reset();
    let mut table = table();
    table.instance.spot = Some(Spot { max_price: None, on_demand_fallback: false });
    let (off, _) = started(table, "halted").await;
    assert_eq!(off.unwrap(), Off::Halt);
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn nothing_anywhere_is_told_with_all_reasons() {
    rig::reset();
    rig::fault("RunInstances", "capacity", json!({"count": null}));
    let mut table = table();
    table.instance.types.push("m5.large".to_owned());
    table.place.zones = vec!["us-east-1a".to_owned(), "us-east-1b".to_owned()];
    let (off, _) = started(table, "nowhere").await;
    let error = off.unwrap_err();
    assert!(matches!(error, MachineError::TryAgain { .. }), "{error:?}");
    let text = error.to_string();
    assert_eq!(text.matches("InsufficientInstanceCapacity").count(), 4, "{text}");
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn an_instance_that_ends_while_it_starts_is_explained_or_replaced() {
    rig::reset();
    rig::fault("RunInstances", "failed", json!({"message": "Client.VolumeLimitExceeded: Volume limit exceeded"}));
    let (off, _) = started(table(), "limit").await;
    let error = off.unwrap_err().to_string();
    assert!(error.ends_with("never ran: Client.VolumeLimitExceeded: Volume limit exceeded"), "{error}");

    rig::reset();
    rig::fault("RunInstances", "failed", json!({"message": "Server.InternalError: Internal error on launch"}));
    let (off, run) = started(table(), "internal").await;
    off.unwrap();
    assert_eq!(tried(&run).len(), 2);
}

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn an_image_that_fails_leaves_nothing() {
    rig::reset();
    rig::fault("CreateImage", "failed", json!({"message": "Client.InternalError: KMS"}));
    let run = TestRun::new("failed-image");
    let error = build(&plan(table()), &run).await.unwrap_err().to_string();
    assert!(error.contains("failed"), "{error}");
    assert!(rig::alive().is_empty(), "{:?}", rig::alive());
    assert!(run.left().is_empty(), "{:?}", run.left());
}
