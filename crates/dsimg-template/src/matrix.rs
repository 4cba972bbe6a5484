//! `[matrix]`: one template for several images, one for each combination of its variables' values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::nearest::{listed, nearest};
use crate::problem::Problem;
use crate::reader::Reader;
use crate::render::Variable;
use crate::surroundings::{GivenVariable, Surroundings};
use crate::template::Cell;
use crate::tree::{Entry, Node, NodeValue, Table};
use crate::variables::{self, Declared, Kind};

/// Each is a build of its own.
const MOST_CELLS: usize = 64;

/// What excludes may leave of more than this is not looked at.
const MOST_COMBINATIONS: usize = 4096;

/// The key beside the variables.
const EXCLUDE: &str = "exclude";

/// The values that a template is read with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Combination {
    /// `None` without a `[matrix]`, or with one that has errors.
    pub(crate) cell: Option<Cell>,
    /// Of the matrix's variables; `None` for one that has no value for a reason already reported.
    pub(crate) values: BTreeMap<String, Option<Variable>>,
    /// False: values from outside leave it out.
    pub(crate) is_wanted: bool,
}

/// One line of the matrix.
struct Axis<'t> {
    entry: &'t Entry,
    kind: Kind,
    values: Vec<Variable>,
}

/// A combination's variables with their values.
type Pairs<'a> = Vec<(&'a str, &'a Variable)>;

/// Variables and the values that a combination must not have together.
type Exclusion<'t> = Vec<(&'t str, Variable)>;

/// All combinations, the first variable's values changing slowest; without a `[matrix]` one that sets nothing.
pub(crate) fn read(reader: &mut Reader<'_>, root: &Table, surroundings: &Surroundings<'_>) -> Vec<Combination> {
    let nothing = || vec![Combination { is_wanted: true, ..Combination::default() }];
    let Some(entry) = root.get("matrix") else { return nothing() };
    let NodeValue::Table(table) = &entry.node.value else {
        let message = format!("`matrix` must be a table, not {}", entry.node.kind());
        reader.error_with_help(&entry.key_span, message, "write `[matrix]` and one `variable = [value, …]` per line");
        return nothing();
    };
    let before = reader.problems.len();
    let declared = variables::declare(reader, root, surroundings);
    // The reading of the variables themselves reports what is wrong with them.
    reader.problems.truncate(before);

    let axes = axes(reader, root, table, &declared);
    let excluded = exclusions(reader, table, &axes);
    let given = given_values(reader, &axes, surroundings);
    if table.entries.iter().all(|entry| entry.key == EXCLUDE) {
        reader.error_with_help(&entry.key_span, "`[matrix]` names no variable", "write `variable = [value, …]`");
    }
    let combinations = combine(reader, entry, &axes, &excluded);
    check_slugs(reader, entry, &combinations);
    let combinations = wanted(reader, entry, combinations, &given);
    if reader.problems.len() == before { combinations } else { vec![anything(table, &axes)] }
}

/// The variables with the values that they take.
fn axes<'t>(reader: &mut Reader<'_>, root: &Table, table: &'t Table, declared: &[(&Entry, Declared)]) -> Vec<Axis<'t>> {
    let mut axes = Vec::new();
    for entry in table.entries.iter().filter(|entry| entry.key != EXCLUDE) {
        let Some((_, variable)) = declared.iter().find(|(declared, _)| declared.key == entry.key) else {
            report_stranger(reader, root, entry, declared);
            continue;
        };
        if variable.broken {
            continue;
        }
        if variable.sensitive {
            let message = format!("the sensitive variable `{}` may not be in the matrix", entry.key);
            reader.error_with_help(&entry.key_span, message, "its values would be written in the template");
            continue;
        }
        if let Some(values) = axis_values(reader, entry, variable.kind) {
            axes.push(Axis { entry, kind: variable.kind, values });
        }
    }
    axes
}

fn report_stranger(reader: &mut Reader<'_>, root: &Table, entry: &Entry, declared: &[(&Entry, Declared)]) {
    let name = &entry.key;
    let is_written = match root.get("variables").map(|entry| &entry.node.value) {
        Some(NodeValue::Table(variables)) => variables.get(name).is_some(),
        _ => false,
    };
    // Then its name is no good, and that is reported.
    if is_written {
        return;
    }
    let fit = declared.iter().filter(|(_, variable)| !variable.sensitive).map(|(entry, _)| entry.key.as_str());
    let help = match nearest(name, fit.chain([EXCLUDE])) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it in `[variables]`, such as `{name} = \"…\"`"),
    };
    let message = format!("the matrix's `{name}` is not a variable of the template");
    reader.error_with_help(&entry.key_span, message, help);
}

