//! From a file's bytes to its text.

use crate::problem::Problem;

/// Larger templates are refused: nobody writes them, and reading must stay instant.
pub const LARGEST_TEXT: usize = 1 << 20;

/// The text of a template or a definition.
///
/// # Errors
/// It is larger than [`LARGEST_TEXT`] bytes or not UTF-8; the problem is about the whole file, since
/// there is no text to show a place in.
pub fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    check_size(bytes.len())?;
    std::str::from_utf8(bytes).map_err(|error| {
        if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
            return Problem::error(0..0, "the file is UTF-16").with_help("save it as UTF-8");
        }
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
        Problem::error(0..0, format!("the file is not UTF-8 text: byte 0x{byte:02X} on line {line}"))
            .with_help("save it as UTF-8")
    })
}

pub(crate) fn check_size(length: usize) -> Result<(), Problem> {
    if length <= LARGEST_TEXT {
        return Ok(());
    }
    let message = format!("the file has {length} bytes; a template has at most {LARGEST_TEXT}");
    Err(Problem::error(0..0, message).with_help("put long scripts into files of their own and name them here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused_in_words() {
        assert_eq!(decode("é".as_bytes()), Ok("é"));
        let latin = decode(b"a = 1\nb = \"caf\xE9\"\n").unwrap_err();
        assert_eq!(latin.message, "the file is not UTF-8 text: byte 0xE9 on line 2");
        assert_eq!(decode(&[0xFF, 0xFE, b'a', 0]).unwrap_err().message, "the file is UTF-16");
        assert!(decode(&vec![b'#'; LARGEST_TEXT + 1]).unwrap_err().message.contains("at most"));
    }
}
