//! The least rights that a template needs, as an IAM policy.
//!
//! What is made must carry dsimg's tag from the call that makes it, and only what carries it may be changed or removed,
//! wherever AWS can be told so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_template::template::aws::{AmiTable, AwsAmiTable, AwsEbsTable, VolumeTable};

use crate::tags::{BUILD, UNTIL};

/// Asked for by every builder and publisher, and by `dsimg gc --aws`; AWS can't limit them to resources.
const LOOK: [&str; 6] = [
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeKeyPairs",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots",
    "ec2:DescribeVolumes",
];
const LOOK_FOR_BUILDER: [&str; 5] = [
    "ec2:DescribeInstanceAttribute",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
];
const LOOK_FOR_PUBLISHER: [&str; 2] = ["ec2:GetEbsDefaultKmsKeyId", "ec2:GetEbsEncryptionByDefault"];
/// What a service does for itself with a key that the template names.
const KEY_USE: [&str; 5] =
    ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"];

/// For all these builders and publishers of a template together.
#[must_use]
pub fn policy_for(builders: &[&AwsEbsTable], publishers: &[&AwsAmiTable]) -> Value {
    let mut policy = Policy::default();
    for table in builders {
        policy.builder(table);
    }
    for table in publishers {
        policy.publisher(table);
    }
    policy.into_json()
}

/// Statements by their names; what is said twice is one.
#[derive(Default)]
struct Policy {
    statements: BTreeMap<String, Statement>,
}

#[derive(Default)]
struct Statement {
    actions: BTreeSet<String>,
    resources: BTreeSet<String>,
    condition: Option<Value>,
}

