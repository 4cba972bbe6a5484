//! A file, compressed or not, is copied, hashed and unpacked in one go.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256, Sha512};
use tokio_util::sync::CancellationToken;

use dsimg_download::Expected;
use dsimg_machine::MachineError;
use dsimg_plan::digest::hex;

/// A window larger than this asks for more memory than a disk image is worth; `zstd` itself draws the line here.
const LARGEST_ZSTD_WINDOW: u64 = 128 << 20;
const CHUNK: usize = 64 << 10;

/// Writes the content of `source` to the empty `target`, unpacked if it is packed with xz, gzip or zstd, which its
/// first bytes tell. Chunks of zeros become holes. `progress` is told the bytes that were read so far.
///
/// # Errors
/// The hash is another than expected; the packing is damaged; a file can't be read or written; `cancel`.
pub(crate) fn unpack(
    source: &Path,
    target: &mut File,
    expected: &Expected,
    cancel: &CancellationToken,
    progress: &mut dyn FnMut(u64),
) -> Result<(), MachineError> {
    let unread = |error| MachineError::file("cannot read", source, error);
    let file = File::open(source).map_err(unread)?;
    let input = Input { file, hasher: Hasher::of(expected), read: 0, cancel, progress };
    let mut input = BufReader::with_capacity(CHUNK, input);
    let unpacked = copy_unpacked(&mut input, target);
    if cancel.is_cancelled() {
        return Err(MachineError::Cancelled);
    }
    // What follows the packed content counts for the hash. And a file that was cut short or changed is reported as
    // that, not as a damaged packing.
    io::copy(&mut input, &mut io::sink()).map_err(|error| cancelled_or(error, cancel, unread))?;
    let got = input.into_inner().hasher.finish();
    if got != expected.hex() {
        return Err(MachineError::refused(
            format!(
                "the {} of {} is not the one that was given\n  given: {}\n  found: {got}",
                expected.algorithm(),
                source.display(),
                expected.hex()
            ),
            "the file was changed, or cut short, or the template means another one; \
             if the file is right, put its own checksum into the template",
        ));
    }
    unpacked.map_err(|error| match error {
        CopyError::Read(error) => {
            let what = format!("cannot unpack {}: {error}", source.display());
            MachineError::refused(what, "its checksum is the one that was given, so it was published damaged")
        }
        CopyError::Write(error) => MachineError::host(
            format!("cannot write the unpacked base image: {error}"),
            "look at the free space of the disk that holds dsimg's cache",
        ),
    })
}

fn cancelled_or(
    error: io::Error,
    cancel: &CancellationToken,
    otherwise: impl FnOnce(io::Error) -> MachineError,
) -> MachineError {
    if cancel.is_cancelled() { MachineError::Cancelled } else { otherwise(error) }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy_unpacked(input: &mut impl BufRead, target: &mut File) -> Result<(), CopyError> {
    let start = input.fill_buf().map_err(CopyError::Read)?;
    if start.starts_with(b"\xfd7zXZ\0") {
        copy_sparse(&mut lzma_rust2::XzReader::new(input, true), target)
    } else if start.starts_with(&[0x1f, 0x8b]) {
        copy_sparse(&mut flate2::bufread::MultiGzDecoder::new(input), target)
    } else if is_zstd(start) {
        copy_sparse(&mut ZstdFrames { input, frame: None }, target)
    } else {
        copy_sparse(input, target)
    }
}

/// A frame, or one that is to be skipped (RFC 8878, 3.1).
fn is_zstd(start: &[u8]) -> bool {
    start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(start)
}

fn is_skippable_frame(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn copy_sparse(reader: &mut impl Read, target: &mut File) -> Result<(), CopyError> {
    let mut chunk = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let count = read_full(reader, &mut chunk).map_err(CopyError::Read)?;
        if count == 0 {
            break;
        }
        size += count as u64;
        let written = if chunk[..count].iter().all(|byte| *byte == 0) {
            target.seek(SeekFrom::Start(size)).map(drop)
        } else {
            target.write_all(&chunk[..count])
        };
        written.map_err(CopyError::Write)?;
    }
    target.set_len(size).map_err(CopyError::Write)
}

/// Fills the buffer unless the end comes first.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// One zstd frame after the other; the decoder knows only one.
struct ZstdFrames<'a, R: BufRead> {
    input: &'a mut R,
    frame: Option<ruzstd::decoding::FrameDecoder>,
}

impl<R: BufRead> ZstdFrames<'_, R> {
    /// `false` at the end of the input.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            let start = self.input.fill_buf()?;
            if start.is_empty() {
                return Ok(false);
            }
            if !is_skippable_frame(start) {
                break;
            }
            let mut header = [0; 8];
            self.input.read_exact(&mut header)?;
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let skipped = io::copy(&mut self.input.by_ref().take(length.into()), &mut io::sink())?;
            if skipped < length.into() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut decoder = ruzstd::decoding::FrameDecoder::new();
        decoder.set_max_window_size(LARGEST_ZSTD_WINDOW);
        decoder.reset(&mut *self.input).map_err(io::Error::other)?;
        self.frame = Some(decoder);
        Ok(true)
    }
}

