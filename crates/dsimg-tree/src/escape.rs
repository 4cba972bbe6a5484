//! Bytes as printable text without spaces, as mtree writes names: a backslash and three octal digits.

use std::fmt::Write;

pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'!'..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            _ => write!(text, "\\{byte:03o}").expect("a string takes all"),
        }
    }
    text
}

/// `None` for what [`escape`] would not have written.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok())?;
        bytes.push(u8::from_str_radix(digits, 8).ok()?);
        rest = &rest[3..];
    }
    (escape(&bytes) == text).then_some(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = escape(&all);
        assert!(text.is_ascii() && !text.contains([' ', '\n']));
        assert_eq!(unescape(&text), Some(all.clone()));
        assert_eq!(unhex(&hex(&all)), Some(all));
    }

    #[test]
    fn there_is_one_way_to_write_a_name() {
        for other in ["\\101", "\\", "\\9", "\\1", "a b", "\\400", "\\é12"] {
            assert_eq!(unescape(other), None, "{other}");
        }
        for other in ["0", "0G", "AA"] {
            assert_eq!(unhex(other), None, "{other}");
        }
    }
}
