//! `dsimg build`: from a template to an image's folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use dsimg_machine::mask::Masker;
use dsimg_machine::{Ledger, Level};
use dsimg_plan::{Plan, gather_inputs, make_plans};
use dsimg_template::{Catalog, Template};

use crate::arguments::{Build, OnError};
use crate::commands::plan::check_only;
use crate::environment;
use crate::failure::{Code, Failure};
use crate::leftovers;
use crate::one_build::{OneBuild, Shared};
use crate::reading::{read_sound, whole_seconds};
use crate::result::describe_result;
use crate::signals;
use crate::ui::output::Remembered;
use crate::ui::{self, Screen, output};
use crate::{secrets, wire};

/// # Errors
/// The template is wrong, or one of the builds did not end with an image.
pub async fn run(arguments: &Build) -> Result<(), Failure> {
    let (cache, state) = (environment::cache_folder()?, environment::state_folder()?);
    let (build_id, started) = (new_build_id()?, Instant::now());
    check_terminal(arguments)?;

    let warnings = Remembered::default();
    let (template, catalog) =
        read_sound(&arguments.template, &arguments.variables, &build_id, &|text| warnings.say(text))?;
    let plans = make_the_plans(arguments, &template, &catalog, &state)?;

    let names: Vec<_> = plans.iter().map(|plan| plan.builder.clone()).collect();
    let screen = ui::screen(arguments.json, arguments.progress, &names);
    leftovers::free(&state, screen.as_ref()).await;

    let ledger = open_ledger(&state, &build_id)?;
    let shared = Shared {
        arguments,
        folder: template_folder(&template)?,
        template: &template,
        catalog: &catalog,
        proxies: environment::proxies(),
        masker: Arc::new(secrets::masker(&template, &environment::proxies())),
        stop: signals::watch(Arc::clone(&screen), ledger.path().to_owned())?,
        screen: Arc::clone(&screen),
        ledger: Arc::clone(&ledger),
        started: whole_seconds(&jiff::Timestamp::now().to_string()),
        warnings: warnings.take(),
        build_id,
        cache,
        state,
    };
    let failures = run_all(&plans, &shared).await;
    screen.finish();
    close_ledger(&ledger, screen.as_ref());
    conclude(failures, started)
}
