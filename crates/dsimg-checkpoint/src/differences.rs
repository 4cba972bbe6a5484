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
        _ => found.push(format!("{name}: {} -> {}", shown(old), shown(new))),
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
    let added = new.iter().filter(|item| !old.contains(item)).map(|item| format!("+ {}", shown(item)));
    let removed = old.iter().filter(|item| !new.contains(item)).map(|item| format!("- {}", shown(item)));
    let changed: Vec<_> = added.chain(removed).collect();
    if changed.is_empty() { "in another order".to_owned() } else { changed.join(", ") }
}

/// The first line that differs.
fn first_difference(old: &str, new: &str) -> String {
    let (mut old, mut new) = (old.lines(), new.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
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

fn cut(text: &str) -> String {
    // A script may hold what a terminal obeys.
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() > 60 { line.chars().take(59).chain(['…']).collect() } else { line }
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
}
