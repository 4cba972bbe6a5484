//! The forms in which programs print a secret.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::SHORTEST_SECRET;

/// A line of a longer secret is covered by itself from this length on; shorter ones are too common.
const SHORTEST_LINE: usize = 8;
/// The widths at which programs break base64: MIME and coreutils, PEM.
const BASE64_WIDTHS: [usize; 2] = [76, 64];

/// All of them, some more than once.
pub(super) fn all(secret: &str) -> Vec<Vec<u8>> {
    let mut texts = vec![secret.to_owned()];
    texts.extend(lines(secret));
    texts.extend(quoted_for_shells(secret));
    texts.extend(escaped_for_json(secret));
    texts.extend(escaped_for_urls(secret));
    texts.extend(base64(secret.as_bytes()));
    texts.extend(hex(secret.as_bytes()));
    texts.into_iter().map(String::into_bytes).filter(|text| text.len() >= SHORTEST_SECRET).collect()
}

/// Such as those of a private key, but for its first and last.
fn lines(secret: &str) -> Vec<String> {
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with("-----"));
    if secret.trim_end().contains('\n') { lines.map(str::to_owned).collect() } else { Vec::new() }
}

/// As `set -x`, `printf %q`, `declare -p` and sudo's log write it: inside quotes of either kind, or with backslashes.
fn quoted_for_shells(secret: &str) -> Vec<String> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,".contains(c);
    let escape = |special: fn(char) -> bool| {
        secret.chars().fold(String::new(), |mut text, c| {
            if special(c) {
                text.push('\\');
            }
            text.push(c);
            text
        })
    };
    let backslashes = secret.chars().fold(String::new(), |mut text, c| {
        if !is_plain(c) && c.is_ascii() && !c.is_control() {
            text.push('\\');
        }
        text.push(c);
        text
    });
    // Line ends and the like in `$'…'`.
    let dollar = secret.chars().fold(String::new(), |mut text, c| {
        match c {
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            '\\' | '\'' => {
                text.push('\\');
                text.push(c);
            }
            c => text.push(c),
        }
        text
    });
    vec![
        secret.replace('\'', r"'\''"),
        secret.replace('\'', r#"'"'"'"#),
        escape(|c| matches!(c, '"' | '\\' | '$' | '`')),
        backslashes,
        dollar,
    ]
}

/// As JSON libraries write it: with what is not ASCII as it is or as `\u` escapes, with `/` plain or escaped. Python's
/// `repr` is among them, but for its quotes.
fn escaped_for_json(secret: &str) -> Vec<String> {
    let quoted = serde_json::to_string(secret).expect("text is JSON");
    let plain = quoted[1..quoted.len() - 1].to_owned();
    let ascii = plain.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
        text
    });
    let slashes = plain.replace('/', "\\/");
    // What Go and some web frameworks escape, too.
    let html = ascii.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let single = secret.replace('\\', r"\\").replace('\'', r"\'").replace('\n', "\\n");
    vec![plain, ascii, slashes, html, single]
}

/// Percent-encoded, with what each of the common libraries leaves as it is.
fn escaped_for_urls(secret: &str) -> Vec<String> {
    const KEPT: [&str; 5] = ["-_.~", "-_.!~*'()", "-_.~/", "-_.", "-_.*"];
    let encode = |kept: &str, upper: bool, plus: bool| {
        secret.bytes().fold(String::new(), |mut text, byte| {
            match byte {
                b' ' if plus => text.push('+'),
                byte if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => text.push(char::from(byte)),
                byte if upper => _ = write!(text, "%{byte:02X}"),
                byte => _ = write!(text, "%{byte:02x}"),
            }
            text
        })
    };
    let both = |kept| [(true, false), (true, true), (false, false), (false, true)].map(|(u, p)| encode(kept, u, p));
    KEPT.into_iter().flat_map(both).collect()
}

/// The digits that the secret decides, wherever in an encoded text it stands: at each place in a group of three bytes.
fn base64(secret: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(secret.iter().copied()).collect();
            let digits = engine.encode(&bytes);
            // Six bits a digit; the first and the last may be shared with the neighbours.
            forms.push(digits[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned());
        }
        // By itself, with line breaks: the first line is longer than what the loop above gives only for long secrets.
        let whole = engine.encode(secret);
        for width in BASE64_WIDTHS.into_iter().filter(|width| whole.len() > *width) {
            let lines = whole.as_bytes().chunks(width).filter(|line| line.len() >= SHORTEST_LINE);
            forms.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
        }
    }
    forms
}

fn hex(secret: &[u8]) -> [String; 2] {
    let lower = dsimg_plan::digest::hex(secret);
    [lower.to_uppercase(), lower]
}
