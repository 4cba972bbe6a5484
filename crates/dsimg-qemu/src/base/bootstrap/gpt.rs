//! A GUID partition table as bytes (UEFI specification, chapter 5).

use super::recipe::Guid;

pub(super) const SECTOR: u64 = 512;
const ENTRIES: usize = 128;
const ENTRY_SIZE: usize = 128;
/// Of the entries, in sectors.
const ENTRY_SECTORS: u64 = (ENTRIES * ENTRY_SIZE) as u64 / SECTOR;
const HEADER_SIZE: u32 = 92;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) kind: Guid,
    pub(super) id: Guid,
    /// Bytes from the disk's start.
    pub(super) start: u64,
    /// The first byte behind it.
    pub(super) end: u64,
    pub(super) name: &'static str,
}

#[derive(Debug)]
pub(super) struct Table {
    disk: Guid,
    sectors: u64,
    entries: Vec<u8>,
}

impl Table {
    pub(super) fn new(disk_size: u64, disk: Guid, partitions: &[Partition]) -> Self {
        let mut entries = Vec::with_capacity(ENTRIES * ENTRY_SIZE);
        for partition in partitions {
            entries.extend(on_disk(partition.kind));
            entries.extend(on_disk(partition.id));
            entries.extend((partition.start / SECTOR).to_le_bytes());
            entries.extend((partition.end / SECTOR - 1).to_le_bytes());
            entries.extend(0u64.to_le_bytes());
            entries.extend(partition.name.encode_utf16().flat_map(u16::to_le_bytes));
            entries.resize(entries.len().next_multiple_of(ENTRY_SIZE), 0);
        }
        entries.resize(ENTRIES * ENTRY_SIZE, 0);
        Self { disk, sectors: disk_size / SECTOR, entries }
    }

    /// The disk's first sector: to those who don't know this table, one partition of unknown kind.
    pub(super) fn protective_mbr(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        let length = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX);
        sector[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
        sector[454..458].copy_from_slice(&1u32.to_le_bytes());
        sector[458..462].copy_from_slice(&length.to_le_bytes());
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    /// From the second sector on: the header, then the entries.
    pub(super) fn primary(&self) -> Vec<u8> {
        let mut bytes = self.header(1, self.sectors - 1, 2);
        bytes.extend(&self.entries);
        bytes
    }

    /// Where [`Table::backup`] begins.
    pub(super) fn backup_start(&self) -> u64 {
        (self.sectors - 1 - ENTRY_SECTORS) * SECTOR
    }

    /// Up to the disk's end: the entries, then the header.
    pub(super) fn backup(&self) -> Vec<u8> {
        let mut bytes = self.entries.clone();
        bytes.extend(self.header(self.sectors - 1, 1, self.sectors - 1 - ENTRY_SECTORS));
        bytes
    }

    fn header(&self, own: u64, other: u64, entries: u64) -> Vec<u8> {
        let mut header = Vec::with_capacity(512);
        header.extend(b"EFI PART");
        header.extend(0x0001_0000u32.to_le_bytes());
        header.extend(HEADER_SIZE.to_le_bytes());
        header.extend([0; 8]);
        header.extend(own.to_le_bytes());
        header.extend(other.to_le_bytes());
        header.extend((2 + ENTRY_SECTORS).to_le_bytes());
        header.extend((self.sectors - 2 - ENTRY_SECTORS).to_le_bytes());
        header.extend(on_disk(self.disk));
        header.extend(entries.to_le_bytes());
        header.extend((ENTRIES as u32).to_le_bytes());
        header.extend((ENTRY_SIZE as u32).to_le_bytes());
        header.extend(crc32(&self.entries).to_le_bytes());
        let checksum = crc32(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header.resize(512, 0);
        header
    }
}

/// The first three groups of a GUID lie on the disk with their bytes turned round.
fn on_disk(guid: Guid) -> [u8; 16] {
    let mut bytes = guid.0;
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

/// The CRC of zlib and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Guid = Guid([0x11; 16]);

    fn table() -> Table {
        let kind = Guid(*b"\xc1\x2a\x73\x28\xf8\x1f\x11\xd2\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b");
        let partition = Partition { kind, id: Guid([0x22; 16]), start: 1 << 20, end: 3 << 20, name: "esp" };
        Table::new(8 << 20, DISK, &[partition])
    }

    #[test]
    fn the_crc_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn an_entry_has_its_guid_turned_and_its_last_sector() {
        let primary = table().primary();
        let entry = &primary[512..640];
        assert_eq!(entry[..16], *b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b");
        assert_eq!(entry[32..40], 2048u64.to_le_bytes());
        assert_eq!(entry[40..48], 6143u64.to_le_bytes());
        assert_eq!(entry[56..62], *b"e\0s\0p\0");
    }

    #[test]
    fn both_headers_point_at_each_other_and_have_their_own_checksum() {
        let (primary, backup) = (table().primary(), table().backup());
        assert_eq!(primary.len() as u64, (1 + ENTRY_SECTORS) * SECTOR);
        let header = &backup[backup.len() - 512..];
        assert_eq!(primary[24..32], header[32..40]);
        assert_eq!(primary[32..40], header[24..32]);
        for header in [&primary[..92], &header[..92]] {
            let mut blank = header.to_vec();
            blank[16..20].fill(0);
            assert_eq!(header[16..20], crc32(&blank).to_le_bytes());
        }
        assert_eq!(table().backup_start() + backup.len() as u64, 8 << 20);
    }

    #[test]
    fn the_mbr_covers_the_disk() {
        let mbr = table().protective_mbr();
        assert_eq!(mbr[450], 0xee);
        assert_eq!(mbr[458..462], 16383u32.to_le_bytes());
    }
}
