//! From an offset inside a string's value back to its place in the TOML text.

use std::ops::Range;

/// The place of `part`, bytes of the value `decoded`, in the text; the whole string where it cannot be told.
///
/// `span` is the string with its quotes, as the parser gives it.
pub(crate) fn inside_string(text: &str, span: &Range<usize>, decoded: &str, part: Range<usize>) -> Range<usize> {
    let whole = span.clone();
    let Some(raw) = text.get(whole.clone()) else { return whole };
    let Some((skipped, inner, escapes)) = unquote(raw) else { return whole };
    let offsets = offsets(inner, escapes);
    if offsets.len() != decoded.len() + 1 {
        return whole;
    }
    match (offsets.get(part.start), offsets.get(part.end)) {
        (Some(start), Some(end)) if start <= end => span.start + skipped + start..span.start + skipped + end,
        _ => whole,
    }
}

/// The bytes before the content, the content, and whether `\` escapes count in it.
fn unquote(raw: &str) -> Option<(usize, &str, bool)> {
    for (quotes, escapes) in [("\"\"\"", true), ("'''", false)] {
        if let Some(inner) = raw.strip_prefix(quotes).and_then(|rest| rest.strip_suffix(quotes)) {
            // A newline right after the opening quotes is not part of the value.
            let content = inner.strip_prefix("\r\n").or_else(|| inner.strip_prefix('\n')).unwrap_or(inner);
            return Some((quotes.len() + inner.len() - content.len(), content, escapes));
        }
    }
    for (quote, escapes) in [('"', true), ('\'', false)] {
        if let Some(inner) = raw.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return Some((1, inner, escapes));
        }
    }
    None
}

/// For each byte of the value, and its end, the byte of the raw content where it is written.
fn offsets(raw: &str, escapes: bool) -> Vec<usize> {
    let mut offsets = Vec::with_capacity(raw.len() + 1);
    let mut at = 0;
    while let Some(first) = raw[at..].chars().next() {
        let (length, value) = if escapes && first == '\\' {
            escape(&raw[at..])
        } else if raw[at..].starts_with("\r\n") {
            (2, 1)
        } else {
            (first.len_utf8(), first.len_utf8())
        };
        // The bytes of one character share the place of its first unless they are written plainly.
        offsets.extend((0..value).map(|byte| if value == length { at + byte } else { at }));
        at += length;
    }
    offsets.push(at);
    offsets
}

/// How many bytes an escape takes in the text and how many in the value.
fn escape(raw: &str) -> (usize, usize) {
    let digits = |count: usize| {
        let end = 2 + count;
        let character = raw.get(2..end).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        (end.min(raw.len()), character.map_or(0, char::len_utf8))
    };
    match raw[1..].chars().next() {
        Some('u') => digits(4),
        Some('U') => digits(8),
        Some('x') => digits(2),
        Some(c) if c.is_ascii_whitespace() => {
            let rest = raw[1..].trim_start_matches([' ', '\t', '\r', '\n']);
            (raw.len() - rest.len(), 0)
        }
        Some(c) => (1 + c.len_utf8(), 1),
        None => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds `wanted` in the value of `a = …` and says which bytes of the text that is.
    fn found(text: &str, wanted: &str) -> String {
        let tree = crate::tree::read(text).0.unwrap();
        let node = &tree.get("a").unwrap().node;
        let decoded = node.as_text().unwrap();
        let start = decoded.find(wanted).unwrap();
        let place = inside_string(text, &node.span, decoded, start..start + wanted.len());
        text[place].to_owned()
    }

    #[test]
    fn every_kind_of_string() {
        assert_eq!(found("a = \"x {{ name }}\"", "name"), "name");
        assert_eq!(found("a = 'x {{ name }}'", "name"), "name");
        assert_eq!(found("a = \"\\t\\u00e9 \\\"{{ name }}\"", "name"), "name");
        assert_eq!(found("a = \"\"\"\nx\n{{ name }}\"\"\"", "name"), "name");
        assert_eq!(found("a = '''\r\nx\r\n{{ name }}'''", "name"), "name");
        assert_eq!(found("a = \"\"\"x \\\n   {{ name }}\"\"\"", "name"), "name");
        assert_eq!(found("a = \"äöü {{ näme }}\"", "näme"), "näme");
    }
}
