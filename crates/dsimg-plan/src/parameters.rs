//! A stage's parameters as the text that its scripts read: bash, every value quoted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dsimg_template::definition::{Definition, Parameter, ParameterKind};
use dsimg_template::template::ParameterValue;

/// `params.sh`: every parameter of the definition as a bash variable, unset ones empty.
///
/// `guest_path` says where a host path of a path parameter lies in the guest.
#[must_use]
pub fn parameters_script(
    definition: &Definition,
    values: &BTreeMap<String, ParameterValue>,
    guest_path: &dyn Fn(&str, &std::path::Path) -> String,
) -> String {
    let mut script = format!("# Parameters of `{}`, made by dsimg from the template.\n", definition.name);
    for (name, parameter) in &definition.parameters {
        match (&parameter.kind, values.get(name)) {
            (ParameterKind::Tables(fields), Some(ParameterValue::Tables(tables))) => {
                write_tables(&mut script, name, fields, tables, guest_path);
            }
            (ParameterKind::Tables(fields), _) => write_tables(&mut script, name, fields, &[], guest_path),
            (kind, value) => assign(&mut script, name, kind, value, guest_path),
        }
    }
    script
}

fn assign(
    script: &mut String,
    name: &str,
    kind: &ParameterKind,
    value: Option<&ParameterValue>,
    guest_path: &dyn Fn(&str, &std::path::Path) -> String,
) {
    let _ = match value {
        Some(ParameterValue::Map(map)) => {
            let pairs: Vec<_> = map.iter().map(|(key, value)| format!("[{}]={}", quote(key), quote(value))).collect();
            writeln!(script, "declare -A {name}=({})", pairs.join(" "))
        }
        Some(ParameterValue::Texts(texts)) => writeln!(script, "{name}=({})", quote_all(texts)),
        Some(ParameterValue::Integers(numbers)) => {
            let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
            writeln!(script, "{name}=({})", numbers.join(" "))
        }
        Some(ParameterValue::Paths(paths)) => {
            let paths: Vec<_> = paths.iter().map(|path| guest_path(name, path)).collect();
            writeln!(script, "{name}=({})", quote_all(&paths))
        }
        Some(value) => writeln!(script, "{name}={}", quote(&single_text(name, value, guest_path))),
        None => match kind {
            ParameterKind::Map => writeln!(script, "declare -A {name}=()"),
            ParameterKind::Texts | ParameterKind::Integers | ParameterKind::Paths => writeln!(script, "{name}=()"),
            ParameterKind::Boolean => writeln!(script, "{name}='false'"),
            _ => writeln!(script, "{name}=''"),
        },
    };
}

/// One array for each field, so that a script reads `repositories_uri[i]`.
fn write_tables(
    script: &mut String,
    name: &str,
    fields: &BTreeMap<String, Parameter>,
    tables: &[BTreeMap<String, ParameterValue>],
    guest_path: &dyn Fn(&str, &std::path::Path) -> String,
) {
    let _ = writeln!(script, "{name}_count={}", tables.len());
    for field in fields.keys() {
        let full = format!("{name}_{field}");
        let text = |table: &BTreeMap<String, ParameterValue>| {
            table.get(field).map_or_else(String::new, |value| single_text(name, value, guest_path))
        };
        let texts: Vec<_> = tables.iter().map(text).collect();
        let _ = writeln!(script, "{full}=({})", quote_all(&texts));
    }
}

fn single_text(name: &str, value: &ParameterValue, guest_path: &dyn Fn(&str, &std::path::Path) -> String) -> String {
    match value {
        ParameterValue::Text(text) => text.clone(),
        ParameterValue::Integer(number) => number.to_string(),
        ParameterValue::Boolean(value) => value.to_string(),
        ParameterValue::Duration(timeout) => timeout.seconds.to_string(),
        ParameterValue::Path(path) if path.as_os_str().is_empty() => String::new(),
        ParameterValue::Path(path) => guest_path(name, path),
        ParameterValue::Texts(texts) => texts.join("\n"),
        ParameterValue::Integers(numbers) => numbers.iter().map(i64::to_string).collect::<Vec<_>>().join("\n"),
        ParameterValue::Paths(paths) => paths.iter().map(|path| guest_path(name, path)).collect::<Vec<_>>().join("\n"),
        ParameterValue::Map(map) => map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("\n"),
        ParameterValue::Tables(_) => unreachable!("the definition's form has no tables inside tables"),
    }
}

fn quote_all(texts: &[String]) -> String {
    texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(" ")
}

/// A word that bash reads back as exactly this text.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn bash_reads_every_text_back() {
        for text in ["", "plain", "it's", "a b\nc", "$(touch /tmp/x) `id` \"$HOME\" \\ !", "é\u{1F600}", "-n", "*"] {
            let script = format!("value={}; printf %s \"$value\"", quote(text));
            let output = Command::new("bash").arg("-c").arg(&script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
