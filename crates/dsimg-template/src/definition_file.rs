//! Reads a `provisioner.toml`.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::definition::{Definition, Parameter, ParameterKind, StepAction, StepDefinition};
use crate::keys::{self, Key, Shape};
use crate::nearest::{listed, suggestion};
use crate::problem::{self, Problem, has_errors};
use crate::reader::Reader;
use crate::template::ParameterValue;
use crate::tree::{self, Entry, NodeValue, Table};
use crate::values::{Piece, Values};

/// Reads the definition of the provisioner in the folder `folder_name`, whose files are `files`.
///
/// # Errors
/// All problems of the text, among them steps that name a file or a parameter that is not there.
pub fn parse_definition(text: &str, folder_name: &str, files: &[&str]) -> Result<Definition, Vec<Problem>> {
    let (root, problems) = tree::read(text);
    let mut reader = Reader { problems, ..Reader::new(text) };
    let definition = root.map(|root| read(&mut reader, &root, folder_name, files));
    let mut problems = reader.problems;
    problem::sort(&mut problems);
    match definition {
        Some(definition) if !has_errors(&problems) => Ok(definition),
        _ => Err(problems),
    }
}

fn read(reader: &mut Reader<'_>, root: &Table, folder_name: &str, files: &[&str]) -> Definition {
    let values = reader.table(root, &(0..0), "the file", &definition_keys());
    if let Some(name) = values.text("name")
        && name.text != folder_name
    {
        let message = format!("the provisioner `{}` lies in the folder `{folder_name}`", name.text);
        reader.error_with_help(&name.span.clone(), message, "give both the same name");
    }
    if let Some(freeze) = values.text("freeze").cloned() {
        check_script(reader, &freeze, files);
    }
    for tool in values.texts("tools") {
        if !TOOLS.contains(&tool.text.as_str()) {
            let mut problem = Problem::error(tool.span.clone(), format!("dsimg has no tool `{}`", tool.text));
            problem.help = suggestion(&tool.text, &TOOLS, "tools");
            reader.report(problem);
        }
    }
    let parameters = parameters(reader, root);
    let steps = steps(reader, root, &parameters, files);
    Definition {
        name: values.string("name").unwrap_or_default(),
        version: values.integer("version").and_then(|version| u32::try_from(version).ok()).unwrap_or(1),
        summary: values.string("summary").unwrap_or_default(),
        parameters,
        steps,
        tools: values.strings("tools"),
        freeze: values.string("freeze"),
    }
}

/// Programs that dsimg can put into a machine for the time of the build.
const TOOLS: [&str; 1] = ["uv"];

fn definition_keys() -> Vec<Key> {
    vec![
        Key::new("name", Shape::Text, "The folder's name").required(),
        Key::new("version", Shape::Integer { least: 1, most: i64::from(u32::MAX) }, "Raise it when the work changes")
            .required(),
        Key::new("summary", Shape::Text, "One line for people").required(),
        Key::new("tools", Shape::Texts, "Programs that dsimg puts into the machine for the build"),
        Key::new("freeze", Shape::Text, "The script that lists what is installed"),
        Key::new("parameters", Shape::Own, "What a `[[provision]]` may say"),
        Key::new("step", Shape::Own, "What is done, in this order"),
    ]
}

const KINDS: [&str; 10] =
    ["string", "strings", "integer", "integers", "boolean", "duration", "map", "path", "paths", "tables"];

fn parameter_keys() -> Vec<Key> {
    let kinds = KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    vec![
        Key::new("type", Shape::Choice(kinds), "What it takes").required(),
        Key::new("summary", Shape::Text, "One line for people"),
        Key::new("required", Shape::Boolean, "Whether it must be given"),
        Key::new("default", Shape::Own, "Its value when none is given"),
        Key::new("choices", Shape::Texts, "The only values allowed, for a string"),
        Key::new("fields", Shape::Own, "The keys of each table, for `tables`"),
    ]
}

fn parameters(reader: &mut Reader<'_>, root: &Table) -> BTreeMap<String, Parameter> {
    let Some(entry) = root.get("parameters") else { return BTreeMap::new() };
    let common = keys::provision();
    let mut parameters = BTreeMap::new();
    for (name, entry) in named_tables(reader, entry) {
        if keys::names(&common).contains(&name) {
            let message = format!("`{name}` is a key of every `[[provision]]`");
            reader.error_with_help(&entry.key_span, message, "give the parameter another name");
        }
        if let Some(parameter) = parameter(reader, entry) {
            parameters.insert(name.to_owned(), parameter);
        }
    }
    parameters
}

/// The tables of `[parameters.…]` or `[….fields.…]` by name.
fn named_tables<'t>(reader: &mut Reader<'_>, entry: &'t Entry) -> Vec<(&'t str, &'t Entry)> {
    let NodeValue::Table(table) = &entry.node.value else {
        reader.error(&entry.node.span, format!("`{}` must be a table, not {}", entry.key, entry.node.kind()));
        return Vec::new();
    };
    let mut named = Vec::new();
    for entry in &table.entries {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !entry.key.starts_with(|c: char| c.is_ascii_lowercase()) || !entry.key.chars().all(good) {
            let message = format!("`{}` cannot be the name of a parameter", entry.key);
            reader.error_with_help(&entry.key_span, message, "use lower-case letters, digits and `_`, a letter first");
        }
        named.push((entry.key.as_str(), entry));
    }
    named
}