/// `None` after a problem.
fn axis_values(reader: &mut Reader<'_>, entry: &Entry, kind: Kind) -> Option<Vec<Variable>> {
    let name = &entry.key;
    let NodeValue::List(items) = &entry.node.value else {
        let message = format!("`{name}` must be a list of values, not {}", entry.node.kind());
        let raw = reader.text.get(entry.node.span.clone()).unwrap_or("…");
        let help = format!("write `{name} = [{raw}]`");
        reader.error_with_help(&entry.node.span, message, help);
        return None;
    };
    if items.is_empty() {
        let help = "name the values that it takes, or remove the line";
        reader.error_with_help(&entry.node.span, format!("`{name}` has no values"), help);
        return None;
    }
    let mut values = Vec::with_capacity(items.len());
    let mut all_good = true;
    for item in items {
        match value(reader, name, item, kind) {
            Some(value) if values.contains(&value) => {
                reader.error(&item.span, format!("`{name}` holds `{}` twice", shown(&value)));
                all_good = false;
            }
            Some(value) => values.push(value),
            None => all_good = false,
        }
    }
    all_good.then_some(values)
}

fn value(reader: &mut Reader<'_>, name: &str, node: &Node, kind: Kind) -> Option<Variable> {
    let before = reader.problems.len();
    let value = variables::written_value(reader, name, node, kind, "a value of the matrix");
    // What a right line would be is advice for a variable alone, not for one value of a list.
    for help in reader.problems[before..].iter_mut().filter_map(|problem| problem.help.as_mut()) {
        *help = help.replace(&format!("`{name} = "), "`");
    }
    value
}

/// `exclude = [{ … }]`
fn exclusions<'t>(reader: &mut Reader<'_>, table: &Table, axes: &'t [Axis<'t>]) -> Vec<Exclusion<'t>> {
    let Some(entry) = table.get(EXCLUDE) else { return Vec::new() };
    let help = "write `exclude = [{ variable = value, … }]`";
    let NodeValue::List(items) = &entry.node.value else {
        let message = format!("`{EXCLUDE}` must be a list of tables, not {}", entry.node.kind());
        reader.error_with_help(&entry.key_span, message, help);
        return Vec::new();
    };
    let mut exclusions = Vec::new();
    for item in items {
        match &item.value {
            NodeValue::Table(excluded) if excluded.entries.is_empty() => {
                reader.error_with_help(
                    &item.span,
                    "this would exclude every combination",
                    "name the values to exclude",
                );
            }
            NodeValue::Table(excluded) => exclusions.extend(exclusion(reader, table, excluded, axes)),
            _ => {
                let message = format!("the elements of `{EXCLUDE}` must be tables, not {}", item.kind());
                reader.error_with_help(&item.span, message, help);
            }
        }
    }
    exclusions
}

fn exclusion<'t>(
    reader: &mut Reader<'_>,
    matrix: &Table,
    excluded: &Table,
    axes: &'t [Axis<'t>],
) -> Option<Exclusion<'t>> {
    let before = reader.problems.len();
    let mut exclusion = Vec::new();
    for entry in &excluded.entries {
        let Some(axis) = axes.iter().find(|axis| axis.entry.key == entry.key) else {
            // A line of the matrix that has problems has them reported.
            if matrix.get(&entry.key).is_none() {
                let names: Vec<&str> = axes.iter().map(|axis| axis.entry.key.as_str()).collect();
                let mut problem = Problem::error(
                    entry.key_span.clone(),
                    format!("`{}` is not one of the matrix's variables", entry.key),
                );
                problem.help = crate::nearest::suggestion(&entry.key, &names, "its variables");
                reader.report(problem);
            }
            continue;
        };
        let Some(value) = value(reader, &entry.key, &entry.node, axis.kind) else { continue };
        if !axis.values.contains(&value) {
            let message = format!("`{}` never has the value `{}`", entry.key, shown(&value));
            let help = match nearest(&shown(&value), axis.shown().iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => axis.help(),
            };
            reader.error_with_help(&entry.node.span, message, help);
            continue;
        }
        exclusion.push((axis.entry.key.as_str(), value));
    }
    (reader.problems.len() == before && !exclusion.is_empty()).then_some(exclusion)
}

impl Axis<'_> {
    fn shown(&self) -> Vec<String> {
        self.values.iter().map(shown).collect()
    }

    fn help(&self) -> String {
        format!("its values: {}", listed(&self.shown()))
    }
}

