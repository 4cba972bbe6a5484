//! Lines out of output that comes in pieces of any size.

use std::collections::BTreeMap;

use dsimg_machine::OutputStream;

/// A line that never ends is cut here.
const LONGEST: usize = 4096;

/// Puts the output of each builder's streams together to lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    begun: BTreeMap<(String, bool), Vec<u8>>,
}

impl Lines {
    /// The lines that these bytes complete, without their ends. Of a line that is written over and over with a
    /// carriage return, as progress bars do it, the last form counts.
    pub(crate) fn push(&mut self, builder: &str, stream: OutputStream, bytes: &[u8]) -> Vec<String> {
        let begun = self.begun.entry((builder.to_owned(), stream == OutputStream::Stderr)).or_default();
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.push(last_form(begun));
                begun.clear();
            } else if begun.len() < LONGEST || byte == b'\r' {
                begun.push(byte);
            }
            if begun.len() > LONGEST && begun.last() == Some(&b'\r') {
                begun.clear();
            }
        }
        lines
    }

    /// Lines that were begun and never ended.
    pub(crate) fn finish(&mut self, builder: &str) -> Vec<String> {
        let streams = [false, true].map(|is_stderr| (builder.to_owned(), is_stderr));
        let begun = streams.iter().filter_map(|key| self.begun.remove(key));
        begun.filter(|line| !line.is_empty()).map(|line| last_form(&line)).collect()
    }
}

fn last_form(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let from = line.iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at + 1);
    String::from_utf8_lossy(&line[from..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together() {
        let mut lines = Lines::default();
        assert!(lines.push("a", OutputStream::Stdout, b"on").is_empty());
        assert!(lines.push("b", OutputStream::Stdout, b"other ").is_empty());
        assert!(lines.push("a", OutputStream::Stderr, b"error ").is_empty());
        assert_eq!(lines.push("a", OutputStream::Stdout, b"e\ntwo\r\nthr"), ["one", "two"]);
        assert_eq!(lines.finish("a"), ["thr", "error "]);
        assert_eq!(lines.finish("a"), [""; 0]);
        assert_eq!(lines.finish("b"), ["other "]);
    }

    #[test]
    fn a_line_written_over_counts_once() {
        let mut lines = Lines::default();
        assert_eq!(lines.push("a", OutputStream::Stdout, b"10%\r20%\r100%\n"), ["100%"]);
        for _ in 0..10_000 {
            assert!(lines.push("a", OutputStream::Stdout, b"a bar\r").is_empty());
        }
        assert_eq!(lines.push("a", OutputStream::Stdout, b"done\n"), ["done"]);
        let long = vec![b'x'; 3 * LONGEST];
        assert_eq!(lines.push("a", OutputStream::Stdout, &long).len(), 0);
        assert_eq!(lines.push("a", OutputStream::Stdout, b"\n")[0].len(), LONGEST);
    }
}
