//! Which blocks AWS acknowledged: a record each, written as soon as the answer is there, so that no acknowledged block
//! is sent again whatever becomes of dsimg.
//!
//! A record is the block's place, its sum, and a check of both. What a crash tore is at the end and is cut off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use dsimg_machine::MachineError;

use super::sums::{Sum, Sums};

const RECORD: usize = 4 + 32 + 4;
/// A power cut may cost the records of so long; a killed process costs none.
const SYNCED_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    synced: Instant,
    pub(crate) acknowledged: Sums,
}

impl Journal {
    /// Reads what is there, or begins an empty one.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub(crate) fn open(path: &Path) -> Result<Self, MachineError> {
        let failed = |source| MachineError::file("cannot read", path, source);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut acknowledged = Sums::default();
        let mut sound = 0;
        for (index, sum) in bytes.chunks(RECORD).map_while(read_record) {
            acknowledged.set(index, sum);
            sound += RECORD as u64;
        }
        file.set_len(sound).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, synced: Instant::now(), acknowledged })
    }

    /// # Errors
    /// It can't be written.
    pub(crate) fn acknowledge(&mut self, index: u32, sum: Sum) -> Result<(), MachineError> {
        self.acknowledged.set(index, sum);
        let written = self.file.write_all(&record(index, &sum)).and_then(|()| {
            if self.synced.elapsed() < SYNCED_EVERY {
                return Ok(());
            }
            self.synced = Instant::now();
            self.file.sync_data()
        });
        written.map_err(|source| MachineError::file("cannot write", &self.path, source))
    }
}

fn record(index: u32, sum: &Sum) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&index.to_le_bytes());
    record[4..36].copy_from_slice(sum);
    let check = Sha256::digest(&record[..36]);
    record[36..].copy_from_slice(&check[..4]);
    record
}

fn read_record(bytes: &[u8]) -> Option<(u32, Sum)> {
    let index = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let sum: Sum = bytes.get(4..36)?.try_into().ok()?;
    (record(index, &sum) == bytes).then_some((index, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_there_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.acknowledge(7, [7; 32]).unwrap();
        journal.acknowledge(3, [3; 32]).unwrap();
        drop(journal);
        let again = Journal::open(&path).unwrap();
        assert_eq!(again.acknowledged.iter().collect::<Vec<_>>(), [(3, &[3; 32]), (7, &[7; 32])]);
    }

    #[test]
    fn a_torn_end_is_cut_off_and_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut whole = record(1, &[1; 32]).to_vec();
        whole.extend(&record(2, &[2; 32])[..30]);
        for torn in [whole.clone(), [whole, vec![0; 10]].concat()] {
            std::fs::write(&path, torn).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(journal.acknowledged.count(), 1);
            journal.acknowledge(5, [5; 32]).unwrap();
            drop(journal);
            assert_eq!(Journal::open(&path).unwrap().acknowledged.count(), 2);
        }
    }
}
