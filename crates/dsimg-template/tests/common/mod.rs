//! What the tests of whole templates share: the shipped provisioners and fixed surroundings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dsimg_template::report::{Style, report};
use dsimg_template::{Catalog, GivenVariable, PathKind, Rejected, Surroundings, VariableSource};

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn shipped_provisioners() -> Catalog {
    let mut catalog = Catalog::default();
    add_all(&mut catalog, &repository().join("provisioners"));
    assert!(catalog.names().count() > 0, "there are shipped provisioners");
    catalog
}

/// Adds the provisioners below a folder, all of which must be good.
pub(crate) fn add_all(catalog: &mut Catalog, folder: &Path) {
    let (provisioners, rejected) = dsimg_template::read_provisioners(folder);
    if let Some(Rejected { path, text, problems }) = rejected.first() {
        panic!("{}", report(problems, text, path, Style::Plain));
    }
    provisioners.into_iter().for_each(|provisioner| catalog.add(provisioner));
}

/// The variables come from lines `#! --var name=value` of the template.
pub(crate) fn surroundings(text: &str) -> Surroundings<'static> {
    let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let given = text.lines().filter_map(|line| line.strip_prefix("#! --var ")?.split_once('='));
    let given = given.map(|(name, value)| {
        (name.to_owned(), GivenVariable { value: value.to_owned(), source: VariableSource::Flag })
    });
    Surroundings {
        environment: owned(&[("HOME", "/home/ada"), ("USER", "ada")]),
        variables: given.collect(),
        build: owned(&[("date", "2026-11-21"), ("time", "2026-11-21T10:00:00Z"), ("id", "1")]),
        probe: &PathKind::on_disk,
    }
}
