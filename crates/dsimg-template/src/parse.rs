//! From the text of a template to a checked [`Template`], or everything that is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::definition::Catalog;
use crate::problem::{self, Problem, has_errors};
use crate::reader::{Files, Reader};
use crate::render::{Context, Renderer, UNKNOWN};
use crate::surroundings::Surroundings;
use crate::template::{CertificateAuthorities, Image, Network, Template};
use crate::tree::{self, NodeValue, Table};
use crate::values::{Piece, Values};
use crate::{base, builders, keys, lint, provision, variables};

/// Reads a template; with the problems of all of it, sorted by place.
///
/// There is a template only when no problem is an error. `path` is where the text was read; files that it
/// names are looked for beside it.
pub fn parse_template(
    text: &str,
    path: &Path,
    catalog: &Catalog,
    surroundings: &Surroundings<'_>,
) -> (Option<Template>, Vec<Problem>) {
    let (root, problems) = tree::read(text);
    let mut reader = Reader { problems, ..Reader::new(text) };
    let template = root.map(|root| read_template(&mut reader, &root, path, catalog, surroundings));
    let mut problems = reader.problems;
    problem::sort(&mut problems);
    (template.filter(|_| !has_errors(&problems)), problems)
}

fn read_template<'a>(
    reader: &mut Reader<'a>,
    root: &Table,
    path: &Path,
    catalog: &Catalog,
    surroundings: &Surroundings<'a>,
) -> Template {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    reader.files = Some(Files { folder, probe: surroundings.probe, must_exist: true });
    reader.check_keys(root, &(0..0), "the template", &keys::template());

    let variables = variables::read(reader, root, surroundings);
    let mut context = Context {
        variables: variables.values,
        environment: surroundings.environment.clone(),
        build: surroundings.build.clone(),
        image: BTreeMap::new(),
    };
    reader.renderer = Some(Renderer::new(&context));
    let image = read_image(reader, root);
    context.image = image_values(&image);
    reader.renderer = Some(Renderer::new(&context));

    let base = base::read(reader, root);
    let network = read_network(reader, root);
    let (builders, builder_names) = builders::read(reader, root);
    let stages = provision::read(reader, root, catalog, &builder_names);
    lint::check(
        reader,
        &lint::Subject {
            root,
            base: &base,
            network: &network,
            stages: stages.iter().filter(|stage| stage.active).collect(),
            builders: &builder_names,
            written_secrets: &variables.written_secrets,
        },
    );

    Template {
        path: path.to_owned(),
        image,
        base,
        network,
        builders,
        provision: stages.into_iter().filter(|stage| stage.active).map(|stage| stage.entry).collect(),
        secrets: variables.secrets,
        context,
    }
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
