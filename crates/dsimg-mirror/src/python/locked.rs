//! Pages that hold what a lock has, and nothing else.

use std::collections::BTreeMap;

use dsimg_manifest::lock::{Distribution, Lock};

use crate::address::Address;
use crate::ask::{PythonPage, normal_name};
use crate::python::page::{Page, PageFile};

/// The lock's files by the name of their project.
#[derive(Debug, Default)]
pub(crate) struct LockedPython {
    by_name: BTreeMap<String, Vec<(String, PageFile)>>,
}

impl LockedPython {
    pub(crate) fn read(lock: &Lock) -> Self {
        let mut by_name: BTreeMap<String, Vec<(String, PageFile)>> = BTreeMap::new();
        for distribution in &lock.pypi {
            let Some(file) = file_of(distribution) else { continue };
            let files = by_name.entry(normal_name(&distribution.name)).or_default();
            let entry = (distribution.index.trim_end_matches('/').to_owned(), file);
            // Two environments may hold the same.
            if !files.contains(&entry) {
                files.push(entry);
            }
        }
        Self { by_name }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The page of that index: an index that the files did not come from has none of them.
    pub(crate) fn page(&self, asked: &PythonPage) -> Option<Page> {
        let all = self.by_name.get(&asked.name)?;
        let files: Vec<_> = all
            .iter()
            .filter(|(index, _)| index.is_empty() || *index == asked.index)
            .map(|(_, file)| file.clone())
            .collect();
        (!files.is_empty()).then(|| Page { name: asked.name.clone(), files })
    }
}

fn file_of(distribution: &Distribution) -> Option<PageFile> {
    let artifact = distribution.artifact.as_ref()?;
    let (address, _) = Address::parse(&artifact.url)?;
    let file_name = artifact.file_name().replace("%2B", "+").replace("%2b", "+");
    Some(PageFile {
        // A wheel has its metadata in it, and they are given beside it.
        core_metadata: file_name.ends_with(".whl").then(BTreeMap::new),
        file_name,
        address,
        login: None,
        hashes: BTreeMap::from([("sha256".to_owned(), artifact.sha256.clone())]),
        requires_python: None,
        yanked: None,
        upload_time: None,
        size: Some(artifact.size),
    })
}
