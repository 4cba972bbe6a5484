//! The keys of AWS: `base.ami`, builders of type `aws-ebs`, publishers of type `aws-ami`.

use super::{Key, Shape, words};

pub(crate) fn ami_source() -> Vec<Key> {
    vec![
        Key::new("id", Shape::Text, "The AMI by its id; or else `owner` with `name` or `filters`")
            .known_elsewhere_as(&["source_ami"]),
        Key::new("owner", Shape::Text, "The account that published it, self, amazon or aws-marketplace")
            .known_elsewhere_as(&["owners"]),
        Key::new("name", Shape::Text, "The newest AMI of this name is taken; `*` and `?` stand for any characters"),
        Key::new("filters", Shape::Map, "Filters of EC2's DescribeImages, such as architecture"),
        Key::new("user", Shape::Text, "The login that the AMI offers"),
    ]
}

/// Of a builder of type `aws-ebs`.
pub(crate) fn ebs() -> Vec<Key> {
    let mut keys =
        vec![Key::new("region", Shape::Text, "Where the instance runs and the AMI is made").required(), profile()];
    keys.extend(instance());
    keys.extend(encryption("the root volume"));
    keys.extend(place());
    keys.extend(reach());
    keys.push(Key::new("tags", Shape::Map, "On everything that the build makes").known_elsewhere_as(&["run_tags"]));
    keys.push(
        Key::new(
            "checkpoint",
            Shape::Choice(words(&["none", "each"])),
            "`each`: an AMI after each stage, to go on from",
        )
        .default("none"),
    );
    keys.push(
        Key::new("regions", Shape::Texts, "Regions that get a copy of the AMI").known_elsewhere_as(&["ami_regions"]),
    );
    keys.extend(ami());
    keys
}

/// Of a publisher of type `aws-ami`.
pub(crate) fn publisher() -> Vec<Key> {
    let regions = "The disk is uploaded to the first; the others get a copy";
    let mut keys = vec![Key::new("regions", Shape::Texts, regions).required(), profile()];
    keys.extend(encryption("the uploaded disk"));
    keys.push(Key::new("tags", Shape::Map, "On everything that is made"));
    keys.extend(ami());
    keys
}

/// Of one table in `volumes`.
pub(crate) fn volume() -> Vec<Key> {
    let mut keys = vec![
        Key::new("device", Shape::Text, "Its name as EC2 knows it, such as /dev/sdf")
            .required()
            .known_elsewhere_as(&["device_name"]),
        Key::new("size", Shape::Size, "In whole GiB").required().known_elsewhere_as(&["disk", "volume_size"]),
    ];
    keys.extend(performance());
    keys.extend(encryption("the volume"));
    keys
}

fn profile() -> Key {
    Key::new("profile", Shape::Text, "A profile of ~/.aws/config; else the environment's or the host's own rights")
        .known_elsewhere_as(&["access_key", "secret_key", "token", "assume_role", "shared_credentials_file"])
}

fn instance() -> Vec<Key> {
    let mut keys = vec![
        Key::new("instance_type", Shape::Text, "The kind of machine").default("t3.large"),
        Key::new(
            "instance_types",
            Shape::Texts,
            "In place of `instance_type`: tried in turn while AWS has no capacity",
        )
        .known_elsewhere_as(&["spot_instance_types"]),
        Key::new("spot", Shape::Boolean, "Take spot capacity, which AWS may end at any time").default(false),
        Key::new(
            "spot_max_price",
            Shape::Text,
            "US dollars an hour, such as \"0.05\"; the price on demand when absent",
        )
        .known_elsewhere_as(&["spot_price"]),
        Key::new(
            "on_demand_fallback",
            Shape::Boolean,
            "Take capacity on demand where there is none on the spot market",
        )
        .default(true),
        Key::new("instance_profile", Shape::Text, "The name of an IAM instance profile that the machine gets")
            .known_elsewhere_as(&["iam_instance_profile"]),
        Key::new("user_data", Shape::Text, "A file beside the template that cloud-init gets as well")
            .known_elsewhere_as(&["user_data_file"]),
        Key::new("disk", Shape::Size, "The root volume, in whole GiB")
            .default("20GiB")
            .known_elsewhere_as(&["volume_size", "size"]),
    ];
    keys.extend(performance());
    keys.extend([
        Key::new("volumes", Shape::Tables(volume()), "Volumes beside the root; they become part of the AMI")
            .known_elsewhere_as(&["launch_block_device_mappings", "ami_block_device_mappings"]),
        Key::new("time_limit", Shape::Duration, "After it the machine ends itself, whatever became of dsimg")
            .default("6h"),
        Key::new("boot_timeout", Shape::Duration, "How long a boot may take until ssh answers").default("10m"),
    ]);
    keys
}

fn performance() -> Vec<Key> {
    let kinds = words(&["gp3", "gp2", "io1", "io2", "st1", "sc1"]);
    vec![
        Key::new("volume_type", Shape::Choice(kinds), "EBS's kind of volume").default("gp3"),
        Key::new("iops", Shape::Integer { least: 100, most: 256_000 }, "Operations a second, of gp3, io1 and io2"),
        Key::new("throughput", Shape::Integer { least: 125, most: 2_000 }, "MiB a second, of gp3"),
    ]
}

