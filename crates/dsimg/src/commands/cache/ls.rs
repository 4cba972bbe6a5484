//! `dsimg cache ls`: each checkpoint under the one that it stands on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use dsimg_checkpoint::{Checkpoint, Damage, Listing, Packing, Store};
use jiff::Timestamp;
use serde_json::json;

use super::{counted, failure, list, stage};
use crate::arguments::{CacheLs, Format};
use crate::failure::Failure;
use crate::ui::output::print;
use crate::ui::text::{bytes, printable};

const HEADER: [&str; 7] = ["CHECKPOINT", "STAGE", "IMAGE", "MADE", "USED", "DISK", "MEMORY"];

pub(super) fn run(cache: &Path, arguments: &CacheLs) -> Result<(), Failure> {
    let store = Store::new(cache);
    let listing = list(&store).map_err(failure)?;
    let used = store.last_used(&listing);
    match arguments.format {
        Format::Json => print(&format!("{:#}\n", record(&listing, &used))),
        Format::Text if listing.checkpoints.is_empty() && listing.damaged.is_empty() && listing.newer.is_empty() => {
            print(&printable(&format!("no checkpoints in {}\n", store.folder().display())))
        }
        Format::Text => print(&printable(&describe(&listing, &used, Timestamp::now()))),
    }
}

fn describe(listing: &Listing, used: &BTreeMap<String, Timestamp>, now: Timestamp) -> String {
    let (whole, orphans) = in_order(listing);
    let row = |depth: usize, checkpoint: &Checkpoint| {
        [
            format!("{:1$}{2}", "", depth * 2, checkpoint.id),
            stage(checkpoint),
            checkpoint.image.clone(),
            age(checkpoint.made, now),
            age(used.get(&checkpoint.id).copied().unwrap_or(checkpoint.made), now),
            bytes(checkpoint.disk.allocated),
            checkpoint.memory.as_ref().map_or_else(|| "-".to_owned(), |memory| bytes(memory.file.allocated)),
        ]
    };
    let mut rows: Vec<_> = whole.iter().map(|(depth, checkpoint)| row(*depth, checkpoint)).collect();
    let trees = rows.len();
    rows.extend(orphans.iter().map(|checkpoint| row(1, checkpoint)));
    rows.insert(0, HEADER.map(str::to_owned));
    let mut lines = columns(&rows).into_iter();
    let mut text = String::new();
    if !listing.checkpoints.is_empty() {
        lines.by_ref().take(trees + 1).for_each(|line| text.push_str(&line));
    }
    if !orphans.is_empty() {
        text.push_str("\nof no use, for what they stand on is gone (`dsimg cache prune` removes them):\n");
        text.extend(lines);
    }
    if !listing.damaged.is_empty() {
        text.push_str("\ndamaged (`dsimg cache prune` removes them):\n");
        for damaged in &listing.damaged {
            let _ = writeln!(text, "  {}  its {} {}", damaged.id, damaged.file, damaged.what);
        }
    }
    if !listing.newer.is_empty() {
        text.push_str("\nmade by a newer dsimg (`dsimg cache prune` leaves them alone):\n");
        for newer in &listing.newer {
            let _ = writeln!(text, "  {}", newer.id);
        }
    }
    let sum = listing.checkpoints.iter().map(Checkpoint::allocated).sum();
    let _ = writeln!(text, "\n{}, {}", counted(listing.checkpoints.len(), "checkpoint"), bytes(sum));
    text
}

/// Those that builds can go on from with their depth, each after what it stands on, and then the others.
fn in_order(listing: &Listing) -> (Vec<(usize, &Checkpoint)>, Vec<&Checkpoint>) {
    let orphan_ids = listing.orphans();
    let (orphans, whole): (Vec<_>, Vec<_>) =
        listing.checkpoints.iter().partition(|checkpoint| orphan_ids.contains(&checkpoint.id));
    // Taken from the end: the newest goes in first.
    let is_newer = |parent: &String| listing.newer.iter().any(|newer| newer.id == *parent);
    let roots = whole.iter().rev().filter(|checkpoint| checkpoint.parent.as_ref().is_none_or(is_newer));
    let mut waiting: Vec<_> = roots.map(|checkpoint| (0, *checkpoint)).collect();
    let mut ordered = Vec::new();
    while let Some((depth, checkpoint)) = waiting.pop() {
        ordered.push((depth, checkpoint));
        let stands_on_it = whole.iter().rev().filter(|child| child.parent.as_deref() == Some(checkpoint.id.as_str()));
        waiting.extend(stands_on_it.map(|child| (depth + 1, *child)));
    }
    (ordered, orphans)
}

/// One line for each row; sizes, which are last, end where their column ends.
fn columns(rows: &[[String; HEADER.len()]]) -> Vec<String> {
    let widths: [usize; HEADER.len()] =
        std::array::from_fn(|index| rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; HEADER.len()]| {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match index {
                0 => write!(line, "{cell:<width$}"),
                5.. => write!(line, "  {cell:>width$}"),
                _ => write!(line, "  {cell:<width$}"),
            };
        }
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

/// `now`, `5m ago`, `3h ago`, `12d ago`
fn age(then: Timestamp, now: Timestamp) -> String {
    match now.duration_since(then).as_secs() {
        ..60 => "now".to_owned(),
        seconds @ 60..3_600 => format!("{}m ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h ago", seconds / 3_600),
        seconds => format!("{}d ago", seconds / 86_400),
    }
}

fn record(listing: &Listing, used: &BTreeMap<String, Timestamp>) -> serde_json::Value {
    let one = |checkpoint: &Checkpoint| {
        json!({
            "id": checkpoint.id,
            "parent": checkpoint.parent,
            "kind": checkpoint.kind,
            "stage": checkpoint.label,
            "image": checkpoint.image,
            "key": checkpoint.key,
            "made": checkpoint.made,
            "used": used.get(&checkpoint.id).unwrap_or(&checkpoint.made),
            "disk": checkpoint.disk.allocated,
            "memory": checkpoint.memory.as_ref().map(|memory| memory.file.allocated),
            "memory_compressed": matches!(listing.packing(&checkpoint.id), Packing::Zstd { .. }),
            "usable": listing.chain(&checkpoint.id).is_some(),
        })
    };
    let why = |damaged: &Damage| format!("{} {}", damaged.file, damaged.what);
    let damaged = listing.damaged.iter().map(|damaged| json!({ "id": damaged.id, "why": why(damaged) }));
    let newer = listing.newer.iter().map(|newer| json!({ "id": newer.id, "format": newer.format }));
    json!({
        "format": 1,
        "checkpoints": listing.checkpoints.iter().map(one).collect::<Vec<_>>(),
        "damaged": damaged.collect::<Vec<_>>(),
        "newer": newer.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let ago = |seconds: i64| {
            age(Timestamp::from_second(1_000_000 - seconds).unwrap(), Timestamp::from_second(1_000_000).unwrap())
        };
        assert_eq!([ago(-5), ago(59), ago(60), ago(7_300), ago(200_000)], ["now", "now", "1m ago", "2h ago", "2d ago"]);
    }
}
