//! The end of a stream of bytes, as lines for people.

use std::collections::VecDeque;

/// The last bytes of a stream.
#[derive(Debug)]
pub(crate) struct Tail {
    bytes: VecDeque<u8>,
    capacity: usize,
}

impl Tail {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::with_capacity(capacity), capacity }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(self.capacity)..];
        let surplus = (self.bytes.len() + new.len()).saturating_sub(self.capacity);
        self.bytes.drain(..surplus);
        self.bytes.extend(new);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }
}

/// The last `count` lines that are not empty, safe to print: without escape sequences and control characters.
pub(crate) fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = without_escapes(&String::from_utf8_lossy(bytes));
    let lines: Vec<&str> = text.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Drops ECMA-48 escape sequences, and control characters but for line ends; a tab becomes a space.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => skip_sequence(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            '\n' | '\r' => plain.push(character),
            '\t' => plain.push(' '),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}

/// After an ESC: `[` begins a control sequence; `]`, `P`, `X`, `^` and `_` a string; others take one more character.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        Some('[') => skip_control_sequence(rest),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // Ends with BEL or ESC \; a line end means that the end was lost.
            let mut ahead = rest.clone();
            while let Some(character) = ahead.next() {
                match character {
                    '\u{7}' => break,
                    '\u{1b}' => {
                        ahead.next();
                        break;
                    }
                    '\n' => return,
                    _ => {}
                }
            }
            *rest = ahead;
        }
        Some('(' | ')' | '#' | '%' | ' ') => {
            rest.next();
        }
        _ => {}
    }
}

/// Parameters up to the final character, `@` to `~`.
fn skip_control_sequence(rest: &mut std::str::Chars<'_>) {
    for character in rest.by_ref() {
        if ('\u{40}'..='\u{7e}').contains(&character) || character == '\n' {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let mut tail = Tail::new(4);
        tail.push(b"ab");
        tail.push(b"cde");
        assert_eq!(tail.bytes(), b"bcde");
        tail.push(b"0123456789");
        assert_eq!(tail.bytes(), b"6789");
    }

    #[test]
    fn lines_are_counted_from_the_end_and_empty_ones_left_out() {
        assert_eq!(last_lines(b"one\r\n\r\ntwo\nthree  \n\n", 2), "two\nthree");
        assert_eq!(last_lines(b"", 2), "");
    }

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        let console = "\u{1b}[2J\u{1b}[01;32m[  OK  ]\u{1b}[0m Started\u{7}\n\u{1b}]0;title\u{7}login:\u{1b}(B\u{0}";
        assert_eq!(last_lines(console.as_bytes(), 9), "[  OK  ] Started\nlogin:");
        assert_eq!(last_lines(b"\x1b]52;c;never ends\nnext", 9), "52;c;never ends\nnext");
        assert_eq!(last_lines(b"\xff\xfe", 1), "\u{fffd}\u{fffd}");
    }
}
