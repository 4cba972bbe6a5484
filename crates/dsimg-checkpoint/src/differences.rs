//! What changed between two sets of key inputs, in words.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// One line for each thing that changed: `packages: + polars, - numpy`.
#[must_use]
pub fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(name: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => compare_objects(name, old, new, found),
        (Value::Array(old), Value::Array(new)) => found.push(format!("{name}: {}", changed_items(old, new))),
        (Value::String(old), Value::String(new)) if old.contains('\n') || new.contains('\n') => {
            found.push(format!("{name} changed {}", first_difference(old, new)));
        }
        _ => {
            let (old, new) = shown_apart(old, new);
            found.push(format!("{name}: {old} -> {new}"));
        }
    }
}

fn compare_objects(name: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut Vec<String>) {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let inner = if name.is_empty() { key.clone() } else { format!("{name} {key}") };
        match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) => compare(&inner, old, new, found),
            (None, Some(new)) => found.push(format!("{inner}: + {}", shown(new))),
            (Some(_), None) => found.push(format!("{inner}: taken out")),
            (None, None) => {}
        }
    }
}

fn changed_items(old: &[Value], new: &[Value]) -> String {
    let added: Vec<_> = new.iter().filter(|item| !old.contains(item)).collect();
    let removed: Vec<_> = old.iter().filter(|item| !new.contains(item)).collect();
    // One that looks like one of the other side is shown where it differs from that.
    let apart = |item: &Value, others: &[&Value]| match others.iter().find(|other| shown(other) == shown(item)) {
        Some(other) => shown_apart(item, other).0,
        None => shown(item),
    };
    let plus = added.iter().map(|item| format!("+ {}", apart(item, &removed)));
    let minus = removed.iter().map(|item| format!("- {}", apart(item, &added)));
    let changed: Vec<_> = plus.chain(minus).collect();
    if changed.is_empty() { "in another order".to_owned() } else { changed.join(", ") }
}

/// The first line that differs.
fn first_difference(old: &str, new: &str) -> String {
    let (mut old, mut new) = (old.lines(), new.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (Some(was), Some(is)) if was != is => {
                let (was, is) = cut_apart(was, is);
                return format!("(line {number}: `{was}` -> `{is}`)");
            }
            (was, is) if was != is => {
                let word = |line: Option<&str>| line.map_or("nothing".to_owned(), |line| format!("`{}`", cut(line)));
                return format!("(line {number}: {} -> {})", word(was), word(is));
            }
            _ => {}
        }
    }
    "(line ends)".to_owned()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => cut(&other.to_string()),
    }
}

/// Two that differ, so that one sees in what.
fn shown_apart(old: &Value, new: &Value) -> (String, String) {
    let texts = (shown(old), shown(new));
    if texts.0 == texts.1 { around_difference(&whole(old), &whole(new)) } else { texts }
}

fn whole(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Longer ones are cut.
const WIDTH: usize = 60;

fn cut(text: &str) -> String {
    // A script may hold what a terminal obeys.
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() > WIDTH { line.chars().take(WIDTH - 1).chain(['…']).collect() } else { line }
}

fn cut_apart(old: &str, new: &str) -> (String, String) {
    let lines = (cut(old), cut(new));
    if lines.0 == lines.1 { around_difference(old, new) } else { lines }
}

/// What is left out of each by [`cut`] is where they differ.
fn around_difference(old: &str, new: &str) -> (String, String) {
    let shown = |c: char| if c.is_control() { c.escape_default().collect() } else { vec![c] };
    let (old, new): (Vec<char>, Vec<char>) =
        (old.chars().flat_map(shown).collect(), new.chars().flat_map(shown).collect());
    let alike = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    // With a bit of what is before it, to be found again.
    let start = alike.saturating_sub(WIDTH / 3);
    let part = |text: &[char]| {
        let end = text.len().min(start + WIDTH - 2);
        let (before, after) = (if start > 0 { "…" } else { "" }, if end < text.len() { "…" } else { "" });
        format!("{before}{}{after}", text[start..end].iter().collect::<String>())
    };
    (part(&old), part(&new))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_in_words() {
        let old = json!({"packages": ["numpy", "pandas"], "version": 1, "inline": ["a"], "x": "1\n2\n3", "gone": 1});
        let new =
            json!({"packages": ["numpy", "polars"], "version": 2, "inline": ["a"], "x": "1\nzwei\n3", "venv": "/v"});
        assert_eq!(
            differences(&old, &new),
            [
                "gone: taken out",
                "packages: + polars, - pandas",
                "venv: + /v",
                "version: 1 -> 2",
                "x changed (line 2: `2` -> `zwei`)",
            ]
        );
        assert_eq!(differences(&old, &old), [""; 0]);
    }

    #[test]
    fn what_lies_deeper_is_named_by_its_way() {
        let (old, new) = (json!({"files": {"a.sh": "1"}}), json!({"files": {"a.sh": "2", "b.sh": "3"}}));
        assert_eq!(differences(&old, &new), ["files a.sh: 1 -> 2", "files b.sh: + 3"]);
        assert_eq!(differences(&json!({"l": [1, 2]}), &json!({"l": [2, 1]})), ["l: in another order"]);
    }

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let long = |end: &str| format!("{}{end}", "a".repeat(100));
        let (a, b) = (long("1"), long(&"2".repeat(100)));
        let (shown_a, shown_b) = (format!("…{}1", "a".repeat(20)), format!("…{}{}…", "a".repeat(20), "2".repeat(38)));
        assert_eq!(differences(&json!({"x": a}), &json!({"x": b})), [format!("x: {shown_a} -> {shown_b}")]);
        assert_eq!(differences(&json!({"x": [a]}), &json!({"x": [b]})), [format!("x: + {shown_b}, - {shown_a}")]);
        assert_eq!(
            differences(&json!({"x": format!("1\n{a}")}), &json!({"x": format!("1\n{b}")})),
            [format!("x changed (line 2: `{shown_a}` -> `{shown_b}`)")]
        );
        assert_eq!(
            differences(&json!({"x": a}), &json!({"x": long("")})),
            [format!("x: {shown_a} -> …{}", "a".repeat(20))]
        );
        // Those that differ before the cut are shown from their beginning.
        assert_eq!(differences(&json!({"x": a}), &json!({"x": "b"})), [format!("x: {}… -> b", "a".repeat(59))]);
    }

    #[test]
    fn what_is_not_shown_is_shown_where_it_is_the_difference() {
        let lists = differences(&json!({"x": ["echo\n1"]}), &json!({"x": ["echo\n2"]}));
        assert_eq!(lists, [r"x: + echo\n2, - echo\n1"]);
        assert_eq!(differences(&json!({"x": "a\tb"}), &json!({"x": "ab"})), [r"x: a\tb -> ab"]);
        assert_eq!(differences(&json!({"x": "\u{1b}[1m"}), &json!({"x": "[1m"})), [r"x: \u{1b}[1m -> [1m"]);
    }
}
