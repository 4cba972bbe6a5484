//! Sensitive values: carried as placeholders until the moment they enter the guest.
//!
//! Rendering puts `\u{E000}name\u{E001}` (private-use characters, which no template contains)
//! where a sensitive variable is named. The plan, its key, every log and file therefore hold
//! the placeholder only, and [`reveal`] is called on what goes to the guest over ssh.

use std::collections::BTreeMap;

const OPEN: char = '\u{E000}';
const CLOSE: char = '\u{E001}';

/// A value that has no `Display` and whose `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself. Callers send it to the guest or look for it in order to mask it; nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What stands in a rendered value for the sensitive variable `name`.
#[must_use]
pub fn placeholder(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// For people: `{{ token }}` instead of the placeholder characters.
#[must_use]
pub fn describe(text: &str) -> String {
    text.replace(OPEN, "{{ ").replace(CLOSE, " }}")
}

/// Whether any placeholder, whole or mangled by a filter, is in the text.
#[must_use]
pub fn mentions_secret(text: &str) -> bool {
    text.contains([OPEN, CLOSE])
}

/// Replaces each placeholder by its value; `None` when one was mangled or names no secret.
#[must_use]
pub fn reveal(text: &str, secrets: &BTreeMap<String, Secret>) -> Option<String> {
    let mut revealed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find(OPEN) {
        revealed.push_str(&rest[..open]);
        let after = &rest[open + OPEN.len_utf8()..];
        let close = after.find(CLOSE)?;
        revealed.push_str(secrets.get(&after[..close])?.expose());
        rest = &after[close + CLOSE.len_utf8()..];
    }
    revealed.push_str(rest);
    (!rest.contains(CLOSE)).then_some(revealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_revealed_and_described() {
        let secrets = BTreeMap::from([("token".to_owned(), Secret::new("s3cret".to_owned()))]);
        let text = format!("curl -H {}", placeholder("token"));
        assert_eq!(reveal(&text, &secrets).as_deref(), Some("curl -H s3cret"));
        assert_eq!(describe(&text), "curl -H {{ token }}");
        assert!(mentions_secret(&text));
        assert_eq!(reveal(&placeholder("other"), &secrets), None);
        assert_eq!(reveal("a\u{E001}", &secrets), None);
    }

    #[test]
    fn debug_says_nothing() {
        assert_eq!(format!("{:?}", Secret::new("s3cret".to_owned())), "Secret(…)");
    }
}
