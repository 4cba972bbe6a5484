//! Repositories of which some packages are bound to a lock, and the others are as upstream has them.
//!
//! The lists are made here, so nobody signs them, and this host does not check upstream's signature: whoever asks for a
//! newer package in this way trusts the way to the mirror.

use std::collections::BTreeSet;

use crate::apt::locked::{LockedApt, forms, gzip};
use crate::apt::place::{ListFile, Repository};
use crate::apt::release::ReleaseFacts;
use crate::apt::stanza::stanzas;

/// A list of upstream's without the lock's packages, and then those as the lock has them.
pub(crate) fn merged(upstream: &str, locked: &LockedApt, at: &Repository, arch: Option<&str>) -> String {
    let others = stanzas(upstream).filter(|stanza| {
        let name = stanza.field("Package");
        name.is_none_or(|name| !locked.names.contains(name))
    });
    let mut list: String = others.map(|stanza| format!("{}\n\n", stanza.0)).collect();
    list.push_str(&locked.list(at, arch));
    list
}

/// Lists that a suite has for these architectures, by their path below it: what upstream signs as that, in the forms
/// that can be read here, the shortest first.
pub(crate) fn lists_of(release: &ReleaseFacts, archs: &BTreeSet<String>) -> Vec<(String, ListFile, Vec<String>)> {
    let mut lists = Vec::new();
    for component in &release.components {
        for arch in archs {
            let path = format!("{component}/binary-{arch}/Packages");
            let forms = [format!("{path}.xz"), format!("{path}.gz"), path.clone()];
            let forms: Vec<_> = forms.into_iter().filter(|form| release.digest_of(form).is_some()).collect();
            if !forms.is_empty() {
                let file = ListFile { arch: Some(arch.clone()), ..ListFile::default() };
                lists.push((component.clone(), file, forms));
            }
        }
    }
    lists
}

/// The suite's file over the lists that were made.
pub(crate) fn release(facts: &ReleaseFacts, archs: &[String], lists: &[(String, String)]) -> String {
    let lists: Vec<_> = lists.iter().flat_map(|(path, list)| forms(path, list)).collect();
    facts.write(archs, &lists)
}

/// A list in the form that was asked for.
pub(crate) fn in_form(list: &str, ending: &str) -> Option<Vec<u8>> {
    match ending {
        "" => Some(list.as_bytes().to_vec()),
        "gz" => Some(gzip(list.as_bytes())),
        _ => None,
    }
}
