//! `dsimg shell`: a throw-away machine on a checkpoint, to look into.

use std::path::Path;
use std::sync::Arc;

use dsimg_build::outlook::known_base;
use dsimg_build::{Opened, open_checkpoint};
use dsimg_checkpoint::{Checkpoint, Kind, Listing, Store};
use dsimg_machine::mask::MaskingReporter;
use dsimg_machine::{ExitStatus, Ledger, Reporter, RunContext};
use dsimg_plan::{Plan, gather_inputs, make_plans};
use dsimg_template::{Template, secret};

use crate::arguments::{Progress, Shell};
use crate::commands::build::{folder_of, new_build_id, open_ledger};
use crate::commands::plan::check_only;
use crate::failure::{Code, Failure};
use crate::locking::Locks;
use crate::one_build::{make_work_folder, remove_work_folder};
use crate::reading::read_sound;
use crate::terminal::{Ended, attach};
use crate::ui::output::say;
use crate::ui::{self, text};
use crate::{environment, leftovers, secrets, signals, wire};

/// # Errors
/// There is no checkpoint to open, or its machine does not start or answer.
pub(crate) async fn run(arguments: &Shell) -> Result<(), Failure> {
    let (cache, state) = (environment::cache_folder()?, environment::state_folder()?);
    let (templates, plan) = read_plan(arguments, &state)?;
    let store = Store::new(&cache);
    let listing = store.list().map_err(dsimg_build::BuildError::from)?;
    let checkpoint = choose(&plan, &listing, arguments.at.as_deref())?;
    let name = describe(checkpoint);

    let build_id = format!("shell-{}", new_build_id()?);
    let screen = ui::screen(false, Progress::Quiet, &[plan.run_name()]);
    leftovers::free(&state, screen.as_ref()).await;
    let ledger = open_ledger(&state, &build_id)?;
    let stop = signals::watch(Arc::clone(&screen), ledger.path().to_owned())?;
    let proxies = environment::proxies();
    let masker = Arc::new(secrets::masker(&templates, &proxies));
    let run = RunContext {
        builder: plan.run_name(),
        work: cache.join("work").join(&build_id),
        cache,
        ledger: Arc::clone(&ledger),
        reporter: Arc::new(MaskingReporter::new(masker, screen)) as Arc<dyn Reporter>,
        cancel: stop.cancel.clone(),
        hurry: stop.hurry.clone(),
        build_id,
    };
    make_work_folder(&run)?;
    say(&format!("opening a machine on the checkpoint {}\n", text::printable(&secret::describe(&name))));
    let folder = folder_of(&arguments.template)?;
    let ended = look_into((&plan, &folder), (&store, &listing, checkpoint), &run).await;
    remove_work_folder(&run);
    close(&ledger);
    ended
}

fn read_plan(arguments: &Shell, state: &Path) -> Result<(Vec<Template>, Plan), Failure> {
    let (templates, catalog) = read_sound(&arguments.template, &arguments.variables, "shell", &say)?;
    check_only(&arguments.only, &templates)?;
    let inputs = gather_inputs(&templates, &catalog, &secrets::hash_key(&templates, state)?)?;
    let mut plans = make_plans(&templates, &catalog, &inputs, &arguments.only)?;
    if plans.len() > 1 {
        let names: Vec<_> = plans.iter().map(Plan::run_name).collect();
        let failure =
            Failure::new(Code::Wrong, format!("the template has {} builds: {}", names.len(), names.join(", ")));
        return Err(failure.with_hint("choose one with `--only BUILDER`, and `--var` for its matrix"));
    }
    Ok((templates, Locks::beside(&arguments.template)?.pinned(plans.remove(0))))
}

/// The one that is asked for; else where the last build of this plan failed, else its deepest.
fn choose<'l>(plan: &Plan, listing: &'l Listing, at: Option<&str>) -> Result<&'l Checkpoint, Failure> {
    let none = |what: String| {
        Failure::new(Code::Wrong, what).with_hint("`dsimg plan` says which stages are cached; `dsimg build` makes them")
    };
    let base = known_base(plan, listing).ok_or_else(|| none("there is no checkpoint of this template".to_owned()))?;
    let at_stage =
        |key| listing.find_failed(key, base).into_iter().chain(listing.find(key, base)).max_by_key(|c| c.made);
    match at {
        Some("boot") => listing.find(&plan.disk_key, base).ok_or_else(|| none("the boot has no checkpoint".to_owned())),
        Some(label) => match plan.stages.iter().find(|stage| stage.label == label) {
            Some(stage) => at_stage(&stage.key).ok_or_else(|| none(format!("the stage `{label}` has no checkpoint"))),
            None => {
                let labels = plan.stages.iter().map(|stage| stage.label.as_str());
                let failure = Failure::new(Code::Wrong, format!("the template has no stage `{label}`"));
                Err(match dsimg_template::nearest(label, labels) {
                    Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
                    None => failure.with_hint("`dsimg plan` names the stages; `boot` is what is before them"),
                })
            }
        },
        None => {
            let stages = plan.stages.iter().rev();
            let deepest = stages.map(|stage| &stage.key).chain([&plan.disk_key]).find_map(at_stage);
            deepest.ok_or_else(|| none("there is no checkpoint of this template".to_owned()))
        }
    }
}

fn describe(checkpoint: &Checkpoint) -> String {
    match checkpoint.kind {
        Kind::Boot => "after the boot".to_owned(),
        Kind::Stage => format!("after `{}`", checkpoint.label),
        Kind::Failed => format!("where `{}` failed", checkpoint.label),
    }
}

async fn look_into(
    (plan, folder): (&Plan, &Path),
    (store, listing, checkpoint): (&Store, &Listing, &Checkpoint),
    run: &RunContext,
) -> Result<(), Failure> {
    let builder = wire::builder_for(plan, folder, &environment::proxies())?;
    let memory = builder.memory_fit(plan, run).await?;
    let place = (listing, checkpoint);
    let opened = open_checkpoint((builder.as_ref(), plan), store, place, memory.as_ref(), run).await?;
    let Opened { machine, session, holds: _holds } = opened;
    say("this machine is thrown away when you leave it; Enter ~ . leaves one that hangs\n");
    let ended = attach(session.as_ref(), None).await;
    machine.stop().await?;
    match ended {
        Ok(Ended::Left | Ended::Command(ExitStatus::Code(0))) => Ok(()),
        Ok(Ended::Command(status)) => {
            say(&format!("the shell {status}\n"));
            Ok(())
        }
        Err(error) => Err(dsimg_build::BuildError::from(dsimg_machine::MachineError::from(error)).into()),
    }
}

/// What could not be freed stays in the ledger for the next run.
fn close(ledger: &Ledger) {
    if let Err(error) = ledger.close() {
        say(&format!("warning: cannot remove {}: {error}\n", ledger.path().display()));
    }
}
