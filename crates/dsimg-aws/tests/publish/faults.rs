//! Whatever goes wrong at whichever call: a publish that failed goes on the next time, and a clean-up leaves nothing.

use std::time::Duration;

use serde_json::json;

use crate::rig;
use crate::world::{AWAY, World, images, tag};

fn world() -> World {
    let mut world = World::new("ab.c");
    world.table.ami.copies.insert(AWAY.to_owned(), None);
    world.table.ami.parameter = Some("/golden/ds-hub/latest".to_owned());
    world
}

pub(crate) async fn half_of_all_calls_are_throttled() {
    let world = world();
    rig::fault(&json!({"action": "*", "kind": "throttle", "rate": 0.5, "seed": 7, "count": null}));
    world.publish().await.unwrap();
    assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (2, 2));
}

/// All calls of a publish that goes well, as action and how manieth of it.
async fn sequence() -> Vec<(String, usize)> {
    let world = world();
    rig::calls();
    world.publish().await.unwrap();
    let mut seen = std::collections::BTreeMap::new();
    let mut sequence = Vec::new();
    for call in rig::calls() {
        let action = call["action"].as_str().unwrap().to_owned();
        let nth: &mut usize = seen.entry(action.clone()).or_default();
        *nth += 1;
        // Further looks are like the first ones.
        if *nth <= 3 || !action.starts_with("Describe") {
            sequence.push((action, *nth));
        }
    }
    sequence
}

pub(crate) async fn each_fault_at_each_call() {
    let kinds = [
        json!({"kind": "error", "code": "UnauthorizedOperation"}),
        json!({"kind": "error", "count": 2}),
        json!({"kind": "error-after"}),
        json!({"kind": "lost-request"}),
        json!({"kind": "lost-reply"}),
    ];
    let sequence = sequence().await;
    println!("{} calls, {} faults at each", sequence.len(), kinds.len());
    let (mut went_well, mut failed) = (0, 0);
    for (action, nth) in &sequence {
        for kind in &kinds {
            rig::post("reset", &json!({}));
            let world = world();
            let mut order = kind.clone();
            order["action"] = json!(action);
            order["nth"] = json!(nth);
            rig::fault(&order);
            let what = format!("{kind} at {action} {nth}");
            match world.publish().await {
                Ok(_) => went_well += 1,
                Err(_) => failed += 1,
            }
            assert_at_most_one(&world, &what).await;
            rig::no_more_faults();
            let amis = world.publish().await.unwrap_or_else(|error| panic!("{what}: {error}"));
            world.collect_garbage().await;
            assert_eq!(amis.len(), 2, "{what}");
            assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (2, 2), "{what}");
        }
    }
    println!("{went_well} went well in spite of it, {failed} failed and went on the next time");
}

/// On each region one AMI at most, and what is not finished is on record.
async fn assert_at_most_one(world: &World, what: &str) {
    for region in ["us-east-1", AWAY] {
        let images = images(region).await;
        assert!(images.len() <= 1, "{what}: {images:?}");
        for image in images {
            let name = tag(image.tags(), "dsimg:temporary");
            assert!(name.is_none_or(|name| world.on_record().contains(name)), "{what}: {image:?}");
        }
    }
}

/// `kill -9` while each call is under way, then a clean-up: one AMI of each region or none.
pub(crate) async fn killed_after_each_call() {
    for (action, nth) in sequence().await {
        rig::post("reset", &json!({}));
        let world = world();
        // Done, and the answer does not come: dsimg dies there.
        rig::fault(&json!({"action": action, "kind": "delay", "nth": nth, "seconds": 1}));
        let mut child = world.publish_apart();
        for _ in 0..1000 {
            let calls = rig::get("calls");
            let struck = calls.as_array().unwrap().iter().any(|call| call["fault"] == "delay");
            if struck || child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        rig::no_more_faults();
        let what = format!("{action} {nth}");
        world.collect_garbage().await;
        let left = images("us-east-1").await;
        assert!(left.len() <= 1, "{what}: {left:?}");
        let (images, snapshots) = (rig::alive("images").len(), rig::alive("snapshots").len());
        assert!(images <= 2 && snapshots == images, "{what}: {images} images, {snapshots} snapshots");
        world.publish().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        world.collect_garbage().await;
        assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (2, 2), "{what}");
    }
}
