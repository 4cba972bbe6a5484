//! `dsimg cache du`: how much room each part of the cache takes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dsimg_machine::checkpoint::MEMORY;
use serde_json::json;

use crate::arguments::{CacheDu, Format};
use crate::environment;
use crate::failure::Failure;
use crate::ui::output::{print, say};
use crate::ui::text::{bytes, printable};

/// Each part, and what it is.
const PARTS: [(&str, &str); 10] = [
    ("disks", "of checkpoints"),
    ("memories", "of checkpoints"),
    ("set-aside", "damaged, gone with the next `dsimg cache prune`"),
    ("bases", ""),
    ("packages", "that locks and bundles name"),
    ("downloads", ""),
    ("tools", ""),
    ("bundles", "of builds that run"),
    ("work", "of builds that run"),
    ("other", ""),
];

pub(super) fn run(cache: &Path, arguments: &CacheDu) -> Result<(), Failure> {
    let budgets = (environment::cache_budget()?.0, environment::packages_budget()?.0);
    let usage = Usage::of(cache);
    for (path, error) in &usage.unread {
        say(&printable(&format!("warning: cannot read `{}`: {error}\n", path.display())));
    }
    match arguments.format {
        Format::Json => print(&format!("{:#}\n", usage.record(budgets))),
        Format::Text => print(&usage.describe(budgets)),
    }
}

/// Bytes that the files below a folder take on the disk, with the folder's own.
pub(super) fn allocated(folder: &Path) -> u64 {
    let mut usage = Usage::default();
    usage.walk(folder, &|_| 0);
    usage.sums[0]
}

#[derive(Debug, Default)]
struct Usage {
    /// In the order of [`PARTS`].
    sums: [u64; PARTS.len()],
    unread: Vec<(PathBuf, io::Error)>,
    /// Files with several names, which are counted once.
    seen: BTreeSet<(u64, u64)>,
}

impl Usage {
    fn of(cache: &Path) -> Self {
        let mut usage = Self::default();
        let part = |path: &Path| {
            let mut names = path.strip_prefix(cache).unwrap_or(path).iter().map(|name| name.to_string_lossy());
            let (first, second) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
            let name = match &*first {
                "checkpoints" | "bases" if second.starts_with(".damaged-") || second.starts_with(".trash-") => {
                    "set-aside"
                }
                // Also compressed, and what a crash left of one that was about to be.
                "checkpoints" if names.next().is_some_and(|name| name.trim_start_matches('.').starts_with(MEMORY)) => {
                    "memories"
                }
                "checkpoints" => "disks",
                "store" => "packages",
                other => other,
            };
            PARTS.iter().position(|(known, _)| *known == name).unwrap_or(PARTS.len() - 1)
        };
        usage.walk(cache, &part);
        usage
    }

    /// What goes away meanwhile takes no room; links are not followed.
    fn walk(&mut self, root: &Path, part: &dyn Fn(&Path) -> usize) {
        let mut waiting = vec![root.to_owned()];
        while let Some(path) = waiting.pop() {
            match self.add(&path, part(&path)) {
                Ok(entries) => waiting.extend(entries),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.unread.push((path, error)),
            }
        }
    }

    /// What lies in it, if it is a folder.
    fn add(&mut self, path: &Path, part: usize) -> io::Result<Vec<PathBuf>> {
        let metadata = fs::symlink_metadata(path)?;
        let is_folder = metadata.is_dir();
        if is_folder || metadata.nlink() == 1 || self.seen.insert((metadata.dev(), metadata.ino())) {
            self.sums[part] += metadata.blocks() * 512;
        }
        if !is_folder {
            return Ok(Vec::new());
        }
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn total(&self) -> u64 {
        self.sums.iter().sum()
    }

    fn describe(&self, (budget, packages): (u64, u64)) -> String {
        let mut text = String::new();
        for ((name, what), sum) in PARTS.iter().zip(self.sums) {
            // These are there when something is going on or has gone wrong.
            if sum > 0 || !matches!(*name, "set-aside" | "bundles" | "work" | "other") {
                let _ = writeln!(text, "{}", format!("{name:<9}  {:>10}  {what}", bytes(sum)).trim_end());
            }
        }
        let _ = writeln!(text, "{:<9}  {:>10}", "total", bytes(self.total()));
        for (of, budget) in [("for disks and memories of checkpoints", budget), ("for packages", packages)] {
            let _ = writeln!(text, "{:<9}  {:>10}  {of}", "budget", bytes(budget));
        }
        text
    }

    fn record(&self, (budget, packages): (u64, u64)) -> serde_json::Value {
        let mut record = json!({ "format": 1, "total": self.total(), "budget": budget, "packages_budget": packages });
        for ((name, _), sum) in PARTS.iter().zip(self.sums) {
            record[name.replace('-', "_")] = json!(sum);
        }
        record
    }
}
