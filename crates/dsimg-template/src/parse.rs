//! From the text of a template to checked [`Template`]s, or everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::definition::Catalog;
use crate::matrix::{self, Combination};
use crate::problem::{self, Problem, has_errors};
use crate::reader::{Files, Reader};
use crate::render::{Context, Renderer, UNKNOWN, Variable};
use crate::surroundings::Surroundings;
use crate::template::{Cell, CertificateAuthorities, Image, Network, Template};
use crate::tree::{self, NodeValue, Table};
use crate::values::{Piece, Values};
use crate::{aws, base, builders, keys, lint, provision, publishers, variables};

/// Reads a template: one [`Template`] for each combination of its `[matrix]`, one without; with the problems of all
/// of it, sorted by place.
///
/// There are templates only when no problem is an error. `path` is where the text was read; files that it
/// names are looked for beside it.
pub fn parse_template(
    text: &str,
    path: &Path,
    catalog: &Catalog,
    surroundings: &Surroundings<'_>,
) -> (Vec<Template>, Vec<Problem>) {
    let (root, problems) = tree::read(text);
    let mut reader = Reader { problems, ..Reader::new(text) };
    let mut templates = Vec::new();
    if let Some(root) = root {
        let combinations = matrix::read(&mut reader, &root, surroundings);
        let apart = are_named_apart(text, &root, &combinations, surroundings);
        let mut found = Vec::new();
        for combination in combinations.iter().filter(|combination| combination.is_wanted) {
            let mut reader = Reader::new(text);
            let source = Source { root: &root, path, catalog, surroundings };
            templates.push(read_template(&mut reader, &source, combination, apart));
            found.push((combination.cell.as_ref(), reader.problems));
        }
        reader.problems.extend(said_once(found));
    }
    let mut problems = reader.problems;
    problem::sort(&mut problems);
    if has_errors(&problems) {
        templates.clear();
    }
    (templates, problems)
}

/// What is the same for all combinations of a template's matrix.
struct Source<'a, 's> {
    root: &'s Table,
    path: &'s Path,
    catalog: &'s Catalog,
    surroundings: &'s Surroundings<'a>,
}

/// Whether the template itself gives no two combinations the same name and version.
fn are_named_apart(text: &str, root: &Table, combinations: &[Combination], surroundings: &Surroundings<'_>) -> bool {
    let mut seen = BTreeSet::new();
    // What is wrong is reported when the combinations are read, for those that are wanted.
    let name = |combination: &Combination| {
        let mut reader = Reader::new(text);
        let variables = variables::read(&mut reader, root, surroundings, &combination.values);
        reader.renderer = Some(Renderer::new(&first_context(variables.values, surroundings)));
        let image = read_image(&mut reader, root);
        format!("{}-{}", image.name, image.version)
    };
    combinations.len() == 1 || combinations.iter().all(|combination| seen.insert(name(combination)))
}

/// All but what `[image]` says.
fn first_context(variables: BTreeMap<String, Variable>, surroundings: &Surroundings<'_>) -> Context {
    Context {
        variables,
        environment: surroundings.environment.clone(),
        build: surroundings.build.clone(),
        image: BTreeMap::new(),
    }
}

/// What is wrong in all combinations as it is; what is wrong in some, with the name of the first of them.
fn said_once(found: Vec<(Option<&Cell>, Vec<Problem>)>) -> Vec<Problem> {
    let count = found.len();
    let mut problems: Vec<(Problem, Vec<Option<&Cell>>)> = Vec::new();
    for (cell, of_cell) in found {
        for problem in of_cell {
            match problems.iter_mut().find(|(known, _)| *known == problem) {
                Some((_, cells)) if cells.last() == Some(&cell) => {}
                Some((_, cells)) => cells.push(cell),
                None => problems.push((problem, vec![cell])),
            }
        }
    }
    let said = problems.into_iter().map(|(mut problem, cells)| {
        if let Some(cell) = cells[0].filter(|_| cells.len() < count) {
            let others = match cells.len() {
                1 => String::new(),
                2 => " and one other".to_owned(),
                many => format!(" and {} others", many - 1),
            };
            problem.message = format!("{} (in `{}`{others})", problem.message, cell.name);
        }
        problem
    });
    said.collect()
}

fn read_template<'a>(
    reader: &mut Reader<'a>,
    source: &Source<'a, '_>,
    combination: &Combination,
    is_named_apart: bool,
) -> Template {
    let Source { root, path, catalog, surroundings } = *source;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    reader.files = Some(Files { folder, probe: surroundings.probe, must_exist: true });
    reader.check_keys(root, &(0..0), "the template", &keys::template());

    let variables = variables::read(reader, root, surroundings, &combination.values);
    let mut context = first_context(variables.values, surroundings);
    reader.renderer = Some(Renderer::new(&context));
    let mut image = read_image(reader, root);
    if let Some(cell) = combination.cell.as_ref().filter(|_| !is_named_apart) {
        append_name(reader, root, &mut image, &cell.slug);
    }
    context.image = image_values(&image);
    reader.renderer = Some(Renderer::new(&context));

    let base = base::read(reader, root);
    let network = read_network(reader, root);
    let builders = builders::read(reader, root, &image);
    base::check_builders(reader, root, &builders);
    let stages = provision::read(reader, root, catalog, &builders.names);
    let publishers = publishers::read(reader, root, &image, &builders);
    aws::ami_names::check(reader, &image, &builders, &publishers);
    lint::check(
        reader,
        &lint::Subject {
            root,
            base: &base,
            network: &network,
            stages: stages.iter().filter(|stage| stage.active).collect(),
            builders: &builders.names,
            written_secrets: &variables.written_secrets,
        },
    );

    Template {
        path: path.to_owned(),
        cell: combination.cell.clone(),
        image,
        base,
        network,
        builders: builders.known.into_iter().map(|(builder, _)| builder).collect(),
        publish: publishers.into_iter().map(|(publisher, _)| publisher).collect(),
        provision: stages.into_iter().filter(|stage| stage.active).map(|stage| stage.entry).collect(),
        secrets: variables.secrets,
        context,
    }
}

