//! `SHA256SUMS`, in the form of `sha256sum`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// The file's name in the image's folder, and that of its signature.
pub const CHECKSUMS: &str = "SHA256SUMS";
pub const CHECKSUMS_SIGNATURE: &str = "SHA256SUMS.minisig";

/// File names with their digests.
///
/// # Errors
/// A line of another form, or a name that is not one of a file beside it.
pub fn parse_checksums(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut files = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let wrong = |what: &str| format!("line {}: {what}", index + 1);
        let (digest, rest) = line.split_once(' ').ok_or_else(|| wrong("no digest and name"))?;
        // A second blank for text, an asterisk for binary: there is no difference.
        let name = rest.strip_prefix([' ', '*']).ok_or_else(|| wrong("no two characters before the name"))?;
        if digest.len() != 64 || !digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("no sha256 in lower-case hex digits"));
        }
        if !is_plain_name(name) {
            return Err(wrong("not the name of a file in this folder"));
        }
        if files.insert(name.to_owned(), digest.to_owned()).is_some() {
            return Err(wrong("the same name once more"));
        }
    }
    Ok(files)
}

/// Neither a path nor one of the folder's own names.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

/// Of a whole file: 64 lower-case hex digits.
///
/// # Errors
/// It can't be read.
pub fn sha256_of(file: &Path) -> io::Result<String> {
    let mut open = File::open(file)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match open.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        let digest = "ab".repeat(32);
        assert_eq!(parse_checksums(&format!("{digest}  disk.qcow2\n{digest} *a b\n")).unwrap().len(), 2);
        for wrong in ["../x", "/etc/passwd", "..", "a/b", "", "a\u{1b}[31m"] {
            parse_checksums(&format!("{digest}  {wrong}\n")).expect_err(wrong);
        }
        for wrong in ["abc  x".to_owned(), digest.clone(), format!("{digest}x"), format!("{digest}  x\n{digest}  x")] {
            parse_checksums(&wrong).expect_err(&wrong);
        }
        assert!(parse_checksums(&format!("{}  x", "AB".repeat(32))).is_err());
    }
}
