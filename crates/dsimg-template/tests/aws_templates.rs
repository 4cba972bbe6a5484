//! What templates for AWS become: every key, as the snapshots beside this file show.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use dsimg_template::report::{Style, report};
use dsimg_template::template::aws::{AmiCheckpoints, AmiTable, AwsEbsTable, BootMode};
use dsimg_template::template::{BuilderTable, PublisherTable};
use dsimg_template::{PathKind, Problem, Surroundings, Template, parse_template};

/// All that can be said of an instance, but for what stands in place of something else here.
const FULL: &str = r#"
[image]
name = "ds-hub"
version = "2026.11+3"

[base]
bootstrap = { suite = "trixie" }

[base.ami]
owner = "136693071363"
name = "debian-13-amd64-*"
filters = { architecture = "x86_64", "tag:Team" = "ds" }
user = "admin"

[variables]
spot = true

[[builder]]
name = "kvm"
type = "qemu"

[[builder]]
name = "aws"
type = "aws-ebs"
on_request = true
region = "eu-west-1"
profile = "golden images"
instance_types = ["t3.large", "m7i.large"]
spot = "{{ spot }}"
spot_max_price = "0.05"
on_demand_fallback = false
instance_profile = "dsimg-builder"
user_data = "cloud-init.yaml"
disk = "40GiB"
volume_type = "gp3"
iops = 6000
throughput = 250
encrypted = true
kms_key = "arn:aws:kms:eu-west-1:123456789012:alias/golden"
time_limit = "4h"
boot_timeout = "5m"
vpc_filter = { "tag:Name" = "build" }
subnet_filter = { "tag:Name" = "build-*" }
availability_zones = ["eu-west-1a", "eu-west-1b"]
address = "private"
allow_from = ["10.0.0.0/8", "2001:db8::/32"]
ssh_user = "admin"
ssh_port = 2222
tags = { team = "data-science", "cost centre" = "42" }
checkpoint = "each"
regions = ["eu-west-1", "eu-central-1"]
region_kms_keys = { eu-central-1 = "alias/golden" }
ami_name = "ds-hub (2026.11)"
ami_description = "JupyterHub"
ami_tags = { release = "stable" }
deprecate_after = "90d"
deregistration_protection = true
boot_mode = "uefi"
require_imds_v2 = false
tpm = true
parameter = "/golden/ds-hub/latest"

[[builder.volumes]]
device = "/dev/sdf"
size = "100GiB"
volume_type = "io2"
iops = 10000
kms_key = "1234abcd-12ab-34cd-56ef-1234567890ab"

[builder.bastion]
host = "bastion.corp.example"
port = 2200
user = "ada"
key = "{{ env.HOME }}/.ssh/id_ed25519"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA root@bastion"

[builder.share_with]
accounts = ["123456789012", "210987654321"]
organizations = ["arn:aws:organizations::123456789012:organization/o-abcdef1234"]
units = ["arn:aws:organizations::123456789012:ou/o-abcdef1234/ou-ab12-cdef3456"]

[[publish]]
name = "golden"
type = "aws-ami"
only = ["kvm"]
regions = ["eu-west-1", "eu-central-1", "us-east-1"]
profile = "golden images"
encrypted = true
kms_key = "alias/golden"
tags = { team = "data-science" }
region_kms_keys = { eu-central-1 = "alias/golden", us-east-1 = "mrk-1234abcd12ab34cd56ef1234567890ab" }
share_with = { accounts = ["123456789012"] }
ami_description = "JupyterHub"
ami_tags = { release = "stable" }
deprecate_after = "26w"
boot_mode = "legacy-bios"
require_imds_v2 = true
replace = true
parameter = "/golden/ds-hub/disk"

[[publish]]
type = "aws-ami"
regions = ["eu-north-1"]
"#;

const HEAD: &str = "[image]\nname = \"ds\"\nversion = \"1\"\n[base]\nami = { id = \"ami-0123456789abcdef0\" }\n";

/// The files that a template names are there, whatever they are called.
fn read(text: &str) -> (Vec<Template>, Vec<Problem>) {
    let catalog = common::shipped_provisioners();
    let surroundings = Surroundings { probe: &|_| PathKind::File, ..common::surroundings(text) };
    parse_template(text, Path::new("x.toml"), &catalog, &surroundings)
}

