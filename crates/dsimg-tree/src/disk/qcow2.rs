//! Reading a qcow2 image, as QEMU's `docs/interop/qcow2.rst` describes it: versions 2 and 3, layers, and clusters
//! compressed by deflate or zstd. Numbers are big-endian.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::source::Source;
use crate::bytes::array;
use crate::error::Fault;

pub(super) const MAGIC: &[u8; 4] = b"QFI\xfb";
/// QEMU's own limit for the first table, 32 MiB, in entries.
const MAX_L1: u32 = 4 << 20;
/// Clusters that are kept unpacked: small files lie side by side in one.
const KEPT: usize = 64;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 2;
const COMPRESSION: u64 = 8;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

#[derive(Debug, Clone, Copy)]
enum Compression {
    Deflate,
    Zstd,
}

#[derive(Debug)]
pub(crate) struct Qcow2 {
    file: File,
    file_size: u64,
    size: u64,
    cluster_bits: u32,
    compression: Compression,
    l1: Vec<u64>,
    /// Second tables by their place in the file.
    l2: Mutex<HashMap<u64, Arc<[u64]>>>,
    unpacked: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
    backing: Option<Source>,
}

/// Where the bytes of a cluster are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cluster {
    Below,
    Zero,
    At(u64),
    /// From and to in the file; the end is that of a sector, behind that of the data.
    Packed(u64, u64),
}

