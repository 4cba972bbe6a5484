//! dsimg's own tags, and how the two APIs want tags.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Image, ResourceType, Tag, TagSpecification};
use jiff::{SignedDuration, Timestamp};

use dsimg_machine::RunContext;
use dsimg_machine::ledger::AWS_NAME_TAG;

/// The image's name: what a later release of it looks for.
pub(crate) const IMAGE: &str = "dsimg:image";
pub(crate) const VERSION: &str = "dsimg:version";
/// Of the image's file: names the very disk.
pub(crate) const SHA256: &str = "dsimg:sha256";
/// A digest of what else makes one AMI differ from another: encryption, boot mode, TPM, IMDS.
pub(crate) const SETTINGS: &str = "dsimg:settings";
/// On a copy: the root snapshot of the AMI that it was copied from.
pub(crate) const COPY_OF: &str = "dsimg:copy-of";
/// On an AMI that waits under another name: the name that it will take over.
pub(crate) const STANDS_FOR: &str = "dsimg:stands-for";

/// The build's id.
pub(crate) const BUILD: &str = "dsimg:build";
/// When it was made, and until when a living build may need it, RFC 3339.
pub(crate) const MADE: &str = "dsimg:made";
pub(crate) const UNTIL: &str = "dsimg:until";

/// As long as AWS keeps an upload to which nothing is added.
const MAY_BE_NEEDED: SignedDuration = SignedDuration::from_hours(24);

pub(crate) type Tags = BTreeMap<String, String>;

pub(crate) fn for_ec2(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

pub(crate) fn for_ebs(tags: &Tags) -> Vec<aws_sdk_ebs::types::Tag> {
    tags.iter().map(|(key, value)| aws_sdk_ebs::types::Tag::builder().key(key).value(value).build()).collect()
}

pub(crate) fn specification(kind: ResourceType, tags: &Tags) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(for_ec2(tags))).build()
}

/// The same tags and one more.
pub(crate) fn with(tags: &Tags, key: &str, value: &str) -> Tags {
    let mut all = tags.clone();
    all.insert(key.to_owned(), value.to_owned());
    all
}

/// The tags of something that is not finished; `name` is what the ledger calls it.
pub(crate) fn temporary(lasting: &Tags, name: &str, run: &RunContext) -> Tags {
    temporary_for(MAY_BE_NEEDED, lasting, name, run)
}

/// The same of what a living build needs for this long at most.
pub(crate) fn temporary_for(time: SignedDuration, lasting: &Tags, name: &str, run: &RunContext) -> Tags {
    let now = Timestamp::now();
    let own = [
        (AWS_NAME_TAG, name.to_owned()),
        (BUILD, run.build_id.clone()),
        (MADE, whole_seconds(now)),
        (UNTIL, whole_seconds(now.saturating_add(time).unwrap_or(Timestamp::MAX))),
    ];
    lasting.clone().into_iter().chain(own.map(|(key, value)| (key.to_owned(), value))).collect()
}

fn whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// What goes when it is finished.
const PASSING: [&str; 2] = [AWS_NAME_TAG, UNTIL];

pub(crate) fn passing() -> Vec<Tag> {
    PASSING.map(|key| Tag::builder().key(key).build()).to_vec()
}

/// What stays when it is finished.
pub(crate) fn lasting(tags: &Tags) -> Tags {
    tags.iter().filter(|(key, _)| !PASSING.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}

pub(crate) fn of<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value)
}

/// Whether the AMI was made of the very disk, in the very way, that `tags` name.
pub(crate) fn names_the_same(image: &Image, tags: &Tags) -> bool {
    [SHA256, SETTINGS].iter().all(|key| tags.get(*key).is_some_and(|value| of(image.tags(), key) == Some(value)))
}
