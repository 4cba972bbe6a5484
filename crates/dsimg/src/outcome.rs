//! What a build gave, in words and as data.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use dsimg_build::BuildReport;
use dsimg_manifest::{Lock, Manifest};
use dsimg_plan::Plan;

use crate::failure::Failure;
use crate::ui::text::{bytes, printable, seconds};

/// The image's path, its files, the packages in it, the time it took, and what to do next.
pub(crate) fn describe(report: &BuildReport, folder: &Path) -> String {
    let manifest = &report.manifest;
    let build = &manifest.build;
    let mut text = format!("\n{} {}\n", manifest.image.name, manifest.image.version);
    let _ = writeln!(text, "  packages  {}", packages(manifest));
    let took = Duration::from_millis(build.durations.total_ms);
    if let Some(reproducibility) = &build.reproducibility {
        let _ = writeln!(text, "  level     {}", reproducibility.level);
        for reason in &reproducibility.reasons {
            let _ = writeln!(text, "            {reason}");
        }
    }
    let _ = writeln!(text, "  time      {} ({}, {})", seconds(took), build.host.hypervisor, build.host.accelerator);
    let _ = writeln!(text, "next:\n  dsimg inspect {}", quoted(folder));
    for artifact in &build.artifacts {
        let _ = writeln!(
            text,
            "image: {} ({}, a disk of {})",
            folder.join(&artifact.file).display(),
            bytes(artifact.size),
            bytes(artifact.virtual_size)
        );
    }
    printable(&text)
}

/// The same for an image that is there and would come out the same.
pub(crate) fn describe_unchanged(manifest: &Manifest, folder: &Path) -> String {
    let mut text = format!(
        "\nnothing changed: {} {} was built {}; `--no-cache` builds it again\n",
        manifest.image.name, manifest.image.version, manifest.build.started
    );
    for artifact in &manifest.build.artifacts {
        let _ = writeln!(text, "image: {} ({})", folder.join(&artifact.file).display(), bytes(artifact.size));
    }
    printable(&text)
}

/// Where the lock is, and what it holds.
pub(crate) fn describe_lock(lock: &Lock, plan: &Plan, path: &Path) -> String {
    let installed = |passing: bool| usize::from(!passing);
    let counts = [
        ("deb", lock.deb.iter().map(|package| installed(package.passing)).sum::<usize>()),
        ("pypi", lock.pypi.iter().map(|package| installed(package.passing)).sum()),
        ("cran", lock.cran.iter().map(|package| installed(package.passing)).sum()),
    ];
    let counts: Vec<_> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
    let fetched: u64 = lock.artifacts().map(|artifact| artifact.size).sum();
    let mut text = format!("\n{}: {} of `{}`\n", path.display(), counts.join(", "), plan.run_name());
    let _ = writeln!(text, "  {} of packages are kept for it", bytes(fetched));
    for unfrozen in &lock.unfrozen {
        let reached: Vec<_> = unfrozen.reached.iter().map(String::as_str).collect();
        let stage = &unfrozen.stage;
        let _ = writeln!(text, "  not reproducible: stage `{stage}` used the network: {}", reached.join(", "));
    }
    printable(&text)
}

/// For a lock that needs no change.
pub(crate) fn describe_fitting_lock(plan: &Plan, path: &Path) -> String {
    let (path, name) = (path.display(), plan.run_name());
    printable(&format!("\n{path} fits the template (`{name}`); `--upgrade` moves its packages\n"))
}

/// The last line of `--json` for an image that was there.
pub(crate) fn unchanged(manifest: &Manifest, folder: &Path) -> Value {
    json!({
        "ok": true,
        "unchanged": true,
        "folder": folder,
        "artifacts": manifest.build.artifacts,
        "packages": count(manifest),
        "elapsed_ms": 0,
    })
}

/// `414: 390 deb, 24 pypi`
fn packages(manifest: &Manifest) -> String {
    let counts = count(manifest);
    let counts: Vec<_> = counts.iter().map(|(ecosystem, count)| format!("{count} {ecosystem}")).collect();
    format!("{}: {}", manifest.packages.len(), counts.join(", "))
}

fn count(manifest: &Manifest) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for package in &manifest.packages {
        *counts.entry(package.ecosystem.as_str()).or_default() += 1;
    }
    counts
}

/// As a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "_-./+,:@%=".contains(c);
    if text.chars().all(is_plain) { text } else { dsimg_plan::parameters::quote(&text) }
}

/// The last line of `--json` for a builder that made its image.
pub(crate) fn success(report: &BuildReport, folder: &Path, log: &Path) -> Value {
    let manifest = &report.manifest;
    json!({
        "ok": true,
        "folder": folder,
        "artifacts": manifest.build.artifacts,
        "packages": count(manifest),
        "elapsed_ms": manifest.build.durations.total_ms,
        "log": log,
    })
}

/// The last line of `--json` for a builder that failed, or for a build that never began.
pub(crate) fn failure(failure: &Failure, log: Option<&Path>) -> Value {
    let mut fields = json!({
        "ok": false,
        "exit_code": failure.code as u8,
        "error": failure.summary(),
        "report": failure.describe(),
    });
    if let Some(log) = log {
        fields["log"] = json!(log);
    }
    if !failure.files().is_null() {
        fields["files"] = failure.files().clone();
    }
    fields
}
