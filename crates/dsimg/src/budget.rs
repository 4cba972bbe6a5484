//! The cache of checkpoints stays within its budget, without being asked.

use std::path::Path;

use dsimg_checkpoint::{Eviction, Policy, Store, StoreError, evict};
use dsimg_machine::{Event, Level};
use dsimg_template::units::ByteSize;

use crate::ui::Screen;

/// Removes what was used least until the store is within the budget again. What can't be removed is told, and is tried
/// again by the next build.
pub(crate) fn keep_within(budget: ByteSize, cache: &Path, screen: &dyn Screen) {
    let store = Store::new(cache);
    let warn = |error: StoreError| {
        let text = format!("the cache of checkpoints can't be tidied: {error}");
        screen.report("", &Event::Message { level: Level::Warning, text });
    };
    let listing = match store.list() {
        Ok(listing) => listing,
        Err(error) => return warn(error),
    };
    let policy = Policy { budget: Some(budget.0), ..Policy::default() };
    for eviction in evict(&listing, &store.last_used(&listing), jiff::Timestamp::now(), &policy) {
        let done = match &eviction {
            Eviction::DropMemory(id) => listing.get(id).map_or(Ok(()), |checkpoint| store.drop_memory(checkpoint)),
            Eviction::Remove(id) => store.remove(id),
        };
        match done {
            Ok(()) | Err(StoreError::InUse { .. } | StoreError::Gone { .. }) => {}
            Err(error) => return warn(error),
        }
    }
    if let Err(error) = store.sweep() {
        warn(error);
    }
}
