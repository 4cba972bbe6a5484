//! As much of JSON Schema as `docs/manifest.schema.json` uses. A keyword that is not known here is an error, so that
//! none is passed over.

use std::collections::BTreeSet;

use serde_json::Value;

pub(crate) const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manifest.schema.json");

pub(crate) fn read() -> Value {
    let text = std::fs::read_to_string(PATH).expect("the schema is there");
    serde_json::from_str(&text).expect("the schema is JSON")
}

/// Where the value does not keep to the schema.
pub(crate) fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, value, "$", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let is_kept = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "format" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').expect("the schema refers to itself only");
                check(root, root.pointer(pointer).expect("what is referred to is there"), value, at, found);
                true
            }
            "type" => has_type(value, rule.as_str().unwrap()),
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
            "required" => {
                for name in rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                    if value.is_object() && value.get(name).is_none() {
                        found.push(format!("{at}: `{name}` is missing"));
                    }
                }
                true
            }
            "properties" => {
                for (name, inner) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(root, inner, value, &format!("{at}.{name}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(rule, false);
                for name in value.as_object().into_iter().flat_map(|object| object.keys()) {
                    if schema["properties"].get(name).is_none() {
                        found.push(format!("{at}: `{name}` is not allowed"));
                    }
                }
                true
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}[{index}]"), found);
                }
                true
            }
            other => panic!("the keyword `{other}` is not known to this test"),
        };
        if !is_kept {
            found.push(match keyword.as_str() {
                "type" => format!("{at}: not of type {}", rule.as_str().unwrap()),
                "const" => format!("{at}: not {rule}"),
                "enum" => format!("{at}: not one of {rule}"),
                "pattern" => format!("{at}: does not match {rule}"),
                "minimum" => format!("{at}: below {rule}"),
                _ => format!("{at}: too short"),
            });
        }
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the type `{other}` is not known to this test"),
    }
}

/// The patterns of the schema, each by what it says.
fn matches(pattern: &str, text: &str) -> bool {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match pattern {
        "^[0-9a-f]{64}$" => text.len() == 64 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')),
        "^[a-z0-9][a-z0-9._-]*$" => text.starts_with(lower) && text.chars().all(|c| lower(c) || "._-".contains(c)),
        "^[A-Za-z0-9._+~-]+$" => {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-".contains(c))
        }
        "^[^/]+$" => !text.is_empty() && !text.contains('/'),
        "^[a-z0-9-]+$" => !text.is_empty() && text.chars().all(|c| lower(c) || c == '-'),
        other => panic!("the pattern `{other}` is not known to this test"),
    }
}

/// The path of every key, with `[]` for the elements of lists.
pub(crate) fn keys_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_keys(value, "", &mut found);
    found
}

fn collect_keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    for (name, inner) in value.as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        collect_keys(inner, &path, found);
        found.insert(path);
    }
    for item in value.as_array().into_iter().flatten() {
        collect_keys(item, &format!("{at}[]"), found);
    }
}

/// As [`keys_of`], of all that a schema allows.
pub(crate) fn keys_in(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_allowed(schema, schema, "", &mut found);
    found
}

fn collect_allowed(root: &Value, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let referred = schema.get("$ref").map(|pointer| root.pointer(&pointer.as_str().unwrap()[1..]).unwrap());
    let schema = referred.unwrap_or(schema);
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{at}.{name}");
        collect_allowed(root, inner, &path, found);
        found.insert(path);
    }
    if let Some(items) = schema.get("items") {
        collect_allowed(root, items, &format!("{at}[]"), found);
    }
}
