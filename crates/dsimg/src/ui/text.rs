//! Text of a machine made fit for a terminal, and numbers as people read them.

use std::time::Duration;

/// Without escape sequences and control characters, so that what a machine prints can't move the cursor, change
/// the title or answer for the user. Tabs become spaces; line ends stay.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            // The one-character forms of the same sequences.
            '\u{9b}' => skip_parameters(&mut rest),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut rest),
            '\n' => shown.push('\n'),
            '\t' => shown.push_str("    "),
            // Marks that turn the direction of writing make a line read as another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    shown
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// ECMA-48: what follows ESC.
fn skip_escape(rest: &mut Chars<'_>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            skip_parameters(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            rest.next();
            skip_string(rest);
        }
        Some(' '..='/') => {
            while rest.next_if(|c| (' '..='/').contains(c)).is_some() {}
            rest.next_if(|c| ('0'..='~').contains(c));
        }
        Some('0'..='~') => {
            rest.next();
        }
        _ => {}
    }
}

fn skip_parameters(rest: &mut Chars<'_>) {
    while rest.next_if(|c| (' '..='?').contains(c)).is_some() {}
    rest.next_if(|c| ('@'..='~').contains(c));
}

/// Up to the string's end; one that a line end cuts off ends there.
fn skip_string(rest: &mut Chars<'_>) {
    while let Some(c) = rest.next_if(|c| *c != '\n') {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                rest.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

/// `4.2 s`, `1m 05s`, `2h 03m`
pub(crate) fn seconds(elapsed: Duration) -> String {
    let whole = elapsed.as_secs();
    match whole {
        0..60 => format!("{}.{} s", whole, elapsed.subsec_millis() / 100),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// `512 bytes`, `12.5 MiB`, `1.2 GiB`
pub(crate) fn bytes(count: u64) -> String {
    match count {
        count if count >= 1 << 30 => format!("{:.1} GiB", count as f64 / f64::from(1 << 30)),
        count if count >= 1 << 20 => format!("{:.1} MiB", count as f64 / f64::from(1 << 20)),
        count if count >= 1 << 10 => format!("{:.1} KiB", count as f64 / f64::from(1 << 10)),
        count => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_taken_out() {
        assert_eq!(printable("a\u{1b}[31;1mred\u{1b}[0m b"), "ared b");
        assert_eq!(printable("\u{1b}]0;title\u{7}text"), "text");
        assert_eq!(printable("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\"), "link");
        assert_eq!(printable("\u{9b}2Jx\u{1b}(Bx\u{1b}7x"), "xxx");
        assert_eq!(printable("over\rwritten\u{8}\u{0}\u{7f}"), "overwritten");
        assert_eq!(printable("a\tb\nc"), "a    b\nc");
        assert_eq!(printable("\u{202e}gnp.exe"), "gnp.exe");
        assert_eq!(printable("ends in \u{1b}[3"), "ends in ");
        assert_eq!(printable("\u{1b}]never ended\nnext"), "\nnext");
        assert_eq!(printable("größe 日本"), "größe 日本");
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!(seconds(Duration::from_millis(4250)), "4.2 s");
        assert_eq!(seconds(Duration::from_secs(65)), "1m 05s");
        assert_eq!(seconds(Duration::from_secs(7385)), "2h 03m");
        assert_eq!(bytes(12), "12 bytes");
        assert_eq!(bytes(300_548_096), "286.6 MiB");
    }
}
