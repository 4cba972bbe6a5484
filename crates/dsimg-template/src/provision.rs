//! `[[provision]]`: the stages of the build.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::builders::{duration, tables};
use crate::definition::{Catalog, Parameter, ParameterKind, Provisioner};
use crate::keys::{self, Key};
use crate::nearest::{listed, nearest};
use crate::problem::Problem;
use crate::reader::Reader;
use crate::template::{ParameterValue, ProvisionEntry};
use crate::tree::Table;
use crate::units::Timeout;
use crate::values::{Piece, Values};

/// One `[[provision]]` as it was read.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) entry: ProvisionEntry,
    /// What was written, with its places; defaults are not in it.
    pub(crate) values: Values,
    /// False: its `when` is false.
    pub(crate) active: bool,
    /// The keys that were written, also those with problems.
    pub(crate) written: BTreeSet<String>,
    /// The parameters of its provisioner.
    pub(crate) parameters: BTreeSet<String>,
    pub(crate) span: Range<usize>,
}

/// All stages in the order of the file, also those whose `when` is false.
pub(crate) fn read(reader: &mut Reader<'_>, root: &Table, catalog: &Catalog, builders: &[String]) -> Vec<Stage> {
    let tables = tables(reader, root, "provision");
    let mut labels = Labels::of_written(reader, &tables);
    let mut stages = Vec::with_capacity(tables.len());
    for (table, span) in tables {
        if let Some(stage) = stage(reader, table, &span, catalog, builders, &mut labels) {
            stages.push(stage);
        }
    }
    stages
}

fn stage(
    reader: &mut Reader<'_>,
    table: &Table,
    span: &Range<usize>,
    catalog: &Catalog,
    builders: &[String],
    labels: &mut Labels,
) -> Option<Stage> {
    let common = keys::provision();
    let provisioner = provisioner(reader, table, span, catalog, &common)?;
    let parameters = &provisioner.definition.parameters;
    let keys: Vec<Key> = Key::of_parameters(parameters).into_iter().chain(common).collect();
    let active = is_active(reader, table, &keys);
    set_must_exist(reader, active);
    let what = format!("`[[provision]]` of type `{}`", provisioner.definition.name);
    let values = reader.table(table, span, &what, &keys);
    set_must_exist(reader, true);
    let label = labels.take(reader, &values, &provisioner.definition.name);
    let only = builder_names(reader, &values, "only", builders);
    let except = builder_names(reader, &values, "except", builders);
    let known = only.iter().chain(&except).all(|name| builders.contains(name));
    let applies = |name: &String| !except.contains(name) && (only.is_empty() || only.contains(name));
    if known && !builders.iter().any(applies) {
        reader.report(
            Problem::warning(span.clone(), format!("the stage `{label}` is for no builder"))
                .with_help("`only` and `except` leave none"),
        );
    }
    let timeout = duration(reader, &values, "timeout").unwrap_or(Timeout::from_minutes(60));
    let retries = values.integer("retries").and_then(|retries| u32::try_from(retries).ok()).unwrap_or(0);
    let cache = values.boolean("cache").unwrap_or(true);
    let refresh = refresh(reader, &values, cache);
    let mut written = values.parameters();
    written.retain(|key, _| parameters.contains_key(key));
    let entry = ProvisionEntry {
        label,
        provisioner: provisioner.definition.name.clone(),
        parameters: with_defaults(written, parameters),
        only,
        except,
        timeout,
        retries,
        cache,
        refresh,
    };
    Some(Stage {
        entry,
        values,
        active,
        written: table.entries.iter().map(|entry| entry.key.clone()).collect(),
        parameters: parameters.keys().cloned().collect(),
        span: span.clone(),
    })
}

/// How old a checkpoint of the stage may be.
fn refresh(reader: &mut Reader<'_>, values: &Values, cache: bool) -> Option<Timeout> {
    let refresh = values.duration("refresh")?;
    let span = values.get("refresh")?.span.clone();
    if refresh.seconds == 0 {
        let help = "to take the stage from no checkpoint at all, write `cache = false`";
        reader.error_with_help(&span, "`refresh` is zero", help);
    } else if !cache {
        let problem = Problem::warning(span, "`refresh` has no effect beside `cache = false`");
        reader.report(problem.with_help("remove one of the two"));
    }
    Some(refresh)
}

fn set_must_exist(reader: &mut Reader<'_>, must_exist: bool) {
    if let Some(files) = reader.files.as_mut() {
        files.must_exist = must_exist;
    }
}

/// The provisioner that `type` names.
fn provisioner<'c>(
    reader: &mut Reader<'_>,
    table: &Table,
    span: &Range<usize>,
    catalog: &'c Catalog,
    common: &[Key],
) -> Option<&'c Provisioner> {
    let Some(entry) = table.get("type") else {
        let names: Vec<&str> = catalog.names().collect();
        let help = format!("provisioners: {}", listed(&names));
        reader.error_with_help(span, "missing key `type` in `[[provision]]`", help);
        return None;
    };
    let key = common.iter().find(|key| key.name == "type").expect("every stage has a type");
    let name = reader.piece(key, &entry.node)?;
    let found = catalog.get(&name.text);
    if found.is_none() {
        let mut problem = Problem::error(name.span, format!("there is no provisioner `{}`", name.text));
        problem.help = Some(provisioner_help(&name.text, catalog));
        reader.report(problem);
    }
    found
}

