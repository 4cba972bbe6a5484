//! Which package a path belongs to, as the tree itself says.

mod dpkg;
mod python;
mod r;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::entry::Kind;
use crate::error::TreeError;
use crate::ext4::FileSystem;
use crate::tree::Tree;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecosystem {
    Deb,
    Python,
    R,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    pub ecosystem: Ecosystem,
    pub name: String,
    pub version: String,
    /// The folder that it is installed in, where there may be several: `site-packages` or an R library. Empty for debs.
    pub place: String,
}

/// The packages of a tree and their paths.
#[derive(Debug, Default)]
pub struct Owners {
    paths: HashMap<Vec<u8>, Arc<Owner>>,
    /// Folders that belong to a package with all that is in them.
    folders: HashMap<Vec<u8>, Arc<Owner>>,
    conffiles: HashSet<Vec<u8>>,
}

/// Lists of packages are longer than texts that anybody reads; this is the longest of all debs' ten times over.
const LIMIT: usize = 64 << 20;

impl Owners {
    /// Reads dpkg's lists, the `RECORD` of each Python distribution, and the libraries of R. Where two lay claim to a path, the
    /// deb has it.
    ///
    /// # Errors
    /// The image can't be read. A list that is not as it should be owns nothing, which is no error.
    pub fn read(files: &FileSystem<'_>, tree: &Tree) -> Result<Self, TreeError> {
        let mut owners = Self::default();
        let source = Lists { files, tree };
        dpkg::read(&source, &mut owners)?;
        python::read(&source, &mut owners)?;
        r::read(&source, &mut owners)?;
        Ok(owners)
    }

    /// The package that the path belongs to.
    #[must_use]
    pub fn of(&self, path: &[u8]) -> Option<&Owner> {
        if let Some(owner) = self.paths.get(path) {
            return Some(owner);
        }
        // Bytecode belongs to whom its source belongs to, wherever it was compiled, and so does its folder.
        let source = python::source_of(path);
        if let Some(owner) = source.and_then(|source| self.paths.get(&source)) {
            return Some(owner);
        }
        ancestors(path).find_map(|folder| self.folders.get(folder)).map(|owner| &**owner)
    }

    /// All packages. A distribution or R package that came as a deb is that deb.
    #[must_use]
    pub fn packages(&self) -> BTreeSet<&Owner> {
        let is_debs = |record: Vec<u8>| self.paths.get(&record).is_some_and(|owner| owner.ecosystem == Ecosystem::Deb);
        let in_folders = self.folders.iter().filter(|(folder, _)| {
            !["RECORD", "DESCRIPTION"]
                .iter()
                .any(|record| is_debs([folder, b"/".as_slice(), record.as_bytes()].concat()))
        });
        let in_paths = self.paths.values().filter(|owner| owner.ecosystem == Ecosystem::Deb);
        in_folders.map(|(_, owner)| &**owner).chain(in_paths.map(|owner| &**owner)).collect()
    }

    #[must_use]
    pub fn is_conffile(&self, path: &[u8]) -> bool {
        self.conffiles.contains(path)
    }

    fn claim(&mut self, path: Vec<u8>, owner: &Arc<Owner>) {
        self.paths.entry(path).or_insert_with(|| owner.clone());
    }
}

/// The path itself, and the folders that it is in, the nearest first; not the root.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors((path.len() > 1).then_some(path), |path| {
        let end = path.iter().rposition(|byte| *byte == b'/')?;
        (end > 0).then(|| &path[..end])
    })
}

/// Where the packages' own records are read from.
struct Lists<'a> {
    files: &'a FileSystem<'a>,
    tree: &'a Tree,
}

impl Lists<'_> {
    /// `None` if there is no such file, or an absurdly long one.
    fn text(&self, path: &[u8]) -> Result<Option<String>, TreeError> {
        let is_file = |path: &[u8]| self.tree.get(path).is_some_and(|entry| matches!(entry.kind, Kind::File { .. }));
        let Some(inode) = self.tree.inode(path).filter(|_| is_file(path)) else { return Ok(None) };
        let content = self.files.inode(inode).and_then(|inode| self.files.content(&inode, LIMIT));
        let content = content.map_err(|fault| fault.of(self.files.image()))?;
        Ok(content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// The value of the first field `name` of a text in the style of Debian's control files and mail headers.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
