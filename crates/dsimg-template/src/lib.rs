//! TOML text → a checked [`Template`], or all its problems with line and column.
//!
//! Pure: the text, the environment, the variables and the date come in as values.

pub mod definition;
pub mod problem;
pub mod render;
pub mod secret;
pub mod template;
pub mod units;

pub use definition::{Catalog, Definition, Provisioner};
pub use problem::{Problem, Severity};
pub use template::Template;
