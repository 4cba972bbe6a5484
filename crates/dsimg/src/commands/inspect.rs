//! `dsimg inspect`: a manifest as people read it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use dsimg_manifest::Manifest;
use dsimg_manifest::inspect::{describe, list_packages};

use crate::arguments::{Format, Inspect};
use crate::failure::{Code, Failure};
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

fn read_manifest(given: &Path) -> Result<Manifest, Failure> {
    let path = if given.is_dir() { given.join("manifest.json") } else { given.to_owned() };
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(given, &path, &error))?;
    Manifest::from_json(&text)
        .map_err(|error| Failure::new(Code::Wrong, format!("cannot read `{}`", path.display())).because(error))
}

fn unreadable(given: &Path, path: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound if given.is_dir() => {
            let failure = Failure::new(Code::Wrong, format!("`{}` holds no `manifest.json`", given.display()));
            match images_in(given).as_slice() {
                [] => failure.with_hint("give the folder of an image, such as `images/quickstart-1.0`"),
                [image, ..] => failure.with_hint(format!("did you mean `{}`?", image.display())),
            }
        }
        ErrorKind::NotFound => Failure::new(Code::Wrong, format!("there is no `{}`", path.display())),
        _ => Failure::new(Code::Wrong, format!("cannot read `{}`", path.display())).because(error),
    }
}

/// Folders of images below a folder.
fn images_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut images: Vec<_> = entries.filter(|path| path.join("manifest.json").is_file()).collect();
    images.sort();
    images
}
