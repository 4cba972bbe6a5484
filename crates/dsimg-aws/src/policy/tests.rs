use dsimg_template::template::aws::{
    Address, AmiCheckpoints, AwsAccount, InstanceTable, PlaceTable, ReachTable, Share, Spot,
};
use dsimg_template::units::{ByteSize, Timeout};

use super::*;

fn ami() -> AmiTable {
    AmiTable {
        name: None,
        description: None,
        copies: BTreeMap::new(),
        share: Share::default(),
        tags: BTreeMap::new(),
        deprecate_after: None,
        deregistration_protection: false,
        boot_mode: None,
        require_imds_v2: true,
        tpm: false,
        replace: false,
        parameter: None,
    }
}

fn account() -> AwsAccount {
    AwsAccount { region: "eu-west-1".to_owned(), profile: None }
}

fn builder() -> AwsEbsTable {
    let root = VolumeTable {
        size: ByteSize(20 << 30),
        kind: "gp3".to_owned(),
        iops: None,
        throughput: None,
        encrypted: None,
        kms_key: None,
    };
    AwsEbsTable {
        account: account(),
        instance: InstanceTable {
            types: vec!["t3.large".to_owned()],
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
        ami: ami(),
        tags: BTreeMap::new(),
        checkpoint: AmiCheckpoints::None,
    }
}

#[test]
fn a_plain_builder() {
    insta::assert_json_snapshot!(policy_for(&[&builder()], &[]));
}

#[test]
fn a_builder_with_all_wishes() {
    let mut table = builder();
    table.instance.spot = Some(Spot { max_price: None, on_demand_fallback: true });
    table.instance.profile = Some("build".to_owned());
    table.instance.root.kms_key = Some("alias/images".to_owned());
    table.reach.security_groups = vec!["sg-1".to_owned()];
    table.ami.copies = BTreeMap::from([("eu-central-1".to_owned(), Some("1234abcd".to_owned()))]);
    table.ami.share.accounts.insert("123456789012".to_owned());
    table.ami.deprecate_after = Some(Timeout::from_minutes(60 * 24 * 90));
    table.ami.deregistration_protection = true;
    table.ami.replace = true;
    table.ami.parameter = Some("/golden/ds-hub/latest".to_owned());
    insta::assert_json_snapshot!(policy_for(&[&table], &[]));
}

#[test]
fn a_publisher_needs_no_instance() {
    let table = AwsAmiTable { account: account(), encrypted: None, kms_key: None, ami: ami(), tags: BTreeMap::new() };
    let policy = policy_for(&[], &[&table]);
    assert!(!policy.to_string().contains("RunInstances"), "{policy}");
    insta::assert_json_snapshot!(policy);
}
