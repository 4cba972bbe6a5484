//! `dsimg validate`: everything that is wrong with templates, in one go.

use serde_json::json;

use crate::arguments::{Format, Validate};
use crate::failure::{Code, Failure};
use crate::reading::{self, Checked, for_programs};
use crate::ui::output::{print, say};

/// # Errors
/// A template has errors, or can't be read.
pub(crate) fn run(arguments: &Validate) -> Result<(), Failure> {
    let mut checked = Vec::new();
    let mut unread = Vec::new();
    for path in &arguments.templates {
        match reading::read(path, &arguments.variables, "validate") {
            Ok(reading) => checked.extend(reading.checked),
            Err(failure) => unread.push(failure),
        }
    }
    match arguments.format {
        Format::Text => show(&checked),
        Format::Json => print(&as_json(&checked))?,
    }
    let wrong = checked.iter().filter(|checked| checked.has_errors()).count();
    conclude(wrong, unread)
}

fn show(checked: &[Checked]) {
    for one in checked {
        if one.problems.is_empty() {
            say(&format!("{}: no problems\n", one.path.display()));
        } else {
            say(&format!("{}\n", one.report()));
        }
    }
}

fn as_json(checked: &[Checked]) -> String {
    format!("{:#}\n", json!({ "format": 1, "files": for_programs(checked) }))
}

fn conclude(wrong: usize, mut unread: Vec<Failure>) -> Result<(), Failure> {
    if unread.len() == 1 && wrong == 0 {
        return Err(unread.remove(0));
    }
    unread.iter().for_each(|failure| say(&failure.describe()));
    match wrong + unread.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Code::Wrong, "1 file has errors")),
        count => Err(Failure::new(Code::Wrong, format!("{count} files have errors"))),
    }
}
