//! `[variables]`: their types and defaults, and the values given from outside.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::keys;
use crate::nearest::{listed, nearest};
use crate::problem::Problem;
use crate::reader::Reader;
use crate::render::{Context, Renderer, UNKNOWN, Variable};
use crate::secret::{Secret, placeholder};
use crate::surroundings::{GivenVariable, Surroundings, VariableSource};
use crate::tree::{Entry, Node, NodeValue, Table};

/// Every variable with its value.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// Sensitive ones as placeholders; those without a value as [`UNKNOWN`].
    pub(crate) values: BTreeMap<String, Variable>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Where the default of a sensitive variable is written out.
    pub(crate) written_secrets: Vec<(String, Range<usize>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
    Texts,
}

/// What the template says about one variable.
pub(crate) struct Declared {
    pub(crate) kind: Kind,
    default: Option<Variable>,
    pub(crate) sensitive: bool,
    required: bool,
    /// Where the default of a sensitive variable is written out.
    written_secret: Option<Range<usize>>,
    /// Something is wrong with it and has been reported.
    pub(crate) broken: bool,
}

/// Reads the table and puts the given values over the defaults, and those of the `[matrix]` over both. One that is
/// `None` is wrong, and reported.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    root: &Table,
    surroundings: &Surroundings<'_>,
    matrix: &BTreeMap<String, Option<Variable>>,
) -> Variables {
    let mut variables = Variables::default();
    for (entry, declared) in declare(reader, root, surroundings) {
        let written = declared.written_secret.clone().map(|span| (entry.key.clone(), span));
        variables.written_secrets.extend(written);
        let value = match matrix.get(&entry.key) {
            Some(value) => value.clone(),
            None => value(reader, entry, &declared, surroundings.variables.get(&entry.key)),
        };
        match value {
            Some(Variable::Text(text)) if declared.sensitive => {
                variables.secrets.insert(entry.key.clone(), Secret::new(text));
                variables.values.insert(entry.key.clone(), Variable::Text(placeholder(&entry.key)));
            }
            other => {
                let value = other.unwrap_or_else(|| Variable::Text(UNKNOWN.to_owned()));
                variables.values.insert(entry.key.clone(), value);
            }
        }
    }
    report_strangers(reader, &variables, surroundings);
    variables
}

/// The variables with names that can be used, and what the template says about each.
pub(crate) fn declare<'t>(
    reader: &mut Reader<'_>,
    root: &'t Table,
    surroundings: &Surroundings<'_>,
) -> Vec<(&'t Entry, Declared)> {
    // Defaults may use what is outside the template, not each other: no order, no circles.
    reader.renderer = Some(Renderer::new(&Context {
        environment: surroundings.environment.clone(),
        build: surroundings.build.clone(),
        ..Context::default()
    }));
    let mut declared = Vec::new();
    for entry in declarations(reader, root) {
        if check_name(reader, entry) {
            declared.push((entry, declaration(reader, entry)));
        }
    }
    declared
}