/// Values from outside, which leave the combinations that have them.
fn given_values(
    reader: &mut Reader<'_>,
    axes: &[Axis<'_>],
    surroundings: &Surroundings<'_>,
) -> BTreeMap<String, Variable> {
    let mut values = BTreeMap::new();
    for axis in axes {
        let name = &axis.entry.key;
        let Some(given) = surroundings.variables.get(name) else { continue };
        let GivenVariable { source, .. } = given;
        match variables::given_variable(reader, axis.entry, axis.kind, given) {
            Some(value) if axis.values.contains(&value) => {
                values.insert(name.clone(), value);
            }
            Some(_) => {
                // The value itself is not shown: it may be a secret given to the wrong name.
                let message = format!("the value of `{name}` from {source} is not in the matrix");
                reader.error_with_help(&axis.entry.key_span, message, axis.help());
            }
            None => {}
        }
    }
    values
}

fn combine(reader: &mut Reader<'_>, entry: &Entry, axes: &[Axis<'_>], excluded: &[Exclusion<'_>]) -> Vec<Combination> {
    let too_many = |reader: &mut Reader<'_>, count: String| {
        let message = format!("the matrix has {count} combinations; it may have {MOST_CELLS}");
        reader.error_with_help(&entry.key_span, message, "take out values, or name combinations in `exclude`");
        Vec::new()
    };
    let count = axes.iter().try_fold(1usize, |count, axis| count.checked_mul(axis.values.len()));
    if count.is_none_or(|count| count > MOST_COMBINATIONS) {
        let count = count.map_or_else(|| "too many".to_owned(), |count| count.to_string());
        return too_many(reader, count);
    }
    let mut combinations = vec![Vec::new()];
    for axis in axes {
        combinations = with_axis(&combinations, axis);
    }
    let is_excluded = |combination: &Pairs<'_>| {
        excluded.iter().any(|exclusion| {
            exclusion.iter().all(|(name, value)| combination.iter().any(|(other, has)| name == other && value == *has))
        })
    };
    combinations.retain(|combination| !is_excluded(combination));
    if combinations.is_empty() {
        let span = find_exclude(entry);
        reader.error_with_help(&span, "every combination is excluded", "leave one");
    }
    if combinations.len() > MOST_CELLS {
        return too_many(reader, combinations.len().to_string());
    }
    combinations.iter().map(|combination| describe(combination)).collect()
}

/// Each combination once for each of the axis' values.
fn with_axis<'a>(combinations: &[Pairs<'a>], axis: &'a Axis<'_>) -> Vec<Pairs<'a>> {
    let mut extended = Vec::with_capacity(combinations.len() * axis.values.len());
    for combination in combinations {
        for value in &axis.values {
            extended.push(combination.iter().copied().chain([(axis.entry.key.as_str(), value)]).collect());
        }
    }
    extended
}

fn find_exclude(entry: &Entry) -> Range<usize> {
    match &entry.node.value {
        NodeValue::Table(table) => table.get(EXCLUDE).map_or(&entry.key_span, |exclude| &exclude.key_span).clone(),
        _ => entry.key_span.clone(),
    }
}

fn describe(combination: &[(&str, &Variable)]) -> Combination {
    let name: Vec<String> = combination.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
    let slug: Vec<String> = combination.iter().map(|(name, value)| slug(name, value)).collect();
    Combination {
        cell: Some(Cell { name: name.join(","), slug: slug.join("-") }),
        values: combination.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).clone()))).collect(),
        is_wanted: true,
    }
}

/// As people write it on one line.
fn shown(value: &Variable) -> String {
    match value {
        Variable::Text(text) => text.clone(),
        Variable::Integer(integer) => integer.to_string(),
        Variable::Boolean(value) => value.to_string(),
        Variable::Texts(texts) => texts.join("+"),
    }
}

/// As it stands in file names: the value, or of a boolean the variable's name.
fn slug(name: &str, value: &Variable) -> String {
    let name = name.to_lowercase();
    let value = match value {
        Variable::Boolean(true) => return name,
        Variable::Boolean(false) => String::new(),
        value => shown(value).to_lowercase(),
    };
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
    let words = value.split(|c: char| !is_good(c)).filter(|word| !word.is_empty());
    let value = words.collect::<Vec<_>>().join("-");
    if value.is_empty() { format!("no-{name}") } else { value }
}

/// They become parts of file names.
fn check_slugs(reader: &mut Reader<'_>, entry: &Entry, combinations: &[Combination]) {
    let mut seen = BTreeSet::new();
    for cell in combinations.iter().filter_map(|combination| combination.cell.as_ref()) {
        if cell.slug.len() > 64 {
            let message = format!("`{}` is too long for the name of an image", cell.slug);
            return reader.error_with_help(&entry.key_span, message, "use shorter values");
        }
        if !seen.insert(&cell.slug) {
            let message = format!("two combinations would both be called `{}`", cell.slug);
            let help = "in file names only lower-case letters, digits, `.`, `_` and `-` tell values apart";
            return reader.error_with_help(&entry.key_span, message, help);
        }
    }
}

/// Marks what values from outside leave.
fn wanted(
    reader: &mut Reader<'_>,
    entry: &Entry,
    mut combinations: Vec<Combination>,
    given: &BTreeMap<String, Variable>,
) -> Vec<Combination> {
    for combination in &mut combinations {
        let has = |(name, value): (&String, &Variable)| combination.values.get(name) == Some(&Some(value.clone()));
        combination.is_wanted = given.iter().all(has);
    }
    if !combinations.is_empty() && !combinations.iter().any(|combination| combination.is_wanted) {
        let names: Vec<&String> = given.keys().collect();
        let message = format!("the values given for {} are of an excluded combination", listed(&names));
        reader.error(&find_exclude(entry), message);
    }
    combinations
}

/// With what a template is read whose matrix has errors.
fn anything(table: &Table, axes: &[Axis<'_>]) -> Combination {
    let names = table.entries.iter().map(|entry| &entry.key).filter(|name| *name != EXCLUDE);
    let first = |name: &String| axes.iter().find(|axis| axis.entry.key == *name)?.values.first().cloned();
    Combination { cell: None, values: names.map(|name| (name.clone(), first(name))).collect(), is_wanted: true }
}
