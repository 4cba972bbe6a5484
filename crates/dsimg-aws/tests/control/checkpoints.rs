//! An AMI for each stage.

use dsimg_aws::{AwsBuilder, leftovers, remove};
use dsimg_machine::{Builder, MachineError, SavedMachine};
use dsimg_template::template::aws::AmiCheckpoints;

use crate::build::{TestRun, plan, table};
use crate::rig;

#[tokio::test]
#[ignore = "run by in_the_rig"]
async fn a_saved_machine_is_an_ami_to_start_from() {
    let source = rig::reset();
    let mut table = table();
    table.checkpoint = AmiCheckpoints::Each;
    let (run, plan) = (TestRun::new("saved"), plan(table));
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let builder = AwsBuilder::new("");
    builder.check_ready(&plan, &run.context).await.unwrap();
    let base = builder.prepare_base(&plan.base, &plan.network, &run.context).await.unwrap();
    let machine = builder.boot(&base, &plan, &run.context).await.unwrap();
    assert!(machine.can_be_saved());
    machine.save(&place("boot"), &base.path, false).await.unwrap();
    machine.save(&place("one"), &base.path, false).await.unwrap();
    assert_eq!(run.left().len(), 4, "{:?}", run.left());
    machine.stop().await.unwrap();
    assert!(run.left().is_empty(), "{:?}", run.left());

    // The first one is the base itself.
    let note = std::fs::read_to_string(place("boot").join("disk.qcow2")).unwrap();
    assert!(note.contains(&format!("\"image\":\"{source}\"")), "{note}");
    assert_eq!(rig::alive()["images"].len(), 1);
    assert!(leftovers(&table_account()).await.unwrap().iter().all(|left| left.is_checkpoint));

    let saved = SavedMachine::in_folder(&place("one"), false);
    let machine = builder.resume(&saved, &plan, &run.context).await.unwrap();
    machine.stop().await.unwrap();

    for left in leftovers(&table_account()).await.unwrap() {
        remove(&table_account(), &left).await.unwrap();
    }
    assert!(rig::alive().is_empty(), "{:?}", rig::alive());
    let Err(error) = builder.resume(&saved, &plan, &run.context).await else { panic!("it is gone") };
    assert!(matches!(error, MachineError::Missing { .. }), "{error:?}");
    assert!(run.left().is_empty(), "{:?}", run.left());
}

fn table_account() -> dsimg_template::template::aws::AwsAccount {
    table().account
}