/// Puts the combination's name behind the image's, which may then be too long.
fn append_name(reader: &mut Reader<'_>, root: &Table, image: &mut Image, slug: &str) {
    let was_good = is_file_name(&image.name);
    image.name = format!("{}-{slug}", image.name);
    if !was_good || is_file_name(&image.name) {
        return;
    }
    let written = match root.get("image").map(|entry| &entry.node.value) {
        Some(NodeValue::Table(table)) => table.get("name"),
        _ => None,
    };
    let span = written.map_or(0..0, |entry| entry.node.span.clone());
    // The same words for all combinations: it is said once.
    let message = "with the values of the matrix behind it the image's name is longer than 64 characters";
    reader.error_with_help(&span, message, "name the matrix's variables here, such as `ds-{{ variable }}`");
}

/// A table of the template by its name; empty where it is absent or not a table.
pub(crate) fn section(reader: &mut Reader<'_>, root: &Table, name: &str, keys: &[keys::Key]) -> Option<Values> {
    let entry = root.get(name)?;
    match &entry.node.value {
        NodeValue::Table(table) => Some(reader.table(table, &entry.node.span, &format!("`[{name}]`"), keys)),
        other => {
            let message = match other {
                NodeValue::List(_) => format!("there is one `[{name}]`, not a list of them"),
                _ => format!("`{name}` must be a table, not {}", entry.node.kind()),
            };
            reader.error_with_help(&entry.key_span, message, format!("write `[{name}]` on a line of its own"));
            None
        }
    }
}

fn read_image(reader: &mut Reader<'_>, root: &Table) -> Image {
    let values = section(reader, root, "image", &keys::image()).unwrap_or_default();
    let name = values.text("name").cloned();
    let version = values.text("version").cloned();
    if let Some(name) = &name {
        check_image_name(reader, name);
    }
    if let Some(version) = &version {
        let good = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
        if version.text.is_empty() || version.text.len() > 64 || !version.text.chars().all(good) {
            let message = format!("`{}` cannot be a version", version.text);
            reader.error_with_help(
                &version.span,
                message,
                "use up to 64 letters, digits, `.`, `_`, `+`, `~` and `-`, such as \"2026.11\"",
            );
        }
    }
    // What is missing or wrong is reported; the rest of the template is still read.
    let or_unknown = |piece: Option<Piece>| piece.map_or_else(|| UNKNOWN.to_owned(), |piece| piece.text);
    Image { name: or_unknown(name), version: or_unknown(version), summary: values.string("summary") }
}

fn check_image_name(reader: &mut Reader<'_>, name: &Piece) {
    if !is_file_name(&name.text) {
        let message = format!("`{}` cannot be the name of an image", name.text);
        reader.error_with_help(&name.span, message, file_name_help(&name.text));
    }
}

/// Lower-case letters, digits, `.`, `_` and `-`, a letter or digit first, 64 at most.
pub(crate) fn is_file_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    name.len() <= 64
        && name.chars().all(good)
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// The rule, or the nearest name that keeps it.
pub(crate) fn file_name_help(name: &str) -> String {
    let near: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_whitespace() || c == '/' { '-' } else { c })
        .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
        .collect();
    let near = near.trim_start_matches(['.', '_', '-']);
    if is_file_name(near) {
        format!("it becomes a file name: how about `{near}`?")
    } else {
        "it becomes a file name: use up to 64 lower-case letters, digits, `.`, `_` and `-`".to_owned()
    }
}

fn image_values(image: &Image) -> BTreeMap<String, String> {
    let mut values =
        BTreeMap::from([("name".to_owned(), image.name.clone()), ("version".to_owned(), image.version.clone())]);
    if let Some(summary) = &image.summary {
        values.insert("summary".to_owned(), summary.clone());
    }
    values
}

fn read_network(reader: &mut Reader<'_>, root: &Table) -> Network {
    let values = section(reader, root, "network", &keys::network()).unwrap_or_default();
    let ca = values.text("ca").cloned().map(|piece| match piece.text.as_str() {
        "host" => CertificateAuthorities::Host,
        _ => {
            reader.check_file(&piece);
            CertificateAuthorities::File(piece.text.into())
        }
    });
    Network {
        proxy: values.string("proxy"),
        no_proxy: values.strings("no_proxy"),
        ca,
        apt: values.string("apt"),
        pip: values.string("pip"),
        cran: values.string("cran"),
        keep: values.boolean("keep").unwrap_or(false),
    }
}
