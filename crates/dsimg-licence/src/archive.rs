//! Archives as streams, with limits.

use std::io::{self, Read};

/// Of what a package unpacks to as far as it is read, in bytes.
const UNPACKED_LIMIT: u64 = 4 << 30;
/// Of the one file that is looked for.
const TEXT_LIMIT: u64 = 4 << 20;
/// Of the memory that an xz stream may want, in KiB; `xz -9` wants 65 MiB.
const XZ_MEMORY_LIMIT: u32 = 512 << 10;
/// Of the window of a zstd stream, in bytes; `zstd --ultra -22` wants 128 MiB.
const ZSTD_WINDOW_LIMIT: u64 = 128 << 20;

pub(crate) fn gzip<'a>(source: impl Read + 'a) -> Box<dyn Read + 'a> {
    Box::new(flate2::read::MultiGzDecoder::new(source))
}

/// Undoes the compression that a name ends in: `data.tar.xz`.
pub(crate) fn by_name<'a>(name: &str, source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    match name.rsplit('.').next() {
        Some("tar") => Ok(Box::new(source)),
        Some("gz") => Ok(gzip(source)),
        Some("xz") => Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY_LIMIT))),
        Some("zst") => {
            let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(source, ZSTD_WINDOW_LIMIT);
            Ok(Box::new(decoder.map_err(|cause| io::Error::other(cause.to_string()))?))
        }
        _ => Err(io::Error::other(format!("`{name}` is compressed in a way that is not known here"))),
    }
}

/// The text of the first file of a tar whose path, without `./`, is the one. `None` if there is none, as far as it is
/// read.
pub(crate) fn find_in_tar(source: impl Read, is_it: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    let mut limited = source.take(UNPACKED_LIMIT);
    let found = first_in_tar(&mut limited, is_it);
    // There are packages that large, and nothing wrong with them.
    if found.is_err() && limited.limit() == 0 { Ok(None) } else { found }
}

fn first_in_tar(source: impl Read, is_it: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    // Raw: names that do not fit their header, which may be of any length, are not put together.
    for entry in tar::Archive::new(source).entries()?.raw(true) {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path_bytes();
        let path = String::from_utf8_lossy(&path);
        if is_it(path.strip_prefix("./").unwrap_or(&path)) {
            return read_text(&mut entry).map(Some);
        }
    }
    Ok(None)
}

/// Text of any encoding: what is not UTF-8 is replaced, as only field names and licences are looked at.
pub(crate) fn read_text(source: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    source.take(TEXT_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
