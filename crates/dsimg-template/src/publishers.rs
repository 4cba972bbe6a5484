//! `[[publish]]`: where finished images go.

use std::ops::Range;

use crate::aws;
use crate::builders::{Builders, check_name, kind_of, tables};
use crate::keys::{self, Key};
use crate::nearest::listed;
use crate::provision::builder_names;
use crate::reader::Reader;
use crate::template::{Builder, BuilderTable, Image, Publish, PublisherTable};
use crate::tree::Table;
use crate::values::{Piece, Values};

/// The publishers, and where each says its type.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    root: &Table,
    image: &Image,
    builders: &Builders,
) -> Vec<(Publish, Range<usize>)> {
    let mut publishers: Vec<(Publish, Range<usize>)> = Vec::new();
    for (table, span) in tables(reader, root, "publish") {
        let Some((name, publisher, at)) = publisher(reader, table, &span, image, builders) else { continue };
        if publishers.iter().any(|(earlier, _)| earlier.name == name.text) {
            let message = format!("two publishers are called `{}`", name.text);
            reader.error_with_help(&name.span, message, "give each a `name` of its own");
        }
        publishers.push((publisher, at));
    }
    publishers
}

fn publisher(
    reader: &mut Reader<'_>,
    table: &Table,
    span: &Range<usize>,
    image: &Image,
    builders: &Builders,
) -> Option<(Piece, Publish, Range<usize>)> {
    let common = keys::publish();
    let kind = kind_of(reader, table, span, "`[[publish]]`", &common)?;
    let at = table.get("type").map_or_else(|| span.clone(), |entry| entry.node.span.clone());
    let keys: Vec<Key> = common.into_iter().chain(keys::aws::publisher()).collect();
    let values = reader.table(table, span, &format!("`[[publish]]` of type `{kind}`"), &keys);
    let name = values.text("name").cloned().unwrap_or_else(|| Piece { text: kind, span: at.clone() });
    check_name(reader, &name, "a publisher");
    let publisher = Publish {
        name: name.text.clone(),
        only: builder_names(reader, &values, "only", &builders.names),
        table: PublisherTable::AwsAmi(aws::publisher_table(reader, &values, &at, image)),
    };
    check_disks(reader, &values, &at, &publisher, builders);
    Some((name, publisher, at))
}

/// A publisher takes a disk that lies on this host, and one name belongs to one disk.
fn check_disks(reader: &mut Reader<'_>, values: &Values, at: &Range<usize>, publisher: &Publish, builders: &Builders) {
    let all = || builders.known.iter().map(|(builder, _)| builder);
    for piece in values.texts("only") {
        if let Some(builder) = all().find(|builder| builder.name == piece.text && !builder.table.makes_a_disk()) {
            let (message, help) = no_disk(builder);
            reader.error_with_help(&piece.span, message, help);
        }
    }
    let taken: Vec<&str> = all().filter(|builder| publisher.applies_to(builder)).map(|b| b.name.as_str()).collect();
    let only = values.get("only").map(|found| found.span.clone());
    if taken.is_empty() && only.is_none() && builders.known.len() == builders.names.len() {
        let help = "it takes a disk from this host: add a `[[builder]]` of type `qemu` with `formats = [\"qcow2\"]`";
        reader.error_with_help(at, format!("there is no disk that `{}` could publish", publisher.name), help);
    } else if taken.len() > 1 {
        let message = format!("`{}` would publish the disks of {} under one name", publisher.name, listed(&taken));
        let help = format!(
            "choose one: `only = [\"{}\"]`; add a `[[publish]]` with another `ami_name` for each of the others",
            taken[0]
        );
        reader.error_with_help(&only.unwrap_or_else(|| at.clone()), message, help);
    }
}

fn no_disk(builder: &Builder) -> (String, &'static str) {
    match builder.table {
        BuilderTable::AwsEbs(_) => {
            (format!("the builder `{}` makes no disk on this host", builder.name), "it makes its AMI by itself")
        }
        BuilderTable::Qemu(_) => (
            format!("the builder `{}` writes its disk neither as qcow2 nor raw", builder.name),
            "add one of them to its `formats`",
        ),
    }
}
