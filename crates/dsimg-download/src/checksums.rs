//! Checksum files, as `sha256sum`, `sha512sum` and their BSD relatives write them.

use std::collections::BTreeMap;

use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::{Checksum, Location};

use crate::access::Access;
use crate::digest::Expected;
use crate::small::{SmallRequest, fetch_bytes};

/// A checksum file of a whole archive is a few MiB at most.
const LARGEST: u64 = 16 << 20;

/// The digests of a checksum file by file name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checksums {
    by_name: BTreeMap<String, Vec<Expected>>,
    /// A file that is nothing but one digest speaks of the file it lies beside.
    bare: Option<Expected>,
}

/// Reads the lines `HASH  NAME`, `HASH *NAME` and `SHA256 (NAME) = HASH`. Everything else, such as a signature around
/// them or the digests of weaker algorithms, is passed over.
#[must_use]
pub fn parse_checksums(text: &str) -> Checksums {
    let mut checksums = Checksums::default();
    for line in text.lines() {
        if let Some((name, digest)) = parse_gnu(line).or_else(|| parse_bsd(line)) {
            checksums.by_name.entry(base_name(&name).to_owned()).or_default().push(digest);
        }
    }
    checksums.bare = Expected::parse(text.trim());
    checksums
}

impl Checksums {
    /// Of the file of this name, wherever it lies; the stronger one where there are two. `None` when the file is not
    /// named, or named twice with digests that can't both be right.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Expected> {
        let Some(found) = self.by_name.get(base_name(name)) else {
            return self.bare.as_ref();
        };
        let strongest = found.iter().max_by_key(|digest| digest.hex().len())?;
        let contradicted =
            found.iter().any(|digest| digest.algorithm() == strongest.algorithm() && digest != strongest);
        (!contradicted).then_some(strongest)
    }
}

/// The digest that a template's `checksum` asks for of the file at `of`; reads the checksum file where it names one.
/// Paths must be complete, not relative to the template.
///
/// # Errors
/// The checksum file can't be had, or does not name the file.
pub async fn expected_digest(
    checksum: &Checksum,
    of: &Location,
    access: &Access,
    run: &RunContext,
) -> Result<Expected, MachineError> {
    let location = match checksum {
        Checksum::Sha256(hex) => return Ok(Expected::Sha256(hex.clone())),
        Checksum::Sha512(hex) => return Ok(Expected::Sha512(hex.clone())),
        Checksum::File(location) => location,
    };
    let request = SmallRequest { location: location.clone(), accept: None, access: access.clone() };
    let file = fetch_bytes(&request, LARGEST, run).await?;
    let (shown, name) = (crate::failure::shown(location), file_name(of));
    parse_checksums(&String::from_utf8_lossy(&file.bytes)).find(&name).cloned().ok_or_else(|| {
        MachineError::refused(
            format!("`{shown}` has no sha256 or sha512 for `{name}`, or contradicts itself"),
            "name the checksum file that lies beside the image, or write the digest as `sha256:…`",
        )
    })
}

/// The last part of a path or URL, without query.
pub(crate) fn file_name(location: &Location) -> String {
    match location {
        Location::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        Location::Url(url) => base_name(url.split(['?', '#']).next().unwrap_or_default()).to_owned(),
    }
}

/// A backslash before the digest says that the name is escaped.
fn parse_gnu(line: &str) -> Option<(String, Expected)> {
    let (line, escaped) = match line.strip_prefix('\\') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let (hash, rest) = line.split_once(' ')?;
    let digest = Expected::parse(hash)?;
    let name = rest.strip_prefix(' ').or_else(|| rest.strip_prefix('*')).unwrap_or(rest).trim_end_matches('\r');
    let name = if escaped { name.replace("\\n", "\n").replace("\\\\", "\\") } else { name.to_owned() };
    (!name.is_empty()).then_some((name, digest))
}

fn parse_bsd(line: &str) -> Option<(String, Expected)> {
    let (start, hash) = line.trim_end().rsplit_once(") = ")?;
    let (algorithm, name) = start.split_once(" (")?;
    let digest = Expected::parse(hash)?;
    (algorithm.eq_ignore_ascii_case(digest.algorithm()) && !name.is_empty()).then(|| (name.to_owned(), digest))
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    #[test]
    fn all_formats_are_read() {
        let (a, b, c, d) = (of('a'), of('b'), of('c'), "d".repeat(128));
        let text = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.qcow2: 123 bytes\n\
             {a}  plain.qcow2\n{b} *images/./binary file.raw\r\nSHA256 (disk (1).qcow2) = {c}\nSHA512 (big.img) = {d}\n\
             MD5 (plain.qcow2) = d41d8cd98f00b204e9800998ecf8427e\nd41d8cd98f00b204e9800998ecf8427e  md5only\n\
             -----BEGIN PGP SIGNATURE-----\niQIzBAEBCAAdFiEE\n"
        );
        let checksums = parse_checksums(&text);
        assert_eq!(checksums.find("plain.qcow2"), Some(&Expected::Sha256(a)));
        assert_eq!(checksums.find("/downloads/binary file.raw"), Some(&Expected::Sha256(b)));
        assert_eq!(checksums.find("disk (1).qcow2"), Some(&Expected::Sha256(c)));
        assert_eq!(checksums.find("big.img"), Some(&Expected::Sha512(d)));
        assert_eq!(checksums.find("md5only"), None);
        assert_eq!(checksums.find("other"), None);
    }

    #[test]
    fn the_stronger_digest_counts_and_a_contradiction_counts_for_nothing() {
        let (a, b, long) = (of('a'), of('b'), "c".repeat(128));
        let checksums = parse_checksums(&format!("{a}  x\n{long}  x\n{a}  y\n{b}  y\n{a}  z\n{a}  sub/z\n"));
        assert_eq!(checksums.find("x"), Some(&Expected::Sha512(long)));
        assert_eq!(checksums.find("y"), None);
        assert_eq!(checksums.find("z"), Some(&Expected::Sha256(a)));
    }

    #[test]
    fn a_lone_digest_speaks_of_any_file() {
        let a = of('a');
        assert_eq!(parse_checksums(&format!("{a}\n")).find("x.img"), Some(&Expected::Sha256(a)));
        assert_eq!(parse_checksums("").find("x.img"), None);
        assert_eq!(parse_checksums(&format!("SHA512 (x) = {}", of('a'))).find("x"), None, "the wrong length");
    }

    #[test]
    fn a_url_has_a_file_name() {
        let name = |url: &str| file_name(&Location::Url(url.to_owned()));
        assert_eq!(name("https://example.org/a/disk.qcow2?token=a/b#c"), "disk.qcow2");
        assert_eq!(file_name(&Location::Path("/a/b.raw".into())), "b.raw");
    }
}
