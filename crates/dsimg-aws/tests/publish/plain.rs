//! A disk, and an AMI.

use std::time::Duration;

use aws_sdk_ec2::types::{ArchitectureValues, BootModeValues, ImdsSupportValues};
use dsimg_machine::MachineError;
use dsimg_template::template::aws::BootMode;
use serde_json::json;

use crate::rig::{self, count};
use crate::world::{HOME, World, ec2, image, images, key_with_alias, read_back, snapshot, tag};

pub(crate) async fn a_disk_becomes_an_ami() {
    let world = World::new("ab.0c...00d");
    world.check_ready().await.unwrap();
    let amis = world.publish().await.unwrap();

    assert_eq!(amis.len(), 1);
    let (ami, made) = (&amis[0], image(HOME, &amis[0].id).await);
    assert_eq!((ami.region.as_str(), ami.name.as_str(), &ami.parameter), (HOME, "ds-hub-1", &None));
    assert_eq!(made.name(), Some("ds-hub-1"));
    assert_eq!(made.description(), Some("for tests"));
    assert_eq!(made.architecture(), Some(&ArchitectureValues::X8664));
    assert_eq!(made.boot_mode(), Some(&BootModeValues::UefiPreferred));
    assert_eq!(made.imds_support(), Some(&ImdsSupportValues::V20));
    assert_eq!((made.ena_support(), made.sriov_net_support()), (Some(true), Some("simple")));
    assert_eq!(made.virtualization_type().map(|kind| kind.as_str()), Some("hvm"));
    let ebs = made.block_device_mappings()[0].ebs().unwrap();
    assert_eq!((ebs.volume_size(), ebs.delete_on_termination()), (Some(1), Some(true)));
    assert_eq!(ebs.volume_type().map(|kind| kind.as_str()), Some("gp3"));
    assert_eq!(made.root_device_name(), Some("/dev/xvda"));

    let stored = snapshot(HOME, &ami.snapshots[0]).await;
    for tags in [made.tags(), stored.tags()] {
        let tagged = |key| tag(tags, key);
        assert_eq!((tagged("Team"), tagged("Cost"), tagged("dsimg:image")), (Some("data"), Some("42"), Some("ds-hub")));
        assert_eq!(tagged("dsimg:sha256"), Some(world.image.sha256.as_str()));
        assert_eq!(tagged("dsimg:temporary"), None);
    }
    assert_eq!(stored.description(), Some("ds-hub 1"));
    assert_eq!(read_back(HOME, &ami.snapshots[0], 11).await, "ab.0c...00d");
    assert!(world.said.words().contains("sent 3.5 MiB"), "{}", world.said.words());
    assert!(world.said.words().contains("2 MiB were never written"), "{}", world.said.words());
    assert!(world.on_record().is_empty());
}

/// On an encrypted volume, what was never put reads as garbage.
pub(crate) async fn an_encrypted_disk_is_whole() {
    let mut world = World::new("ab.0c...00d");
    world.table.kms_key = Some("1234abcd-12ab-34cd-56ef-1234567890ab".to_owned());
    let amis = world.publish().await.unwrap();
    let stored = snapshot(HOME, &amis[0].snapshots[0]).await;
    assert_eq!(stored.encrypted(), Some(true));
    assert_eq!(
        stored.kms_key_id(),
        Some("arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    );
    assert_eq!(read_back(HOME, &amis[0].snapshots[0], 11).await, "ab.0c...00d");

    let (alias, arn) = key_with_alias(HOME).await;
    let mut world = World::new("ab");
    (world.table.kms_key, world.image.version) = (Some(alias), "3".to_owned());
    let amis = world.publish().await.unwrap();
    assert_eq!(snapshot(HOME, &amis[0].snapshots[0]).await.kms_key_id(), Some(arn.as_str()));

    // Without a map of what was written, everything is.
    let mut world = World::new("a..b");
    (world.table.encrypted, world.image.written) = (Some(true), None);
    world.image.version = "2".to_owned();
    let amis = world.publish().await.unwrap();
    assert_eq!(snapshot(HOME, &amis[0].snapshots[0]).await.encrypted(), Some(true));
    assert_eq!(read_back(HOME, &amis[0].snapshots[0], 4).await, "a00b");
}

pub(crate) async fn published_twice_it_is_made_once() {
    let world = World::new("ab");
    let first = world.publish().await.unwrap();
    rig::calls();
    world.check_ready().await.unwrap();
    assert_eq!(world.publish().await.unwrap(), first);
    let calls = rig::calls();
    for action in ["StartSnapshot", "PutSnapshotBlock", "RegisterImage"] {
        assert_eq!(count(&calls, action, "ok"), 0, "{action}");
    }
}

pub(crate) async fn a_taken_name_is_told_before_anything_is_made() {
    let mut world = World::new("ab");
    world.publish().await.unwrap();
    world.write("ac");
    rig::calls();
    let error = world.publish().await.unwrap_err();
    assert!(matches!(error, MachineError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("the name `ds-hub-1` is taken in us-east-1, by ami-"), "{error}");
    assert_eq!(count(&rig::calls(), "StartSnapshot", "ok"), 0);
    // Another image's.
    world.table.ami.name = Some("ds-hub-1".to_owned());
    world.image.name = "other".to_owned();
    assert!(world.check_ready().await.is_err());
    assert_eq!(images(HOME).await.len(), 1);
}

pub(crate) async fn a_publish_that_is_cancelled_keeps_its_upload() {
    let mut world = World::new("abcdef");
    rig::fault(&json!({"action": "PutSnapshotBlock", "kind": "hang", "nth": 4, "count": null, "seconds": 5}));
    let cancel = world.cancel.clone();
    let soon = async {
        for _ in 0..500 {
            if world.journalled() == 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
    };
    let (published, ()) = tokio::join!(world.publish(), soon);
    assert!(matches!(published, Err(MachineError::Cancelled)), "{published:?}");
    assert_eq!(world.on_record().len(), 1);
    rig::no_more_faults();
    world.cancel = Default::default();
    rig::calls();
    let amis = world.publish().await.unwrap();
    assert_eq!(count(&rig::calls(), "PutSnapshotBlock", "ok"), 3);
    assert_eq!(read_back(HOME, &amis[0].snapshots[0], 6).await, "abcdef");
}

pub(crate) async fn settings_that_can_not_be_had_are_refused() {
    let mut world = World::new("ab");
    (world.table.ami.tpm, world.table.ami.boot_mode) = (true, Some(BootMode::LegacyBios));
    assert!(world.check_ready().await.unwrap_err().to_string().contains("tpm"));
    let mut world = World::new("ab");
    world.table.kms_key = Some("alias/nobodys".to_owned());
    let error = world.check_ready().await.unwrap_err();
    assert!(error.to_string().contains("look up the KMS key alias/nobodys"), "{error}");
    let mut world = World::new("ab");
    world.table.encrypted = Some(false);
    ec2(HOME).await.enable_ebs_encryption_by_default().send().await.unwrap();
    assert!(world.check_ready().await.unwrap_err().to_string().contains("the account encrypts"));
    ec2(HOME).await.disable_ebs_encryption_by_default().send().await.unwrap();
}
