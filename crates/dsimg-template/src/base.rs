//! `[base]`: what is booted.

use std::ops::Range;

use crate::aws::ami_source;
use crate::builders::Builders;
use crate::keys;
use crate::parse::section;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::template::{Base, Bootstrap, BuilderTable, Checksum, DiskFormat, Distro, ImageSource, Location};
use crate::tree::{NodeValue, Table};
use crate::values::{Piece, Values};

/// Without a `[base]`: Debian trixie from its own mirror.
pub(crate) fn read(reader: &mut Reader<'_>, root: &Table) -> Base {
    let before = reader.problems.len();
    let values = section(reader, root, "base", &keys::base()).unwrap_or_default();
    let table = |key: &str| values.get(key).and_then(|found| Some((values.table(key)?, found.span.clone())));
    let bootstrap = table("bootstrap").map(|(values, _)| bootstrap(reader, values, &span_of(root)));
    let image = table("image").and_then(|(values, span)| image_source(reader, values, &span));
    let ami = table("ami").map(|(values, span)| ami_source(reader, values, &span));
    if let (Some(first), Some(second)) = (values.get("bootstrap"), values.get("image")) {
        let later = if first.key_span.start > second.key_span.start { first } else { second };
        let message = "`[base]` has both `bootstrap` and `image`";
        reader.error_with_help(&later.key_span.clone(), message, "a machine boots from one of them: remove the other");
    }
    if bootstrap.is_none() && image.is_none() && ami.is_none() && reader.problems.len() == before {
        return Base { bootstrap: Some(default_bootstrap()), image: None, ami: None };
    }
    Base { bootstrap, image, ami }
}

/// Each kind of builder boots its own, and what none boots is a mistake.
pub(crate) fn check_builders(reader: &mut Reader<'_>, root: &Table, builders: &Builders) {
    let written = match root.get("base").map(|entry| &entry.node.value) {
        Some(NodeValue::Table(table)) => Some(table),
        _ => None,
    };
    let key = |name: &str| written.and_then(|table| table.get(name)).map(|entry| entry.key_span.clone());
    let (ami, local) = (key("ami"), key("bootstrap").or_else(|| key("image")));
    let (mut on_aws, mut here) = (false, false);
    for (builder, at) in &builders.known {
        match builder.table {
            BuilderTable::AwsEbs(_) => {
                on_aws = true;
                if ami.is_none() {
                    let message = format!("the builder `{}` has no AMI to start from", builder.name);
                    let help = "name one in `[base]`; Debian's own: `ami = { owner = \"136693071363\", \
                                name = \"debian-13-amd64-*\" }`";
                    reader.error_with_help(at, message, help);
                }
            }
            BuilderTable::Qemu(_) => {
                here = true;
                if let (Some(ami), None) = (&ami, &local) {
                    // A builder that is there by default is written nowhere.
                    let at = if at.is_empty() { ami } else { at };
                    let message = format!("the builder `{}` has nothing to boot", builder.name);
                    let help =
                        "`ami` is for builders of type `aws-ebs`: give `[base]` a `bootstrap` or an `image` as well";
                    reader.error_with_help(at, message, help);
                }
            }
        }
    }
    let all_are_known = !builders.known.is_empty() && builders.known.len() == builders.names.len();
    let idle = [
        // With nothing beside it, it is wrong, not idle.
        ami.filter(|_| !on_aws && local.is_some()).map(|span| (span, "aws-ebs")),
        local.filter(|_| !here).map(|span| (span, "qemu")),
    ];
    for (span, kind) in idle.into_iter().flatten().filter(|_| all_are_known) {
        let message = format!("no builder boots `{}`", &reader.text[span.clone()]);
        let help = format!("it is for builders of type `{kind}`: remove it, or add one");
        reader.report(Problem::warning(span, message).with_help(help));
    }
}

fn span_of(root: &Table) -> Range<usize> {
    root.get("base").map_or(0..0, |entry| entry.key_span.clone())
}

fn default_bootstrap() -> Bootstrap {
    Bootstrap {
        distro: Distro::Debian,
        suite: "trixie".to_owned(),
        arch: "amd64".to_owned(),
        mirror: None,
        components: Vec::new(),
        packages: Vec::new(),
    }
}

fn bootstrap(reader: &mut Reader<'_>, values: &Values, span: &Range<usize>) -> Bootstrap {
    let distro = match values.text("distro").map(|piece| piece.text.as_str()) {
        Some("ubuntu") => Distro::Ubuntu,
        _ => Distro::Debian,
    };
    let suite = match values.text("suite").cloned() {
        Some(suite) => {
            check_suite(reader, &suite);
            suite.text
        }
        None if distro == Distro::Ubuntu && values.get("suite").is_none() => {
            let help = "write the release by its code name, such as `suite = \"noble\"`";
            reader.error_with_help(span, "missing key `suite` for `distro = \"ubuntu\"`", help);
            String::new()
        }
        None => default_bootstrap().suite,
    };
    Bootstrap {
        distro,
        suite,
        mirror: values.string("mirror"),
        components: values.strings("components"),
        packages: values.strings("packages"),
        ..default_bootstrap()
    }
}