impl Qcow2 {
    pub(super) fn open(file: File, path: &Path, layers: usize) -> Result<Self, Fault> {
        let file_size = file.metadata()?.len();
        let mut header = [0; 112];
        let there = usize::try_from(file_size).unwrap_or(usize::MAX).min(header.len());
        file.read_exact_at(&mut header[..there], 0)?;
        let word = |at: usize| u32::from_be_bytes(array(&header, at));
        let long = |at: usize| u64::from_be_bytes(array(&header, at));
        if there < 72 {
            return Err(Fault::damaged("the qcow2 ends within its header"));
        }
        let version = word(4);
        let (features, compression) = match version {
            2 => (0, Compression::Deflate),
            3 if there >= 104 => {
                let has_type = word(100) > 104 && there > 104;
                let compression = match if has_type { header[104] } else { 0 } {
                    0 => Compression::Deflate,
                    1 => Compression::Zstd,
                    other => return Err(Fault::unsupported(format!("the qcow2 is compressed by method {other}"))),
                };
                (long(72), compression)
            }
            _ => return Err(Fault::unsupported(format!("the qcow2 is of version {version}"))),
        };
        if features & CORRUPT != 0 {
            return Err(Fault::damaged("the qcow2 is marked as corrupt"));
        }
        if features & !(DIRTY | CORRUPT | COMPRESSION) != 0 {
            let what = "the qcow2 has features (an external data file, or subclusters)";
            return Err(Fault::unsupported(format!("{what} {features:#x}")));
        }
        if word(32) != 0 {
            return Err(Fault::unsupported("the qcow2 is encrypted"));
        }
        let (cluster_bits, size, l1_size) = (word(20), long(24), word(36));
        if !(9..=21).contains(&cluster_bits) || l1_size > MAX_L1 || size > 1 << 56 {
            return Err(Fault::damaged("the qcow2's header has impossible sizes"));
        }
        let per_l1 = 1_u64 << (2 * cluster_bits - 3);
        if u64::from(l1_size) < size.div_ceil(per_l1) {
            return Err(Fault::damaged("the qcow2's first table is too short for its disk"));
        }
        let l1 = read_table(&file, file_size, long(40), l1_size as usize)?;
        let backing = backing(&file, path, version, &header, layers)?;
        let (l2, unpacked) = (Mutex::default(), Mutex::default());
        Ok(Self { file, file_size, size, cluster_bits, compression, l1, l2, unpacked, backing })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn read_at(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<(), Fault> {
        let cluster_size = 1_u64 << self.cluster_bits;
        while !buffer.is_empty() {
            let within = offset % cluster_size;
            let here = usize::try_from(cluster_size - within).unwrap_or(usize::MAX).min(buffer.len());
            let (piece, rest) = buffer.split_at_mut(here);
            match self.cluster(offset)? {
                Cluster::Zero => piece.fill(0),
                Cluster::Below => self.read_below(piece, offset)?,
                Cluster::At(place) => self.read_file(piece, place + within)?,
                Cluster::Packed(from, to) => {
                    let from_here = usize::try_from(within).unwrap_or(usize::MAX);
                    piece.copy_from_slice(&self.unpack(from, to)?[from_here..from_here + here]);
                }
            }
            offset += here as u64;
            buffer = rest;
        }
        Ok(())
    }

    pub(super) fn next_data(&self, start: u64, end: u64) -> Result<Option<(u64, u64)>, Fault> {
        let cluster_size = 1_u64 << self.cluster_bits;
        let end = end.min(self.size);
        let mut at = start;
        let mut found: Option<(u64, u64)> = None;
        while at < end {
            let next = (at / cluster_size + 1) * cluster_size;
            let has_data = match self.cluster(at)? {
                Cluster::Zero => false,
                Cluster::Below => self.backing.is_some(),
                Cluster::At(_) | Cluster::Packed(..) => true,
            };
            match (&mut found, has_data) {
                (Some(run), true) => run.1 = next.min(end),
                (Some(_), false) => break,
                (None, true) => found = Some((at, next.min(end))),
                (None, false) => {}
            }
            at = next;
        }
        Ok(found)
    }

    fn read_below(&self, piece: &mut [u8], offset: u64) -> Result<(), Fault> {
        piece.fill(0);
        let Some(backing) = &self.backing else { return Ok(()) };
        // A layer may be longer than the one below: zeros follow.
        let there = usize::try_from(backing.size().saturating_sub(offset)).unwrap_or(usize::MAX).min(piece.len());
        backing.read_at(&mut piece[..there], offset)
    }

    /// What is behind the end of the file was never written.
    fn read_file(&self, piece: &mut [u8], place: u64) -> Result<(), Fault> {
        let there = usize::try_from(self.file_size.saturating_sub(place)).unwrap_or(usize::MAX).min(piece.len());
        if there == 0 {
            return Err(Fault::damaged(format!("the qcow2 is cut off: data at {place} of {} bytes", self.file_size)));
        }
        self.file.read_exact_at(&mut piece[..there], place)?;
        piece[there..].fill(0);
        Ok(())
    }

    fn cluster(&self, offset: u64) -> Result<Cluster, Fault> {
        let l2_bits = self.cluster_bits - 3;
        let number = offset >> self.cluster_bits;
        let index = usize::try_from(number >> l2_bits).unwrap_or(usize::MAX);
        let table = self.l1.get(index).map_or(0, |entry| entry & OFFSET);
        if table == 0 {
            return Ok(Cluster::Below);
        }
        let in_table = usize::try_from(number & ((1 << l2_bits) - 1)).unwrap_or(usize::MAX);
        Ok(self.decode(self.l2(table)?[in_table]))
    }

    fn decode(&self, entry: u64) -> Cluster {
        if entry & COMPRESSED != 0 {
            let bits = 62 - (self.cluster_bits - 8);
            let from = entry & ((1 << bits) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> bits;
            return Cluster::Packed(from, (from / 512 + 1 + sectors) * 512);
        }
        match (entry & OFFSET, entry & ZERO != 0) {
            (_, true) => Cluster::Zero,
            (0, false) => Cluster::Below,
            (place, false) => Cluster::At(place),
        }
    }

    fn l2(&self, place: u64) -> Result<Arc<[u64]>, Fault> {
        let mut tables = self.l2.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(&place) {
            return Ok(table.clone());
        }
        let table: Arc<[u64]> = read_table(&self.file, self.file_size, place, 1 << (self.cluster_bits - 3))?.into();
        tables.insert(place, table.clone());
        Ok(table)
    }

    fn unpack(&self, from: u64, to: u64) -> Result<Arc<[u8]>, Fault> {
        {
            let kept = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, cluster)) = kept.iter().rev().find(|(place, _)| *place == from) {
                return Ok(cluster.clone());
            }
        }
        let to = to.min(self.file_size);
        let size = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        let mut packed = vec![0; size];
        self.file.read_exact_at(&mut packed, from)?;
        let mut cluster = vec![0; 1 << self.cluster_bits];
        unpack(self.compression, &packed, &mut cluster)
            .map_err(|why| Fault::damaged(format!("the qcow2's compressed data at {from}: {why}")))?;
        let cluster: Arc<[u8]> = cluster.into();
        let mut kept = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((from, cluster.clone()));
        Ok(cluster)
    }
}

/// Behind the data there may be anything, up to the end of its last sector.
fn unpack(compression: Compression, packed: &[u8], cluster: &mut [u8]) -> Result<(), String> {
    match compression {
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(packed);
            decoder.and_then(|decoder| decoder.single_frame().read_exact(cluster)).map_err(|error| error.to_string())
        }
        Compression::Deflate => {
            use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
            let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
            let (status, _, written) = decompress(&mut DecompressorOxide::new(), packed, cluster, 0, flags);
            if written == cluster.len() { Ok(()) } else { Err(format!("deflate ends with {status:?}")) }
        }
    }
}

