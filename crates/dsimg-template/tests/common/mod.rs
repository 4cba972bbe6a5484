//! What the tests of whole templates share: the shipped provisioners and fixed surroundings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dsimg_template::{Catalog, GivenVariable, PathKind, Surroundings, VariableSource};

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn shipped_provisioners() -> Catalog {
    let (provisioners, rejected) = dsimg_template::read_provisioners(&repository().join("provisioners"));
    assert_eq!(rejected, [], "every shipped provisioner is accepted");
    let mut catalog = Catalog::default();
    provisioners.into_iter().for_each(|provisioner| catalog.add(provisioner));
    for name in ["apt", "file", "pip", "r", "reboot", "shell"] {
        assert!(catalog.get(name).is_some(), "`{name}` is among the shipped provisioners");
    }
    catalog
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