fn check_suite(reader: &mut Reader<'_>, suite: &Piece) {
    const NUMBERS: [(&str, &str); 6] = [
        ("11", "bullseye"),
        ("12", "bookworm"),
        ("13", "trixie"),
        ("22.04", "jammy"),
        ("24.04", "noble"),
        ("26.04", "resolute"),
    ];
    let text = suite.text.as_str();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(good) {
        return;
    }
    let number = text.rsplit(['-', ' ']).next().unwrap_or(text);
    let help = match NUMBERS.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => format!("write its code name: `suite = \"{name}\"`"),
        None => "write the release by its code name in lower case, such as `trixie`".to_owned(),
    };
    reader.error_with_help(&suite.span, format!("`{text}` is not the name of a suite"), help);
}

fn image_source(reader: &mut Reader<'_>, values: &Values, span: &Range<usize>) -> Option<ImageSource> {
    let location = location(reader, values, span);
    let checksum = values.text("checksum").cloned().and_then(|piece| checksum(reader, &piece));
    let user = values.text("user").cloned();
    if let Some(user) = &user {
        check_user(reader, user);
    }
    let format = values.text("format").and_then(|piece| disk_format(&piece.text));
    Some(ImageSource { location: location?, checksum: checksum?, format, user: user.map(|user| user.text) })
}

fn location(reader: &mut Reader<'_>, values: &Values, span: &Range<usize>) -> Option<Location> {
    match (values.text("url").cloned(), values.text("path").cloned()) {
        (Some(_), Some(path)) => {
            reader.error(&path.span, "`image` has both `url` and `path`; keep one of them");
            None
        }
        (Some(url), None) => Some(Location::Url(url.text)),
        (None, Some(path)) if path.text.contains("://") => {
            reader.error_with_help(&path.span, "`path` is a URL", "write it as `url`");
            None
        }
        (None, Some(path)) => {
            reader.check_file(&path);
            Some(Location::Path(path.text.into()))
        }
        (None, None) => {
            if !has_problem_in(reader, span) {
                let help = "say where the image is: `url = \"https://…\"` or `path = \"base.qcow2\"`";
                reader.error_with_help(span, "missing key `url` or `path` in `image`", help);
            }
            None
        }
    }
}

fn has_problem_in(reader: &Reader<'_>, span: &Range<usize>) -> bool {
    reader.problems.iter().any(|problem| !problem.span.is_empty() && span.contains(&problem.span.start))
}

pub(crate) fn disk_format(name: &str) -> Option<DiskFormat> {
    DiskFormat::ALL.into_iter().find(|format| format.as_str() == name)
}

/// Reads `sha256:…`, `sha512:…` and `file:…`, and says what is wrong with anything else.
fn checksum(reader: &mut Reader<'_>, piece: &Piece) -> Option<Checksum> {
    let is_hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let text = piece.text.trim();
    let (kind, value) = text.split_once(':').unwrap_or(("", text));
    let digest = |length: usize| (value.len() == length && is_hex(value)).then(|| value.to_lowercase());
    let (message, help) = match kind {
        "sha256" | "sha512" => {
            let length = if kind == "sha256" { 64 } else { 128 };
            if let Some(digest) = digest(length) {
                return Some(if length == 64 { Checksum::Sha256(digest) } else { Checksum::Sha512(digest) });
            }
            let what = if is_hex(value) { format!("has {}", value.len()) } else { "has other characters".to_owned() };
            (format!("a {kind} has {length} hex digits; this {what}"), Some(format!("`{kind}sum FILE` prints it")))
        }
        "file" if value.starts_with("http://") || value.starts_with("https://") => {
            return Some(Checksum::File(Location::Url(value.to_owned())));
        }
        "file" => {
            let path = Piece { text: value.to_owned(), span: piece.span.clone() };
            return reader.check_file(&path).then(|| Checksum::File(Location::Path(value.into())));
        }
        "md5" | "sha1" => {
            (format!("`{kind}` is no longer safe as a checksum"), Some("use sha256 or sha512".to_owned()))
        }
        _ => {
            let help = match (text.len(), is_hex(text)) {
                (64, true) => "did you mean `sha256:` before it?".to_owned(),
                (128, true) => "did you mean `sha512:` before it?".to_owned(),
                _ => "write `sha256:…`, `sha512:…`, or `file:` and the path or URL of a checksum file; \
                      `sha256sum FILE` prints one"
                    .to_owned(),
            };
            ("the checksum does not say which kind it is".to_owned(), Some(help))
        }
    };
    match help {
        Some(help) => reader.error_with_help(&piece.span, message, help),
        None => reader.error(&piece.span, message),
    }
    None
}

/// A login name as Debian allows it.
pub(crate) fn check_user(reader: &mut Reader<'_>, user: &Piece) {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let starts = user.text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !starts || user.text.len() > 32 || !user.text.chars().all(good) {
        let help = "use up to 32 lower-case letters, digits, `_` and `-`";
        reader.error_with_help(&user.span, format!("`{}` cannot be a user name", user.text), help);
    }
}
