//! The sums of what was uploaded in earlier releases: from them a new release knows, without asking AWS, which of its
//! blocks differ.
//!
//! One file for each snapshot, `<state>/aws/releases/<region>/<snapshot>`: a line of JSON, then the blocks that the
//! snapshot has, its parents' among them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_sdk_ec2::types::{Filter, Snapshot, SnapshotState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{MachineError, RunContext};
use dsimg_plan::Digest;

use super::sums::{Sum, Sums};
use crate::account::Account;
use crate::encryption::Encryption;
use crate::patience::ask;
use crate::tags;

/// AWS's limit for the values of one filter.
const AT_ONCE: usize = 200;
const RECORD: usize = 4 + 32;

#[derive(Debug)]
pub(crate) struct Releases {
    folder: PathBuf,
    /// The account's number: one state folder may serve several.
    owner: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Head {
    /// Version of this form; 1.
    format: u32,
    owner: String,
    kept: Timestamp,
    volume_gib: u32,
    encryption: Encryption,
    /// Of all that follows.
    sha256: Digest,
}

/// A snapshot that a new one can be laid upon.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) snapshot: String,
    pub(crate) sums: Sums,
}

impl Releases {
    pub(crate) fn new(state: &Path, account: &Account, owner: &str) -> Self {
        Self { folder: state.join("aws/releases").join(&account.region), owner: owner.to_owned() }
    }

    /// The newest release of this image whose volume a new one of `volume_gib` can be laid upon. Forgets releases whose
    /// snapshots are gone.
    ///
    /// # Errors
    /// AWS does not answer, or the build is cancelled. Files that can't be used are no error.
    pub(crate) async fn newest(
        &self,
        image: &str,
        volume_gib: u32,
        encryption: &Encryption,
        account: &Account,
        run: &RunContext,
    ) -> Result<Option<Parent>, MachineError> {
        let known = self.known();
        let mut alive = self.look_up(&known, account, run).await?;
        // By this host's own word: AWS's times may be the same for two that followed each other at once.
        let kept = |snapshot: &Snapshot| known.get(snapshot.snapshot_id()?).map(|head| head.kept);
        alive.sort_by_key(|snapshot| std::cmp::Reverse(kept(snapshot)));
        for snapshot in alive {
            let id = snapshot.snapshot_id().unwrap_or_default();
            let fits = tags::of(snapshot.tags(), tags::IMAGE) == Some(image)
                // It may be taken away at any moment.
                && tags::of(snapshot.tags(), AWS_NAME_TAG).is_none()
                && snapshot.state() == Some(&SnapshotState::Completed)
                && snapshot.encrypted() == Some(encryption.encrypted);
            let Some(head) = known.get(id).filter(|_| fits) else { continue };
            let lies_under = head.volume_gib <= volume_gib && head.encryption == *encryption && encryption.is_known();
            if lies_under && let Some(sums) = self.load(id) {
                return Ok(Some(Parent { snapshot: id.to_owned(), sums }));
            }
        }
        Ok(None)
    }

    /// By their ids; those that are gone are forgotten.
    async fn look_up(
        &self,
        known: &BTreeMap<String, Head>,
        account: &Account,
        run: &RunContext,
    ) -> Result<Vec<Snapshot>, MachineError> {
        let ids: Vec<_> = known.keys().cloned().collect();
        let mut alive = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            let filter = Filter::builder().name("snapshot-id").set_values(Some(ids.to_vec())).build();
            let call = account.ec2.describe_snapshots().owner_ids("self").filters(filter).send();
            let answer = ask("look for the last release's snapshot", account, run, call).await?;
            alive.extend(answer.snapshots().to_vec());
        }
        for id in ids.iter().filter(|id| alive.iter().all(|snapshot| snapshot.snapshot_id() != Some(id))) {
            drop(std::fs::remove_file(self.folder.join(id)));
        }
        Ok(alive)
    }

    /// The sums of a snapshot, if they are here and whole.
    pub(crate) fn load(&self, snapshot: &str) -> Option<Sums> {
        let bytes = std::fs::read(self.folder.join(snapshot)).ok()?;
        let (head, body) = split(&bytes)?;
        if Digest::of_bytes(body) != head.sha256 {
            return None;
        }
        let mut sums = Sums::default();
        for record in body.chunks_exact(RECORD) {
            let (index, sum) = record.split_at(4);
            sums.set(u32::from_le_bytes(index.try_into().ok()?), Sum::try_from(sum).ok()?);
        }
        Some(sums)
    }

    /// # Errors
    /// The file can't be written.
    pub(crate) fn keep(
        &self,
        snapshot: &str,
        volume_gib: u32,
        encryption: &Encryption,
        sums: &Sums,
    ) -> Result<(), MachineError> {
        let mut body = Vec::new();
        for (index, sum) in sums.iter() {
            body.extend(index.to_le_bytes());
            body.extend(sum);
        }
        let head = Head {
            format: 1,
            owner: self.owner.clone(),
            kept: Timestamp::now(),
            volume_gib,
            encryption: encryption.clone(),
            sha256: Digest::of_bytes(&body),
        };
        let path = self.folder.join(snapshot);
        self.write(&path, &head, &body).map_err(|source| MachineError::file("cannot write", path, source))
    }

    fn write(&self, path: &Path, head: &Head, body: &[u8]) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let mut new = tempfile::NamedTempFile::new_in(&self.folder)?;
        serde_json::to_writer(&new, head)?;
        new.write_all(b"\n")?;
        new.write_all(body)?;
        new.as_file().sync_all()?;
        new.persist(path)?;
        Ok(())
    }

    fn known(&self) -> BTreeMap<String, Head> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        entries
            .filter_map(|entry| {
                let id = entry.file_name().into_string().ok().filter(|name| name.starts_with("snap-"))?;
                let bytes = std::fs::read(entry.path()).ok()?;
                let (head, _) = split(&bytes)?;
                (head.owner == self.owner).then_some((id, head))
            })
            .collect()
    }
}

fn split(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
    (head.format == 1).then_some((head, &bytes[end + 1..]))
}
