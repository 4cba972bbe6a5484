//! `dsimg cache rm`: a checkpoint, and all that stand on it.

use std::collections::BTreeSet;
use std::path::Path;

use dsimg_checkpoint::{Checkpoint, Listing, Store};
use dsimg_template::nearest;

use super::{du, failure, list, stage};
use crate::arguments::CacheRm;
use crate::failure::{Code, Failure};
use crate::ui::output::print;
use crate::ui::text::{bytes, printable};

/// So many are named where an id is of several.
const NAMED: usize = 5;

pub(super) fn run(cache: &Path, arguments: &CacheRm) -> Result<(), Failure> {
    let store = Store::new(cache);
    let listing = list(&store).map_err(failure)?;
    let named: Vec<_> = arguments.ids.iter().map(|given| find(given, &listing)).collect::<Result<_, _>>()?;
    let mut text = String::new();
    let (mut freed, mut failed, mut stays) = (0, None, BTreeSet::new());
    for id in with_all_above(&named, &listing) {
        let checkpoint = listing.get(&id);
        let size = checkpoint.map_or_else(|| du::allocated(&store.folder_of(&id)), Checkpoint::allocated);
        let removed = if stays.contains(&id) { None } else { Some(store.remove(&id)) };
        if let Some(Ok(())) = removed {
            let what = match checkpoint {
                Some(it) => format!("{} of {}", stage(it), it.image),
                None if listing.newer.iter().any(|newer| newer.id == id) => "made by a newer dsimg".to_owned(),
                None => "damaged".to_owned(),
            };
            text.push_str(&format!("removed checkpoint {id} ({what}), {}\n", bytes(size)));
            freed += size;
            continue;
        }
        // Nor can go what it stands on.
        let newer = listing.newer.iter().find(|newer| newer.id == id).and_then(|newer| newer.parent.clone());
        stays.extend(checkpoint.and_then(|checkpoint| checkpoint.parent.clone()).or(newer));
        failed = failed.or(removed.and_then(Result::err));
    }
    text.push_str(&format!("freed {}\n", bytes(freed)));
    print(&printable(&text))?;
    failed.map_or(Ok(()), |error| Err(failure(error)))
}

/// Each once, and after all that stand on it.
fn with_all_above(named: &[String], listing: &Listing) -> Vec<String> {
    let mut ordered: Vec<String> = Vec::new();
    for id in named.iter().flat_map(|id| listing.subtree(id).into_iter().rev()) {
        if !ordered.contains(&id) {
            ordered.push(id);
        }
    }
    ordered
}

/// The id that was meant: in full, or its beginning or end where only one is like this.
fn find(given: &str, listing: &Listing) -> Result<String, Failure> {
    let whole = listing.checkpoints.iter().map(|checkpoint| checkpoint.id.as_str());
    let others = listing.damaged.iter().map(|damaged| &damaged.id).chain(listing.newer.iter().map(|newer| &newer.id));
    let mut ids: Vec<&str> = whole.collect();
    // One whose memory alone is damaged is among both.
    ids.extend(others.map(String::as_str).filter(|id| listing.get(id).is_none()));
    let is_part = |id: &&&str| !given.is_empty() && (id.starts_with(given) || id.ends_with(given));
    let like: Vec<&str> = match ids.contains(&given) {
        true => vec![given],
        false => ids.iter().filter(is_part).copied().collect(),
    };
    match like.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => Err(unknown(given, &ids)),
        several => {
            let more = if several.len() > NAMED { ", …" } else { "" };
            let named = several[..several.len().min(NAMED)].join(", ");
            Err(Failure::new(Code::Wrong, format!("`{given}` is how {} checkpoints begin or end", several.len()))
                .with_hint(format!("give more of one of them: {named}{more}")))
        }
    }
}

fn unknown(given: &str, ids: &[&str]) -> Failure {
    let failure = Failure::new(Code::Wrong, format!("there is no checkpoint `{given}`"));
    // The part that tells those of one build apart.
    let ends = || ids.iter().filter_map(|id| id.rsplit('-').next());
    match nearest(given, ids.iter().copied()).or_else(|| nearest(given, ends())) {
        Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
        None => failure.with_hint("`dsimg cache ls` lists them"),
    }
}