/// The template, which has not even a warning, or a panic with the report.
fn good(text: &str) -> Template {
    let (mut templates, problems) = read(text);
    assert!(problems.is_empty(), "{}", report(&problems, text, Path::new("x.toml"), Style::Plain));
    templates.remove(0)
}

/// The builder of a template with these keys.
fn instance(keys: &str) -> AwsEbsTable {
    let template = good(&format!("{HEAD}[[builder]]\ntype = \"aws-ebs\"\nregion = \"eu-west-1\"\n{keys}"));
    match template.builders.into_iter().next().expect("a builder").table {
        BuilderTable::AwsEbs(table) => *table,
        BuilderTable::Qemu(_) => panic!("an instance"),
    }
}

#[test]
fn every_key_of_an_instance_is_read() {
    let template = good(FULL);
    let aws = &template.builders[1];
    assert_eq!((aws.name.as_str(), aws.on_request), ("aws", true));
    assert!(!template.builders[0].on_request);
    insta::assert_json_snapshot!((&template.base.ami, &aws.table));
}

#[test]
fn every_key_of_a_publisher_is_read() {
    let template = good(FULL);
    assert!(template.publish.iter().all(|publish| publish.applies_to(&template.builders[0])));
    assert!(!template.publish.iter().any(|publish| publish.applies_to(&template.builders[1])));
    insta::assert_json_snapshot!(template.publish);
}

/// A key that the schema has, and no template of these tests, is read by nobody.
#[test]
fn the_full_template_has_every_key() {
    const IN_PLACE_OF_OTHERS: [&str; 9] = [
        "instance_type",
        "vpc",
        "subnet",
        "subnets",
        "security_groups",
        "replace",
        "deregistration_protection",
        "tpm",
        "ami_name",
    ];
    let schema = dsimg_template::json_schema(&common::shipped_provisioners());
    let template: toml::Table = FULL.parse().unwrap();
    let written = |list: &str, index: usize| {
        let table = template[list][index].as_table().unwrap();
        table.keys().cloned().collect::<BTreeSet<_>>()
    };
    for (definition, written) in
        [("builder-aws-ebs", written("builder", 1)), ("publish-aws-ami", written("publish", 0))]
    {
        let known = schema["$defs"][definition]["properties"].as_object().unwrap();
        let missing: Vec<_> =
            known.keys().filter(|key| !written.contains(*key) && !IN_PLACE_OF_OTHERS.contains(&key.as_str())).collect();
        assert!(missing.is_empty(), "{definition}: {missing:?}");
    }
    let ami = &schema["properties"]["base"]["properties"]["ami"];
    assert!(ami["properties"]["owner"]["description"].is_string());
    assert_eq!(schema["properties"]["publish"]["items"]["oneOf"][0]["$ref"], "#/$defs/publish-aws-ami");
    assert_eq!(schema["properties"]["builder"]["items"]["oneOf"][1]["$ref"], "#/$defs/builder-aws-ebs");
    let table = &schema["$defs"]["builder-aws-ebs"]["properties"];
    assert_eq!(table["volumes"]["items"]["required"], serde_json::json!(["device", "size"]));
    assert_eq!(table["on_request"]["default"], false);
}

#[test]
fn what_stands_in_place_of_something_else() {
    assert_eq!(instance("instance_type = \"m7i.large\"").instance.types, ["m7i.large"]);
    assert_eq!(instance("").instance.types, ["t3.large"]);
    assert_eq!(
        instance("spot = true").instance.spot.map(|spot| (spot.max_price, spot.on_demand_fallback)),
        Some((None, true))
    );
    let subnet = "subnet-0123456789abcdef0";
    assert_eq!(instance(&format!("subnet = \"{subnet}\"")).place.subnets, [subnet]);
    assert_eq!(instance(&format!("subnets = [\"{subnet}\", \"subnet-1a2b3c4d\"]")).place.subnets.len(), 2);
    let table = instance("vpc = \"vpc-1a2b3c4d\"\nsecurity_groups = [\"sg-1a2b3c4d\"]");
    assert_eq!(table.place.vpc.as_deref(), Some("vpc-1a2b3c4d"));
    assert_eq!(table.reach.security_groups, ["sg-1a2b3c4d"]);
    let table = instance("replace = true\nencrypted = false\nboot_mode = \"uefi\"\nregions = [\"eu-north-1\"]");
    assert!(table.ami.replace && table.instance.root.encrypted == Some(false));
    assert_eq!(table.ami.boot_mode, Some(BootMode::Uefi));
    assert_eq!(table.ami.copies.into_iter().collect::<Vec<_>>(), [("eu-north-1".to_owned(), None)]);
    assert_eq!(table.checkpoint, AmiCheckpoints::None);
}

