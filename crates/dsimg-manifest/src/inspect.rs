//! A manifest as people read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::manifest::{Duration, Durations, HYGIENE, Manifest, Package};

/// What the image is, where it came from, what is in it and how long it took.
#[must_use]
pub fn describe(manifest: &Manifest) -> String {
    let mut text = String::new();
    describe_image(manifest, &mut text);
    describe_packages(manifest, &mut text);
    describe_durations(manifest, &mut text);
    text
}

/// One line for each package, in columns: ecosystem, name, version, whether it was asked for, the stage that brought
/// it, and where it is, for those that may be in several places.
#[must_use]
pub fn list_packages(manifest: &Manifest) -> String {
    let width = |get: fn(&Package) -> &str| manifest.packages.iter().map(|package| get(package).len()).max();
    let names = width(|package| &package.name).unwrap_or(0);
    let versions = width(|package| &package.version).unwrap_or(0);
    let stages = width(|package| &package.stage).unwrap_or(0);
    manifest.packages.iter().fold(String::new(), |mut text, package| {
        let Package { ecosystem, name, version, stage, location, .. } = package;
        let asked = if package.requested { "asked for" } else { "pulled in" };
        let line =
            format!("{ecosystem:<5} {name:<names$}  {version:<versions$}  {asked}  {stage:<stages$}  {location}");
        let _ = writeln!(text, "{}", line.trim_end());
        text
    })
}

fn describe_image(manifest: &Manifest, text: &mut String) {
    let Manifest { image, base, system, build, .. } = manifest;
    let _ = writeln!(text, "{} {}", image.name, image.version);
    if let Some(summary) = &image.summary {
        let _ = writeln!(text, "{summary}");
    }
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    fact("system", &format!("{}, kernel {}, {}", system.os, system.kernel, system.architecture));
    let versions = [("Python", &system.python), ("R", &system.r)];
    let versions: Vec<_> = versions
        .iter()
        .filter_map(|(name, version)| version.as_ref().map(|version| format!("{name} {version}")))
        .collect();
    if !versions.is_empty() {
        fact("languages", &versions.join(", "));
    }
    fact("base", &format!("{} (sha256 {})", base.source, &base.sha256[..12.min(base.sha256.len())]));
    fact("plan", &manifest.plan);
    fact("built", &format!("{} by dsimg {}, builder `{}`", build.started, build.dsimg, build.builder));
    let host = &build.host;
    fact("host", &format!("{}, {}, {} cpus, {}", host.os, host.hypervisor, host.cpus, host.accelerator));
    for artifact in &build.artifacts {
        let disk = bytes(artifact.virtual_size);
        fact("file", &format!("{} ({}, a disk of {disk})", artifact.file, bytes(artifact.size)));
    }
}

fn describe_packages(manifest: &Manifest, text: &mut String) {
    let mut ecosystems: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    for package in &manifest.packages {
        let (all, requested) = ecosystems.entry(&package.ecosystem).or_default();
        *all += 1;
        *requested += usize::from(package.requested);
        *stages.entry(&package.stage).or_default() += 1;
    }
    let _ = writeln!(text, "\npackages: {}", manifest.packages.len());
    for (ecosystem, (all, requested)) in ecosystems {
        let _ = writeln!(text, "  {ecosystem:<10} {all:>5}, {requested} asked for");
    }
    let _ = writeln!(text, "\nbrought by");
    let order = [crate::manifest::BASE].into_iter().chain(manifest.stages.iter().map(|stage| &*stage.label));
    for (label, count) in order.filter_map(|label| stages.get(label).map(|count| (label, count))) {
        let _ = writeln!(text, "  {label:<30} {count:>5}");
    }
}

fn describe_durations(manifest: &Manifest, text: &mut String) {
    let durations = &manifest.build.durations;
    let _ = writeln!(text, "\ntime: {}", seconds(durations.total_ms));
    let line = |text: &mut String, entry: &Duration| {
        let _ = writeln!(text, "  {:<30} {:>9}", entry.name, seconds(entry.ms));
    };
    let is_after =
        |entry: &&Duration| matches!(entry.name.as_str(), "freeze" | "checkpoint" | "power off" | "write image");
    durations.phases.iter().filter(|entry| !is_after(entry)).for_each(|entry| line(text, entry));
    let earlier = stages_of_earlier_builds(durations);
    for entry in &durations.stages[..earlier] {
        let _ = writeln!(text, "  {:<30} {:>9}  in an earlier build", entry.name, seconds(entry.ms));
    }
    durations.stages[earlier..].iter().for_each(|entry| line(text, entry));
    durations.phases.iter().filter(is_after).for_each(|entry| line(text, entry));
    let added = added_by_dsimg(manifest);
    let (total, beside_boot) = (seconds(added.total()), seconds(added.total() - added.boot));
    let _ = writeln!(text, "\nof it, what dsimg adds to the stages: {total}, and {beside_boot} beside the boot");
    for (name, ms) in [
        ("boot to ssh", added.boot),
        ("prepare", added.prepare),
        ("freeze", added.freeze),
        ("checkpoints", added.checkpoint),
        ("hygiene and power off", added.finish),
        ("write image", added.write),
    ] {
        let _ = writeln!(text, "  {name:<30} {:>9}", seconds(ms));
    }
}

/// How many of the stages were in the checkpoint that the build started from.
fn stages_of_earlier_builds(durations: &Durations) -> usize {
    let last = durations.resumed_after.as_ref();
    last.and_then(|last| durations.stages.iter().position(|stage| stage.name == *last)).map_or(0, |index| index + 1)
}

/// Milliseconds of a build that are not the machine's own commands, the base left aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    pub boot: u64,
    pub prepare: u64,
    pub freeze: u64,
    pub checkpoint: u64,
    pub finish: u64,
    pub write: u64,
}

impl Added {
    #[must_use]
    pub fn total(self) -> u64 {
        self.boot + self.prepare + self.freeze + self.checkpoint + self.finish + self.write
    }
}

/// What the build cost beside the commands of the template's stages.
#[must_use]
pub fn added_by_dsimg(manifest: &Manifest) -> Added {
    let durations = &manifest.build.durations;
    let find = |entries: &[Duration], name: &str| entries.iter().find(|entry| entry.name == name).map_or(0, |e| e.ms);
    let phase = |name: &str| find(&durations.phases, name);
    Added {
        boot: phase("boot"),
        prepare: phase("prepare"),
        freeze: phase("freeze"),
        checkpoint: phase("checkpoint"),
        finish: find(&durations.stages, HYGIENE) + phase("power off"),
        write: phase("write image"),
    }
}

fn seconds(ms: u64) -> String {
    let whole = ms / 1000;
    if whole < 60 { format!("{}.{} s", whole, ms % 1000 / 100) } else { format!("{}m {:02}s", whole / 60, whole % 60) }
}

fn bytes(count: u64) -> String {
    match count {
        count if count >= 1 << 30 => format!("{:.1} GiB", count as f64 / f64::from(1 << 30)),
        count if count >= 1 << 20 => format!("{:.1} MiB", count as f64 / f64::from(1 << 20)),
        count => format!("{count} bytes"),
    }
}
