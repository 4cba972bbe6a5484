//! `dsimg lock`: from a template to the lock beside it.

use std::collections::BTreeSet;

use crate::arguments::{Build, Lock};
use crate::commands::build::{self, Goal};
use crate::failure::Failure;
use crate::locking::Use;

/// # Errors
/// The template is wrong, or one of its stages fails.
pub(crate) async fn run(arguments: &Lock) -> Result<(), Failure> {
    let how = match arguments.upgrade.as_slice() {
        [] => Use::Keep,
        names if names.iter().any(String::is_empty) => Use::Upgrade(BTreeSet::new()),
        names => Use::Upgrade(names.iter().cloned().collect()),
    };
    let Lock { template, variables, only, progress, .. } = arguments.clone();
    let build = Build::without_image(template, variables, only, progress);
    let work = build::read_and_plan(&build, &how, None)?;
    build::carry_out(work, &build, Goal::Lock).await
}
