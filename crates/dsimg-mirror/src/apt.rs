//! apt repositories: which file is what, what their lists say, and repositories made of a lock.

pub(crate) mod lists;
pub(crate) mod locked;
pub(crate) mod partly;
pub(crate) mod place;
pub(crate) mod regained;
pub(crate) mod release;
pub(crate) mod stanza;

pub(crate) use lists::Lists;
pub(crate) use place::{AptFile, Repository};
