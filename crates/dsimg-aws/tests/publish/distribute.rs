//! What becomes of an AMI after it is there.

use dsimg_machine::MachineError;
use dsimg_template::units::Timeout;
use serde_json::json;

use crate::rig::{self, count};
use crate::world::{AWAY, HOME, World, ec2, image, images, parameter, snapshot, tag};

const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/home";
const KEY_AWAY: &str = "arn:aws:kms:eu-west-1:123456789012:key/away";
const PARAMETER: &str = "/golden/ds-hub/latest";

/// With all that can be asked for.
fn world(blocks: &str) -> World {
    let mut world = World::new(blocks);
    world.table.kms_key = Some(KEY.to_owned());
    let ami = &mut world.table.ami;
    ami.copies.insert(AWAY.to_owned(), Some(KEY_AWAY.to_owned()));
    ami.share.accounts.insert("111122223333".to_owned());
    ami.share.organizations.insert("arn:aws:organizations::123456789012:organization/o-aaaaaaaaaa".to_owned());
    ami.share.units.insert("arn:aws:organizations::123456789012:ou/o-aaaaaaaaaa/ou-ab12-cdefgh12".to_owned());
    ami.deprecate_after = Some(Timeout { seconds: 90 * 24 * 3600 });
    ami.parameter = Some(PARAMETER.to_owned());
    world
}

pub(crate) async fn copies_are_shared_tagged_and_named() {
    let mut world = world("ab.c");
    world.table.ami.deregistration_protection = true;
    world.check_ready().await.unwrap();
    rig::calls();
    let amis = world.publish().await.unwrap();
    let calls = rig::calls();
    let beside_uploads = calls.iter().filter(|call| call["action"] != "PutSnapshotBlock").count();
    assert!(beside_uploads <= 60, "{beside_uploads} calls");

    assert_eq!(amis.iter().map(|ami| ami.region.as_str()).collect::<Vec<_>>(), [AWAY, HOME]);
    for (ami, region) in amis.iter().zip([AWAY, HOME]) {
        let made = image(region, &ami.id).await;
        let stored = snapshot(region, &ami.snapshots[0]).await;
        assert_eq!(made.name(), Some("ds-hub-1"));
        assert_eq!(stored.kms_key_id(), Some(if region == HOME { KEY } else { KEY_AWAY }));
        assert!(made.deprecation_time().is_some());
        assert_eq!(made.deregistration_protection(), Some("enabled-without-cooldown"));
        for tags in [made.tags(), stored.tags()] {
            assert_eq!((tag(tags, "Team"), tag(tags, "dsimg:temporary")), (Some("data"), None), "{region}");
        }
        let attribute = aws_sdk_ec2::types::ImageAttributeName::LaunchPermission;
        let call = ec2(region).await.describe_image_attribute().image_id(&ami.id).attribute(attribute);
        assert_eq!(call.send().await.unwrap().launch_permissions().len(), 3);
        assert_eq!(parameter(region, PARAMETER).await.as_deref(), Some(ami.id.as_str()));
        assert_eq!(ami.parameter.as_deref(), Some(PARAMETER));
    }
    let order: Vec<_> = calls.iter().filter(|call| call["region"] == HOME).map(|call| &call["action"]).collect();
    let place = |action| order.iter().position(|other| *other == action).unwrap_or_else(|| panic!("no {action}"));
    assert!(place("ModifySnapshotAttribute") < place("ModifyImageAttribute"));
    assert!(place("DeleteTags") < place("PutParameter"));
    assert!(world.on_record().is_empty());
}

pub(crate) async fn a_copy_that_fails_leaves_the_others_and_is_made_again() {
    let mut world = world("ab.c");
    world.table.ami.copies.insert("eu-central-1".to_owned(), None);
    world.table.ami.share = Default::default();
    rig::fault(&json!({"action": "CopyImage", "kind": "failed", "message": "Client.KmsKeyAccessDenied: no"}));
    let error = world.publish().await.unwrap_err();
    assert!(matches!(error, MachineError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("is failed: Client.KmsKeyAccessDenied: no"), "{error}");
    assert_eq!(parameter(HOME, PARAMETER).await, None);
    rig::calls();
    let amis = world.publish().await.unwrap();
    assert_eq!(amis.len(), 3);
    let calls = rig::calls();
    assert_eq!(count(&calls, "CopyImage", "ok"), 1, "the copy that was good is found");
    assert_eq!(count(&calls, "PutSnapshotBlock", "ok"), 0);
    assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (3, 3));
    assert!(world.on_record().is_empty());
}

