//! `dsimg verify`: is an image what its lock says, and who signed it?

mod proof;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use dsimg_manifest::manifest::Level;
use dsimg_manifest::{Lock, Manifest};
use dsimg_provenance::verify::Problem;
use dsimg_provenance::{Findings, Keys, MinisignPublicKey, PublicKey, Statement};
use serde_json::{Value, json};

use crate::arguments::{Format, Proof, Verify};
use crate::failure::{Code, Failure};
use crate::named::{Named, read_lock};
use crate::signing::{verified, wrong_key};
use crate::ui::output::{print, say};
use crate::ui::text::printable;
use proof::Proven;

/// # Errors
/// Something is not as it should be, or less is proved than was asked for.
pub(crate) fn run(arguments: &Verify) -> Result<(), Failure> {
    let keys = keys(arguments)?;
    let named = Named::open(&arguments.image, None)?;
    let Some(manifest) = named.manifest.as_ref().filter(|_| arguments.image.is_dir()) else {
        let what = format!("`{}` is no image's folder", arguments.image.display());
        return Err(Failure::new(Code::Wrong, what).with_hint("give the folder that a build wrote"));
    };
    let lock = arguments.lock.as_ref().map(|lock| read_lock(lock, arguments.only.as_deref())).transpose()?;
    let mut findings = verified(&arguments.image, &keys)?;
    let proven = match &lock {
        Some((_, lock)) => {
            let statement = findings.statement.take();
            findings.problems.extend(statement.and_then(|statement| of_another_lock(&statement, lock)));
            let (proven, problems) = proof::of(manifest, lock, named.disk.as_deref());
            findings.problems.extend(problems);
            Some(if findings.is_good() { proven } else { Proven::nothing() })
        }
        None => None,
    };
    let wanted = wanted(arguments, manifest);
    match arguments.format {
        Format::Text => print(&printable(&as_text(&findings, proven.as_ref(), lock.as_ref(), arguments)))?,
        Format::Json => print(&format!("{:#}\n", as_json(&findings, proven.as_ref(), wanted)))?,
    }
    conclude(&findings, proven.as_ref(), wanted, arguments)
}

fn keys(arguments: &Verify) -> Result<Keys, Failure> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).map_err(|error| {
            Failure::new(Code::Wrong, format!("cannot read the key `{}`", file.display())).because(error)
        })
    };
    let mut keys = Keys::default();
    for file in &arguments.keys {
        keys.ed25519.push(PublicKey::from_pem(&read(file)?).map_err(|error| wrong_key(file, &error))?);
    }
    for file in &arguments.minisign_keys {
        keys.minisign.push(MinisignPublicKey::from_text(&read(file)?).map_err(|error| wrong_key(file, &error))?);
    }
    Ok(keys)
}

/// Everything that the lock names went into the statement that was signed.
fn of_another_lock(statement: &Statement, lock: &Lock) -> Option<Problem> {
    let resources = &statement.predicate.build_definition.resolved_dependencies;
    let stated: BTreeSet<&String> = resources.iter().filter_map(|resource| resource.digest.get("sha256")).collect();
    let missing = lock.artifacts().filter(|artifact| !stated.contains(&artifact.sha256)).count();
    (missing > 0).then(|| Problem {
        file: dsimg_provenance::envelope::PROVENANCE.to_owned(),
        what: format!("{missing} files of the lock are not among those that the image was made of"),
        hint: "give the lock that the image was built from".to_owned(),
    })
}

/// What the manifest claims must be so.
fn wanted(arguments: &Verify, manifest: &Manifest) -> Level {
    let claimed = manifest.build.reproducibility.as_ref().map_or(Level::R0, |found| found.level);
    match arguments.level {
        None => claimed,
        Some(Proof::R1) => Level::R1,
        Some(Proof::R2) => Level::R2,
        Some(Proof::R3) => Level::R3,
        Some(Proof::R4) => Level::R4,
    }
}

fn as_text(findings: &Findings, proven: Option<&Proven>, lock: Option<&(String, Lock)>, arguments: &Verify) -> String {
    let mut text = format!("{}\n", arguments.image.display());
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "  {name:<12} {what}");
    };
    line("files", &format!("{} are as they were written", findings.verified.len()));
    for signed in &findings.signed {
        line("signed", signed);
    }
    if arguments.keys.is_empty() && arguments.minisign_keys.is_empty() {
        line("signatures", "no key was given, so none was looked at");
    }
    if let (Some(proven), Some((run, _))) = (proven, lock) {
        line("lock", &format!("`{run}`"));
        line("proved", &proven.level.to_string());
        for reason in &proven.reasons {
            line("", reason);
        }
    }
    let others: Vec<_> = findings.not_covered.iter().map(String::as_str).collect();
    if !others.is_empty() {
        line("not covered", &others.join(", "));
    }
    for Problem { file, what, hint } in &findings.problems {
        let _ = write!(text, "\nWRONG: {file}: {what}\n  hint: {hint}\n");
    }
    text
}

fn as_json(findings: &Findings, proven: Option<&Proven>, wanted: Level) -> Value {
    let mut value = json!({ "format": 1, "ok": is_good(findings, proven, wanted), "findings": findings });
    if let Some(Proven { level, reasons }) = proven {
        value["proved"] = json!(level);
        value["wanted"] = json!(wanted);
        value["reasons"] = json!(reasons);
    }
    value
}

fn is_good(findings: &Findings, proven: Option<&Proven>, wanted: Level) -> bool {
    findings.is_good() && proven.is_none_or(|proven| proven.level >= wanted)
}

fn conclude(findings: &Findings, proven: Option<&Proven>, wanted: Level, arguments: &Verify) -> Result<(), Failure> {
    let image = arguments.image.display();
    if is_good(findings, proven, wanted) {
        if proven.is_none() {
            say("no lock was given: nothing is proved of its packages\n");
        }
        return Ok(());
    }
    match (findings.problems.len(), proven) {
        (0, Some(proven)) => {
            let what = format!("`{image}`: {} is proved, and {wanted} was to be", proven.level);
            Err(Failure::new(Code::Found, what).with_hint(proven.reasons.join("; ")))
        }
        (1, _) => Err(Failure::new(Code::Found, format!("`{image}` is not what it should be in one place"))),
        (count, _) => Err(Failure::new(Code::Found, format!("`{image}` is not what it should be in {count} places"))),
    }
}
