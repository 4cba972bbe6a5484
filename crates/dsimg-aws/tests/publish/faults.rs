//! Whatever goes wrong at whichever call: a publish that failed goes on the next time, and a clean-up leaves nothing.

use std::time::Duration;

use serde_json::{Value, json};

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
    numbered(&rig::calls())
}

fn numbered(calls: &[Value]) -> Vec<(String, usize)> {
    let mut seen = std::collections::BTreeMap::new();
    let mut sequence = Vec::new();
    for call in calls {
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
    let (mut went_well, mut failed) = (0, 0);
    for (place, (action, nth)) in sequence.iter().enumerate() {
        let chosen = kinds.iter().enumerate().filter(|(number, _)| every() || *number == place % kinds.len());
        for (_, kind) in chosen {
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
            // Either first the clean-up, or at once the next try.
            if (went_well + failed) % 2 == 0 {
                world.collect_garbage().await;
                assert_clean(&what);
            }
            let amis = world.publish().await.unwrap_or_else(|error| panic!("{what}: {error}"));
            world.collect_garbage().await;
            assert_eq!(amis.len(), 2, "{what}");
            assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (2, 2), "{what}");
        }
    }
    println!(
        "{} calls: {went_well} publishes went well in spite of a fault, {failed} failed and went on the next time",
        sequence.len()
    );
}

/// Each fault at each call, and a kill at each; otherwise one fault at each call, in turn, and a kill at every third.
fn every() -> bool {
    std::env::var_os("DSIMG_EVERY_FAULT").is_some()
}

fn to_be_killed_at(calls: Vec<(String, usize)>) -> impl Iterator<Item = (String, usize)> {
    calls.into_iter().step_by(if every() { 1 } else { 3 })
}

/// Of each region one AMI or none, with its snapshot, and nothing else.
fn assert_clean(what: &str) {
    let (images, snapshots) = (rig::alive("images").len(), rig::alive("snapshots").len());
    assert!(images <= 2 && snapshots == images, "{what}: {images} images, {snapshots} snapshots");
}

/// In each region one AMI at most, and what is not finished is on record.
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
    for (action, nth) in to_be_killed_at(sequence().await) {
        rig::post("reset", &json!({}));
        let world = world();
        let what = format!("{action} {nth}");
        kill_at(&world, &action, nth).await;
        world.collect_garbage().await;
        let left = images("us-east-1").await;
        assert!(left.len() <= 1, "{what}: {left:?}");
        assert_clean(&what);
        world.publish().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        world.collect_garbage().await;
        assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (2, 2), "{what}");
    }
}

/// The call is done, its answer does not come, and dsimg dies there.
async fn kill_at(world: &World, action: &str, nth: usize) {
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
}

/// A published release, and another disk that is to take its place.
async fn world_with_an_older_ami() -> World {
    rig::post("reset", &json!({}));
    let mut world = world();
    world.publish().await.unwrap();
    world.write("aX.cd");
    world.table.ami.replace = true;
    rig::calls();
    world
}

/// Whenever it dies, even before a clean-up has run, each region has a whole AMI; in the end, one.
pub(crate) async fn a_replacement_that_is_killed_at_each_call() {
    let world = world_with_an_older_ami().await;
    world.publish().await.unwrap();
    for (action, nth) in to_be_killed_at(numbered(&rig::calls())) {
        let world = world_with_an_older_ami().await;
        let what = format!("{action} {nth}");
        kill_at(&world, &action, nth).await;
        world.collect_garbage().await;
        for region in ["us-east-1", AWAY] {
            let images = images(region).await;
            let whole = images.iter().filter(|image| tag(image.tags(), "dsimg:temporary").is_none()).count();
            assert!((1..=2).contains(&whole), "{what}: {images:?}");
        }
        let amis = world.publish().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        world.collect_garbage().await;
        assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (2, 2), "{what}");
        for ami in amis {
            assert_eq!(ami.name, "ds-hub-1", "{what}");
            assert!(rig::alive("images").contains(&ami.id), "{what}");
        }
    }
}
