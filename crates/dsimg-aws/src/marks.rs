//! What the things of one machine are called and marked with on AWS.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{ResourceType, TagSpecification};
use jiff::SignedDuration;

use dsimg_machine::RunContext;
use dsimg_machine::ledger::AWS_NAME_TAG;

use crate::tags::{self, Tags};

/// One name for all things of a machine, from before the first of them is made.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    pub(crate) name: String,
    pub(crate) tags: Tags,
}

impl Marks {
    /// `number` tells the machines of a build apart, `seconds` is how long one may live.
    pub(crate) fn new(run: &RunContext, number: u32, seconds: u64, tags: &BTreeMap<String, String>) -> Self {
        let name = machine_name(&run.build_id, &run.builder, number);
        // The user's own `Name` is shown in the console in place of dsimg's; the rest of dsimg's can't be taken.
        let mut lasting = Tags::from([("Name".to_owned(), name.clone())]);
        lasting.extend(tags.iter().filter(|(key, _)| !key.starts_with("dsimg:")).map(|(k, v)| (k.clone(), v.clone())));
        let time = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX / 2));
        let tags = tags::temporary_for(time, &lasting, &name, run);
        Self { name, tags }
    }

    /// Other tags beside dsimg's own, under another name: an image's.
    pub(crate) fn for_image(&self, name: &str, tags: &BTreeMap<String, String>) -> Self {
        let mut all = self.tags.clone();
        all.extend(tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        all.insert(AWS_NAME_TAG.to_owned(), name.to_owned());
        Self { name: name.to_owned(), tags: all }
    }

    pub(crate) fn on(&self, kind: ResourceType) -> TagSpecification {
        tags::specification(kind, &self.tags)
    }
}

fn machine_name(build: &str, builder: &str, number: u32) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let builder: String = builder.chars().map(plain).take(60).collect();
    format!("dsimg-{build}-{builder}-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_only_what_aws_takes() {
        assert_eq!(machine_name("1b", "aws+python=3.11", 2), "dsimg-1b-aws-python-3.11-2");
    }
}
