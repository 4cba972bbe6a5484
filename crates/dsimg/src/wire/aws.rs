//! The part for AWS, or a word that it is not there: the only other file that knows of it.

use jiff::Timestamp;
use serde_json::Value;

use dsimg_machine::{MachineError, Resource};
use dsimg_template::template::aws::{AwsAccount, AwsAmiTable, AwsEbsTable};

use crate::failure::Failure;

/// Something of a build, dead or alive.
#[derive(Debug)]
pub(crate) struct Left {
    /// `instance`, `key pair`…
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) build: Option<String>,
    /// Until then a living build may need it.
    pub(crate) until: Option<Timestamp>,
    #[cfg(feature = "aws")]
    itself: dsimg_aws::Leftover,
}

#[cfg(feature = "aws")]
mod there {
    use super::*;

    /// In the order in which they can be removed.
    ///
    /// # Errors
    /// AWS does not answer.
    pub(crate) async fn leftovers(account: &AwsAccount) -> Result<Vec<Left>, Failure> {
        let found = dsimg_aws::leftovers(account).await?;
        let left = |itself: dsimg_aws::Leftover| Left {
            kind: itself.describe_kind().to_owned(),
            id: itself.id.clone(),
            build: itself.build.clone(),
            until: itself.until,
            itself,
        };
        Ok(found.into_iter().map(left).collect())
    }

    /// # Errors
    /// It is still there.
    pub(crate) async fn remove(account: &AwsAccount, left: &Left) -> Result<(), MachineError> {
        dsimg_aws::remove(account, &left.itself).await
    }

    /// # Errors
    /// It is still there.
    pub(crate) async fn reclaim(left: &Resource) -> Result<(), MachineError> {
        use dsimg_machine::Builder as _;
        dsimg_aws::AwsBuilder::new("").reclaim(left).await
    }

    /// As IAM takes it.
    ///
    /// # Errors
    /// None, where this is built in.
    pub(crate) fn policy(builders: &[&AwsEbsTable], publishers: &[&AwsAmiTable]) -> Result<Value, Failure> {
        Ok(dsimg_aws::policy_for(builders, publishers))
    }
}

#[cfg(not(feature = "aws"))]
mod there {
    use super::*;
    use crate::failure::Code;

    /// # Errors
    /// Always.
    pub(crate) fn absent<T>() -> Result<T, Failure> {
        Err(Failure::new(Code::Wrong, "this dsimg was built without its part for AWS")
            .with_hint("build it with `cargo build --release -p dsimg`"))
    }

    pub(crate) async fn leftovers(_: &AwsAccount) -> Result<Vec<Left>, Failure> {
        absent()
    }

    pub(crate) async fn remove(_: &AwsAccount, left: &Left) -> Result<(), MachineError> {
        Err(MachineError::Refused { what: format!("{} is on AWS", left.id), hint: None })
    }

    pub(crate) async fn reclaim(left: &Resource) -> Result<(), MachineError> {
        let Resource::Aws { name, .. } = left else { return Ok(()) };
        let hint = Some("build dsimg with its part for AWS, and run `dsimg gc --aws`".to_owned());
        Err(MachineError::HostNotReady { what: format!("`{name}` was made on AWS"), hint })
    }

    pub(crate) fn policy(_: &[&AwsEbsTable], _: &[&AwsAmiTable]) -> Result<Value, Failure> {
        absent()
    }
}

pub(crate) use there::*;
