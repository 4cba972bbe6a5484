//! A publish that died, and its next try.

use std::time::Duration;

use serde_json::json;

use crate::rig::{self, count};
use crate::world::{HOME, World, ec2, read_back};

const BLOCKS: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmn";

/// Killed for good once so many blocks were acknowledged; how many were in the end.
async fn kill_after(world: &World, blocks: usize) -> usize {
    // One put after the other would be too quick to be stopped in between.
    rig::fault(&json!({"action": "PutSnapshotBlock", "kind": "delay", "seconds": 5, "nth": blocks + 1, "count": null}));
    let mut child = world.publish_apart();
    for _ in 0..1500 {
        if world.journalled() >= blocks {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    rig::no_more_faults();
    // Puts that were under way when it died come to their end in the rig.
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.journalled()
}

pub(crate) async fn a_killed_upload_goes_on() {
    let world = World::new(BLOCKS);
    let acknowledged = kill_after(&world, 17).await;
    assert_eq!(acknowledged, 17);
    let journal = world.state().join("aws/publishes");
    let journal = std::fs::read_dir(journal).unwrap().next().unwrap().unwrap().path().join("acknowledged");
    // What a crash may tear.
    let mut torn = std::fs::read(&journal).unwrap();
    torn.extend([0; 13]);
    std::fs::write(&journal, torn).unwrap();

    rig::calls();
    let amis = world.publish().await.unwrap();
    let calls = rig::calls();
    assert_eq!(count(&calls, "PutSnapshotBlock", "ok"), BLOCKS.len() - acknowledged);
    assert_eq!(count(&calls, "StartSnapshot", "ok"), 0);
    assert_eq!(read_back(HOME, &amis[0].snapshots[0], BLOCKS.len()).await, BLOCKS);
    assert_eq!(rig::alive("snapshots"), amis[0].snapshots);
    assert!(world.said.words().contains("8.5 MiB were sent before"), "{}", world.said.words());
}

pub(crate) async fn an_upload_that_aws_gave_up_begins_anew() {
    let world = World::new(BLOCKS);
    kill_after(&world, 9).await;
    let upload = rig::alive("uploads").remove(0);
    rig::post("expire", &json!({"SnapshotId": upload}));
    let amis = world.publish().await.unwrap();
    assert_ne!(amis[0].snapshots[0], upload);
    assert!(world.said.words().contains("the upload begins anew"), "{}", world.said.words());
    assert_eq!(read_back(HOME, &amis[0].snapshots[0], BLOCKS.len()).await, BLOCKS);
    assert_eq!(world.on_record().len(), 1, "the one that was given up is for the next clean-up");
    world.collect_garbage().await;
    assert_eq!(rig::alive("snapshots"), amis[0].snapshots);
}

pub(crate) async fn a_lost_upload_begins_anew() {
    let world = World::new(BLOCKS);
    kill_after(&world, 9).await;
    world.collect_garbage().await;
    assert_eq!(rig::alive("snapshots"), [""; 0]);
    let amis = world.publish().await.unwrap();
    assert_eq!(read_back(HOME, &amis[0].snapshots[0], BLOCKS.len()).await, BLOCKS);
    assert!(ec2(HOME).await.describe_snapshots().owner_ids("self").send().await.unwrap().snapshots().len() == 1);
}

pub(crate) async fn an_overtaken_upload_is_handed_to_the_ledger() {
    let mut world = World::new(BLOCKS);
    kill_after(&world, 9).await;
    world.write("zy");
    world.image.version = "2".to_owned();
    let amis = world.publish().await.unwrap();
    assert_eq!(rig::alive("uploads").len(), 1);
    assert_eq!(world.on_record().len(), 1);
    world.collect_garbage().await;
    assert_eq!(rig::alive("snapshots"), amis[0].snapshots);
}
