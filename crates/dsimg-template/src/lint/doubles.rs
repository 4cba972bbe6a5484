//! Packages that are listed twice.

use std::collections::BTreeMap;

use super::names::{apt_name, pip_name};
use super::{Subject, place_of};
use crate::problem::Problem;
use crate::provision::Stage;
use crate::reader::Reader;
use crate::values::Piece;

/// Within one list, and over the stages that one machine goes through.
pub(super) fn check(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    for provisioner in ["apt", "pip", "r"] {
        let mut seen: BTreeMap<String, Vec<&Stage>> = BTreeMap::new();
        for stage in subject.stages_of(provisioner) {
            for piece in stage.values.texts("packages") {
                let Some(name) = name(provisioner, piece) else { continue };
                let earlier = seen.entry(name.clone()).or_default();
                let double = earlier.iter().rev().find(|other| meet(other, stage, subject.builders));
                if let Some(other) = double {
                    report(reader, piece, &name, other, stage);
                }
                earlier.push(stage);
            }
        }
    }
}

fn name(provisioner: &str, piece: &Piece) -> Option<String> {
    match provisioner {
        "pip" => pip_name(&piece.text),
        "apt" => Some(apt_name(&piece.text).to_owned()),
        _ => Some(piece.text.split('@').next().unwrap_or(&piece.text).trim().to_owned()),
    }
}

/// Whether a machine goes through both, into the same environment.
fn meet(one: &Stage, other: &Stage, builders: &[String]) -> bool {
    let venv = |stage: &Stage| stage.entry.parameters.get("venv").cloned();
    venv(one) == venv(other) && builders.iter().any(|name| one.entry.applies_to(name) && other.entry.applies_to(name))
}

fn report(reader: &mut Reader<'_>, piece: &Piece, name: &str, first: &Stage, second: &Stage) {
    let message = if first.entry.label == second.entry.label {
        format!("`{name}` is listed twice")
    } else {
        format!("`{name}` is listed in the stage `{}` already", first.entry.label)
    };
    let written = piece.text.get(..name.len()).unwrap_or(name);
    let place = place_of(reader, piece, written);
    reader.report(Problem::warning(place, message).with_help("remove one of the two"));
}