impl<R: BufRead> Read for ZstdFrames<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        loop {
            if self.frame.is_none() && !self.next_frame()? {
                return Ok(0);
            }
            let Some(frame) = &mut self.frame else { return Ok(0) };
            while frame.can_collect() == 0 && !frame.is_finished() {
                frame.decode_blocks(&mut *self.input, UptoBytes(buffer.len())).map_err(io::Error::other)?;
            }
            let count = frame.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            if frame.get_checksum_from_data().is_some_and(|given| frame.get_calculated_checksum() != Some(given)) {
                return Err(io::Error::other("its content is not what its own checksum says"));
            }
            self.frame = None;
        }
    }
}

/// The file as it lies there: every byte of it is hashed as it is read.
struct Input<'a> {
    file: File,
    hasher: Hasher,
    read: u64,
    cancel: &'a CancellationToken,
    progress: &'a mut dyn FnMut(u64),
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.read += count as u64;
        (self.progress)(self.read);
        Ok(count)
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    fn of(expected: &Expected) -> Self {
        match expected {
            Expected::Sha256(_) => Self::Sha256(Sha256::new()),
            Expected::Sha512(_) => Self::Sha512(Box::new(Sha512::new())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;

    /// Some bytes, a hole, and some more.
    fn content() -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..200_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        bytes.resize(3 << 20, 0);
        bytes.extend_from_slice(b"the end");
        bytes
    }

    fn sha256_of(bytes: &[u8]) -> Expected {
        Expected::Sha256(hex(&Sha256::digest(bytes)))
    }

    fn unpacked(source: &Path, expected: &Expected) -> Result<Vec<u8>, MachineError> {
        let target = source.with_extension("unpacked");
        let mut file = File::options().write(true).create(true).truncate(true).open(&target).unwrap();
        unpack(source, &mut file, expected, &CancellationToken::new(), &mut |_| {})?;
        Ok(std::fs::read(target).unwrap())
    }

    /// Packs with the host's own program; `None` where it is missing.
    fn packed(folder: &Path, program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let path = folder.join("plain");
        std::fs::write(&path, bytes).unwrap();
        let output = Command::new(program).arg("-c").arg(&path).output().ok()?;
        output.status.success().then_some(output.stdout)
    }

    #[test]
    fn each_packing_is_found_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("image.misleading");
        for program in ["cat", "gzip", "xz", "zstd"] {
            let Some(bytes) = packed(folder.path(), program, &content()) else {
                eprintln!("skipped: no `{program}` on this host");
                continue;
            };
            std::fs::write(&source, &bytes).unwrap();
            assert!(unpacked(&source, &sha256_of(&bytes)).unwrap() == content(), "{program}");
            // Two packings after each other are the contents after each other.
            let twice = [bytes.clone(), bytes].concat();
            std::fs::write(&source, &twice).unwrap();
            assert!(unpacked(&source, &sha256_of(&twice)).unwrap() == [content(), content()].concat(), "{program}");
        }
    }

    #[test]
    fn zeros_become_holes() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("image");
        std::fs::write(&source, content()).unwrap();
        unpacked(&source, &sha256_of(&content())).unwrap();
        let metadata = source.with_extension("unpacked").metadata().unwrap();
        assert_eq!(metadata.len(), content().len() as u64);
        assert!(metadata.blocks() * 512 < 2 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn a_changed_or_shortened_file_fails_by_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("image");
        for program in ["cat", "gzip", "xz", "zstd"] {
            let Some(bytes) = packed(folder.path(), program, &content()) else { continue };
            let mut changed = bytes.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 1;
            for wrong in [&changed[..], &bytes[..bytes.len() - 9], &[&bytes[..], b"more"].concat()] {
                std::fs::write(&source, wrong).unwrap();
                let error = unpacked(&source, &sha256_of(&bytes)).unwrap_err();
                assert!(error.to_string().contains("is not the one that was given"), "{program}: {error}");
            }
        }
    }

    #[test]
    fn a_damaged_packing_with_the_right_hash_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("image");
        for program in ["gzip", "xz", "zstd"] {
            let Some(bytes) = packed(folder.path(), program, &content()) else { continue };
            let cut = &bytes[..bytes.len() / 2];
            std::fs::write(&source, cut).unwrap();
            let error = unpacked(&source, &sha256_of(cut)).unwrap_err();
            assert!(error.to_string().contains("cannot unpack"), "{program}: {error}");
        }
    }

    #[test]
    fn sha512_works_and_cancel_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("image");
        std::fs::write(&source, b"abc").unwrap();
        let expected = Expected::Sha512(hex(&Sha512::digest(b"abc")));
        assert_eq!(unpacked(&source, &expected).unwrap(), b"abc");
        let cancel = CancellationToken::new();
        cancel.cancel();
        let mut target = tempfile::tempfile().unwrap();
        let ended = unpack(&source, &mut target, &expected, &cancel, &mut |_| {});
        assert!(matches!(ended, Err(MachineError::Cancelled)));
    }
}