/// Reads a `--var-file`: TOML, one value per name.
///
/// # Errors
/// Every problem of the file: syntax, tables, dates.
pub fn parse_variable_file(text: &str) -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let (tree, mut problems) = crate::tree::read(text);
    let mut values = BTreeMap::new();
    for entry in tree.iter().flat_map(|table| &table.entries) {
        match given_text(&entry.node) {
            Some(value) => {
                values.insert(entry.key.clone(), value);
            }
            None => problems.push(
                Problem::error(
                    entry.node.span.clone(),
                    format!("`{}` must be a string, an integer, a boolean or a list of strings", entry.key),
                )
                .with_help(format!("write `{} = \"…\"`", entry.key)),
            ),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

fn given_text(node: &Node) -> Option<String> {
    match &node.value {
        NodeValue::Text(text) => Some(text.clone()),
        NodeValue::Integer(integer) => Some(integer.to_string()),
        NodeValue::Boolean(value) => Some(value.to_string()),
        NodeValue::List(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(Node::as_text).collect();
            // JSON strings are TOML strings.
            serde_json::to_string(&texts?).ok()
        }
        _ => None,
    }
}

fn declarations<'t>(reader: &mut Reader<'_>, root: &'t Table) -> &'t [Entry] {
    match root.get("variables") {
        None => &[],
        Some(Entry { node: Node { value: NodeValue::Table(table), .. }, .. }) => &table.entries,
        Some(entry) => {
            let message = format!("`variables` must be a table, not {}", entry.node.kind());
            reader.error_with_help(&entry.key_span, message, "write `[variables]` and one `name = value` per line");
            &[]
        }
    }
}

fn check_name(reader: &mut Reader<'_>, entry: &Entry) -> bool {
    const RESERVED: [&str; 24] = [
        "env",
        "image",
        "build",
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
        "not",
        "and",
        "or",
        "in",
        "is",
        "if",
        "else",
        "for",
        "loop",
        "self",
        "super",
        "range",
        "dict",
        "debug",
        "namespace",
    ];
    let name = &entry.key;
    let good = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !good {
        let message = format!("`{name}` cannot be the name of a variable");
        reader.error_with_help(&entry.key_span, message, "use letters, digits and `_`, a letter first");
    } else if RESERVED.contains(&name.as_str()) {
        reader.error(&entry.key_span, format!("`{name}` has a meaning of its own and cannot be a variable"));
    } else {
        return true;
    }
    false
}

fn declaration(reader: &mut Reader<'_>, entry: &Entry) -> Declared {
    let before = reader.problems.len();
    let mut declared = Declared {
        kind: Kind::Text,
        default: None,
        sensitive: false,
        required: true,
        written_secret: None,
        broken: false,
    };
    if let NodeValue::Table(table) = &entry.node.value {
        let what = format!("the variable `{}`", entry.key);
        let values = reader.table(table, &entry.node.span, &what, &keys::variable());
        let default = table.get("default");
        declared.kind = match values.text("type").map(|piece| piece.text.as_str()) {
            Some("integer") => Kind::Integer,
            Some("boolean") => Kind::Boolean,
            Some("strings") => Kind::Texts,
            Some(_) => Kind::Text,
            None => default.and_then(|entry| kind_of(&entry.node)).unwrap_or(Kind::Text),
        };
        declared.sensitive = values.boolean("sensitive").unwrap_or(false);
        declared.required = values.boolean("required").unwrap_or(true);
        declared.default = default.and_then(|default| default_value(reader, default, declared.kind));
        if declared.sensitive {
            check_sensitive(reader, entry, declared.kind);
            declared.written_secret = default.and_then(written_secret);
        }
    } else if let Some(kind) = kind_of(&entry.node) {
        declared.kind = kind;
        declared.default = default_value(reader, entry, kind);
    } else {
        let message = format!("a variable cannot be {}", entry.node.kind());
        let help = "give a string, an integer, a boolean, a list of strings, or `{ type = …, default = … }`";
        reader.error_with_help(&entry.node.span, message, help);
    }
    declared.broken = reader.problems.len() > before;
    declared
}

fn check_sensitive(reader: &mut Reader<'_>, entry: &Entry, kind: Kind) {
    if kind != Kind::Text {
        reader.error(&entry.node.span, format!("the sensitive variable `{}` must be a string", entry.key));
    }
}

fn written_secret(default: &Entry) -> Option<Range<usize>> {
    let text = default.node.as_text()?;
    (!text.is_empty() && !crate::render::is_rendered(text)).then(|| default.node.span.clone())
}

fn kind_of(node: &Node) -> Option<Kind> {
    match &node.value {
        NodeValue::Text(_) => Some(Kind::Text),
        NodeValue::Integer(_) => Some(Kind::Integer),
        NodeValue::Boolean(_) => Some(Kind::Boolean),
        NodeValue::List(_) => Some(Kind::Texts),
        _ => None,
    }
}

fn default_value(reader: &mut Reader<'_>, entry: &Entry, kind: Kind) -> Option<Variable> {
    written_value(reader, &entry.key, &entry.node, kind, "a default")
}

/// A value of a variable as the template writes it; `what` it is, for those that name other variables.
pub(crate) fn written_value(
    reader: &mut Reader<'_>,
    name: &str,
    node: &Node,
    kind: Kind,
    what: &str,
) -> Option<Variable> {
    let before = reader.problems.len();
    let key = |shape| keys::Key::new(name, shape, "");
    let any = keys::Shape::Integer { least: i64::MIN, most: i64::MAX };
    let value = match kind {
        Kind::Text => reader.piece(&key(keys::Shape::Text), node).map(|piece| Variable::Text(piece.text)),
        Kind::Texts => reader
            .pieces(&key(keys::Shape::Texts), node)
            .map(|pieces| Variable::Texts(pieces.into_iter().map(|piece| piece.text).collect())),
        Kind::Integer => match reader.value(&key(any), node) {
            Some(crate::values::Value::Integer(integer)) => Some(Variable::Integer(integer)),
            _ => None,
        },
        Kind::Boolean => match reader.value(&key(keys::Shape::Boolean), node) {
            Some(crate::values::Value::Boolean(value)) => Some(Variable::Boolean(value)),
            _ => None,
        },
    };
    for problem in &mut reader.problems[before..] {
        if problem.message.starts_with("the variable") {
            problem.help = Some(format!("{what} may use `env` and `build`, not other variables"));
        }
    }
    value
}

/// The given value, else the default; `None` after a problem.
fn value(
    reader: &mut Reader<'_>,
    entry: &Entry,
    declared: &Declared,
    given: Option<&GivenVariable>,
) -> Option<Variable> {
    if declared.broken {
        return None;
    }
    if let Some(given) = given {
        return given_variable(reader, entry, declared.kind, given);
    }
    match (&declared.default, declared.required, declared.kind) {
        (Some(default), _, _) => Some(default.clone()),
        (None, false, Kind::Text) => Some(Variable::Text(String::new())),
        (None, false, Kind::Texts) => Some(Variable::Texts(Vec::new())),
        (None, false, Kind::Boolean) => Some(Variable::Boolean(false)),
        (None, false, Kind::Integer) => {
            let help = "an integer cannot be empty: give it a `default`";
            reader.error_with_help(&entry.key_span, format!("the variable `{}` has no value", entry.key), help);
            None
        }
        (None, true, _) => {
            let name = &entry.key;
            let help = format!("give it with `--var {name}=…`, in a `--var-file`, or as `DSIMG_VAR_{name}`");
            reader.error_with_help(&entry.key_span, format!("the variable `{name}` has no value"), help);
            None
        }
    }
}

/// The value from outside, where it is one of the variable's kind.
pub(crate) fn given_variable(
    reader: &mut Reader<'_>,
    entry: &Entry,
    kind: Kind,
    given: &GivenVariable,
) -> Option<Variable> {
    given_value(&given.value, kind).or_else(|| {
        let wanted = match kind {
            Kind::Integer => "an integer",
            Kind::Boolean => "true or false",
            Kind::Text | Kind::Texts => "a list of strings",
        };
        // The value itself is not shown: it may be a secret given to the wrong name.
        let message = format!("`{}` must be {wanted}, and the value from {} is not", entry.key, given.source);
        reader.error(&entry.key_span, message);
        None
    })
}

fn given_value(text: &str, kind: Kind) -> Option<Variable> {
    match kind {
        Kind::Text => Some(Variable::Text(text.to_owned())),
        Kind::Integer => text.trim().parse().ok().map(Variable::Integer),
        Kind::Boolean => text.trim().parse().ok().map(Variable::Boolean),
        Kind::Texts if text.trim_start().starts_with('[') => {
            let value = toml::de::DeValue::parse(text.trim()).ok()?;
            let items = value.get_ref().as_array()?;
            let texts: Option<Vec<String>> =
                items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
            texts.map(Variable::Texts)
        }
        Kind::Texts => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Some(Variable::Texts(parts.map(str::to_owned).collect()))
        }
    }
}

/// Values given for variables that the template does not have.
fn report_strangers(reader: &mut Reader<'_>, variables: &Variables, surroundings: &Surroundings<'_>) {
    for (name, given) in &surroundings.variables {
        if variables.values.contains_key(name) {
            continue;
        }
        let message = format!("{} sets `{name}`, and the template has no such variable", given.source);
        let mut problem = match given.source {
            // Other templates may be meant by it.
            VariableSource::Environment => Problem::warning(0..0, message),
            VariableSource::Flag | VariableSource::File(_) => Problem::error(0..0, message),
        };
        let names: Vec<&String> = variables.values.keys().collect();
        problem.help = match nearest(name, variables.values.keys().map(String::as_str)) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if names.is_empty() => None,
            None => Some(format!("its variables: {}", listed(&names))),
        };
        reader.report(problem);
    }
}
