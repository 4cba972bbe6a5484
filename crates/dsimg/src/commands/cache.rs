//! `dsimg cache`: what builds keep for the next ones, and how it is taken away.

mod du;
mod ls;
mod packages;
mod prune;
mod rm;
mod verify;

use dsimg_checkpoint::{Checkpoint, Kind, Listing, Store, StoreError};

use crate::arguments::{Cache, CacheCommand};
use crate::environment;
use crate::failure::{Code, Failure};

pub(crate) use prune::keep_within_budget;

/// # Errors
/// The cache can't be read or changed, what was named is not there, or `verify` has found damage.
pub(crate) fn run(arguments: &Cache) -> Result<(), Failure> {
    let cache = environment::cache_folder()?;
    match &arguments.command {
        CacheCommand::Ls(arguments) => ls::run(&cache, arguments),
        CacheCommand::Du(arguments) => du::run(&cache, arguments),
        CacheCommand::Prune(arguments) => prune::run(&cache, arguments),
        CacheCommand::Verify => verify::run(&cache),
        CacheCommand::Rm(arguments) => rm::run(&cache, arguments),
    }
}

/// Of a checkpoint, as people know it: `boot`, `python`, `python, failed`.
fn stage(checkpoint: &Checkpoint) -> String {
    match checkpoint.kind {
        Kind::Boot => "boot".to_owned(),
        Kind::Stage => checkpoint.label.clone(),
        Kind::Failed => format!("{}, failed", checkpoint.label),
    }
}

/// `1 base`, `3 bases`
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// All checkpoints. A file that lies among them is not theirs, and is left alone.
fn list(store: &Store) -> Result<Listing, StoreError> {
    let mut listing = store.list()?;
    listing.damaged.retain(|damaged| store.folder_of(&damaged.id).is_dir());
    Ok(listing)
}

fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::File { action, path, source } => Failure::file(action, &path, source),
        StoreError::InUse { .. } => Failure::new(Code::Build, error.to_string())
            .with_hint("it can be removed when the build or the shell has ended"),
        StoreError::Gone { .. } | StoreError::Damaged(_) => Failure::new(Code::Build, error.to_string()),
    }
}

/// One line: what failed, and why.
fn in_a_line(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