fn read_table(file: &File, file_size: u64, place: u64, entries: usize) -> Result<Vec<u64>, Fault> {
    let mut bytes = vec![0; entries * 8];
    let end = place.checked_add(bytes.len() as u64).filter(|end| *end <= file_size);
    if end.is_none() {
        return Err(Fault::damaged(format!("the qcow2 is cut off: a table at {place} of {file_size} bytes")));
    }
    file.read_exact_at(&mut bytes, place)?;
    Ok(bytes.chunks_exact(8).map(|entry| u64::from_be_bytes(array(entry, 0))).collect())
}

/// The layer below, named by its way from here.
fn backing(file: &File, path: &Path, version: u32, header: &[u8; 112], layers: usize) -> Result<Option<Source>, Fault> {
    const BACKING_FORMAT: u32 = 0xe279_2aca;
    let word = |at: usize| u32::from_be_bytes(array(header, at));
    let (place, length) = (u64::from_be_bytes(array(header, 8)), word(16));
    if place == 0 {
        return Ok(None);
    }
    if length == 0 || length > 1023 || layers == 0 {
        return Err(Fault::damaged("the qcow2's backing file is named wrongly, or stands on itself"));
    }
    let mut name = vec![0; length as usize];
    file.read_exact_at(&mut name, place)?;
    // Extensions of the header: its format, so that nobody has to guess.
    let mut format = Vec::new();
    let mut at = if version == 2 { 72 } else { u64::from(word(100)) };
    while at + 8 <= place {
        let mut extension = [0; 8];
        file.read_exact_at(&mut extension, at)?;
        let (kind, length) =
            (u32::from_be_bytes(array(&extension, 0)), u64::from(u32::from_be_bytes(array(&extension, 4))));
        if kind == BACKING_FORMAT && length <= 64 {
            format = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut format, at + 8)?;
        }
        if kind == 0 {
            break;
        }
        at += 8 + length.next_multiple_of(8);
    }
    let below = path.parent().unwrap_or(Path::new("")).join(OsStr::from_bytes(&name));
    let file = File::open(&below).map_err(|error| {
        std::io::Error::new(error.kind(), format!("cannot open its backing file {}: {error}", below.display()))
    })?;
    match format.as_slice() {
        b"raw" => Source::raw(file).map(Some),
        b"qcow2" => Source::qcow2(file, &below, layers - 1).map(Some),
        other => Err(Fault::unsupported(format!(
            "the format `{}` of its backing file {}",
            String::from_utf8_lossy(other),
            below.display()
        ))),
    }
}
