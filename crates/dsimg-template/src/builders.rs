//! `[[builder]]`: the machines to build on.

use std::ops::Range;

use crate::base::{check_user, disk_format};
use crate::keys::{self, BUILDERS_NOT_YET, Key};
use crate::parse::{file_name_help, is_file_name};
use crate::reader::Reader;
use crate::template::{Accelerator, Builder, BuilderTable, Compression, DiskFormat, Firmware, QemuTable};
use crate::tree::{Entry, NodeValue, Table};
use crate::units::{ByteSize, Timeout};
use crate::values::{Piece, Values};

/// The builders, and all their names, also of those with problems.
///
/// Without a `[[builder]]` there is one of type `qemu` with the defaults.
pub(crate) fn read(reader: &mut Reader<'_>, root: &Table) -> (Vec<Builder>, Vec<String>) {
    let mut builders = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (table, span) in tables(reader, root, "builder") {
        let (name, builder) = builder(reader, table, &span);
        if names.contains(&name.text) {
            let message = format!("two builders are called `{}`", name.text);
            reader.error_with_help(&name.span, message, "give each a `name` of its own");
        }
        names.push(name.text);
        builders.extend(builder);
    }
    if root.get("builder").is_none() {
        names.push("qemu".to_owned());
        builders.push(Builder {
            name: "qemu".to_owned(),
            table: BuilderTable::Qemu(qemu_table(reader, &Values::default())),
        });
    }
    (builders, names)
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

fn builder(reader: &mut Reader<'_>, table: &Table, span: &Range<usize>) -> (Piece, Option<Builder>) {
    let kind = table.get("type");
    let written = kind.and_then(|entry| entry.node.as_text());
    let fallback = Piece {
        text: written.unwrap_or("qemu").to_owned(),
        span: kind.map_or_else(|| span.clone(), |entry| entry.node.span.clone()),
    };
    let common = keys::builder();
    if let (Some(entry), Some(written)) = (kind, written)
        && written != "qemu"
    {
        if BUILDERS_NOT_YET.contains(&written) {
            let message = format!("this version of dsimg does not have builders of type `{written}` yet");
            reader.error_with_help(&entry.node.span, message, "`qemu` is there");
        } else {
            let key = common.iter().find(|key| key.name == "type").expect("every builder has a type");
            reader.value(key, &entry.node);
        }
        // Its other keys belong to a type that is not known; only the name still serves `only` and `except`.
        let name = table.get("name").and_then(|entry| {
            let text = entry.node.as_text()?.to_owned();
            Some(Piece { text, span: entry.node.span.clone() })
        });
        return (name.unwrap_or(fallback), None);
    }
    let keys: Vec<Key> = common.into_iter().chain(keys::qemu()).collect();
    let values = reader.table(table, span, "`[[builder]]`", &keys);
    let name = values.text("name").cloned().unwrap_or(fallback);
    if !is_file_name(&name.text) {
        let message = format!("`{}` cannot be the name of a builder", name.text);
        reader.error_with_help(&name.span, message, file_name_help(&name.text));
    }
    let table = BuilderTable::Qemu(qemu_table(reader, &values));
    (name.clone(), Some(Builder { name: name.text, table }))
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
