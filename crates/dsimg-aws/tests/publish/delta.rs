//! A release after another one.

use crate::rig::{self, count};
use crate::world::{HOME, World, ec2, read_back, snapshot};

async fn release(world: &mut World, version: &str, blocks: &str) -> (String, usize) {
    world.write(blocks);
    world.image.version = version.to_owned();
    rig::calls();
    let amis = world.publish().await.unwrap();
    (amis[0].snapshots[0].clone(), count(&rig::calls(), "PutSnapshotBlock", "ok"))
}

pub(crate) async fn a_second_release_sends_what_differs() {
    let mut world = World::new("");
    let (_, all) = release(&mut world, "1", "abcdefgh.j").await;
    let (second, sent) = release(&mut world, "2", "abXdefghi0").await;
    assert_eq!((all, sent), (9, 3));
    assert_eq!(read_back(HOME, &second, 10).await, "abXdefghi0");
    // Upon the second, which itself has only what differed.
    let (third, sent) = release(&mut world, "3", "abXdYfghi0").await;
    assert_eq!(sent, 1);
    assert_eq!(read_back(HOME, &third, 10).await, "abXdYfghi0");
    // Back to the first.
    let (fourth, sent) = release(&mut world, "4", "abcdefgh.j").await;
    assert_eq!(sent, 4, "c, e, zeros in the hole, j");
    assert_eq!(read_back(HOME, &fourth, 10).await, "abcdefgh0j");
}

pub(crate) async fn a_release_without_a_change_sends_nothing() {
    let mut world = World::new("");
    release(&mut world, "1", "abc").await;
    let (second, sent) = release(&mut world, "2", "abc").await;
    assert_eq!(sent, 0);
    assert_eq!(read_back(HOME, &second, 3).await, "abc");
}

/// On an encrypted volume, too, where what was never put is garbage.
pub(crate) async fn a_hole_over_old_data_becomes_zeros() {
    let mut world = World::new("");
    world.table.encrypted = Some(true);
    release(&mut world, "1", "ab0.e").await;
    let (second, sent) = release(&mut world, "2", "a....").await;
    assert_eq!(sent, 2, "zeros over b and e; the written zeros are zeros still");
    assert_eq!(snapshot(HOME, &second).await.encrypted(), Some(true));
    assert_eq!(read_back(HOME, &second, 5).await, "a00.0");
    // A smaller disk in a volume of the same size.
    let (third, sent) = release(&mut world, "3", "a0").await;
    assert_eq!((sent, read_back(HOME, &third, 5).await.as_str()), (0, "a00.0"));
}

pub(crate) async fn another_encryption_has_no_parent() {
    let mut world = World::new("");
    release(&mut world, "1", "abc").await;
    world.table.encrypted = Some(true);
    let (second, sent) = release(&mut world, "2", "abc").await;
    assert_eq!((sent, snapshot(HOME, &second).await.encrypted()), (3, Some(true)));
    world.table.kms_key = Some("1234abcd".to_owned());
    assert_eq!(release(&mut world, "3", "abc").await.1, 3);
    assert_eq!(release(&mut world, "4", "abd").await.1, 1);
}

pub(crate) async fn forgets_releases_that_are_gone() {
    let mut world = World::new("");
    let (first, _) = release(&mut world, "1", "abc").await;
    let kept = world.state().join("aws/releases").join(HOME).join(&first);
    assert!(kept.exists());
    let image = &crate::world::images(HOME).await[0];
    ec2(HOME).await.deregister_image().image_id(image.image_id().unwrap()).send().await.unwrap();
    ec2(HOME).await.delete_snapshot().snapshot_id(&first).send().await.unwrap();
    assert_eq!(release(&mut world, "2", "abc").await.1, 3);
    assert!(!kept.exists());
}
