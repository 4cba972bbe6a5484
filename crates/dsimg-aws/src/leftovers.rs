//! What killed builds left in a region: all that carries dsimg's tag, and nothing that does not.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, InstanceStateName, Tag};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{AwsKind, MachineError};
use dsimg_template::template::aws::AwsAccount;

use crate::account::Account;
use crate::checkpoint::CHECKPOINT_TAG;
use crate::failure::{code, explain};
use crate::tags::{self, BUILD, MADE, UNTIL};

/// A base gets a newer one meanwhile, and with it other keys.
const WORTH_KEEPING: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);

/// A thing of a build, dead or alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub kind: AwsKind,
    /// `i-…`, `vol-…`; of a key pair its name.
    pub id: String,
    /// The value of the tag, as ledgers have it.
    pub name: String,
    /// The build's id, where it is told.
    pub build: Option<String>,
    pub made: Option<Timestamp>,
    /// Until then a living build may need it, an instance powers itself off then; of a checkpoint, until when it is worth
    /// keeping.
    pub until: Option<Timestamp>,
    /// An AMI that later builds may start from.
    pub is_checkpoint: bool,
}

impl Leftover {
    /// Whether its build may still live. What does not tell is taken for old.
    #[must_use]
    pub fn may_be_in_use(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// As people call it: `security group`.
    #[must_use]
    pub fn describe_kind(&self) -> &'static str {
        crate::start::describe(self.kind)
    }
}

/// All that carries the tag, in the order in which it can be removed.
///
/// # Errors
/// AWS does not answer, or the rights to look are missing.
pub async fn leftovers(account: &AwsAccount) -> Result<Vec<Leftover>, MachineError> {
    let account = Account::open(account).await;
    let mut found = instances(&account).await?;
    found.extend(volumes(&account).await?);
    found.extend(images(&account).await?);
    found.extend(checkpoints(&account).await?);
    found.extend(snapshots(&account).await?);
    found.extend(groups(&account).await?);
    found.extend(keys(&account).await?);
    Ok(found)
}

/// Removes one of them with what belongs to it: an instance's volumes, an AMI's snapshots. Removing twice is fine.
///
/// # Errors
/// It is still there.
pub async fn remove(account: &AwsAccount, left: &Leftover) -> Result<(), MachineError> {
    let account = Account::open(account).await;
    let cancel = CancellationToken::new();
    if left.is_checkpoint {
        return crate::remove::remove_checkpoint(&account, &left.name, &cancel).await;
    }
    crate::remove::remove(&account, left.kind, &left.name, &cancel).await
}

fn marked() -> Filter {
    Filter::builder().name("tag-key").values(AWS_NAME_TAG).build()
}

fn leftover(kind: AwsKind, id: Option<&str>, tags: &[Tag]) -> Option<Leftover> {
    let tags: BTreeMap<_, _> = tags.iter().filter_map(|tag| Some((tag.key()?, tag.value()?))).collect();
    let time = |key: &str| tags.get(key).and_then(|text| text.parse().ok());
    Some(Leftover {
        kind,
        id: id?.to_owned(),
        name: (*tags.get(AWS_NAME_TAG)?).to_owned(),
        build: tags.get(BUILD).map(|text| (*text).to_owned()),
        made: time(MADE),
        until: time(UNTIL),
        is_checkpoint: false,
    })
}

/// Of an AMI that is kept to start from again: it has lost the other tag.
fn checkpoint(id: Option<&str>, tags: &[Tag]) -> Option<Leftover> {
    let value = |key| tags::of(tags, key);
    if value(AWS_NAME_TAG).is_some() {
        return None;
    }
    let made: Option<Timestamp> = value(MADE).and_then(|text| text.parse().ok());
    Some(Leftover {
        kind: AwsKind::Image,
        id: id?.to_owned(),
        name: value(CHECKPOINT_TAG)?.to_owned(),
        build: value(BUILD).map(str::to_owned),
        made,
        until: made.and_then(|made| made.checked_add(WORTH_KEEPING).ok()),
        is_checkpoint: true,
    })
}

