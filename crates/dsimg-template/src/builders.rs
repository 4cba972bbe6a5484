//! `[[builder]]`: the machines to build on.

use std::ops::Range;

use crate::aws;
use crate::base::{check_user, disk_format};
use crate::keys::{self, Key, Shape};
use crate::nearest::listed;
use crate::parse::{file_name_help, is_file_name};
use crate::reader::Reader;
use crate::template::{Accelerator, Builder, BuilderTable, Compression, DiskFormat, Firmware, Image, QemuTable};
use crate::tree::{Entry, Node, NodeValue, Table};
use crate::units::{ByteSize, Timeout};
use crate::values::{Piece, Value, Values};

/// What the template says of its builders.
pub(crate) struct Builders {
    /// Those whose type is known, and where each says it; empty at 0 for the one that is there by default.
    pub(crate) known: Vec<(Builder, Range<usize>)>,
    /// All names, also of those with problems.
    pub(crate) names: Vec<String>,
}

/// Without a `[[builder]]` there is one of type `qemu` with the defaults.
pub(crate) fn read(reader: &mut Reader<'_>, root: &Table, image: &Image) -> Builders {
    let mut builders = Builders { known: Vec::new(), names: Vec::new() };
    for (table, span) in tables(reader, root, "builder") {
        let (name, builder) = builder(reader, table, &span, image);
        if builders.names.contains(&name.text) {
            let message = format!("two builders are called `{}`", name.text);
            reader.error_with_help(&name.span, message, "give each a `name` of its own");
        }
        builders.names.push(name.text);
        builders.known.extend(builder);
    }
    if root.get("builder").is_none() {
        let table = BuilderTable::Qemu(qemu_table(reader, &Values::default()));
        builders.names.push("qemu".to_owned());
        builders.known.push((Builder { name: "qemu".to_owned(), on_request: false, table }, 0..0));
    }
    builders
}

/// The tables of a `[[list]]`; anything else in its place is reported.
pub(crate) fn tables<'t>(reader: &mut Reader<'_>, root: &'t Table, name: &str) -> Vec<(&'t Table, Range<usize>)> {
    let Some(Entry { node, key_span, .. }) = root.get(name) else { return Vec::new() };
    let right = format!("write `[[{name}]]` on a line of its own, once for each");
    match &node.value {
        NodeValue::List(items) => {
            let mut tables = Vec::with_capacity(items.len());
            for item in items {
                match &item.value {
                    NodeValue::Table(table) => tables.push((table, item.span.clone())),
                    _ => {
                        let message = format!("a `{name}` must be a table, not {}", item.kind());
                        reader.error_with_help(&item.span, message, right.clone());
                    }
                }
            }
            tables
        }
        NodeValue::Table(_) => {
            reader.error_with_help(key_span, format!("`{name}` is a list of tables"), right);
            Vec::new()
        }
        _ => {
            let message = format!("`{name}` must be a list of tables, not {}", node.kind());
            reader.error_with_help(key_span, message, right);
            Vec::new()
        }
    }
}

fn builder(
    reader: &mut Reader<'_>,
    table: &Table,
    span: &Range<usize>,
    image: &Image,
) -> (Piece, Option<(Builder, Range<usize>)>) {
    let kind = kind_of(reader, table, span, "`[[builder]]`", &keys::builder());
    let written = table.get("type").map(|entry| &entry.node);
    let at = written.map_or_else(|| span.clone(), |node| node.span.clone());
    let unnamed = |text: &str| Piece { text: text.to_owned(), span: at.clone() };
    let own = match kind.as_deref() {
        Some("qemu") => keys::qemu(),
        Some("aws-ebs") => keys::aws::ebs(),
        // What a builder without a type should be is not known: its other keys can't be judged.
        _ => {
            let name = table.get("name").and_then(|entry| {
                let text = entry.node.as_text()?.to_owned();
                Some(Piece { text, span: entry.node.span.clone() })
            });
            return (name.unwrap_or_else(|| unnamed(written.and_then(Node::as_text).unwrap_or("qemu"))), None);
        }
    };
    let kind = kind.unwrap_or_default();
    let keys: Vec<Key> = keys::builder().into_iter().chain(own).collect();
    let values = reader.table(table, span, &format!("`[[builder]]` of type `{kind}`"), &keys);
    let name = values.text("name").cloned().unwrap_or_else(|| unnamed(&kind));
    check_name(reader, &name, "a builder");
    let table = match kind.as_str() {
        "qemu" => BuilderTable::Qemu(qemu_table(reader, &values)),
        _ => BuilderTable::AwsEbs(Box::new(aws::ebs_table(reader, &values, &at, image))),
    };
    let on_request = values.boolean("on_request").unwrap_or(false);
    (name.clone(), Some((Builder { name: name.text, on_request, table }, at)))
}

