//! One block is put, and put again until AWS has it or can't have it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_ebs::types::ChecksumAlgorithm;
use aws_smithy_types::byte_stream::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use dsimg_machine::MachineError;

use super::disk::Block;
use super::pace::{Pace, Turn};
use super::sums::{BLOCK, Sum};
use crate::account::Account;
use crate::failure::explain;
use crate::patience::{NOT_SEEN_YET, Verdict, back_off, verdict};

/// A line that is down comes back, or somebody has to look at it.
const NOTHING_GETS_THROUGH: Duration = Duration::from_secs(300);

/// What all puts of an upload have in common.
#[derive(Debug)]
pub(crate) struct Line {
    account: Account,
    snapshot: String,
    pace: Pace,
    began: Instant,
    last_through: Mutex<Instant>,
}

impl Line {
    pub(crate) fn new(account: Account, snapshot: String) -> Self {
        let now = Instant::now();
        Self { account, snapshot, pace: Pace::new(), began: now, last_through: Mutex::new(now) }
    }

    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.pace.turn().await
    }

    /// Gives the block's place and sum when AWS has acknowledged it.
    ///
    /// # Errors
    /// AWS refuses it, or nothing got through for minutes.
    pub(crate) async fn put(
        &self,
        ebs: &aws_sdk_ebs::Client,
        block: Block,
        mut turn: Turn<'_>,
    ) -> Result<(u32, Sum), MachineError> {
        let Block { index, bytes, sum } = block;
        let checksum = STANDARD.encode(sum);
        for tries in 0.. {
            let call = ebs
                .put_snapshot_block()
                .snapshot_id(&self.snapshot)
                .block_index(i32::try_from(index).unwrap_or(i32::MAX))
                .block_data(ByteStream::from(bytes.clone()))
                .data_length(i32::try_from(BLOCK).expect("half a mebibyte"))
                .checksum(&checksum)
                .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256);
            let Err(error) = call.send().await else {
                self.went_through();
                return Ok((index, sum));
            };
            drop(turn);
            let verdict = verdict(&error);
            if verdict == Verdict::AgainSlower {
                self.pace.slow_down();
            }
            if self.is_hopeless(verdict) {
                return Err(explain(&format!("put block {index} into {}", self.snapshot), &self.account, error));
            }
            tokio::time::sleep(back_off(tries)).await;
            turn = self.turn().await;
        }
        unreachable!("the loop ends by itself only")
    }

    fn went_through(&self) {
        self.pace.went_well();
        *self.last_through.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A single block is tried as long as others get through: throttling hits them by chance.
    fn is_hopeless(&self, verdict: Verdict) -> bool {
        let silent = self.last_through.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        match verdict {
            Verdict::Stop => true,
            Verdict::NotFound => self.began.elapsed() > NOT_SEEN_YET,
            Verdict::Again | Verdict::AgainSlower => silent > NOTHING_GETS_THROUGH,
        }
    }
}
