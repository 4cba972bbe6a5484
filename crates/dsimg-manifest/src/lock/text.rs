//! The lock as text: TOML with one line for each package, so that a change of one is a change of one line.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{FORMAT, Lock, LockFile};

const HEAD: &str = "# Written by `dsimg lock`, and kept to by `dsimg build`. A change by hand is refused.\n";

/// Why a text is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("it is no lock: {0}")]
    Form(String),
    #[error("it has the form {found}, and this dsimg reads {FORMAT}")]
    Format { found: u32 },
    /// A byte was changed, or two versions were merged.
    #[error("its content is not what was written: the digest in it is {expected}…, that of its content {found}…")]
    Changed { expected: String, found: String },
}

impl LockError {
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Format { .. } => "use the dsimg that wrote it, or write it anew with `dsimg lock`",
            Self::Form(_) | Self::Changed { .. } => {
                "restore it from version control, or write it anew with `dsimg lock --upgrade`"
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(rename = "format")]
    _format: u32,
    digest: String,
    #[serde(default)]
    run: std::collections::BTreeMap<String, Lock>,
}

/// The file's text. The same lock gives the same text.
#[must_use]
pub fn write_lock(file: &LockFile) -> String {
    let body = file.runs.iter().fold(String::new(), |text, (name, lock)| text + &write_run(name, lock));
    format!("{HEAD}format = {FORMAT}\ndigest = \"{}\"\n{body}", digest_of(&body))
}

/// # Errors
/// It has another form, or is not as it was written.
pub fn parse_lock(text: &str) -> Result<LockFile, LockError> {
    #[derive(Deserialize)]
    struct Any {
        format: u32,
    }
    // Version control may have changed the ends of lines.
    let text = text.replace("\r\n", "\n");
    let form = |error: toml::de::Error| LockError::Form(error.to_string().trim_end().to_owned());
    let Any { format } = toml::from_str(&text).map_err(form)?;
    if format != FORMAT {
        return Err(LockError::Format { found: format });
    }
    let Text { digest, run, .. } = toml::from_str(&text).map_err(form)?;
    let found = digest_of(body_of(&text));
    if digest != found {
        let short = |digest: &str| digest.chars().take(12).collect();
        return Err(LockError::Changed { expected: short(&digest), found: short(&found) });
    }
    Ok(LockFile { runs: run })
}

/// All after the line with the digest.
fn body_of(text: &str) -> &str {
    let start = text.find("\ndigest = ").map_or(0, |at| at + 1);
    text[start..].split_once('\n').map_or("", |(_, body)| body)
}

fn digest_of(body: &str) -> String {
    Sha256::digest(body.as_bytes()).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write_run(name: &str, lock: &Lock) -> String {
    let Lock { epoch, base, tools, stages, indexes, deb, pypi, cran, files, unfrozen, image } = lock;
    let mut text = format!("\n[run.{}]\nepoch = {epoch}\nbase = {}\n", inline(&name), inline(base));
    write_list("tools", tools, &mut text);
    write_list("stages", stages, &mut text);
    write_list("indexes", indexes, &mut text);
    write_list("deb", deb, &mut text);
    write_list("pypi", pypi, &mut text);
    write_list("cran", cran, &mut text);
    write_list("files", files, &mut text);
    write_list("unfrozen", unfrozen, &mut text);
    if let Some(image) = image {
        let _ = writeln!(text, "image = {}", inline(image));
    }
    text
}

fn write_list<T: Serialize>(name: &str, entries: &[T], text: &mut String) {
    if entries.is_empty() {
        let _ = writeln!(text, "{name} = []");
        return;
    }
    let _ = writeln!(text, "{name} = [");
    for entry in entries {
        let _ = writeln!(text, "  {},", inline(entry));
    }
    text.push_str("]\n");
}

/// A value on one line.
fn inline<T: Serialize>(value: &T) -> String {
    let mut text = String::new();
    let written = value.serialize(toml::ser::ValueSerializer::new(&mut text));
    written.expect("a lock has string keys and no nulls");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::sample;

    #[test]
    fn a_lock_has_a_line_for_each_package() {
        insta::assert_snapshot!(write_lock(&sample()));
    }

    #[test]
    fn what_was_written_is_read() {
        let text = write_lock(&sample());
        assert_eq!(parse_lock(&text).unwrap(), sample());
        assert_eq!(parse_lock(&text.replace('\n', "\r\n")).unwrap(), sample());
        assert_eq!(parse_lock(&write_lock(&LockFile::default())).unwrap(), LockFile::default());
    }

    #[test]
    fn a_byte_that_was_changed_is_seen_wherever_it_is() {
        let text = write_lock(&sample());
        let content = text.find("[run").unwrap();
        for at in (content..text.len()).step_by(7).filter(|at| text.is_char_boundary(*at)) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            parse_lock(&changed).expect_err(&changed);
        }
    }

    #[test]
    fn another_form_is_named() {
        let text = write_lock(&sample()).replace("format = 1", "format = 2");
        assert!(matches!(parse_lock(&text), Err(LockError::Format { found: 2 })));
        assert!(matches!(parse_lock("x"), Err(LockError::Form(_))));
    }
}