fn provisioner_help(name: &str, catalog: &Catalog) -> String {
    const OTHER_NAMES: [(&str, &str); 12] = [
        ("script", "shell"),
        ("bash", "shell"),
        ("sh", "shell"),
        ("command", "shell"),
        ("copy", "file"),
        ("upload", "file"),
        ("apt-get", "apt"),
        ("deb", "apt"),
        ("python", "pip"),
        ("uv", "pip"),
        ("cran", "r"),
        ("restart", "reboot"),
    ];
    let other = OTHER_NAMES.iter().find(|(other, right)| *other == name && catalog.get(right).is_some());
    match other.map(|(_, right)| *right).or_else(|| nearest(name, catalog.names())) {
        Some(right) => format!("did you mean `{right}`?"),
        None => {
            let names: Vec<&str> = catalog.names().collect();
            format!("there are {}; a folder `provisioners/{name}` beside the template adds one", listed(&names))
        }
    }
}

/// `when`, read before all else and quietly: the table's reading reports its problems.
fn is_active(reader: &mut Reader<'_>, table: &Table, keys: &[Key]) -> bool {
    let before = reader.problems.len();
    let value = table.get("when").zip(keys.iter().find(|key| key.name == "when")).and_then(|(entry, key)| {
        let value = reader.value(key, &entry.node);
        reader.problems.truncate(before);
        value
    });
    !matches!(value, Some(crate::values::Value::Boolean(false)))
}

pub(crate) fn builder_names(
    reader: &mut Reader<'_>,
    values: &Values,
    key: &str,
    builders: &[String],
) -> BTreeSet<String> {
    let known: Vec<&str> = builders.iter().map(String::as_str).collect();
    if let Some(found) = values.get(key)
        && values.texts(key).is_empty()
    {
        let span = found.span.clone();
        reader.error_with_help(&span, format!("`{key}` names no builder"), "name one, or remove the line");
    }
    for piece in values.texts(key) {
        if !known.contains(&piece.text.as_str()) {
            let mut problem = Problem::error(piece.span.clone(), format!("there is no builder `{}`", piece.text));
            problem.help = Some(match nearest(&piece.text, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the builders: {}", listed(&known)),
            });
            reader.report(problem);
        }
    }
    values.strings(key).into_iter().collect()
}

/// Puts the defaults where nothing was written, in tables too.
fn with_defaults(
    mut written: BTreeMap<String, ParameterValue>,
    parameters: &BTreeMap<String, Parameter>,
) -> BTreeMap<String, ParameterValue> {
    for (name, parameter) in parameters {
        if let (ParameterKind::Tables(fields), Some(ParameterValue::Tables(tables))) =
            (&parameter.kind, written.get_mut(name))
        {
            for table in tables {
                *table = with_defaults(std::mem::take(table), fields);
            }
        }
        if let Some(default) = &parameter.default {
            written.entry(name.clone()).or_insert_with(|| default.clone());
        }
    }
    written
}

/// What the stages are called: written names are unique, others get a number where they must.
struct Labels {
    taken: BTreeSet<String>,
}

impl Labels {
    fn of_written(reader: &mut Reader<'_>, tables: &[(&Table, Range<usize>)]) -> Self {
        let key = Key::new("name", keys::Shape::Text, "");
        let before = reader.problems.len();
        let mut taken = BTreeSet::new();
        let mut doubles = Vec::new();
        for entry in tables.iter().filter_map(|(table, _)| table.get("name")) {
            if let Some(name) = reader.piece(&key, &entry.node)
                && !taken.insert(name.text.clone())
            {
                doubles.push(name);
            }
        }
        // The reading of each table reports what is wrong with its name.
        reader.problems.truncate(before);
        for name in doubles {
            let message = format!("two stages are called `{}`", name.text);
            reader.error_with_help(&name.span, message, "give each a name of its own, or none");
        }
        Self { taken }
    }

    fn take(&mut self, reader: &mut Reader<'_>, values: &Values, provisioner: &str) -> String {
        if let Some(name) = values.text("name") {
            check_label(reader, name);
            return name.text.clone();
        }
        let numbered = (2..).map(|number| format!("{provisioner} {number}"));
        let label = std::iter::once(provisioner.to_owned())
            .chain(numbered)
            .find(|label| !self.taken.contains(label))
            .expect("there are more numbers than stages");
        self.taken.insert(label.clone());
        label
    }
}

fn check_label(reader: &mut Reader<'_>, name: &Piece) {
    let text = &name.text;
    if text.trim().is_empty() || text.chars().count() > 80 || text.contains(char::is_control) {
        let message = format!("`{}` cannot be the name of a stage", text.escape_debug());
        reader.error_with_help(&name.span, message, "use one line of up to 80 characters");
    }
}
