//! `dsimg inspect`: a manifest as people read it.

use dsimg_manifest::Manifest;
use dsimg_manifest::inspect::{describe, list_packages};

use crate::arguments::{Format, Inspect};
use crate::failure::{Code, Failure};
use crate::named::read_manifest;
use crate::ui::output::print;
use crate::ui::text::printable;

/// # Errors
/// There is no manifest, or it is none that this version reads.
pub(crate) fn run(arguments: &Inspect) -> Result<(), Failure> {
    let manifest = read_manifest(&arguments.image)?;
    let text = match (arguments.format, arguments.packages) {
        (Format::Json, false) => manifest.to_json(),
        (Format::Json, true) => packages_json(&manifest)?,
        (Format::Text, true) => printable(&list_packages(&manifest)),
        (Format::Text, false) => printable(&describe(&manifest)),
    };
    print(&text)
}

fn packages_json(manifest: &Manifest) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(&manifest.packages)
        .map_err(|error| Failure::new(Code::Bug, "the packages can't be written as JSON").because(error))?;
    Ok(format!("{json}\n"))
}
