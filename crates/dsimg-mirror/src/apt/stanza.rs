//! Stanzas of control files: `Packages`, `Release`, and R's `PACKAGES` and `DESCRIPTION`.

use std::io::{self, Read};

/// More than any list that was ever seen.
const MOST: u64 = 2 << 30;

/// One stanza, without the empty line behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stanza<'a>(pub(crate) &'a str);

impl<'a> Stanza<'a> {
    /// A field's first line. Names are compared without regard to case.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.eq_ignore_ascii_case(name)).then(|| value.trim())
        })
    }

    /// A field with the lines that go on from it, joined by a space.
    pub(crate) fn folded(&self, name: &str) -> Option<String> {
        let is_it = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut lines = self.0.lines().skip_while(|line| !is_it(line));
        let first = lines.next()?.split_once(':')?.1.trim();
        let more = lines.take_while(|line| line.starts_with([' ', '\t'])).map(str::trim);
        let all: Vec<&str> = std::iter::once(first).chain(more).filter(|text| !text.is_empty()).collect();
        Some(all.join(" "))
    }
}

/// Its stanzas, one after another.
pub(crate) fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\n', '\r']);
        if rest.is_empty() {
            return None;
        }
        let end = end_of_stanza(rest);
        let (stanza, after) = rest.split_at(end);
        rest = after;
        Some(Stanza(stanza.trim_end_matches(['\n', '\r'])))
    })
}

/// Where an empty line follows. Looks no further than that: lists have fifty megabytes.
fn end_of_stanza(text: &str) -> usize {
    let mut end = 0;
    while let Some(line) = text[end..].find('\n') {
        end += line + 1;
        if text[end..].starts_with(['\n', '\r']) {
            return end;
        }
    }
    text.len()
}

/// The text of a list, however it is compressed; letters that are none are replaced.
pub(crate) fn text_of(bytes: &[u8]) -> io::Result<String> {
    let mut plain = Vec::new();
    let read = match bytes {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).take(MOST).read_to_end(&mut plain),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            lzma_rust2::XzReader::new(bytes, true).take(MOST).read_to_end(&mut plain)
        }
        [b'B', b'Z', b'h', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x04, 0x22, 0x4d, 0x18, ..] => {
            return Err(io::Error::other("it is compressed in a way that dsimg does not know (it knows gzip and xz)"));
        }
        _ => bytes.take(MOST).read_to_end(&mut plain),
    };
    read?;
    Ok(String::from_utf8(plain).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn stanzas_are_told_apart_and_read() {
        let text = "\nPackage: a\nDepends: b,\n c,\n  d\nSize: 3\n\n\nPackage:  e\r\n\r\nPackage: f";
        let found: Vec<_> = stanzas(text).collect();
        assert_eq!(found.iter().map(|stanza| stanza.field("package").unwrap()).collect::<Vec<_>>(), ["a", "e", "f"]);
        assert_eq!(found[0].folded("Depends").as_deref(), Some("b, c, d"));
        assert_eq!((found[0].field("Depends"), found[0].field("Version")), (Some("b,"), None));
        assert_eq!(stanzas("\n\n").count(), 0);
    }

    #[test]
    fn lists_are_read_however_they_are_compressed() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"Package: a\n").unwrap();
        assert_eq!(text_of(&gzip.finish().unwrap()).unwrap(), "Package: a\n");
        assert_eq!(text_of(b"Package: \xff\n").unwrap(), "Package: \u{fffd}\n");
        assert!(text_of(b"\x1f\x8b\x08cut").is_err() && text_of(b"\xfd7zXZ\x00cut").is_err());
        assert!(text_of(b"BZh9").unwrap_err().to_string().contains("gzip and xz"));
    }
}