#[test]
fn an_ami_is_called_as_the_image_or_as_its_template_says() {
    let table = |keys: &str| instance(keys).ami;
    assert_eq!(table("").name_for("ds-hub", "2026.11+3~rc1"), "ds-hub-2026.11-3-rc1");
    assert_eq!(table("ami_name = \"golden\"").name_for("ds-hub", "1"), "golden");
    let template = good(FULL);
    let PublisherTable::AwsAmi(publisher) = &template.publish[0].table;
    let name = |ami: &AmiTable| ami.name_for(&template.image.name, &template.image.version);
    assert_eq!(name(&publisher.ami), "ds-hub-2026.11-3");
}

#[test]
fn with_builders_on_aws_alone_there_is_nothing_to_boot_here() {
    let template = good(&format!("{HEAD}[[builder]]\ntype = \"aws-ebs\"\nregion = \"eu-west-1\"\n"));
    assert_eq!((template.base.bootstrap, template.base.image), (None, None));
    assert_eq!(template.builders[0].name, "aws-ebs");
}

#[test]
fn an_image_by_url_and_an_ami_stand_beside_each_other() {
    let checksum = "ab".repeat(32);
    let text = HEAD.replace(
        "ami =",
        &format!("image = {{ url = \"https://example.org/a.qcow2\", checksum = \"sha256:{checksum}\" }}\nami ="),
    );
    let template =
        good(&format!("{text}[[builder]]\ntype = \"qemu\"\n[[builder]]\ntype = \"aws-ebs\"\nregion = \"eu-west-1\"\n"));
    assert!(template.base.bootstrap.is_none() && template.base.image.is_some() && template.base.ami.is_some());
}

#[test]
fn the_type_of_a_builder_may_come_from_a_variable() {
    let text = format!(
        "{HEAD}[variables]\nkind = \"aws-ebs\"\n[[builder]]\ntype = \"{{{{ kind }}}}\"\nregion = \"eu-west-1\"\n"
    );
    let template = good(&text);
    assert!(matches!(template.builders[0].table, BuilderTable::AwsEbs(_)));
    assert_eq!(template.builders[0].name, "aws-ebs");
}

#[test]
fn the_whole_templates_of_the_docs_are_good() {
    let text = std::fs::read_to_string(common::repository().join("docs/template.md")).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let whole: Vec<&str> = blocks.filter(|block| block.starts_with("[image]")).collect();
    assert!(whole.iter().any(|block| block.contains("aws-ebs") && block.contains("[[publish]]")));
    for block in whole {
        let (templates, problems) = read(block);
        assert!(
            !templates.is_empty() && problems.is_empty(),
            "{}",
            report(&problems, block, Path::new("x.toml"), Style::Plain)
        );
    }
}

/// The design's own example makes two AMIs of one name: that is said, and stops nothing.
#[test]
fn two_ways_to_an_ami_of_one_name_are_warned_of() {
    let text = format!(
        "{}bootstrap = {{ suite = \"trixie\" }}\n[[builder]]\ntype = \"qemu\"\n[[builder]]\nname = \"aws\"\n\
         type = \"aws-ebs\"\nregion = \"eu-west-1\"\n[[publish]]\ntype = \"aws-ami\"\nregions = [\"eu-west-1\"]\n",
        HEAD
    );
    let (templates, problems) = read(&text);
    assert_eq!((templates.len(), problems.len()), (1, 1));
    assert_eq!(problems[0].message, "the AMIs of `aws` and `aws-ami` are both called `ds-1`");
    let other = text.replace("[[publish]]", "[[publish]]\nami_name = \"ds-1-disk\"");
    assert_eq!(good(&other).publish.len(), 1);
    let other = text.replace("[[publish]]", "[[publish]]\nprofile = \"another account\"");
    assert_eq!(good(&other).publish.len(), 1);
}
