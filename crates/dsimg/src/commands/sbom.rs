//! `dsimg sbom`: the bill of materials of an image.

use dsimg_manifest::sbom::{sbom, sbom_of_lock};

use crate::arguments::Sbom;
use crate::failure::Failure;
use crate::named::Named;
use crate::ui::output::deliver;

/// # Errors
/// What was named tells no packages, or the result can't be written.
pub(crate) fn run(arguments: &Sbom) -> Result<(), Failure> {
    let named = Named::open(&arguments.image, arguments.only.as_deref())?;
    let text = match (&named.manifest, &named.lock) {
        (Some(manifest), lock) => sbom(manifest, lock.as_ref().map(|(_, lock)| lock)),
        (None, Some((run, lock))) => {
            let name = arguments.image.file_stem().unwrap_or_default().to_string_lossy();
            sbom_of_lock(&name, (run, lock), env!("CARGO_PKG_VERSION"))
        }
        (None, None) => return Err(named.known_packages().expect_err("it has no packages")),
    };
    deliver(&text, arguments.output.as_deref())
}
