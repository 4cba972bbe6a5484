//! What keeps the rules and will fail all the same, or should not be: names, passwords, habits.

mod doubles;
mod idle;
mod known_names;
mod names;
mod scripts;
pub(crate) mod secrets;

use std::ops::Range;

use regex_lite::Regex;

use crate::provision::Stage;
use crate::reader::Reader;
use crate::template::{Base, Distro, Network};
use crate::tree::{Node, NodeValue, Table};
use crate::values::Piece;

/// What the lints look at.
pub(crate) struct Subject<'t> {
    pub(crate) root: &'t Table,
    pub(crate) base: &'t Base,
    pub(crate) network: &'t Network,
    /// Those that will be carried out.
    pub(crate) stages: Vec<&'t Stage>,
    pub(crate) builders: &'t [String],
    /// The sensitive variables whose defaults are written out, with the places of these.
    pub(crate) written_secrets: &'t [(String, Range<usize>)],
}

/// Looks over a template that has been read.
pub(crate) fn check(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    idle::check(reader, subject);
    names::check_wrong_names(reader, subject);
    names::check_apt_beside_pip(reader, subject);
    doubles::check(reader, subject);
    scripts::check_environments(reader, subject);
    scripts::check_scripts(reader, subject);
    scripts::check_open_networks(reader, subject);
    secrets::check(reader, subject);
}

impl Subject<'_> {
    /// The stages of one provisioner.
    fn stages_of(&self, provisioner: &str) -> impl Iterator<Item = &Stage> {
        self.stages.iter().copied().filter(move |stage| stage.entry.provisioner == provisioner)
    }

    /// Whether the machine is known to be Debian's own packages only.
    fn is_plain_debian(&self) -> bool {
        let debian = self.base.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.distro == Distro::Debian);
        debian && !self.stages.iter().any(|stage| stage.values.get("repositories").is_some())
    }
}

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns of this module are valid")
}

/// Where `part` of a rendered string is written; the whole string where it was put together.
fn place_of(reader: &Reader<'_>, piece: &Piece, part: &str) -> Range<usize> {
    let written = reader.text.get(piece.span.clone()).unwrap_or_default();
    match written.find(part) {
        Some(at) if !part.is_empty() => piece.span.start + at..piece.span.start + at + part.len(),
        _ => piece.span.clone(),
    }
}

/// Every string of the text.
fn strings(table: &Table) -> Vec<(&str, &Node)> {
    fn collect<'t>(node: &'t Node, found: &mut Vec<(&'t str, &'t Node)>) {
        match &node.value {
            NodeValue::Text(text) => found.push((text, node)),
            NodeValue::List(items) => items.iter().for_each(|item| collect(item, found)),
            NodeValue::Table(table) => table.entries.iter().for_each(|entry| collect(&entry.node, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    table.entries.iter().for_each(|entry| collect(&entry.node, &mut found));
    found
}
