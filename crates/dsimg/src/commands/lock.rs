//! `dsimg lock`: from a template to the lock beside it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::arguments::{Build, Lock, OnError};
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
    let build = Build {
        template: arguments.template.clone(),
        variables: arguments.variables.clone(),
        only: arguments.only.clone(),
        // No image is made.
        output: PathBuf::new(),
        force: false,
        no_publish: true,
        locked: false,
        offline: false,
        no_cache: false,
        from: None,
        sign: None,
        builder_id: None,
        on_error: OnError::Cleanup,
        json: false,
        progress: arguments.progress,
    };
    let work = build::read_and_plan(&build, &how, None)?;
    build::carry_out(work, &build, Goal::Lock).await
}
