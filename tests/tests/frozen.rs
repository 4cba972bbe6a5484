//! A large image from a bundle, on a host with nothing: no network, no cache. Half an hour of an emulated machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use dsimg_tests::{Served, assert_same_content, cache_folder, dsimg, read_manifest, repository, run, without_network};
use serde_json::Value;

/// Wheels that need no compiler, with what they need themselves.
const PYTHON: [&str; 12] = [
    "requests",
    "flask",
    "jupyter-client",
    "numpy",
    "python-dateutil",
    "beautifulsoup4",
    "openpyxl",
    "tqdm",
    "rich",
    "pydantic",
    "nbformat",
    "click",
];
/// R packages by their sources, as Debian keeps them.
const R: [&str; 20] = [
    "R6",
    "mime",
    "base64enc",
    "glue",
    "rlang",
    "ellipsis",
    "assertthat",
    "generics",
    "labeling",
    "magrittr",
    "pkgconfig",
    "praise",
    "prettyunits",
    "RColorBrewer",
    "rprojroot",
    "rstudioapi",
    "viridisLite",
    "whisker",
    "withr",
    "xtable",
];

fn serve_r() -> Served {
    let folder = cache_folder().join("cran-20");
    let maker = repository().join("tests/cran/make-mirror.sh");
    let sources = R.iter().map(|name| format!("r-cran-{}", name.to_lowercase()));
    let status = Command::new(maker).arg(&folder).args(sources).status().expect("the maker can be started");
    assert!(status.success(), "the mirror could not be made: {status}");
    Served::start(&folder)
}

fn write(template: &Path, cran: &Served) {
    let listed = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let text = format!(
        "[image]\nname = \"frozen\"\nversion = \"1\"\nseal = true\n[network]\nca = \"host\"\ncran = \"{}\"\n\
         [[builder]]\nname = \"kvm\"\ntype = \"qemu\"\nmemory = \"2GiB\"\ndisk = \"10GiB\"\n\
         [[provision]]\nname = \"system\"\ntype = \"apt\"\npackages = [\"git\", \"tmux\", \"r-base-core\", \"r-base-dev\"]\n\
         [[provision]]\nname = \"python\"\ntype = \"pip\"\nvenv = \"/opt/ds\"\npackages = [{}]\n\
         [[provision]]\nname = \"statistics\"\ntype = \"r\"\nbinaries = \"never\"\npackages = [{}]\n",
        cran.url(),
        listed(&PYTHON),
        listed(&R),
    );
    fs::write(template, text).expect("the folder is ours");
}

fn count(manifest: &Value, ecosystem: &str, stage: Option<&str>) -> usize {
    let packages = manifest["packages"].as_array().expect("packages are a list").iter();
    packages.filter(|one| one["ecosystem"] == ecosystem && stage.is_none_or(|stage| one["stage"] == stage)).count()
}

#[test]
#[ignore = "half an hour: `make test-frozen`"]
fn a_large_image_is_the_same_file_without_network_and_cache() {
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let cran = serve_r();
    let template = place.path().join("frozen.toml");
    write(&template, &cran);
    let (path, output) = (template.to_string_lossy(), place.path().join("images"));
    let (path, output) = (path.as_ref(), output.to_string_lossy());
    run(&mut dsimg(&["lock", "--progress", "plain", path])).expect_success();
    run(&mut dsimg(&["build", "--progress", "plain", "--output", &output, path])).expect_success();
    let online = read_manifest(&place.path().join("images/frozen-1"));
    let counts = [("deb", None), ("pypi", None), ("cran", Some("statistics"))];
    let [debs, wheels, r] = counts.map(|(ecosystem, stage)| count(&online, ecosystem, stage));
    assert!(debs >= 300 && wheels >= 30 && r >= 20, "{debs} debs, {wheels} wheels, {r} R packages");

    let bundle = place.path().join("frozen.bundle").to_string_lossy().into_owned();
    run(&mut dsimg(&["bundle", path, "-o", &bundle])).expect_success();
    drop(cran);
    let elsewhere = tempfile::tempdir_in("/var/tmp").unwrap();
    without_network(&["build", "--progress", "plain", "--offline", &bundle], elsewhere.path()).expect_success();
    let offline = read_manifest(&elsewhere.path().join("images/frozen-1"));
    assert_same_content(&offline, &online);
    let level = &offline["build"]["reproducibility"];
    assert_eq!(level["level"], "R4", "{level}");
    let disk = |manifest: &Value| manifest["build"]["artifacts"][0]["sha256"].clone();
    assert_eq!(disk(&offline), disk(&online));
}