async fn instances(account: &Account) -> Result<Vec<Leftover>, MachineError> {
    let mut pages = account.ec2.describe_instances().filters(marked()).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| explain("look for instances", account, error))?;
        let instances = page.reservations().iter().flat_map(|reservation| reservation.instances());
        let lives = instances
            .filter(|instance| instance.state().and_then(|state| state.name()) != Some(&InstanceStateName::Terminated));
        found.extend(lives.filter_map(|each| leftover(AwsKind::Instance, each.instance_id(), each.tags())));
    }
    Ok(found)
}

async fn volumes(account: &Account) -> Result<Vec<Leftover>, MachineError> {
    let mut pages = account.ec2.describe_volumes().filters(marked()).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| explain("look for volumes", account, error))?;
        found.extend(page.volumes().iter().filter_map(|each| leftover(AwsKind::Volume, each.volume_id(), each.tags())));
    }
    Ok(found)
}

async fn images(account: &Account) -> Result<Vec<Leftover>, MachineError> {
    let request = account.ec2.describe_images().owners("self").filters(marked()).include_disabled(true);
    let found = request.send().await.map_err(|error| explain("look for AMIs", account, error))?;
    Ok(found.images().iter().filter_map(|each| leftover(AwsKind::Image, each.image_id(), each.tags())).collect())
}

async fn checkpoints(account: &Account) -> Result<Vec<Leftover>, MachineError> {
    let tag = Filter::builder().name("tag-key").values(CHECKPOINT_TAG).build();
    let request = account.ec2.describe_images().owners("self").filters(tag).include_disabled(true);
    let found = request.send().await.map_err(|error| explain("look for checkpoints", account, error))?;
    Ok(found.images().iter().filter_map(|each| checkpoint(each.image_id(), each.tags())).collect())
}

async fn snapshots(account: &Account) -> Result<Vec<Leftover>, MachineError> {
    let mut pages = account.ec2.describe_snapshots().owner_ids("self").filters(marked()).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| explain("look for snapshots", account, error))?;
        let of = |each: &aws_sdk_ec2::types::Snapshot| leftover(AwsKind::Snapshot, each.snapshot_id(), each.tags());
        found.extend(page.snapshots().iter().filter_map(of));
    }
    Ok(found)
}

async fn groups(account: &Account) -> Result<Vec<Leftover>, MachineError> {
    let mut pages = account.ec2.describe_security_groups().filters(marked()).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| explain("look for security groups", account, error))?;
        let of =
            |each: &aws_sdk_ec2::types::SecurityGroup| leftover(AwsKind::SecurityGroup, each.group_id(), each.tags());
        found.extend(page.security_groups().iter().filter_map(of));
    }
    Ok(found)
}

async fn keys(account: &Account) -> Result<Vec<Leftover>, MachineError> {
    let found = account.ec2.describe_key_pairs().filters(marked()).send().await;
    let found = match found {
        Err(error) if code(&error) == Some("InvalidKeyPair.NotFound") => return Ok(Vec::new()),
        found => found.map_err(|error| explain("look for key pairs", account, error))?,
    };
    Ok(found.key_pairs().iter().filter_map(|each| leftover(AwsKind::KeyPair, each.key_name(), each.tags())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(until: &str) -> Vec<Tag> {
        [(AWS_NAME_TAG, "dsimg-1-aws-1"), (BUILD, "1"), (UNTIL, until)]
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .to_vec()
    }

    #[test]
    fn what_may_be_in_use_is_told_apart() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let with = |until| leftover(AwsKind::Instance, Some("i-1"), &tags(until)).unwrap();
        assert!(with("2026-11-21T18:00:00Z").may_be_in_use(now));
        assert!(!with("2026-11-21T11:59:59Z").may_be_in_use(now));
        assert!(!with("soon").may_be_in_use(now));
        assert_eq!(with("soon").build.as_deref(), Some("1"));
    }

    #[test]
    fn without_the_tag_it_is_none_of_dsimgs() {
        let own = Tag::builder().key("dsimg:build").value("1").build();
        assert_eq!(leftover(AwsKind::Image, Some("ami-1"), std::slice::from_ref(&own)), None);
        assert_eq!(checkpoint(Some("ami-1"), &[own]), None);
    }
}
