//! Every template in `tests/bad-templates` gives the report that lies beside it.
//!
//! `UPDATE_REPORTS=1 cargo test -p dsimg-template --test bad_templates` writes the reports anew; read what changed.

mod common;

use std::path::{Path, PathBuf};

use dsimg_template::report::{Style, report};
use dsimg_template::{has_errors, parse_template};

#[test]
fn every_bad_template_gives_its_report() {
    let mut catalog = common::shipped_provisioners();
    common::add_all(&mut catalog, &common::repository().join("tests/bad-templates/provisioners"));
    let templates = bad_templates();
    assert!(templates.len() >= 30, "only {} bad templates", templates.len());
    let update = std::env::var_os("UPDATE_REPORTS").is_some();
    let mut different = Vec::new();
    for path in templates {
        let text = std::fs::read_to_string(&path).expect("a template is text");
        let (templates, problems) = parse_template(&text, &path, &catalog, &common::surroundings(&text));
        assert!(!problems.is_empty(), "{} has no problem", path.display());
        assert_eq!(templates.is_empty(), has_errors(&problems), "{}", path.display());
        let name = Path::new(path.file_name().expect("a template has a name"));
        let drawn = report(&problems, &text, name, Style::Plain);
        let expected = path.with_extension("report");
        if update {
            std::fs::write(&expected, &drawn).expect("the report is written");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != drawn {
            different.push(format!("{}:\n{drawn}", expected.display()));
        }
    }
    assert!(different.is_empty(), "reports have changed:\n{}", different.join("\n"));
}

#[test]
fn no_report_is_without_its_template() {
    for path in files_with_extension("report") {
        assert!(path.with_extension("toml").exists(), "{} has no template", path.display());
    }
}

fn bad_templates() -> Vec<PathBuf> {
    files_with_extension("toml")
}

fn files_with_extension(extension: &str) -> Vec<PathBuf> {
    let folder = common::repository().join("tests/bad-templates");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of bad templates is there")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}
