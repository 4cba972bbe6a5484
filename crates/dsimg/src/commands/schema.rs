//! `dsimg schema`: the JSON Schema of templates, for editors.

use std::path::Path;

use crate::arguments::Schema;
use crate::catalog;
use crate::failure::{Code, Failure};
use crate::reading::Checked;
use crate::ui::output::{print, say};

/// # Errors
/// A provisioner beside the template has errors.
pub(crate) fn run(arguments: &Schema) -> Result<(), Failure> {
    let read = match &arguments.template {
        Some(template) => catalog::read(template),
        // The folder of the user's own provisioners, as if the template were here.
        None => catalog::read(Path::new("template.toml")),
    };
    let catalog = read.map_err(|rejected| {
        for one in rejected {
            let checked = Checked { path: one.path, text: one.text, problems: one.problems };
            say(&format!("{}\n", checked.report()));
        }
        Failure::new(Code::Wrong, "a provisioner has errors")
    })?;
    print(&format!("{:#}\n", dsimg_template::json_schema(&catalog)))
}