fn encryption(what: &str) -> [Key; 2] {
    [
        Key::new("encrypted", Shape::Boolean, &format!("Encrypt {what}; as the account's default says when absent"))
            .known_elsewhere_as(&["encrypt_boot"]),
        Key::new("kms_key", Shape::Text, "The key to encrypt with: its id, alias or ARN")
            .known_elsewhere_as(&["kms_key_id"]),
    ]
}

fn place() -> Vec<Key> {
    vec![
        Key::new("availability_zones", Shape::Texts, "Tried in turn while AWS has no capacity; all when absent")
            .known_elsewhere_as(&["availability_zone", "zones"]),
        Key::new("vpc", Shape::Text, "The id of a VPC; the default one when absent").known_elsewhere_as(&["vpc_id"]),
        Key::new("vpc_filter", Shape::Map, "In place of `vpc`: filters of EC2's DescribeVpcs, such as tag:Name"),
        Key::new("subnet", Shape::Text, "The id of a subnet").known_elsewhere_as(&["subnet_id"]),
        Key::new("subnets", Shape::Texts, "In place of `subnet`: tried in turn while AWS has no capacity"),
        Key::new("subnet_filter", Shape::Map, "In place of `subnet`: filters of EC2's DescribeSubnets"),
    ]
}

fn reach() -> Vec<Key> {
    vec![
        Key::new("address", Shape::Choice(words(&["auto", "public", "private"])), "Which address is used for ssh")
            .default("auto")
            .known_elsewhere_as(&["ssh_interface", "associate_public_ip_address"]),
        Key::new("bastion", Shape::Table(bastion()), "A host to go through").known_elsewhere_as(&["ssh_bastion_host"]),
        Key::new("security_groups", Shape::Texts, "Ids of groups, in place of one for the time of the build")
            .known_elsewhere_as(&["security_group_id", "security_group_ids"]),
        Key::new("allow_from", Shape::Texts, "CIDRs that may reach ssh; this host's address alone when absent")
            .known_elsewhere_as(&["temporary_security_group_source_cidrs"]),
        Key::new("ssh_user", Shape::Text, "Log in as this user; one that is made for the build when absent")
            .known_elsewhere_as(&["ssh_username"]),
        Key::new("ssh_port", Shape::Integer { least: 1, most: 65_535 }, "Where the machine's sshd listens").default(22),
    ]
}

pub(crate) fn bastion() -> Vec<Key> {
    vec![
        Key::new("host", Shape::Text, "Its name or address").required(),
        Key::new("port", Shape::Integer { least: 1, most: 65_535 }, "Where its sshd listens").default(22),
        Key::new("user", Shape::Text, "The login").required(),
        Key::new("key", Shape::Text, "A private key of OpenSSH, without a passphrase, as a file").required(),
        Key::new("host_key", Shape::Text, "The only host key that is accepted: ssh-ed25519 AAAA…").required(),
    ]
}

/// What builders and publishers say alike of the AMI.
fn ami() -> Vec<Key> {
    let boot_modes = words(&["legacy-bios", "uefi", "uefi-preferred"]);
    vec![
        Key::new("ami_name", Shape::Text, "3 to 128 characters; the image's name and version when absent"),
        Key::new("ami_description", Shape::Text, "The image's summary when absent"),
        Key::new("region_kms_keys", Shape::Map, "For copies, by region: the key to encrypt with")
            .known_elsewhere_as(&["region_kms_key_ids"]),
        Key::new("share_with", Shape::Table(share_with()), "Who else may start instances of the AMI")
            .known_elsewhere_as(&["ami_users", "ami_org_arns", "ami_ou_arns", "snapshot_users"]),
        Key::new("ami_tags", Shape::Map, "On the AMI and its snapshots, beside `tags`")
            .known_elsewhere_as(&["snapshot_tags"]),
        Key::new("deprecate_after", Shape::Duration, "After it AWS marks the AMI as deprecated: \"90d\"")
            .known_elsewhere_as(&["deprecate_at"]),
        Key::new("deregistration_protection", Shape::Boolean, "The AMI can't be deregistered until this is taken away")
            .default(false),
        Key::new("boot_mode", Shape::Choice(boot_modes), "The source AMI's when absent, or uefi-preferred of a disk"),
        Key::new("require_imds_v2", Shape::Boolean, "Instances of the AMI ask for IMDSv2")
            .default(true)
            .known_elsewhere_as(&["imds_support"]),
        Key::new("tpm", Shape::Boolean, "Instances of the AMI have a TPM 2.0; needs `boot_mode = \"uefi\"`")
            .default(false)
            .known_elsewhere_as(&["tpm_support"]),
        Key::new("replace", Shape::Boolean, "Take an AMI of the same name away once the new one is there")
            .default(false)
            .known_elsewhere_as(&["force_deregister"]),
        Key::new("parameter", Shape::Text, "An SSM parameter that names the newest AMI: /golden/ds-hub/latest")
            .known_elsewhere_as(&["ssm_parameter"]),
    ]
}

pub(crate) fn share_with() -> Vec<Key> {
    vec![
        Key::new("accounts", Shape::Texts, "Accounts by their twelve digits"),
        Key::new("organizations", Shape::Texts, "Organisations by their ARNs"),
        Key::new("units", Shape::Texts, "Organisational units by their ARNs"),
    ]
}
