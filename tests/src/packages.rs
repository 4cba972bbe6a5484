//! A manifest's packages, held against what a running machine says it has.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::login::Login;

/// No entry more, none less: of dpkg, of the environment `/opt/ds`, and of R.
///
/// # Panics
/// They differ.
pub fn assert_packages(machine: &Login, manifest: &Value) {
    let debs = machine.read("dpkg-query -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\\n'");
    let debs: BTreeSet<_> =
        debs.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect();
    assert_eq!(recorded(manifest, "deb", &["name", "version", "architecture"]), debs);

    // The environment's own word, by the standard library.
    let script = "import importlib.metadata as m, re\n\
                  for d in m.distributions():\n    \
                  print(re.sub(r'[-_.]+', '-', d.metadata['Name']).lower(), d.version)\n";
    let python = lines(&machine.read(&format!("/opt/ds/bin/python - <<'EOF'\n{script}EOF\n")));
    assert!(python.iter().any(|line| line.starts_with("numpy ")), "{python:?}");
    assert_eq!(recorded(manifest, "pypi", &["name", "version"]), python);

    // What comes with R itself has a priority; but for its texts, which lie among the packages and are none to R.
    let script = r#"p <- installed.packages(priority = "NA"); cat(paste(p[, "Package"], p[, "Version"]), sep = "\n")"#;
    let mut r = lines(&machine.read(&format!("Rscript -e '{script}'")));
    assert!(r.iter().any(|line| line.starts_with("jsonlite ")), "{r:?}");
    r.insert(format!("translations {}", machine.read("Rscript -e 'cat(paste(getRversion()))'")));
    assert_eq!(recorded(manifest, "cran", &["name", "version"]), r);
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

fn recorded(manifest: &Value, ecosystem: &str, fields: &[&str]) -> BTreeSet<String> {
    let packages = manifest["packages"].as_array().expect("packages are a list");
    let of_ecosystem = packages.iter().filter(|package| package["ecosystem"] == ecosystem);
    let line = |package: &Value| {
        fields.iter().map(|field| package[field].as_str().unwrap_or_default()).collect::<Vec<_>>().join(" ")
    };
    of_ecosystem.map(line).collect()
}
