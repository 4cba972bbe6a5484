//! A small template of a few stages, built again and again, and the checkpoints that its builds leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command::{Outcome, cache_folder, dsimg, run};
use crate::manifest::read_manifest;

const BUILDER: &str = "[[builder]]\nname = \"small\"\ntype = \"qemu\"\nmemory = \"1GiB\"\ndisk = \"8GiB\"\n";
/// Draws a number that is another one in each run of the stage.
const FIRST: &str = "uuid=$(cat /proc/sys/kernel/random/uuid); echo $uuid >/opt/first; echo first=$uuid";

/// A template of shell stages in a folder of its own, which also takes its images.
#[derive(Debug)]
pub struct SmallTemplate {
    folder: tempfile::TempDir,
    image: String,
    /// A command that no other test runs, for a first stage: it writes a random word to `/opt/first` and prints it as
    /// `first=`.
    pub first: String,
}

impl SmallTemplate {
    /// `image` is the image's name, by which tests tell their checkpoints apart. What an earlier run left is removed.
    ///
    /// # Panics
    /// There is no room for it.
    #[must_use]
    pub fn new(image: &str) -> Self {
        remove_checkpoints_of(image);
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let first = format!("{FIRST}; : {}", folder.path().display());
        Self { folder, image: image.to_owned(), first }
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stages of one command each; `head` comes before the builder.
    ///
    /// # Panics
    /// The template can't be written.
    pub fn write(&self, head: &str, stages: &[(&str, &str)]) {
        let shell = |(name, line): &(&str, &str)| {
            let line = line.replace('"', "\\\"");
            format!("[[provision]]\nname = \"{name}\"\ntype = \"shell\"\ninline = [\"{line}\"]\n")
        };
        self.write_text(head, &stages.iter().map(shell).collect::<String>());
    }

    /// Stages as they stand in a template.
    ///
    /// # Panics
    /// The template can't be written.
    pub fn write_text(&self, head: &str, stages: &str) {
        let text = format!("[image]\nname = \"{}\"\nversion = \"1\"\n{head}\n{BUILDER}\n{stages}", self.image);
        fs::write(self.path(), text).expect("the folder is ours");
    }

    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("template.toml")
    }

    /// `dsimg build` of it.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let output = self.folder.path().join("images").to_string_lossy().into_owned();
        let template = self.path().to_string_lossy().into_owned();
        let mut all = vec!["build", "--progress", "plain", "--force", "--output", &output, &template];
        all.extend(arguments);
        dsimg(&all)
    }

    pub fn build(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }

    /// `dsimg lock` of it.
    pub fn lock(&self, arguments: &[&str]) -> Outcome {
        let path = self.path().to_string_lossy().into_owned();
        run(&mut dsimg(&[&["lock", "--progress", "plain", &path], arguments].concat()))
    }

    /// The folder of an image that was built.
    #[must_use]
    pub fn image_folder(&self, image: &str) -> PathBuf {
        self.folder.path().join("images").join(image)
    }

    /// What an image's manifest says beside the part about its build.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn manifest(&self, image: &str) -> Value {
        let mut manifest = read_manifest(&self.image_folder(image));
        manifest.as_object_mut().expect("a manifest is a table").remove("build");
        manifest
    }
}

/// The last word after `name=` in what a build printed.
///
/// # Panics
/// There is none.
#[must_use]
pub fn told(outcome: &Outcome, name: &str) -> String {
    let start = format!("{name}=");
    let words = outcome.stderr.split_whitespace();
    words
        .filter_map(|word| word.strip_prefix(&start))
        .next_back()
        .unwrap_or_else(|| panic!("{name}: {outcome:?}"))
        .to_owned()
}

/// The folders of all checkpoints in the tests' cache.
#[must_use]
pub fn checkpoints() -> Vec<PathBuf> {
    let store = fs::read_dir(cache_folder().join("cache/checkpoints")).into_iter().flatten().flatten();
    store.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).map(|entry| entry.path()).collect()
}

/// Those of an image, and the stages after which they were saved.
#[must_use]
pub fn checkpoints_of(image: &str) -> Vec<(String, PathBuf)> {
    let label = |path: &PathBuf| {
        let record: Value = serde_json::from_slice(&fs::read(path.join("checkpoint.json")).ok()?).ok()?;
        let checkpoint = &record["checkpoint"];
        (checkpoint["image"] == image).then(|| checkpoint["label"].as_str().unwrap_or_default().to_owned())
    };
    checkpoints().into_iter().filter_map(|path| Some((label(&path)?, path))).collect()
}

/// The only one of an image after a stage.
///
/// # Panics
/// There is none, or more than one.
#[must_use]
pub fn checkpoint_of(image: &str, label: &str) -> PathBuf {
    let all = checkpoints_of(image);
    let mut found: Vec<_> = all.iter().filter(|(known, _)| known == label).map(|(_, path)| path.clone()).collect();
    assert_eq!(found.len(), 1, "checkpoints of {image} after {label}, among {all:?}");
    found.remove(0)
}

/// Removes all checkpoints of an image, but for the boot, which others stand on.
///
/// # Panics
/// `dsimg cache rm` fails.
pub fn remove_checkpoints_of(image: &str) {
    let stages = checkpoints_of(image).into_iter().filter(|(label, _)| label != "boot");
    let ids: Vec<_> = stages.filter_map(|(_, path)| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    if !ids.is_empty() {
        let mut arguments = vec!["cache", "rm"];
        arguments.extend(ids.iter().map(String::as_str));
        run(&mut dsimg(&arguments)).expect_success();
    }
}
