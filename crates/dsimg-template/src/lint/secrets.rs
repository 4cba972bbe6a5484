//! Passwords and keys that are written in a template.

use std::ops::Range;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::{Subject, pattern};
use crate::problem::{Problem, Severity};
use crate::reader::Reader;
use crate::tree::{self, NodeValue, Table};

/// A kind of secret that can be told by its looks. Group 1, or else all of it, is the secret.
struct Kind {
    what: &'static str,
    pattern: &'static str,
    /// An error where there is no doubt.
    severity: Severity,
}

const KINDS: [Kind; 9] = [
    Kind {
        what: "a private key",
        pattern: r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]|-[^-])*",
        severity: Severity::Error,
    },
    Kind {
        what: "the hash of a password",
        pattern: r"\$(?:1|5|6|7|y|gy|2[abxy])\$[./A-Za-z0-9$=,+-]{16,}",
        severity: Severity::Error,
    },
    Kind {
        what: "a password for chpasswd",
        pattern: r#"[^\s"':|\\]+:([^\s"'|{}$\\]+)[\\"']*\s*\|\s*(?:sudo\s+(?:-\S+\s+)*)?(?:/usr/sbin/)?chpasswd"#,
        severity: Severity::Error,
    },
    Kind {
        what: "a password for chpasswd",
        pattern: r#"chpasswd\s*<<<\s*[\\"']*[^\s"':\\]+:([^\s"'{}$\\]+)"#,
        severity: Severity::Error,
    },
    Kind { what: "an access key of AWS", pattern: r"\b((?:AKIA|ASIA)[A-Z0-9]{16})\b", severity: Severity::Error },
    Kind {
        what: "an access token",
        pattern: concat!(
            r"\b(gh[pous]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}",
            r"|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,})"
        ),
        severity: Severity::Error,
    },
    Kind { what: "a password in a URL", pattern: r#"://[^\s/:@"'{}]+:([^\s/@"'{}$]+)@"#, severity: Severity::Warning },
    Kind {
        what: "a password",
        pattern: concat!(
            "(?i)(?:password|passwd|passphrase|secret|api_?key|access_?key|token)",
            r#"[\\"']*\s*=\s*[\\"']*([^\s"'{}()\[\]$<>\\,;|&]{4,})"#
        ),
        severity: Severity::Warning,
    },
    // As in YAML: with nothing after it on the line, or it is a sentence.
    Kind {
        what: "a password",
        pattern: concat!(
            "(?im)(?:password|passwd|passphrase|secret|api_?key|access_?key|token)",
            r#"[\\"']*:[ \t]*[\\"']*([^\s"'{}()\[\]$<>\\,;|&]{4,})[\\"',]*[ \t\r]*$"#
        ),
        severity: Severity::Warning,
    },
];

static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| KINDS.iter().map(|kind| pattern(kind.pattern)).collect());

struct Secret {
    what: String,
    range: Range<usize>,
    severity: Severity,
}

/// Where there are secrets in a text, as far as can be seen; in order, without overlaps.
pub(crate) fn in_text(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = found(text).into_iter().map(|secret| secret.range).collect();
    ranges.extend(sensitive_defaults(text));
    ranges.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

pub(super) fn check(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    let help = "declare a variable, `NAME = { type = \"string\", sensitive = true }`, write `{{ NAME }}` here, \
                and give its value as `DSIMG_VAR_NAME`";
    for secret in found(reader.text) {
        let message = format!("{} is written in the template", secret.what);
        let help = match variable_at(subject.root, &secret.range) {
            Some(name) => format!(
                "make it `{name} = {{ type = \"string\", sensitive = true }}` and give its value as `DSIMG_VAR_{name}`"
            ),
            None => help.to_owned(),
        };
        reader.report(Problem { severity: secret.severity, message, span: secret.range, help: Some(help) });
    }
    for (name, span) in subject.written_secrets {
        let help = format!("remove it and give the value as `DSIMG_VAR_{name}`");
        let message = format!("the default of the sensitive variable `{name}` is written in the template");
        reader.report(Problem::warning(span.clone(), message).with_help(help));
        for range in repetitions(reader.text, span) {
            let message = format!("the value of the sensitive variable `{name}` is written out here");
            reader.report(Problem::warning(range, message).with_help(format!("write `{{{{ {name} }}}}`")));
        }
    }
}

/// The variable in whose value a place lies.
fn variable_at<'t>(root: &'t Table, place: &Range<usize>) -> Option<&'t str> {
    let NodeValue::Table(variables) = &root.get("variables")?.node.value else { return None };
    let entry = variables.entries.iter().find(|entry| entry.node.span.contains(&place.start))?;
    Some(&entry.key)
}

