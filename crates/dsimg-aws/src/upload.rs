//! A disk becomes a snapshot: block by block through the EBS direct API, with no instance and no bucket.

mod blocks;
mod buffers;
mod disk;
mod journal;
mod pace;
mod put;
mod releases;
mod send;
pub(crate) mod snapshot;
mod sums;
mod work;

use aws_sdk_ec2::types::SnapshotState;

use dsimg_machine::{AwsKind, LocalImage, MachineError, RunContext};

use self::blocks::{Blocks, volume_gib};
use self::disk::Disk;
use self::journal::Journal;
use self::releases::{Parent, Releases};
use self::send::{Sending, send};
use self::sums::{BLOCK, Sums};
use self::work::Totals;
use crate::account::Account;
use crate::custody::resource;
use crate::encryption::Encryption;
use crate::kept::{Kept, UploadRecord, write_line};
use crate::tags::{self, Tags};

/// Of a [`Kept`] folder: the acknowledged blocks.
pub(crate) const JOURNAL: &str = "acknowledged";

pub(crate) struct Upload<'a> {
    pub(crate) image: &'a LocalImage,
    pub(crate) account: &'a Account,
    /// The account's number.
    pub(crate) owner: &'a str,
    pub(crate) encryption: &'a Encryption,
    /// Of the snapshot, dsimg's own among them.
    pub(crate) tags: &'a Tags,
    pub(crate) state: &'a std::path::Path,
    pub(crate) kept: &'a Kept,
    pub(crate) run: &'a RunContext,
}

/// A snapshot that has the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uploaded {
    pub(crate) snapshot: String,
    pub(crate) volume_gib: u32,
}

impl Upload<'_> {
    /// Goes on with what an earlier try began, where that can be.
    ///
    /// # Errors
    /// The disk can't be read, AWS refuses, or the build is cancelled. What AWS acknowledged is kept for the next try.
    pub(crate) async fn run(&self) -> Result<Uploaded, MachineError> {
        let disk = self.open_disk()?;
        let (record, parent) = match self.go_on().await? {
            Some(Begun::Completed(record)) => return self.wait(&record).await,
            Some(Begun::Pending(record, parent)) => (record, parent),
            None => self.begin(&disk).await?,
        };
        let (put, parent) = self.send(disk, &record, parent).await?;
        // Before the snapshot is completed: then whoever finds it complete finds its sums too.
        self.releases().keep(&record.snapshot, record.volume_gib, &record.encryption, &parent.under(&put))?;
        snapshot::complete(&record.snapshot, &put, self.account, self.run).await?;
        self.wait(&record).await
    }

    fn open_disk(&self) -> Result<Disk, MachineError> {
        let disk = Disk::open(&self.image.disk)?;
        match &self.image.written {
            Some(written) if written.virtual_size != disk.bytes => Err(MachineError::refused(
                format!(
                    "{} has {} bytes, but its map of written parts is of a disk of {}",
                    self.image.disk.display(),
                    disk.bytes,
                    written.virtual_size
                ),
                "build the image again",
            )),
            _ => Ok(disk),
        }
    }

    async fn go_on(&self) -> Result<Option<Begun>, MachineError> {
        let Some(record) = self.kept.upload() else { return Ok(None) };
        let found = snapshot::find(&record.snapshot, self.account, self.run).await?;
        let why_not = match found.as_ref().map(|snapshot| (snapshot.state(), snapshot.state_message())) {
            Some((Some(SnapshotState::Completed), _)) => return Ok(Some(Begun::Completed(record))),
            Some((Some(SnapshotState::Pending), _)) => match self.parent_of(&record) {
                Some(sums) => return Ok(Some(Begun::Pending(record, sums))),
                None => "what its parent held is not known here any more".to_owned(),
            },
            Some((_, message)) => message.unwrap_or("AWS gave it up").to_owned(),
            None => "it is gone".to_owned(),
        };
        self.run.info(format!("the upload begins anew: {} can't be gone on with: {why_not}", record.snapshot));
        self.kept.hand_back(&self.run.ledger)?;
        Ok(None)
    }

    fn parent_of(&self, record: &UploadRecord) -> Option<Sums> {
        match &record.parent {
            Some(parent) => self.releases().load(parent),
            None => Some(Sums::default()),
        }
    }

    async fn begin(&self, disk: &Disk) -> Result<(UploadRecord, Sums), MachineError> {
        let volume_gib = volume_gib(disk.bytes);
        let (image, encryption) = (&self.image.name, self.encryption);
        let parent = self.releases().newest(image, volume_gib, encryption, self.account, self.run).await?;
        let (parent, sums) = match parent {
            Some(Parent { snapshot, sums }) => (Some(snapshot), sums),
            None => (None, Sums::default()),
        };
        // One for each attempt: AWS remembers tokens for longer than an upload that came to nothing.
        let name = format!("dsimg-{}-{}", self.run.build_id, jiff::Timestamp::now().as_nanosecond());
        let resource = resource(self.account, AwsKind::Snapshot, &name);
        let start = snapshot::Start {
            volume_gib,
            parent: parent.as_deref(),
            encryption,
            description: &format!("{} {}", self.image.name, self.image.version),
            tags: &tags::temporary(self.tags, &name, self.run),
            token: &name,
        };
        // Of an upload that nobody can go on with.
        drop(std::fs::remove_file(self.kept.file(JOURNAL)));
        write_line(&self.run.ledger, resource.clone())?;
        let snapshot = snapshot::start(&start, self.account, self.run).await?;
        let record = UploadRecord { snapshot, volume_gib, parent, encryption: encryption.clone(), resource };
        self.kept.change(|kept| kept.upload = Some(record.clone()))?;
        let ledger = &self.run.ledger;
        ledger
            .is_gone(record.resource.clone())
            .map_err(|source| MachineError::file("cannot write", ledger.path(), source))?;
        Ok((record, sums))
    }

    /// What was put, and what the parent has.
    async fn send(&self, disk: Disk, record: &UploadRecord, parent: Sums) -> Result<(Sums, Sums), MachineError> {
        let journal = Journal::open(&self.kept.file(JOURNAL))?;
        let indexes = Blocks::new(disk.bytes, self.image.written.as_ref(), &parent).to_look_at();
        let never_written = disk.bytes.div_ceil(BLOCK).saturating_sub(indexes.len() as u64);
        let sending = Sending { account: self.account, snapshot: &record.snapshot, indexes, parent: parent.clone() };
        let (put, totals) = send(sending, disk, journal, self.run).await?;
        self.run.info(words(totals, never_written, record));
        Ok((put, parent))
    }

    async fn wait(&self, record: &UploadRecord) -> Result<Uploaded, MachineError> {
        snapshot::wait_until_completed(&record.snapshot, self.account, self.run).await?;
        Ok(Uploaded { snapshot: record.snapshot.clone(), volume_gib: record.volume_gib })
    }

    fn releases(&self) -> Releases {
        Releases::new(self.state, self.account, self.owner)
    }
}