fn parameter(reader: &mut Reader<'_>, entry: &Entry) -> Option<Parameter> {
    let NodeValue::Table(table) = &entry.node.value else {
        let message = format!("a parameter must be a table, not {}", entry.node.kind());
        reader.error_with_help(&entry.node.span, message, "write `{ type = \"string\", summary = \"…\" }`");
        return None;
    };
    let what = format!("the parameter `{}`", entry.key);
    let values = reader.table(table, &entry.node.span, &what, &parameter_keys());
    let kind = match values.text("type")?.text.as_str() {
        "strings" => ParameterKind::Texts,
        "integer" => ParameterKind::Integer,
        "integers" => ParameterKind::Integers,
        "boolean" => ParameterKind::Boolean,
        "duration" => ParameterKind::Duration,
        "map" => ParameterKind::Map,
        "path" => ParameterKind::Path,
        "paths" => ParameterKind::Paths,
        "tables" => ParameterKind::Tables(fields(reader, entry, table)),
        _ => ParameterKind::Text,
    };
    if let Some(fields) = table.get("fields")
        && !matches!(kind, ParameterKind::Tables(_))
    {
        reader.error(&fields.key_span, "only a parameter of type `tables` has `fields`");
    }
    if let Some(choices) = values.get("choices")
        && kind != ParameterKind::Text
    {
        reader.error(&choices.key_span.clone(), "only a parameter of type `string` has `choices`");
    }
    let mut parameter = Parameter {
        kind,
        summary: values.string("summary").unwrap_or_default(),
        required: values.boolean("required").unwrap_or(false),
        default: None,
        choices: values.strings("choices"),
    };
    parameter.default = default(reader, entry, table, &parameter);
    Some(parameter)
}

fn fields(reader: &mut Reader<'_>, entry: &Entry, table: &Table) -> BTreeMap<String, Parameter> {
    let Some(fields) = table.get("fields") else {
        reader.error(&entry.key_span, format!("the parameter `{}` of type `tables` has no `fields`", entry.key));
        return BTreeMap::new();
    };
    let mut parameters = BTreeMap::new();
    for (name, entry) in named_tables(reader, fields) {
        if let Some(parameter) = parameter(reader, entry) {
            parameters.insert(name.to_owned(), parameter);
        }
    }
    parameters
}

fn default(reader: &mut Reader<'_>, entry: &Entry, table: &Table, parameter: &Parameter) -> Option<ParameterValue> {
    let written = table.get("default")?;
    if parameter.required {
        reader.error(&written.key_span, format!("`{}` is required, so its default is never used", entry.key));
    }
    if matches!(parameter.kind, ParameterKind::Path | ParameterKind::Paths) {
        reader.error(&written.key_span, "a path has no default: it would be a file beside each template");
        return None;
    }
    let key = Key::of_parameter("default", parameter);
    let value = reader.value(&key, &written.node)?;
    let mut values = Values::default();
    let found = crate::values::Found { key_span: 0..0, span: written.node.span.clone(), value };
    values.insert("default", found);
    values.parameters().remove("default")
}

fn steps(
    reader: &mut Reader<'_>,
    root: &Table,
    parameters: &BTreeMap<String, Parameter>,
    files: &[&str],
) -> Vec<StepDefinition> {
    let mut steps = Vec::new();
    for (table, span) in crate::builders::tables(reader, root, "step") {
        steps.extend(step(reader, table, &span, parameters, files));
    }
    if root.get("step").is_none() {
        reader.error_with_help(&(0..0), "there is no `[[step]]`", "a provisioner does at least one thing");
    }
    steps
}

/// The actions of a step, each with the keys that may stand beside it.
const ACTIONS: [(&str, &[&str]); 4] =
    [("run", &["reboots"]), ("upload", &["to", "render"]), ("fetch", &["to"]), ("reboot", &[])];

fn step_keys(action: &str, beside: &[&str]) -> Vec<Key> {
    let shape = if action == "reboot" { Shape::Boolean } else { Shape::Text };
    let others = beside.iter().map(|name| Key::new(name, Shape::Text, "the parameter that says it"));
    let mut keys = vec![Key::new(action, shape, ""), Key::new("when", Shape::Text, "")];
    keys.extend(others);
    keys
}