fn found(text: &str) -> Vec<Secret> {
    let mut secrets: Vec<Secret> = Vec::new();
    for (kind, pattern) in KINDS.iter().zip(PATTERNS.iter()) {
        for captures in pattern.captures_iter(text) {
            let Some(found) = captures.get(1).or_else(|| captures.get(0)) else { continue };
            let range = found.range();
            let known = secrets.iter().any(|other| range.start < other.range.end && other.range.start < range.end);
            let called = text[range.end..].starts_with(['(', '[']);
            if !known && !is_no_secret(found.as_str(), kind, called) {
                secrets.push(Secret { what: kind.what.to_owned(), range, severity: kind.severity });
            }
        }
    }
    secrets
}

/// Words and paths that stand where a password might, and functions that are `called` for one.
fn is_no_secret(value: &str, kind: &Kind, called: bool) -> bool {
    const WORDS: [&str; 16] = [
        "true",
        "false",
        "none",
        "null",
        "string",
        "required",
        "optional",
        "prompt",
        "files",
        "compat",
        "disabled",
        "enabled",
        "type",
        "sensitive",
        "empty",
        "random",
    ];
    kind.what == "a password"
        && (WORDS.contains(&value.to_lowercase().as_str())
            || value.starts_with(['/', '~', '.', '-', '@', '%', '`', '*', '#', '!'])
            || value.contains("://")
            || called)
}

/// The defaults of sensitive variables, and every other place where their values stand.
fn sensitive_defaults(text: &str) -> Vec<Range<usize>> {
    let Some(root) = tree::read(text).0 else { return Vec::new() };
    let Some(NodeValue::Table(variables)) = root.get("variables").map(|entry| &entry.node.value) else {
        return Vec::new();
    };
    let mut ranges = Vec::new();
    for entry in &variables.entries {
        if let NodeValue::Table(variable) = &entry.node.value
            && is_sensitive(variable)
            && let Some(default) = variable.get("default")
            && let Some(value) = default.node.as_text()
            && !value.is_empty()
            && !crate::render::is_rendered(value)
        {
            ranges.push(without_quotes(text, &default.node.span));
            ranges.extend(repetitions(text, &default.node.span));
        }
    }
    ranges
}

fn is_sensitive(variable: &Table) -> bool {
    variable.get("sensitive").is_some_and(|entry| matches!(entry.node.value, NodeValue::Boolean(true)))
}

/// Other places of a written string; short words are everywhere and mean nothing.
fn repetitions(text: &str, span: &Range<usize>) -> Vec<Range<usize>> {
    let inner = without_quotes(text, span);
    let value = &text[inner.clone()];
    if value.len() < 6 {
        return Vec::new();
    }
    text.match_indices(value)
        .map(|(at, _)| at..at + value.len())
        .filter(|range| range.end <= span.start || range.start >= span.end)
        .collect()
}

fn without_quotes(text: &str, span: &Range<usize>) -> Range<usize> {
    let raw = text.get(span.clone()).unwrap_or_default();
    let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
    if raw.len() < 2 * quotes { span.clone() } else { span.start + quotes..span.end - quotes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(text: &str) -> Vec<&str> {
        in_text(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn what_looks_like_a_secret() {
        assert_eq!(secrets("echo \"debian:hunter2\" | sudo chpasswd"), ["hunter2"]);
        assert_eq!(secrets(r#"inline = ["echo \"debian:hunter2\" | chpasswd"]"#), ["hunter2"]);
        assert_eq!(secrets("chpasswd <<< 'root:hunter2'"), ["hunter2"]);
        assert_eq!(secrets("index = \"https://me:hunter2@pypi.corp.example/simple\""), ["hunter2"]);
        assert_eq!(secrets("db_password = \"hunter2\""), ["hunter2"]);
        assert_eq!(secrets("c.JupyterHub.api_token = 'abcdef'"), ["abcdef"]);
        assert_eq!(secrets("  db:\n    password: hunter2\n    port: 1"), ["hunter2"]);
        assert_eq!(secrets("key = AKIAABCDEFGHIJKLMNOP"), ["AKIAABCDEFGHIJKLMNOP"]);
        let hash = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz0123456789";
        assert_eq!(secrets(&format!("usermod -p '{hash}' debian")), [hash]);
    }

    #[test]
    fn what_does_not() {
        for text in [
            "echo \"debian:{{ password }}\" | chpasswd",
            "echo \"debian:$PASSWORD\" | chpasswd",
            "token = { type = \"string\", sensitive = true }",
            "env = { TOKEN = \"{{ token }}\" }",
            "password_file = \"/run/secrets/x\"",
            "proxy = \"http://{{ user }}:{{ password }}@proxy.corp.example:3128\"",
            "passwd: files systemd",
            "# token: fetched from the vault by the platform team",
            "token = os.environ['TOKEN']",
            "password=get_password(user)",
            "url = \"http://proxy.corp.example:3128/path@x\"",
        ] {
            assert_eq!(secrets(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn the_default_of_a_sensitive_variable_is_covered_everywhere() {
        let text = "[variables]\nt = { sensitive = true, default = \"hunter22\" }\n[image]\nsummary = \"hunter22\"\n";
        assert_eq!(secrets(text), ["hunter22", "hunter22"]);
    }
}