/// What an earlier try left.
enum Begun {
    Completed(UploadRecord),
    /// With what its parent has.
    Pending(UploadRecord, Sums),
}

fn words(totals: Totals, never_written: u64, record: &UploadRecord) -> String {
    let mut skipped = Vec::new();
    if never_written > 0 {
        skipped.push(format!("{} were never written", mebibytes(never_written)));
    }
    if let Some(parent) = &record.parent {
        skipped.push(format!("{} are the same as in {parent}", mebibytes(totals.unchanged)));
    }
    if totals.sent_before > 0 {
        skipped.push(format!("{} were sent before", mebibytes(totals.sent_before)));
    }
    let skipped = if skipped.is_empty() { "nothing skipped".to_owned() } else { skipped.join(", ") };
    format!("sent {} to {}; {skipped}", mebibytes(totals.sent), record.snapshot)
}

fn mebibytes(blocks: u64) -> String {
    let halves = blocks * BLOCK / (512 * 1024);
    format!("{}{} MiB", halves / 2, if halves % 2 == 1 { ".5" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_sent_and_what_was_not() {
        let encryption = Encryption { encrypted: false, key: None, default_key: None };
        let resource = dsimg_machine::Resource::Folder { path: std::path::PathBuf::from("not looked at") };
        let mut record =
            UploadRecord { snapshot: "snap-1".to_owned(), volume_gib: 1, parent: None, encryption, resource };
        let all = Totals { sent: 3, ..Totals::default() };
        assert_eq!(words(all, 0, &record), "sent 1.5 MiB to snap-1; nothing skipped");
        record.parent = Some("snap-0".to_owned());
        let some = Totals { sent: 2, sent_before: 4, unchanged: 1 };
        insta::assert_snapshot!(
            words(some, 20, &record),
            @"sent 1 MiB to snap-1; 10 MiB were never written, 0.5 MiB are the same as in snap-0, 2 MiB were sent before"
        );
    }
}
