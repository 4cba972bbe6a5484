//! What the things of one machine are called and marked with on AWS, and their lines in the ledger.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use jiff::Timestamp;

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{AwsKind, MachineError, Resource, RunContext};

use crate::account::Account;

/// The build's id.
pub(crate) const BUILD_TAG: &str = "dsimg:build";
/// When it was made, RFC 3339.
pub(crate) const MADE_TAG: &str = "dsimg:made";
/// Until when a living build may need it, RFC 3339.
pub(crate) const UNTIL_TAG: &str = "dsimg:until";

/// One name for all things of a machine, from before the first of them is made.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    pub(crate) name: String,
    tags: BTreeMap<String, String>,
}

impl Marks {
    /// `number` tells the machines of a build apart, `seconds` is how long one may live.
    pub(crate) fn new(run: &RunContext, number: u32, seconds: u64, tags: &BTreeMap<String, String>) -> Self {
        let name = machine_name(&run.build_id, &run.builder, number);
        let until = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX / 2));
        let now = Timestamp::now();
        let own = [
            (AWS_NAME_TAG.to_owned(), name.clone()),
            (BUILD_TAG.to_owned(), run.build_id.clone()),
            (MADE_TAG.to_owned(), whole_seconds(now)),
            (UNTIL_TAG.to_owned(), whole_seconds(now.checked_add(until).unwrap_or(Timestamp::MAX))),
            ("Name".to_owned(), name.clone()),
        ];
        // The user's own `Name` is shown in the console in place of dsimg's; the rest of dsimg's can't be taken.
        let mut all: BTreeMap<_, _> = own.into_iter().collect();
        all.extend(tags.iter().filter(|(key, _)| !key.starts_with("dsimg:")).map(|(k, v)| (k.clone(), v.clone())));
        Self { name, tags: all }
    }

    /// Other tags beside dsimg's own, under another name: an image's.
    pub(crate) fn for_image(&self, name: &str, tags: &BTreeMap<String, String>) -> Self {
        let mut all = self.tags.clone();
        all.extend(tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        all.insert(AWS_NAME_TAG.to_owned(), name.to_owned());
        Self { name: name.to_owned(), tags: all }
    }

    pub(crate) fn on(&self, kind: ResourceType) -> TagSpecification {
        TagSpecification::builder().resource_type(kind).set_tags(Some(tags(&self.tags))).build()
    }

    /// What a finished image keeps: all that does not say that it is temporary.
    pub(crate) fn lasting(&self) -> BTreeMap<String, String> {
        let passing = [AWS_NAME_TAG, UNTIL_TAG];
        self.tags
            .iter()
            .filter(|(key, _)| !passing.contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
}

fn machine_name(build: &str, builder: &str, number: u32) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let builder: String = builder.chars().map(plain).take(60).collect();
    format!("dsimg-{build}-{builder}-{number}")
}

fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Its line in the ledger.
pub(crate) fn line(account: &Account, what: AwsKind, name: &str) -> Resource {
    let (region, profile) = (account.region.clone(), account.profile.clone());
    Resource::Aws { region, profile, what, name: name.to_owned() }
}

/// On disk when this returns; the thing may be made then.
pub(crate) fn will_make(account: &Account, what: AwsKind, name: &str, run: &RunContext) -> Result<(), MachineError> {
    let failed = |error| MachineError::file("cannot write the ledger", run.ledger.path(), error);
    run.ledger.will_make(line(account, what, name)).map_err(failed)
}

/// A line that can't be written costs a look of the next run, and no more.
pub(crate) fn is_gone(account: &Account, what: AwsKind, name: &str, run: &RunContext) {
    if let Err(error) = run.ledger.is_gone(line(account, what, name)) {
        run.debug(format!("cannot strike {name} from {}: {error}", run.ledger.path().display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_only_what_aws_takes() {
        assert_eq!(machine_name("1b", "aws+python=3.11", 2), "dsimg-1b-aws-python-3.11-2");
    }
}
