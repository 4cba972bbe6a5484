//! TOML text → a checked [`Template`] for each image that it describes, or all its problems with line and column.
//!
//! Pure: the text, the environment, the variables and the date come in as values.

mod aws;
mod base;
mod builders;
pub mod definition;
mod definition_file;
mod folder;
mod keys;
mod lint;
mod matrix;
mod nearest;
mod parse;
mod place;
pub mod problem;
mod provision;
mod publishers;
mod reader;
pub mod render;
pub mod report;
mod schema;
pub mod secret;
mod surroundings;
pub mod template;
mod text;
mod tree;
pub mod units;
mod values;
mod variables;

pub use definition::{Catalog, Definition, Provisioner};
pub use definition_file::parse_definition;
pub use folder::{DEFINITION_FILE, Rejected, provisioner_from_files, read_provisioner, read_provisioners};
pub use nearest::nearest;
pub use parse::parse_template;
pub use problem::{Problem, Severity, has_errors};
pub use schema::json_schema;
pub use surroundings::{GivenVariable, PathKind, Surroundings, VariableSource};
pub use template::Template;
pub use text::{LARGEST_TEXT, decode};
pub use variables::parse_variable_file;