pub(crate) async fn an_older_ami_is_replaced() {
    let mut world = world("ab.c");
    let old = world.publish().await.unwrap();
    world.write("abXc");
    assert!(world.publish().await.unwrap_err().to_string().contains("is taken"));
    world.table.ami.replace = true;
    world.check_ready().await.unwrap();
    rig::calls();
    let new = world.publish().await.unwrap();
    for ((new, old), region) in new.iter().zip(&old).zip([AWAY, HOME]) {
        assert_ne!(new.id, old.id);
        let images = images(region).await;
        assert_eq!(images.len(), 1, "{images:?}");
        assert_eq!((images[0].image_id(), images[0].name()), (Some(new.id.as_str()), Some("ds-hub-1")));
        assert_eq!(tag(images[0].tags(), "dsimg:temporary"), None);
        assert_eq!(tag(images[0].tags(), "dsimg:stands-for"), None);
        assert!(images[0].deprecation_time().is_some());
        assert_eq!(parameter(region, PARAMETER).await.as_deref(), Some(new.id.as_str()));
    }
    assert_eq!(rig::alive("snapshots").len(), 2);
    // The older one goes only when the new one is whole everywhere.
    let calls = rig::calls();
    let first = |action| calls.iter().position(|call| call["action"] == action).unwrap();
    let last = |action| calls.iter().rposition(|call| call["action"] == action).unwrap();
    assert!(last("CopyImage") < first("DeregisterImage"));
    assert!(first("ModifyImageAttribute") < first("DeregisterImage"));
    assert!(last("DeregisterImage") < last("PutParameter"));
    assert!(world.on_record().is_empty());
    assert_eq!(world.publish().await.unwrap(), new);
}

pub(crate) async fn a_replacement_that_dies_is_finished_later() {
    for action in ["CreateTags", "DeregisterImage", "RegisterImage", "DeleteSnapshot", "PutParameter"] {
        rig::post("reset", &json!({}));
        let mut world = world("ab.c");
        world.publish().await.unwrap();
        world.write("abXc");
        world.table.ami.replace = true;
        // The first RegisterImage makes the stand-in.
        let nth = if action == "RegisterImage" { 2 } else { 1 };
        rig::fault(
            &json!({"action": action, "kind": "error", "code": "UnauthorizedOperation", "nth": nth, "count": 1}),
        );
        let error = world.publish().await.unwrap_err();
        assert!(error.to_string().contains("UnauthorizedOperation"), "{action}: {error}");
        world.collect_garbage().await;
        let whole = images(HOME).await.iter().filter(|image| tag(image.tags(), "dsimg:temporary").is_none()).count();
        assert!(whole >= 1, "{action}: there is always one");
        let new = world.publish().await.unwrap_or_else(|error| panic!("{action}: {error}"));
        assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (2, 2), "{action}");
        assert_eq!(images(HOME).await[0].image_id(), Some(new[1].id.as_str()), "{action}");
        assert_eq!(images(HOME).await[0].name(), Some("ds-hub-1"), "{action}");
        assert_eq!(parameter(HOME, PARAMETER).await.as_deref(), Some(new[1].id.as_str()));
    }
}

pub(crate) async fn an_ami_that_fails_is_told_with_its_reason() {
    let world = World::new("ab");
    rig::fault(&json!({"action": "RegisterImage", "kind": "failed", "message": "Server.InternalError: out of luck"}));
    let error = world.publish().await.unwrap_err();
    assert!(error.to_string().contains("is failed: Server.InternalError: out of luck"), "{error}");
    // What failed goes away before it is made again; the upload was not in vain.
    rig::calls();
    world.publish().await.unwrap();
    assert_eq!(count(&rig::calls(), "PutSnapshotBlock", "ok"), 0);
    assert_eq!((rig::alive("images").len(), rig::alive("snapshots").len()), (1, 1));
}

pub(crate) async fn a_protected_ami_is_not_replaced() {
    let mut world = World::new("ab");
    world.table.ami.deregistration_protection = true;
    let old = world.publish().await.unwrap();
    world.write("ac");
    world.image.version = "1".to_owned();
    world.table.ami.replace = true;
    let error = world.publish().await.unwrap_err();
    assert!(error.hint().unwrap().contains("disable-image-deregistration-protection"), "{error}");
    assert_eq!(images(HOME).await[0].image_id(), Some(old[0].id.as_str()));
}
