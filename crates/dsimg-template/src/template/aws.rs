//! AWS in a template: `[base] ami`, `[[builder]]` of type `aws-ebs`, `[[publish]]` of type `aws-ami`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Timeout};

/// `base.ami`: an AMI by its id, or the newest one that fits. Either `id`, or `owner` and at least one of the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmiSource {
    /// `ami-…`
    pub id: Option<String>,
    /// An account's number, `self`, `amazon` or `aws-marketplace`: without it anybody could publish a newer one.
    pub owner: Option<String>,
    /// With `*` and `?`.
    pub name: Option<String>,
    /// Further filters of `DescribeImages`, such as `architecture`.
    pub filters: BTreeMap<String, String>,
    /// The login that the AMI's cloud-init sets up, for builds that may not make a user of their own.
    pub user: Option<String>,
}

/// `type = "aws-ebs"`: an instance in EC2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AwsEbsTable {
    pub account: AwsAccount,
    pub instance: InstanceTable,
    pub place: PlaceTable,
    pub reach: ReachTable,
    pub ami: AmiTable,
    /// On everything that the build makes, beside dsimg's own.
    pub tags: BTreeMap<String, String>,
    /// An AMI after each stage, so that a rebuild starts from the last good one. Default: none.
    pub checkpoint: AmiCheckpoints,
}

/// With whose rights, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsAccount {
    /// `eu-west-1`; of a publisher the one that the disk is uploaded to.
    pub region: String,
    /// Of `~/.aws/config`; else `AWS_PROFILE`, the environment's keys, or the host's role.
    pub profile: Option<String>,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceTable {
    /// Tried in turn while AWS has no capacity; at least one. Default: `t3.large`.
    pub types: Vec<String>,
    /// Spot capacity; on demand where there is none and `on_demand_fallback` is set.
    pub spot: Option<Spot>,
    /// Name of an IAM instance profile.
    pub profile: Option<String>,
    /// A file that cloud-init runs beside dsimg's own part.
    pub user_data: Option<PathBuf>,
    /// The root volume. Default: 20GiB, gp3, encrypted as the account does.
    pub root: VolumeTable,
    /// Beside the root volume.
    pub volumes: Vec<ExtraVolume>,
    /// After it the instance powers itself off and is terminated, whatever became of dsimg. Default: 6h.
    pub time_limit: Timeout,
    /// How long a boot may take until ssh answers. Default: 10m.
    pub boot_timeout: Timeout,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// US dollars an hour, such as `0.05`; the price on demand when absent.
    pub max_price: Option<String>,
    /// Default: true.
    pub on_demand_fallback: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeTable {
    pub size: ByteSize,
    /// `gp3`, `gp2`, `io1`, `io2`, `st1`, `sc1`. Default: gp3.
    pub kind: String,
    pub iops: Option<u32>,
    /// MiB a second; gp3 only.
    pub throughput: Option<u32>,
    /// `None`: as the account's default says.
    pub encrypted: Option<bool>,
    /// Id, alias or ARN; implies `encrypted`.
    pub kms_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraVolume {
    /// `/dev/sdf`
    pub device: String,
    pub volume: VolumeTable,
}

/// Where in the region.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlaceTable {
    /// Tried in turn while AWS has no capacity; all of the region when empty.
    pub zones: Vec<String>,
    /// `vpc-…`; the default one when absent.
    pub vpc: Option<String>,
    /// Filters of `DescribeVpcs`, such as `tag:Name`; must find one.
    pub vpc_filter: BTreeMap<String, String>,
    /// `subnet-…`, tried in turn.
    pub subnets: Vec<String>,
    /// Filters of `DescribeSubnets`; all that are found are tried, those with the most free addresses first.
    pub subnet_filter: BTreeMap<String, String>,
}

/// How dsimg gets to the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachTable {
    /// Default: auto.
    pub address: Address,
    /// A host between.
    pub bastion: Option<Bastion>,
    /// `sg-…` in place of a temporary group.
    pub security_groups: Vec<String>,
    /// CIDRs that the temporary group lets in; the caller's own address alone when empty.
    pub allow_from: Vec<String>,
    /// The login; one that is made for the build when absent.
    pub ssh_user: Option<String>,
    /// Default: 22.
    pub ssh_port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// The public one where the instance has one.
    Auto,
    /// One is asked for.
    Public,
    /// None is asked for.
    Private,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bastion {
    pub host: String,
    /// Default: 22.
    pub port: u16,
    pub user: String,
    /// An unencrypted OpenSSH private key.
    pub key: PathBuf,
    /// `ssh-ed25519 AAAA…`: the only host key that is accepted.
    pub host_key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AmiCheckpoints {
    #[default]
    None,
    Each,
}

/// What the finished AMI is like and who may use it: keys of `aws-ebs` builders and `aws-ami` publishers alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmiTable {
    /// 3 to 128 characters, unique in account and region. Default: see [`AmiTable::name_for`].
    pub name: Option<String>,
    /// Default: the image's summary.
    pub description: Option<String>,
    /// Regions it is copied to, without its own; for each the KMS key of the copy, if it has one.
    pub copies: BTreeMap<String, Option<String>>,
    pub share: Share,
    /// On AMI and snapshots, beside the builder's.
    pub tags: BTreeMap<String, String>,
    /// After it the AMI is marked as deprecated.
    pub deprecate_after: Option<Timeout>,
    /// AMIs can't be deregistered until this is taken away.
    pub deregistration_protection: bool,
    /// `None`: what the source AMI has; of a disk that dsimg made, `uefi-preferred`.
    pub boot_mode: Option<BootMode>,
    /// Instances of the AMI ask for IMDSv2 by default. Default: true.
    pub require_imds_v2: bool,
    /// TPM 2.0; needs UEFI.
    pub tpm: bool,
    /// An AMI of the same name is taken away once the new one is there. Default: false.
    pub replace: bool,
    /// An SSM parameter that names the newest AMI, such as `/golden/ds-hub/latest`; moved last, in every region.
    pub parameter: Option<String>,
}

impl AmiTable {
    /// What the AMI of an image is called: its own name, or the image's name and version with a dash for what AWS does
    /// not take in names (`+` and `~`).
    #[must_use]
    pub fn name_for(&self, image: &str, version: &str) -> String {
        self.name.clone().unwrap_or_else(|| format!("{image}-{version}").replace(['+', '~'], "-"))
    }
}

/// Who else may start instances of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// Twelve digits each.
    pub accounts: BTreeSet<String>,
    /// ARNs.
    pub organizations: BTreeSet<String>,
    /// ARNs of organisational units.
    pub units: BTreeSet<String>,
}

impl Share {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.organizations.is_empty() && self.units.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootMode {
    LegacyBios,
    Uefi,
    UefiPreferred,
}

/// `type = "aws-ami"`: the local disk becomes an AMI, block by block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsAmiTable {
    pub account: AwsAccount,
    /// `None`: as the account's default says.
    pub encrypted: Option<bool>,
    /// Id, alias or ARN; implies `encrypted`.
    pub kms_key: Option<String>,
    pub ami: AmiTable,
    /// On everything that is made, beside dsimg's own.
    pub tags: BTreeMap<String, String>,
}