impl Policy {
    fn builder(&mut self, table: &AwsEbsTable) {
        let region = &table.account.region;
        self.allow("Look", &LOOK, ["*".to_owned()], None);
        self.allow("Look", &LOOK_FOR_BUILDER, ["*".to_owned()], None);
        let mut made = vec!["instance", "volume", "network-interface"];
        if table.instance.spot.is_some() {
            made.push("spot-instances-request");
        }
        self.allow("StartMarked", &["ec2:RunInstances"], in_region(region, &made), Some(is_marked()));
        let from = in_region(region, &["image", "key-pair", "security-group", "snapshot", "subnet"]);
        self.allow("StartFrom", &["ec2:RunInstances"], from, None);
        self.allow("MakeMarkedKey", &["ec2:ImportKeyPair"], in_region(region, &["key-pair"]), Some(is_marked()));
        let mut kinds = vec!["image", "instance", "key-pair", "network-interface", "snapshot", "volume"];
        let mut makers = vec!["RunInstances", "ImportKeyPair", "CreateImage"];
        if table.instance.spot.is_some() {
            kinds.push("spot-instances-request");
        }
        if table.reach.security_groups.is_empty() {
            let group = in_region(region, &["security-group"]);
            self.allow("MakeMarkedGroup", &["ec2:CreateSecurityGroup"], group, Some(is_marked()));
            self.allow("MakeGroupIn", &["ec2:CreateSecurityGroup"], in_region(region, &["vpc"]), None);
            let changes = ["ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup"];
            self.allow("ChangeOwn", &changes, in_region(region, &["security-group"]), Some(is_own()));
            kinds.push("security-group");
            makers.push("CreateSecurityGroup");
        }
        self.tag_at_creation(in_region(region, &kinds), &makers);
        let changes = [
            "ec2:DeleteKeyPair",
            "ec2:DeleteVolume",
            "ec2:GetConsoleOutput",
            "ec2:ModifyInstanceAttribute",
            "ec2:TerminateInstances",
        ];
        self.allow("ChangeOwn", &changes, in_region(region, &["instance", "key-pair", "volume"]), Some(is_own()));
        let image = in_region(region, &["image", "snapshot"]);
        self.allow("MakeMarkedImage", &["ec2:CreateImage"], image, Some(is_marked()));
        self.allow("MakeImageOfOwn", &["ec2:CreateImage"], in_region(region, &["instance"]), Some(is_own()));
        if table.instance.profile.is_some() {
            let condition = json!({"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}});
            self.allow("PassRole", &["iam:PassRole"], ["arn:aws:iam::*:role/*".to_owned()], Some(condition));
        }
        let volumes =
            std::iter::once(&table.instance.root).chain(table.instance.volumes.iter().map(|extra| &extra.volume));
        self.keys(region, volumes.filter_map(|volume: &VolumeTable| volume.kms_key.as_deref()));
        self.image(region, &table.ami);
    }

    fn publisher(&mut self, table: &AwsAmiTable) {
        let region = &table.account.region;
        self.allow("Look", &LOOK, ["*".to_owned()], None);
        self.allow("Look", &LOOK_FOR_PUBLISHER, ["*".to_owned()], None);
        let snapshot = in_region(region, &["snapshot"]);
        self.allow("UploadMarked", &["ebs:StartSnapshot"], snapshot.clone(), Some(is_marked()));
        let puts = ["ebs:CompleteSnapshot", "ebs:PutSnapshotBlock"];
        self.allow("UploadOwn", &puts, snapshot.clone(), Some(is_own()));
        let image = in_region(region, &["image"]);
        self.allow("MakeMarkedImage", &["ec2:RegisterImage"], image, Some(is_marked()));
        self.allow("MakeImageOfOwnSnapshot", &["ec2:RegisterImage"], snapshot, Some(is_own()));
        self.tag_at_creation(in_region(region, &["image", "snapshot"]), &["RegisterImage", "StartSnapshot"]);
        self.keys(region, table.kms_key.as_deref());
        self.image(region, &table.ami);
    }

    /// What becomes of an AMI that is there, in all its regions.
    fn image(&mut self, home: &str, table: &AmiTable) {
        let regions: BTreeSet<_> = std::iter::once(home).chain(table.copies.keys().map(String::as_str)).collect();
        let both: Vec<_> = regions.iter().flat_map(|region| in_region(region, &["image", "snapshot"])).collect();
        let images: Vec<_> = regions.iter().flat_map(|region| in_region(region, &["image"])).collect();
        let mut changes =
            vec!["ec2:CreateTags", "ec2:DeregisterImage", "ec2:DeleteSnapshot", "ec2:ModifyImageAttribute"];
        if !table.share.is_empty() {
            changes.push("ec2:ModifySnapshotAttribute");
        }
        if table.deprecate_after.is_some() {
            changes.push("ec2:EnableImageDeprecation");
        }
        if table.deregistration_protection {
            changes.push("ec2:EnableImageDeregistrationProtection");
        }
        self.allow("ChangeOwnImage", &changes, both.clone(), Some(is_own()));
        let finish = json!({
            "ForAllValues:StringEquals": {"aws:TagKeys": [AWS_NAME_TAG, UNTIL]},
            "Null": {format!("aws:ResourceTag/{BUILD}"): "false"},
        });
        self.allow("MarkAsFinished", &["ec2:DeleteTags"], both.clone(), Some(finish));
        if table.replace {
            // It is finished when it takes the name over, and carries no temporary tag.
            self.allow("ReplaceOwn", &["ec2:RegisterImage"], both.clone(), None);
        }
        if !table.copies.is_empty() {
            self.allow("CopyMarked", &["ec2:CopyImage"], both.clone(), Some(is_marked()));
            self.allow("CopyFrom", &["ec2:CopyImage"], images, None);
            self.tag_at_creation(both, &["CopyImage"]);
            for (region, key) in &table.copies {
                self.keys(region, key.as_deref());
            }
        }
        if let Some(parameter) = &table.parameter {
            let name = parameter.trim_start_matches('/');
            let all = regions.iter().map(|region| format!("arn:aws:ssm:{region}:*:parameter/{name}"));
            self.allow("PointParameter", &["ssm:GetParameter", "ssm:PutParameter"], all, None);
        }
    }

    /// Tags are given by the call that makes a thing, and by no other.
    fn tag_at_creation(&mut self, resources: Vec<String>, makers: &[&str]) {
        let statement = self.statements.entry("TagAtCreation".to_owned()).or_default();
        statement.actions.insert("ec2:CreateTags".to_owned());
        statement.resources.extend(resources);
        let before =
            statement.condition.as_ref().and_then(|condition| condition["StringEquals"]["ec2:CreateAction"].as_array());
        let mut all: BTreeSet<_> = before.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        all.extend(makers.iter().map(|maker| (*maker).to_owned()));
        statement.condition = Some(json!({"StringEquals": {"ec2:CreateAction": all}}));
    }

    fn keys<'a>(&mut self, region: &str, keys: impl IntoIterator<Item = &'a str>) {
        for key in keys {
            // An alias is no resource that rights can be given on.
            let arn = if key.starts_with("arn:") && !key.contains(":alias/") {
                key.to_owned()
            } else if key.contains("alias/") {
                format!("arn:aws:kms:{region}:*:key/*")
            } else {
                format!("arn:aws:kms:{region}:*:key/{key}")
            };
            self.allow("UseKey", &KEY_USE, [arn.clone()], None);
            let for_aws = json!({"Bool": {"kms:GrantIsForAWSResource": "true"}});
            self.allow("GrantKey", &["kms:CreateGrant"], [arn], Some(for_aws));
        }
    }

    fn allow(
        &mut self,
        name: &str,
        actions: &[&str],
        resources: impl IntoIterator<Item = String>,
        condition: Option<Value>,
    ) {
        let statement = self.statements.entry(name.to_owned()).or_default();
        statement.actions.extend(actions.iter().map(|action| (*action).to_owned()));
        statement.resources.extend(resources);
        statement.condition = condition;
    }

    fn into_json(self) -> Value {
        let statements: Vec<_> =
            self.statements.into_iter().map(|(name, statement)| statement.into_json(&name)).collect();
        json!({"Version": "2012-10-17", "Statement": statements})
    }
}

impl Statement {
    fn into_json(self, name: &str) -> Value {
        let mut all = Map::new();
        all.insert("Sid".to_owned(), json!(name));
        all.insert("Effect".to_owned(), json!("Allow"));
        all.insert("Action".to_owned(), json!(self.actions));
        all.insert("Resource".to_owned(), json!(self.resources));
        all.extend(self.condition.map(|condition| ("Condition".to_owned(), condition)));
        Value::Object(all)
    }
}

fn in_region(region: &str, kinds: &[&str]) -> Vec<String> {
    // AMIs and snapshots belong to no account in their ARNs.
    let owner = |kind: &str| if ["image", "snapshot"].contains(&kind) { "" } else { "*" };
    kinds.iter().map(|kind| format!("arn:aws:ec2:{region}:{}:{kind}/*", owner(kind))).collect()
}

/// The call itself gives it dsimg's tag.
fn is_marked() -> Value {
    json!({"Null": {format!("aws:RequestTag/{AWS_NAME_TAG}"): "false"}})
}

/// It was made by dsimg, and may be finished.
fn is_own() -> Value {
    json!({"Null": {format!("aws:ResourceTag/{BUILD}"): "false"}})
}

#[cfg(test)]
mod tests;
