//! dsimg's own tags, and how the two APIs want tags.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Image, ResourceType, Tag, TagSpecification};

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

pub(crate) fn of<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value)
}

/// Whether the AMI was made of the very disk, in the very way, that `tags` name.
pub(crate) fn names_the_same(image: &Image, tags: &Tags) -> bool {
    [SHA256, SETTINGS].iter().all(|key| tags.get(*key).is_some_and(|value| of(image.tags(), key) == Some(value)))
}