/// The `type` of a table, read before all else; `None` when it is missing or wrong, which is reported.
pub(crate) fn kind_of(
    reader: &mut Reader<'_>,
    table: &Table,
    span: &Range<usize>,
    what: &str,
    keys: &[Key],
) -> Option<String> {
    let key = keys.iter().find(|key| key.name == "type").expect("every builder and publisher has a type");
    let Some(entry) = table.get("type") else {
        let Shape::Choice(kinds) = &key.shape else { unreachable!("a type is one of several") };
        let help = format!("it can be: {}", listed(kinds));
        reader.error_with_help(span, format!("missing key `type` in {what}"), help);
        return None;
    };
    match reader.value(key, &entry.node)? {
        Value::Text(kind) => Some(kind.text),
        _ => None,
    }
}

pub(crate) fn check_name(reader: &mut Reader<'_>, name: &Piece, what: &str) {
    if !is_file_name(&name.text) {
        let message = format!("`{}` cannot be the name of {what}", name.text);
        reader.error_with_help(&name.span, message, file_name_help(&name.text));
    }
}

/// Also the defaults, which [`keys::qemu`] says in words.
fn qemu_table(reader: &mut Reader<'_>, values: &Values) -> QemuTable {
    if let Some(user) = values.text("ssh_user").cloned() {
        check_user(reader, &user);
    }
    let word = |key: &str| values.text(key).map(|piece| piece.text.as_str());
    let formats: Vec<DiskFormat> = values.texts("formats").iter().filter_map(|p| disk_format(&p.text)).collect();
    let table = QemuTable {
        cpus: values.integer("cpus").and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(2),
        memory: ByteSize(2 << 30),
        disk: ByteSize(20 << 30),
        firmware: if word("firmware") == Some("uefi") { Firmware::Uefi } else { Firmware::Bios },
        formats: if formats.is_empty() { vec![DiskFormat::Qcow2] } else { formats },
        compression: match word("compression") {
            Some("zlib") => Compression::Zlib,
            Some("none") => Compression::None,
            _ => Compression::Zstd,
        },
        accelerator: match word("accelerator") {
            Some("kvm") => Accelerator::Kvm,
            Some("tcg") => Accelerator::Tcg,
            _ => Accelerator::Auto,
        },
        ssh_user: values.string("ssh_user"),
        boot_timeout: duration(reader, values, "boot_timeout").unwrap_or(Timeout::from_minutes(5)),
        qemu_args: values.strings("qemu_args"),
    };
    let memory = size(reader, values, "memory", ByteSize(256 << 20)).unwrap_or(table.memory);
    let disk = size(reader, values, "disk", ByteSize(1 << 30)).unwrap_or(table.disk);
    QemuTable { memory, disk, ..table }
}

fn size(reader: &mut Reader<'_>, values: &Values, key: &str, least: ByteSize) -> Option<ByteSize> {
    let (size, span) = values.size(key)?;
    if size < least {
        reader.error(&span, format!("`{key}` must be at least {least}, not {size}"));
    } else if size.0 % 512 != 0 {
        reader.error(&span, format!("`{key}` must be a whole number of sectors of 512 bytes"));
    }
    Some(size)
}

/// A duration that is not zero.
pub(crate) fn duration(reader: &mut Reader<'_>, values: &Values, key: &str) -> Option<Timeout> {
    let timeout = values.duration(key)?;
    if timeout.seconds == 0
        && let Some(found) = values.get(key)
    {
        let span = found.span.clone();
        reader.error_with_help(&span, format!("`{key}` is zero"), "every wait has a limit, and time to succeed in");
    }
    Some(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The defaults are said twice: in words for editors, and here as they are used.
    #[test]
    fn the_defaults_are_those_that_the_keys_promise() {
        let table = qemu_table(&mut Reader::new(""), &Values::default());
        let used = serde_json::to_value(&table).unwrap();
        for key in keys::qemu() {
            let used = match key.name.as_str() {
                "memory" => json!(table.memory.to_string()),
                "disk" => json!(table.disk.to_string()),
                "boot_timeout" => json!(table.boot_timeout.to_string()),
                name => used[name].clone(),
            };
            let promised = key.default.unwrap_or_else(|| if used.is_array() { json!([]) } else { json!(null) });
            assert_eq!(used, promised, "`{}`", key.name);
        }
    }
}
