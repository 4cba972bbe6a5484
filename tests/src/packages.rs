//! The packages of a manifest or a lock, held against what a running machine says it has.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::login::Login;

/// No entry more, none less: of dpkg, of the environment `/opt/ds`, and of R.
///
/// # Panics
/// They differ.
pub fn assert_packages(machine: &Login, manifest: &Value) {
    let python = assert_debs_and_python(machine, manifest);
    assert!(python.iter().any(|line| line.starts_with("numpy ")), "{python:?}");
    // What comes with R itself has a priority; but for its texts, which lie among the packages and are none to R.
    let mut r = r_packages(machine, ".libPaths()");
    assert!(r.iter().any(|line| line.starts_with("jsonlite ")), "{r:?}");
    r.insert(format!("translations {}", machine.read("Rscript -e 'cat(paste(getRversion()))'")));
    assert_eq!(recorded(manifest, "cran", &["name", "version"]), r);
}

/// The same of a lock, for one run. R packages that are Debian packages are locked as these.
///
/// # Panics
/// They differ, or it is no lock with this run.
pub fn assert_locked_packages(machine: &Login, lock: &Path, run: &str) {
    let locked = locked_packages(lock, run);
    assert_debs_and_python(machine, &locked);
    let r = r_packages(machine, "\"/usr/local/lib/R/site-library\"");
    assert_eq!(recorded(&locked, "cran", &["name", "version"]), r);
}

/// Gives what is in the environment.
fn assert_debs_and_python(machine: &Login, recording: &Value) -> BTreeSet<String> {
    let debs = machine.read("dpkg-query -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\\n'");
    let debs: BTreeSet<_> =
        debs.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect();
    assert_eq!(recorded(recording, "deb", &["name", "version", "architecture"]), debs);

    // The environment's own word, by the standard library.
    let script = "import importlib.metadata as m, re\n\
                  for d in m.distributions():\n    \
                  print(re.sub(r'[-_.]+', '-', d.metadata['Name']).lower(), d.version)\n";
    let python = lines(&machine.read(&format!("/opt/ds/bin/python - <<'EOF'\n{script}EOF\n")));
    assert!(!python.is_empty(), "the environment is empty");
    assert_eq!(recorded(recording, "pypi", &["name", "version"]), python);
    python
}

/// R's own word of what is in its libraries; `libraries` is R's expression for them.
fn r_packages(machine: &Login, libraries: &str) -> BTreeSet<String> {
    let script = format!(
        r#"p <- installed.packages({libraries}, priority = "NA"); cat(paste(p[, "Package"], p[, "Version"]), sep = "\n")"#
    );
    let r = lines(&machine.read(&format!("Rscript -e '{script}'")));
    assert!(!r.is_empty(), "R has no packages");
    r
}

/// What the lock says will be in the image of one run, in a manifest's form.
fn locked_packages(lock: &Path, run: &str) -> Value {
    let text = std::fs::read_to_string(lock).expect("there is a lock");
    let lock: Value = toml::from_str(&text).expect("a lock is TOML");
    let mut packages = Vec::new();
    for ecosystem in ["deb", "pypi", "cran"] {
        let all = lock["run"][run][ecosystem].as_array().unwrap_or_else(|| panic!("no {ecosystem} for {run}"));
        for one in all.iter().filter(|one| one["passing"] != true) {
            let (name, version, architecture) = (&one["name"], &one["version"], &one["arch"]);
            packages.push(json!({
                "ecosystem": ecosystem, "name": name, "version": version, "architecture": architecture
            }));
        }
    }
    json!({ "packages": packages })
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