fn step(
    reader: &mut Reader<'_>,
    table: &Table,
    span: &Range<usize>,
    parameters: &BTreeMap<String, Parameter>,
    files: &[&str],
) -> Option<StepDefinition> {
    let actions: Vec<&(&str, &[&str])> = ACTIONS.iter().filter(|(name, _)| table.get(name).is_some()).collect();
    let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
    let [(action, beside)] = actions[..] else {
        let message = if actions.is_empty() { "the step does nothing" } else { "the step does two things" };
        reader.error_with_help(span, message, format!("a step has one of {}", listed(&names)));
        return None;
    };
    let values = reader.table(table, span, "the step", &step_keys(action, beside));
    let mut parameter = |key: &str, kinds: &[&str]| {
        let piece = values.text(key).cloned()?;
        check_parameter(reader, &piece, parameters, kinds).then_some(piece.text)
    };
    let when = parameter("when", &KINDS);
    let action = match *action {
        "run" => {
            let reboots = parameter("reboots", &["boolean"]);
            let script = values.text("run")?.clone();
            check_script(reader, &script, files);
            StepAction::Run { script: script.text, reboots }
        }
        "upload" => StepAction::Upload {
            to: parameter("to", &["string"]),
            render: parameter("render", &["boolean"]),
            parameter: parameter("upload", &["path", "paths", "tables"])?,
        },
        "fetch" => {
            let (fetched, to) = (parameter("fetch", &["string"]), parameter("to", &["string"]));
            if values.text("to").is_none() {
                let help = "`to` names the parameter that says where the file goes";
                reader.error_with_help(span, "missing key `to` in the step", help);
            }
            StepAction::Fetch { parameter: fetched?, to: to? }
        }
        _ => {
            if values.boolean("reboot") == Some(false) {
                reader.error_with_help(span, "`reboot` is false", "remove the step, or give it a `when`");
            }
            StepAction::Reboot
        }
    };
    Some(StepDefinition { when, action })
}

fn check_parameter(
    reader: &mut Reader<'_>,
    piece: &Piece,
    parameters: &BTreeMap<String, Parameter>,
    kinds: &[&str],
) -> bool {
    let Some(parameter) = parameters.get(&piece.text) else {
        let known: Vec<&str> = parameters.keys().map(String::as_str).collect();
        let mut problem = Problem::error(piece.span.clone(), format!("there is no parameter `{}`", piece.text));
        problem.help = suggestion(&piece.text, &known, "parameters");
        reader.report(problem);
        return false;
    };
    let kind = kind_name(&parameter.kind);
    if !kinds.contains(&kind) {
        let message = format!("the parameter `{}` is of type `{kind}`", piece.text);
        reader.error_with_help(&piece.span, message, format!("it must be of type {}", listed(kinds)));
        return false;
    }
    true
}

fn kind_name(kind: &ParameterKind) -> &'static str {
    match kind {
        ParameterKind::Text => "string",
        ParameterKind::Texts => "strings",
        ParameterKind::Integer => "integer",
        ParameterKind::Integers => "integers",
        ParameterKind::Boolean => "boolean",
        ParameterKind::Duration => "duration",
        ParameterKind::Map => "map",
        ParameterKind::Path => "path",
        ParameterKind::Paths => "paths",
        ParameterKind::Tables(_) => "tables",
    }
}

fn check_script(reader: &mut Reader<'_>, script: &Piece, files: &[&str]) {
    if !files.contains(&script.text.as_str()) {
        let mut problem = Problem::error(script.span.clone(), format!("there is no file `{}`", script.text));
        problem.help = suggestion(&script.text, files, "files of the folder");
        reader.report(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Timeout;

    const GOOD: &str = r#"
name = "hub"
version = 2
summary = "A hub"
tools = ["uv"]
freeze = "freeze.sh"
[parameters.port]
type = "integer"
default = 8000
[parameters.wait]
type = "duration"
default = "10m"
[parameters.source]
type = "path"
required = true
[parameters.target]
type = "string"
choices = ["/opt", "/srv"]
default = "/opt"
[parameters.restart]
type = "boolean"
[parameters.users]
type = "tables"
[parameters.users.fields.name]
type = "string"
required = true
[[step]]
upload = "source"
to = "target"
[[step]]
run = "install.sh"
reboots = "restart"
[[step]]
reboot = true
when = "restart"
"#;

    #[test]
    fn a_definition_is_read() {
        let definition = parse_definition(GOOD, "hub", &["install.sh", "freeze.sh"]).unwrap();
        assert_eq!(definition.version, 2);
        assert_eq!(definition.parameters["port"].default, Some(ParameterValue::Integer(8000)));
        let ten_minutes = ParameterValue::Duration(Timeout::from_minutes(10));
        assert_eq!(definition.parameters["wait"].default, Some(ten_minutes));
        assert_eq!(definition.steps.len(), 3);
        let run = StepAction::Run { script: "install.sh".to_owned(), reboots: Some("restart".to_owned()) };
        assert_eq!(definition.steps[1].action, run);
    }

    #[test]
    fn everything_wrong_with_a_definition_comes_at_once() {
        let text = GOOD
            .replace("reboots = \"restart\"", "reboots = \"restrat\"")
            .replace("to = \"target\"", "to = \"port\"")
            .replace("default = 8000", "default = \"8000\"")
            .replace("install.sh", "instal.sh");
        let problems = parse_definition(&text, "pub", &["install.sh", "freeze.sh"]).unwrap_err();
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "the provisioner `hub` lies in the folder `pub`",
                "`default` must be an integer, not a string",
                "the parameter `port` is of type `integer`",
                "there is no file `instal.sh`",
                "there is no parameter `restrat`",
            ]
        );
    }
}
