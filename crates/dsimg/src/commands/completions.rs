//! `dsimg completions`: what a shell needs to complete this program's command line.

use clap::CommandFactory as _;

use crate::arguments::{Arguments, Completions};
use crate::failure::Failure;
use crate::ui::output::print;

/// # Errors
/// Standard output can't be written.
pub(crate) fn run(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "dsimg", &mut script);
    print(&String::from_utf8_lossy(&script))
}
