//! Python indexes: their pages are read, kept for what they say about files, and written anew with links to here.

pub(crate) mod html;
pub(crate) mod locked;
pub(crate) mod metadata;
pub(crate) mod page;
pub(crate) mod render;

pub(crate) use page::{FileName, Page};
