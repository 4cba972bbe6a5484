//! Frees what a dead build left behind, and nothing else.

use tokio_util::sync::CancellationToken;

use dsimg_machine::{MachineError, Resource};
use dsimg_template::template::aws::AwsAccount;

use crate::account::Account;
use crate::remove::remove;

/// Freeing twice is fine.
///
/// # Errors
/// It is still there, or is not on AWS.
pub(crate) async fn reclaim(left: &Resource) -> Result<(), MachineError> {
    let Resource::Aws { region, profile, what, name } = left else {
        let what = "what a builder on this host left is not on AWS".to_owned();
        return Err(MachineError::Refused { what, hint: None });
    };
    let account = Account::open(&AwsAccount { region: region.clone(), profile: profile.clone() }).await;
    remove(&account, *what, name, &CancellationToken::new()).await
}
