//! TOML text → a tree that knows the place of every key and value, in the order of the text.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::Problem;
use crate::text::check_size;

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: NodeValue,
}

#[derive(Debug, Clone)]
pub(crate) enum NodeValue {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
    /// A date, a float, or an integer beyond 64 bits: nothing in a template takes one.
    Other(&'static str),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

impl Node {
    /// The kind of value with its article, for "must be a string, not an integer".
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            NodeValue::Text(_) => "a string",
            NodeValue::Integer(_) => "an integer",
            NodeValue::Boolean(_) => "a boolean",
            NodeValue::List(_) => "a list",
            NodeValue::Table(_) => "a table",
            NodeValue::Other(kind) => kind,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// Reads the text; problems of syntax come with whatever of the tree could be saved.
///
/// `None` for the tree when it is too damaged to say more about it.
pub(crate) fn read(text: &str) -> (Option<Table>, Vec<Problem>) {
    if let Err(problem) = check_size(text.len()) {
        return (None, vec![problem]);
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let only_doubles = errors.iter().all(|error| error.message() == "duplicate key");
    let mut problems: Vec<Problem> = errors.iter().map(|error| syntax_problem(text, error)).collect();
    problems.sort_by_key(|problem| problem.span.start);
    // What follows on one line is mostly an echo of the first.
    problems.dedup_by_key(|problem| line_start(text, problem.span.start));
    let tree = only_doubles.then(|| convert_table(text, root.get_ref()));
    (tree, problems)
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let found = text.get(span.clone()).unwrap_or_default();
    let message = error.message();
    if message == "duplicate key" {
        return Problem::error(span, format!("`{found}` is written twice")).with_help("remove one of the two");
    }
    if message.starts_with("string values must be quoted") {
        return match found {
            "" => Problem::error(span, "a value is missing"),
            "yes" | "on" | "True" | "TRUE" => Problem::error(span, format!("`{found}` is not a value"))
                .with_help("write `true`, or put a string into quotes"),
            "no" | "off" | "False" | "FALSE" => Problem::error(span, format!("`{found}` is not a value"))
                .with_help("write `false`, or put a string into quotes"),
            _ => Problem::error(span, format!("`{found}` is not a value"))
                .with_help(format!("put a string into quotes: \"{found}\"")),
        };
    }
    if message.starts_with("unexpected leading zero") {
        return Problem::error(span, "a number may not begin with 0")
            .with_help("put a file mode into quotes: \"0755\"");
    }
    if found == ":" {
        return Problem::error(span, "`:` between a key and its value").with_help("TOML writes `key = value`");
    }
    if message.starts_with("invalid basic string") || message.starts_with("invalid literal string") {
        return Problem::error(span, "the string has no end").with_help("close it with a quote on this line");
    }
    Problem::error(span, message.replace(", expected nothing", ""))
}

fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

fn convert_table(text: &str, table: &DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            node: Node { span: value.span(), value: convert_value(text, value) },
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    Table { entries }
}

fn convert_value(text: &str, node: &Spanned<DeValue<'_>>) -> NodeValue {
    match node.get_ref() {
        // Line ends of Windows are those of the editor, not of the script that is written in the string.
        DeValue::String(value) if text.get(node.span()).is_some_and(|raw| raw.contains("\r\n")) => {
            NodeValue::Text(value.replace("\r\n", "\n"))
        }
        DeValue::String(value) => NodeValue::Text(value.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(NodeValue::Other("a larger number than fits"), NodeValue::Integer),
        DeValue::Float(_) => NodeValue::Other("a number with a fraction"),
        DeValue::Boolean(value) => NodeValue::Boolean(*value),
        DeValue::Datetime(_) => NodeValue::Other("a date or time"),
        DeValue::Array(values) => NodeValue::List(
            values.iter().map(|item| Node { span: item.span(), value: convert_value(text, item) }).collect(),
        ),
        DeValue::Table(table) => NodeValue::Table(convert_table(text, table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_places_of_the_text_are_kept() {
        let text = "b = 1\na = \"x\"\n[t]\nc = [true]\n";
        let (tree, problems) = read(text);
        assert_eq!(problems, []);
        let tree = tree.unwrap();
        assert_eq!(tree.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["b", "a", "t"]);
        assert_eq!(&text[tree.get("a").unwrap().node.span.clone()], "\"x\"");
    }

    #[test]
    fn several_mistakes_of_syntax_come_at_once() {
        let (tree, problems) = read("a = yes\nmode = 0755\nb = \"open\nname: x\n");
        assert!(tree.is_none());
        let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "`yes` is not a value",
                "a number may not begin with 0",
                "the string has no end",
                "`:` between a key and its value"
            ]
        );
    }

    #[test]
    fn a_key_written_twice_leaves_the_rest_readable() {
        let (tree, problems) = read("a = 1\na = 2\n");
        assert!(tree.is_some());
        assert_eq!(problems[0].message, "`a` is written twice");
    }

    #[test]
    fn a_huge_file_is_refused() {
        let (tree, problems) = read(&"#".repeat(crate::text::LARGEST_TEXT + 1));
        assert!(tree.is_none());
        assert_eq!(problems.len(), 1);
    }
}
