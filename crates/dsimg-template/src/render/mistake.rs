//! minijinja's errors as sentences for people, with the nearest right word.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::{Error, ErrorKind};

use super::Context;
use crate::nearest::{listed, nearest};

/// What is wrong with a `{{ … }}`, and where in the rendered text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    pub(crate) range: Option<Range<usize>>,
    pub(crate) help: Option<String>,
}

pub(super) fn describe(context: &Context, text: &str, error: &Error) -> Mistake {
    let range = error.range().filter(|range| text.get(range.clone()).is_some_and(|part| !part.is_empty()));
    if let Some(name) = undefined_name(error) {
        let last = name.rsplit(['.', '[']).next().unwrap_or(&name).trim_matches(['\'', '"', ']']).to_owned();
        let from = range.as_ref().map_or(0, |range| range.start);
        let place = find_word(text, &name, from)
            .or_else(|| find_word(text, &name, 0))
            .or_else(|| find_word(text, &last, from))
            .or(range);
        let written = place.clone().map_or(name.as_str(), |place| with_parts(text, place));
        let (message, help) = undefined(context, if written.starts_with(&name) { written } else { &name });
        return Mistake { message, range: place, help };
    }
    let detail = error.detail().unwrap_or("this cannot be rendered");
    let part = range.clone().and_then(|range| text.get(range)).unwrap_or_default();
    let (message, help) = match error.kind() {
        ErrorKind::UnknownFilter => {
            let near = nearest(part, FILTERS).map(|near| format!("did you mean `{near}`?"));
            (format!("unknown filter `{part}`"), near)
        }
        ErrorKind::SyntaxError if detail.contains("unexpected end of input") => {
            let missing = match detail.rsplit_once("expected ") {
                _ if text.matches("{{").count() > text.matches("}}").count() => "`{{` without `}}`".to_owned(),
                _ if text.matches("{%").count() > text.matches("%}").count() => "`{%` without `%}`".to_owned(),
                Some((_, "expression")) => "the expression is not complete".to_owned(),
                Some((_, what)) if what.starts_with("end") => format!("`{{% {what} %}}` is missing"),
                _ if text.contains("{%") => "a `{% … %}` has no end".to_owned(),
                _ => "the expression is not complete".to_owned(),
            };
            (missing, None)
        }
        ErrorKind::SyntaxError => {
            let help = "to keep `{{` and `}}` as they are, write `{% raw %}{{ … }}{% endraw %}`";
            (format!("this expression cannot be read: {detail}"), text.contains("{{").then(|| help.to_owned()))
        }
        ErrorKind::UnknownFunction => {
            let function = part.split('(').next().unwrap_or(part).trim();
            let help = match function {
                "env" => Some("the environment is `env.NAME`".to_owned()),
                "user" | "var" => Some("variables are named as they are: `{{ name }}`".to_owned()),
                _ => None,
            };
            (format!("there is no function `{function}`"), help)
        }
        _ => (detail.to_owned(), None),
    };
    Mistake { message, range, help }
}

/// The sentence and the advice for a name that is not there.
pub(super) fn undefined(context: &Context, name: &str) -> (String, Option<String>) {
    let (first, rest) = split_name(name);
    let part = |of: &str, known: &BTreeMap<String, String>| {
        let help = if known.is_empty() {
            format!("`[{of}]` itself may use variables, `env` and `build`")
        } else {
            let keys: Vec<&String> = known.keys().collect();
            match nearest(rest, known.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{of}.{near}`?"),
                None => format!("`{of}` has {}", listed(&keys)),
            }
        };
        (format!("`{of}` has no `{rest}` here"), Some(help))
    };
    match first {
        "env" if !rest.is_empty() => {
            let help = match nearest(rest, context.environment.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `env.{near}`?"),
                None => format!("set it, or give a value for when it is not: `{{{{ {name} | default(\"…\") }}}}`"),
            };
            (format!("the environment variable `{rest}` is not set"), Some(help))
        }
        "image" if !rest.is_empty() => part("image", &context.image),
        "build" if !rest.is_empty() => part("build", &context.build),
        "var" | "vars" | "variables" | "user" if !context.variables.contains_key(first) && !rest.is_empty() => {
            let help = format!("variables are named as they are: `{{{{ {rest} }}}}`");
            (format!("`{first}` is not defined"), Some(help))
        }
        _ if !rest.is_empty() && context.variables.contains_key(first) => {
            (format!("the variable `{first}` has no part `{rest}`"), None)
        }
        _ => {
            let names = context.variables.keys().map(String::as_str).chain(["env", "image", "build"]);
            let help = if context.environment.contains_key(first) {
                format!("did you mean `env.{first}`?")
            } else if let Some(near) = nearest(first, names) {
                format!("did you mean `{near}`?")
            } else {
                format!("define it in `[variables]`, such as `{first} = \"…\"`")
            };
            (format!("the variable `{first}` is not defined"), Some(help))
        }
    }
}

const FILTERS: [&str; 29] = [
    "abs",
    "batch",
    "bool",
    "capitalize",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "max",
    "min",
    "replace",
    "reverse",
    "round",
    "sort",
    "split",
    "title",
    "trim",
    "unique",
    "upper",
];

/// The name in minijinja's "`env.HOEM` is undefined".
pub(super) fn undefined_name(error: &Error) -> Option<String> {
    let before = error.detail()?.split_once("` is undefined")?.0;
    Some(before.rsplit_once('`')?.1.to_owned())
}

/// `env.HOME` and `env['HOME']` are `env` and `HOME`.
pub(super) fn split_name(name: &str) -> (&str, &str) {
    match name.find(['.', '[']) {
        Some(at) => (&name[..at], name[at + 1..].trim_matches(['\'', '"', ']'])),
        None => (name, ""),
    }
}

/// The first place from `from` on where `word` stands alone.
pub(super) fn find_word(text: &str, word: &str, from: usize) -> Option<Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.get(from..)?.match_indices(word).map(|(at, _)| from + at..from + at + word.len()).find(|range| {
        !text[..range.start].ends_with(is_word) && !text[range.end..].starts_with(is_word) && !word.is_empty()
    })
}

/// A name with the `.parts` that follow it.
fn with_parts(text: &str, place: Range<usize>) -> &str {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let rest = &text[place.end..];
    let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
    text[place.start..place.end + length].trim_end_matches('.')
}
