//! Partition tables: GPT (UEFI specification, chapter 5) and MBR.

use super::source::Source;
use crate::bytes::{array, u32_at, u64_at};
use crate::error::Fault;

const SECTOR: u64 = 512;
/// More is no table that anybody makes.
const MAX_ENTRIES: u32 = 1024;

const ROOT_X86_64: &[u8; 16] = b"\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09";
const ROOT_ARM64: &[u8; 16] = b"\x45\xb0\x21\xb9\xf0\x1d\xc3\x41\xaf\x44\x4c\x6f\x28\x0d\x3f\xae";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionKind {
    /// Its type says that it holds the root file system (Discoverable Partitions Specification).
    Root,
    Other,
    /// An image without a partition table.
    WholeDisk,
}

/// In bytes from the start of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// From 1 on, as the kernel counts.
    pub number: u32,
    pub kind: PartitionKind,
    pub start: u64,
    pub end: u64,
}

pub(super) fn read(disk: &Source) -> Result<Vec<Partition>, Fault> {
    let whole = vec![Partition { number: 1, kind: PartitionKind::WholeDisk, start: 0, end: disk.size() }];
    if disk.size() < 2 * SECTOR {
        return Ok(whole);
    }
    let mut head = [0; 2 * SECTOR as usize];
    disk.read_at(&mut head, 0)?;
    if &head[512..520] == b"EFI PART" {
        return gpt(disk, &head[512..]);
    }
    // A boot sector of a file system has this mark too, but no entries that fit.
    let has_mark = head[510..512] == [0x55, 0xaa];
    let entries = if has_mark { mbr(&head, disk.size()) } else { Vec::new() };
    Ok(if entries.is_empty() { whole } else { entries })
}

fn gpt(disk: &Source, header: &[u8]) -> Result<Vec<Partition>, Fault> {
    let (table, count, size) = (u64_at(header, 72), u32_at(header, 80), u32_at(header, 84));
    if count > MAX_ENTRIES || !(128..=4096).contains(&size) || size % 8 != 0 {
        return Err(Fault::damaged("the partition table's header has impossible sizes"));
    }
    let place = table.checked_mul(SECTOR).ok_or_else(|| Fault::damaged("the partition table is nowhere"))?;
    let mut entries = vec![0; (count * size) as usize];
    disk.read_at(&mut entries, place)?;
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(size as usize)) {
        let kind: [u8; 16] = array(entry, 0);
        if kind == [0; 16] {
            continue;
        }
        let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
        if first > last || last >= disk.size() / SECTOR {
            return Err(Fault::damaged(format!("partition {number} ends behind the disk, or before it begins")));
        }
        let kind = if &kind == ROOT_X86_64 || &kind == ROOT_ARM64 { PartitionKind::Root } else { PartitionKind::Other };
        partitions.push(Partition { number, kind, start: first * SECTOR, end: (last + 1) * SECTOR });
    }
    Ok(partitions)
}

/// The four primary partitions; those of Linux among logical ones are no root of any image.
fn mbr(sector: &[u8], disk: u64) -> Vec<Partition> {
    (1..)
        .zip(sector[446..510].chunks_exact(16))
        .filter_map(|(number, entry)| {
            let (first, count) = (u64::from(u32_at(entry, 8)), u64::from(u32_at(entry, 12)));
            let fits = entry[4] != 0 && count != 0 && entry[0] & 0x7f == 0 && (first + count) * SECTOR <= disk;
            let partition = || Partition {
                number,
                kind: PartitionKind::Other,
                start: first * SECTOR,
                end: (first + count) * SECTOR,
            };
            fits.then(partition)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::bytes::put;

    const SIZE: u64 = 8 << 20;
    const OTHER: &[u8; 16] = b"an unknown type!";

    fn disk(entries: &[(&[u8; 16], u64, u64)], change: impl FnOnce(&mut [u8])) -> Result<Vec<Partition>, Fault> {
        let mut head = vec![0; 34 * 512];
        put(&mut head, 512, b"EFI PART");
        put(&mut head, 512 + 72, &2_u64.to_le_bytes());
        put(&mut head, 512 + 80, &128_u32.to_le_bytes());
        put(&mut head, 512 + 84, &128_u32.to_le_bytes());
        for (number, (kind, first, last)) in entries.iter().enumerate() {
            let at = 1024 + 128 * number;
            put(&mut head, at, *kind);
            put(&mut head, at + 32, &first.to_le_bytes());
            put(&mut head, at + 40, &last.to_le_bytes());
        }
        change(&mut head);
        let file: File = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        file.write_all_at(&head, 0).unwrap();
        read(&Source::raw(file).unwrap())
    }

    #[test]
    fn partitions_of_a_gpt_have_numbers_kinds_and_places() {
        let found = disk(&[(OTHER, 2048, 4095), (&[0; 16], 9, 9), (ROOT_X86_64, 4096, 8191)], |_| {}).unwrap();
        let partition = |number, kind, start, end| Partition { number, kind, start, end };
        let other = partition(1, PartitionKind::Other, 1 << 20, 2 << 20);
        assert_eq!(found, [other, partition(3, PartitionKind::Root, 2 << 20, 4 << 20)]);
    }

    #[test]
    fn impossible_tables_are_errors() {
        assert!(disk(&[(OTHER, 2048, SIZE / 512)], |_| {}).is_err(), "behind the end");
        assert!(disk(&[(OTHER, 2048, 2047)], |_| {}).is_err(), "upside down");
        assert!(disk(&[(OTHER, 2048, u64::MAX)], |_| {}).is_err());
        assert!(disk(&[], |head| put(head, 512 + 72, &u64::MAX.to_le_bytes())).is_err(), "a table nowhere");
        assert!(disk(&[], |head| put(head, 512 + 80, &u32::MAX.to_le_bytes())).is_err(), "too many");
        assert!(disk(&[], |head| put(head, 512 + 84, &[0; 4])).is_err(), "of no size");
    }

    #[test]
    fn no_table_is_one_partition() {
        let found = disk(&[], |head| head.fill(0)).unwrap();
        assert_eq!(found, [Partition { number: 1, kind: PartitionKind::WholeDisk, start: 0, end: SIZE }]);
    }
}
