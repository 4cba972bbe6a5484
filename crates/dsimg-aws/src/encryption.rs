//! How the snapshot is encrypted, with the account's defaults looked up: needed to know whether an older release can be
//! its parent, and whether it can be shared.

use serde::{Deserialize, Serialize};

use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::aws::{AmiTable, AwsAmiTable};

use crate::account::Account;
use crate::patience::ask;

/// The key that AWS holds for each account by itself; nobody else can be given the right to use it.
const AWS_OWN_KEY: &str = "alias/aws/ebs";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Encryption {
    pub(crate) encrypted: bool,
    /// ARN of the key that the template names.
    pub(crate) key: Option<String>,
    /// The account's default key, as AWS names it, where the template names none; absent where the caller may not ask.
    pub(crate) default_key: Option<String>,
}

/// Who calls: `account` is its number, `partition` the first part of its ARNs, `aws` or `aws-cn`.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) account: String,
    pub(crate) partition: String,
}

/// # Errors
/// The credentials are not valid, or AWS does not answer.
pub(crate) async fn caller(account: &Account, run: &RunContext) -> Result<Caller, MachineError> {
    let who = ask("find out who calls", account, run, account.sts.get_caller_identity().send()).await?;
    let partition = who.arn().and_then(|arn| arn.split(':').nth(1)).unwrap_or("aws");
    Ok(Caller { account: who.account().unwrap_or_default().to_owned(), partition: partition.to_owned() })
}

impl Encryption {
    /// # Errors
    /// The template asks for what can't be had, or AWS does not answer.
    pub(crate) async fn resolve(
        table: &AwsAmiTable,
        account: &Account,
        caller: &Caller,
        run: &RunContext,
    ) -> Result<Self, MachineError> {
        if let Some(key) = &table.kms_key {
            let key = key_arn(key, account, caller, run).await?;
            return Ok(Self { encrypted: true, key: Some(key), default_key: None });
        }
        let (by_default, default_key) = defaults(account, run).await?;
        if by_default && table.encrypted == Some(false) {
            return Err(MachineError::refused(
                format!("`encrypted = false`, but the account encrypts all volumes in {}", account.region),
                "leave `encrypted` out, or switch encryption by default off in the EC2 settings of the region",
            ));
        }
        let encrypted = by_default || table.encrypted == Some(true);
        Ok(Self { encrypted, key: None, default_key: default_key.filter(|_| encrypted) })
    }

    /// Whether it can be compared with that of an older snapshot.
    pub(crate) fn is_known(&self) -> bool {
        !self.encrypted || self.key.is_some() || self.default_key.is_some()
    }

    /// Asked before anything is uploaded.
    ///
    /// # Errors
    /// It is to be shared, but nobody else could read it.
    pub(crate) async fn check_sharing(
        &self,
        ami: &AmiTable,
        account: &Account,
        run: &RunContext,
    ) -> Result<(), MachineError> {
        if ami.share.is_empty() {
            return Ok(());
        }
        if self.default_key.as_deref() == Some(AWS_OWN_KEY) {
            return Err(unshareable(&account.region));
        }
        for (region, key) in &ami.copies {
            if key.is_some() {
                continue;
            }
            let (by_default, default_key) = defaults(&account.in_region(region), run).await?;
            if (self.encrypted || by_default) && default_key.as_deref() == Some(AWS_OWN_KEY) {
                return Err(unshareable(region));
            }
        }
        Ok(())
    }
}

pub(crate) fn unshareable(region: &str) -> MachineError {
    MachineError::refused(
        format!(
            "the AMI in {region} is to be shared, but it is encrypted with the account's own key, which no one else can use"
        ),
        "name a KMS key of yours for that region, and let the other accounts use it in the key's policy",
    )
}

/// Whether the account encrypts all volumes, and with which key.
async fn defaults(account: &Account, run: &RunContext) -> Result<(bool, Option<String>), MachineError> {
    let action = "look up the account's default encryption";
    let by_default = ask(action, account, run, account.ec2.get_ebs_encryption_by_default().send()).await?;
    let key = match ask(action, account, run, account.ec2.get_ebs_default_kms_key_id().send()).await {
        Ok(answer) => answer.kms_key_id().map(ToOwned::to_owned),
        Err(error @ MachineError::Refused { .. }) => {
            run.debug(format!("{error}; encrypted snapshots of older releases are no parents then"));
            None
        }
        Err(error) => return Err(error),
    };
    Ok((by_default.ebs_encryption_by_default() == Some(true), key))
}

/// `StartSnapshot` takes ARNs of keys only.
async fn key_arn(key: &str, account: &Account, caller: &Caller, run: &RunContext) -> Result<String, MachineError> {
    match KeyName::read(key, &account.region)? {
        KeyName::Arn => Ok(key.to_owned()),
        KeyName::Id => Ok(format!("arn:{}:kms:{}:{}:key/{key}", caller.partition, account.region, caller.account)),
        KeyName::Alias => {
            let call = account.kms.describe_key().key_id(key).send();
            let answer = ask(&format!("look up the KMS key {key}"), account, run, call).await?;
            let arn = answer.key_metadata().and_then(|key| key.arn());
            arn.map(ToOwned::to_owned).ok_or_else(|| MachineError::Refused {
                what: format!("KMS does not say which key {key} is in {}", account.region),
                hint: None,
            })
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum KeyName {
    Arn,
    Id,
    Alias,
}

impl KeyName {
    fn read(key: &str, region: &str) -> Result<Self, MachineError> {
        if !key.starts_with("arn:") {
            return Ok(if key.starts_with("alias/") { Self::Alias } else { Self::Id });
        }
        match key.split(':').collect::<Vec<_>>()[..] {
            ["arn", _, "kms", place, _, name] if place == region => {
                Ok(if name.starts_with("alias/") { Self::Alias } else { Self::Arn })
            }
            ["arn", _, "kms", place, _, _] => Err(MachineError::refused(
                format!("the KMS key {key} lives in {place}, but the snapshot is made in {region}"),
                "a key works in its own region only: name one for each",
            )),
            _ => Err(MachineError::refused(
                format!("{key} is not the ARN of a KMS key"),
                "such as arn:aws:kms:REGION:ACCOUNT:key/ID",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_in_four_ways() {
        let read = |key| KeyName::read(key, "eu-west-1");
        assert_eq!(read("1234abcd-12ab").unwrap(), KeyName::Id);
        assert_eq!(read("alias/golden").unwrap(), KeyName::Alias);
        assert_eq!(read("arn:aws:kms:eu-west-1:123456789012:key/1234abcd").unwrap(), KeyName::Arn);
        assert_eq!(read("arn:aws:kms:eu-west-1:123456789012:alias/golden").unwrap(), KeyName::Alias);
        assert!(read("arn:aws:s3:::bucket").is_err());
        let elsewhere = read("arn:aws:kms:us-east-1:123456789012:key/1234abcd").unwrap_err();
        assert!(elsewhere.to_string().contains("us-east-1"), "{elsewhere}");
    }
}
