//! `dsimg diff`: what changed from one image to another.

mod files;

use dsimg_manifest::Inventory;
use dsimg_manifest::diff::Difference;

use crate::arguments::{Diff, DiffFormat};
use crate::failure::Failure;
use crate::named::Named;
use crate::ui::output::deliver;
use crate::ui::text::printable;
use files::Files;

/// # Errors
/// One of the two can't be read, or the result can't be written.
pub(crate) fn run(arguments: &Diff) -> Result<(), Failure> {
    let (of_before, of_after) = (arguments.only.first(), arguments.only.get(1).or(arguments.only.first()));
    let before = Named::open(&arguments.before, of_before.map(String::as_str))?;
    let after = Named::open(&arguments.after, of_after.map(String::as_str))?;
    let difference = compare(&before, &after)?;
    let text = match arguments.format {
        DiffFormat::Text => printable(&difference.to_text()),
        DiffFormat::Json => difference.to_json(),
        DiffFormat::Html => difference.to_html(),
    };
    deliver(&text, arguments.output.as_deref())
}

fn compare(before: &Named, after: &Named) -> Result<Difference, Failure> {
    let disks = match (&before.disk, &after.disk) {
        (Some(a), Some(b)) => Some((files::open(a)?, files::open(b)?)),
        _ => None,
    };
    let files = match &disks {
        Some((a, b)) => Some((Files::read(a)?, Files::read(b)?)),
        None => None,
    };
    let mut difference = match (before.inventory(), after.inventory()) {
        (Some(a), Some(b)) => Difference::between(&a, &b),
        // What the disks themselves say is comparable with what disks say.
        (a, b) => match &files {
            Some((old, new)) => Difference::between(&old.inventory(before), &new.inventory(after)),
            None => Difference::between(&of_disk_or(a, before)?, &of_disk_or(b, after)?),
        },
    };
    match &files {
        Some((old, new)) => old.compare(new, &mut difference),
        None => difference.not_compared.push("files: that takes the disks of both".to_owned()),
    }
    Ok(difference)
}

/// Beside a lock or a manifest, of which no more is compared than a disk tells.
fn of_disk_or(known: Option<Inventory>, named: &Named) -> Result<Inventory, Failure> {
    match (known, &named.disk) {
        (Some(inventory), _) => Ok(files::as_of_disk(inventory)),
        (None, Some(disk)) => Ok(Files::read(&files::open(disk)?)?.inventory(named)),
        (None, None) => Err(named.known_packages().expect_err("it has neither packages nor a disk")),
    }
}
