//! The snapshot around the blocks: begun, completed, waited for.

use std::time::Duration;

use aws_sdk_ebs::types::{ChecksumAggregationMethod, ChecksumAlgorithm};
use aws_sdk_ec2::types::{Snapshot, SnapshotState};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use dsimg_machine::{Event, MachineError, RunContext};

use super::sums::{BLOCK, Sums};
use crate::account::Account;
use crate::encryption::Encryption;
use crate::failure::{code, explain};
use crate::pace::{Pace, until_cancelled};
use crate::patience::{NOT_SEEN_YET, ask, insist};
use crate::tags::{self, Tags};

/// AWS cancels an upload to which nothing was added for so long: time enough to start dsimg again.
const IDLE_LIMIT_MINUTES: i32 = 24 * 60;
const CALL_LIMIT: Duration = Duration::from_secs(300);
const COMPLETION_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// AWS's machines don't learn of it all at once: Bottlerocket, too, asks for so many answers in a row.
const IN_A_ROW: u32 = 3;

pub(crate) struct Start<'a> {
    pub(crate) volume_gib: u32,
    pub(crate) parent: Option<&'a str>,
    pub(crate) encryption: &'a Encryption,
    pub(crate) description: &'a str,
    pub(crate) tags: &'a Tags,
    /// The same for each try, so that a lost answer makes no second snapshot.
    pub(crate) token: &'a str,
}

/// The new snapshot's id.
///
/// # Errors
/// AWS refuses, or the build is cancelled.
pub(crate) async fn start(start: &Start<'_>, account: &Account, run: &RunContext) -> Result<String, MachineError> {
    // A child has its parent's encryption, and asking for one is an error.
    let encrypted = (start.parent.is_none() && start.encryption.encrypted).then_some(true);
    let call = || {
        account
            .ebs
            .start_snapshot()
            .volume_size(start.volume_gib.into())
            .set_parent_snapshot_id(start.parent.map(ToOwned::to_owned))
            .set_encrypted(encrypted)
            .set_kms_key_arn(start.encryption.key.clone().filter(|_| encrypted.is_some()))
            .description(start.description)
            .set_tags(Some(tags::for_ebs(start.tags)))
            .client_token(start.token)
            .timeout(IDLE_LIMIT_MINUTES)
            .send()
    };
    let started = insist("start a snapshot", account, run, CALL_LIMIT, call).await?;
    if started.block_size().is_some_and(|size| i64::from(size) != BLOCK.cast_signed()) {
        return Err(MachineError::refused(
            format!("EBS asks for blocks of {} bytes, and dsimg knows {BLOCK}", started.block_size().unwrap_or(0)),
            "this needs a newer dsimg",
        ));
    }
    started
        .snapshot_id()
        .map(ToOwned::to_owned)
        .ok_or_else(|| MachineError::try_again("EBS started a snapshot and did not say which", "run the same again"))
}

/// `put` are the sums of all blocks that were put.
///
/// # Errors
/// AWS refuses, or the build is cancelled.
pub(crate) async fn complete(id: &str, put: &Sums, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let mut of_sums = Sha256::new();
    put.iter().for_each(|(_, sum)| of_sums.update(sum));
    let checksum = STANDARD.encode(of_sums.finalize());
    let count = put.count();
    let call = || {
        let call = account.ebs.complete_snapshot().snapshot_id(id);
        let call = call.changed_blocks_count(i32::try_from(count).unwrap_or(i32::MAX));
        // Nothing differs from the parent: there is nothing to sum up.
        if count == 0 {
            return call.send();
        }
        call.checksum(&checksum)
            .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
            .checksum_aggregation_method(ChecksumAggregationMethod::ChecksumAggregationLinear)
            .send()
    };
    match insist("complete the snapshot", account, run, CALL_LIMIT, call).await {
        Ok(_) => Ok(()),
        // An answer that was lost may have been yes, and AWS may refuse to complete it twice.
        Err(error @ MachineError::Refused { .. }) => match find(id, account, run).await? {
            Some(snapshot) if snapshot.state() == Some(&SnapshotState::Completed) => Ok(()),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// # Errors
/// It fails or takes too long, or the build is cancelled.
pub(crate) async fn wait_until_completed(id: &str, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let what = format!("EBS completes {id}");
    let waited = watch(&what, id, account, run).await;
    run.report(&Event::ProgressEnded { what });
    waited
}

async fn watch(what: &str, id: &str, account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let mut pace = Pace::within(COMPLETION_LIMIT);
    let mut in_a_row = 0;
    let mut last = "nothing".to_owned();
    loop {
        let snapshot = find(id, account, run).await?;
        match snapshot.as_ref().and_then(Snapshot::state) {
            Some(SnapshotState::Completed) => in_a_row += 1,
            Some(SnapshotState::Error) => return Err(failed(id, snapshot.as_ref())),
            None if pace.passed() > NOT_SEEN_YET => {
                return Err(MachineError::try_again(format!("the snapshot {id} is gone"), "run the same again"));
            }
            _ => in_a_row = 0,
        }
        if in_a_row == IN_A_ROW {
            return Ok(());
        }
        if let Some(snapshot) = &snapshot
            && let Some(progress) = snapshot.progress()
        {
            progress.clone_into(&mut last);
            run.report(&Event::Progress {
                what: what.to_owned(),
                done: bytes_done(snapshot),
                total: Some(bytes(snapshot)),
            });
        }
        if !pace.next(&run.cancel).await? {
            return Err(MachineError::try_again(
                format!("the snapshot {id} was not completed within three hours; its progress was {last}"),
                "run the same again: it goes on waiting, and nothing is uploaded twice",
            ));
        }
    }
}

pub(crate) fn bytes(snapshot: &Snapshot) -> u64 {
    u64::try_from(snapshot.volume_size().unwrap_or(0)).unwrap_or(0) << 30
}

/// As AWS's percentage has it.
pub(crate) fn bytes_done(snapshot: &Snapshot) -> u64 {
    let percent = snapshot.progress().and_then(|text| text.trim_end_matches('%').parse::<u64>().ok());
    bytes(snapshot) / 100 * percent.unwrap_or(0)
}

fn failed(id: &str, snapshot: Option<&Snapshot>) -> MachineError {
    let why = snapshot.and_then(Snapshot::state_message).unwrap_or("AWS does not say why");
    MachineError::refused(
        format!("the snapshot {id} failed: {why}"),
        "if it is encrypted with a key of yours: may the caller use that key? Then run the same again",
    )
}

/// `None`: there is no such snapshot.
///
/// # Errors
/// AWS does not answer, or the build is cancelled.
pub(crate) async fn find(id: &str, account: &Account, run: &RunContext) -> Result<Option<Snapshot>, MachineError> {
    let call = account.ec2.describe_snapshots().snapshot_ids(id).send();
    match until_cancelled(&run.cancel, call).await? {
        Ok(answer) => Ok(answer.snapshots().first().cloned()),
        Err(error) if code(&error) == Some("InvalidSnapshot.NotFound") => Ok(None),
        Err(error) => Err(explain("look at the snapshot", account, error)),
    }
}

/// Passes over what is not known any more.
///
/// # Errors
/// AWS does not answer, or the build is cancelled.
pub(crate) async fn describe(
    ids: &[String],
    account: &Account,
    run: &RunContext,
) -> Result<Vec<Snapshot>, MachineError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let call = account.ec2.describe_snapshots().set_snapshot_ids(Some(ids.to_vec())).send();
    Ok(ask("look at the AMI's snapshots", account, run, call).await?.snapshots().to_vec())
}
