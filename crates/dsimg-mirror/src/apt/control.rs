//! The control file in a Debian package, which lists of packages are made of. Form: deb(5).

use std::fs::File;
use std::io::{self, BufReader, Read};

use crate::refusal::Refusal;

/// Bytes of a control file; the longest in Debian has some 100 KB.
const MOST: u64 = 4 << 20;

/// `shown` names the package.
///
/// # Errors
/// It is no Debian package.
pub(crate) fn control(package: &File, shown: &str) -> Result<String, Refusal> {
    read(package).map_err(|error| Refusal::new(502, format!("{shown} is no Debian package: {error}")))
}

fn read(package: &File) -> io::Result<String> {
    let mut package = ar::Archive::new(BufReader::new(package.try_clone()?));
    while let Some(member) = package.next_entry() {
        let member = member?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if let Some(ending) = name.strip_prefix("control.tar") {
            return of_tar(unpacked(ending.trim_end_matches('/'), member)?);
        }
    }
    Err(io::Error::other("it has no control.tar"))
}

fn unpacked<'a>(ending: &str, source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match ending {
        "" => Box::new(source),
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(source)),
        ".xz" => Box::new(lzma_rust2::XzReader::new(source, true)),
        ".zst" => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(source);
            Box::new(decoder.map_err(|cause| io::Error::other(cause.to_string()))?)
        }
        other => return Err(io::Error::other(format!("`control.tar{other}` is compressed in an unknown way"))),
    })
}

fn of_tar(source: impl Read) -> io::Result<String> {
    for entry in tar::Archive::new(source).entries()? {
        let entry = entry?;
        let is_control = matches!(&*entry.path_bytes(), b"./control" | b"control");
        if is_control {
            let mut bytes = Vec::new();
            entry.take(MOST).read_to_end(&mut bytes)?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Err(io::Error::other("it has no control file"))
}
