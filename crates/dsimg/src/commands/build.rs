//! `dsimg build`: from a template to an image's folder.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use dsimg_build::bundle::Unpacked;
use dsimg_machine::{Event, Ledger, Level};
use dsimg_plan::{Inputs, Plan, gather_inputs, make_plans};
use dsimg_template::{Catalog, Template};

use crate::arguments::{Build, OnError, Shell};
use crate::commands::cache::keep_within_budget;
use crate::commands::plan::check_only;
use crate::commands::shell;
use crate::failure::{Code, Failure};
use crate::locking::{Bound, Locks, Use};
use crate::one_build::{self, Shared};
use crate::reading::{read_sound_with, whole_seconds};
use crate::signing::Signer;
use crate::ui::json::JsonLines;
use crate::ui::output::Remembered;
use crate::ui::{self, Screen};
use crate::{environment, leftovers, offline, outcome, secrets, signals, wire};

/// # Errors
/// The template is wrong, or one of the builds did not end with an image.
pub(crate) async fn run(arguments: &Build) -> Result<(), Failure> {
    let tell = |failure: &Failure| {
        if arguments.json {
            JsonLines::default().result("", &outcome::failure(failure, None));
        }
    };
    let offline = arguments.offline.then(|| offline::open(arguments)).transpose().inspect_err(tell)?;
    let (arguments, bundle) = match &offline {
        Some((bundle, arguments)) => (arguments, Some(bundle)),
        None => (arguments, None),
    };
    let how = if arguments.locked { Use::Strictly } else { Use::Keep };
    let work = read_and_plan(arguments, &how, bundle).and_then(|work| work.signed(arguments)).inspect_err(tell)?;
    match carry_out(work, arguments, Goal::Image).await {
        Err(failure) if arguments.on_error == OnError::Shell && failure.code == Code::Build => {
            look_into(failure, arguments).await
        }
        ended => ended,
    }
}

/// A shell where the build failed; the failure is told before it, and again by the exit code.
async fn look_into(failure: Failure, arguments: &Build) -> Result<(), Failure> {
    ui::output::say(&failure.describe());
    let shell = Shell {
        template: arguments.template.clone(),
        variables: arguments.variables.clone(),
        at: None,
        only: arguments.only.clone(),
    };
    shell::run(&shell).await?;
    Err(failure)
}

/// What a command is to end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Image,
    /// No image: the lock alone.
    Lock,
}

/// What is to be built, before anything is made.
pub(crate) struct Work<'b> {
    build_id: String,
    /// One for each combination of the template's matrix.
    pub templates: Vec<Template>,
    catalog: Catalog,
    /// What the plans were made of beside the templates.
    pub inputs: Inputs,
    pub bound: Vec<Bound>,
    pub locks: Locks,
    how: Use,
    /// Where the template is from, and all that it needs.
    bundle: Option<&'b Unpacked>,
    /// The report of the template's warnings.
    warnings: String,
    pub cache: PathBuf,
    state: PathBuf,
    signer: Option<Signer>,
}

impl Work<'_> {
    /// A wrong key is told before anything is made.
    fn signed(self, arguments: &Build) -> Result<Self, Failure> {
        Ok(Self { signer: Signer::of(arguments)?, ..self })
    }
}

pub(crate) fn read_and_plan<'b>(
    arguments: &Build,
    how: &Use,
    bundle: Option<&'b Unpacked>,
) -> Result<Work<'b>, Failure> {
    check_terminal(arguments)?;
    let (cache, state) = (environment::cache_folder()?, environment::state_folder()?);
    let build_id = new_build_id()?;
    let warnings = Remembered::default();
    let probe = |path: &Path| offline::probe(bundle, path);
    let say = |text: &str| warnings.say(text);
    let (templates, catalog) = read_sound_with(&arguments.template, &arguments.variables, &build_id, &probe, &say)?;
    let (plans, inputs) = plan(arguments, &templates, &catalog, &state)?;
    let locks = Locks::beside(&arguments.template)?;
    let bound = match bundle {
        None => plans.into_iter().map(|plan| locks.bind(plan, how)).collect::<Result<_, _>>()?,
        Some(bundle) => offline::bind(plans, &locks, bundle)?,
    };
    let (warnings, how) = (warnings.take(), how.clone());
    Ok(Work { build_id, templates, catalog, inputs, bound, locks, how, bundle, warnings, cache, state, signer: None })
}

pub(crate) async fn carry_out(work: Work<'_>, arguments: &Build, goal: Goal) -> Result<(), Failure> {
    let names: Vec<_> = work.bound.iter().map(|bound| bound.plan.run_name()).collect();
    let screen = ui::screen(arguments.json, arguments.progress, &names);
    if work.bundle.is_none() {
        // What is on this host waits for the next build: what lies elsewhere can't be asked for now.
        leftovers::free(&work.state, screen.as_ref()).await;
    }
    let ledger = open_ledger(&work.state, &work.build_id)?;
    let stop = signals::watch(Arc::clone(&screen), ledger.path().to_owned())?;

    let proxies = environment::proxies();
    let shared = Shared {
        masker: Arc::new(secrets::masker(&work.templates, &proxies)),
        folder: folder_of(&arguments.template)?,
        started: whole_seconds(&jiff::Timestamp::now().to_string()),
        screen: Arc::clone(&screen),
        ledger: Arc::clone(&ledger),
        templates: &work.templates,
        catalog: &work.catalog,
        builds: work.bound.len(),
        locks: RefCell::new(work.locks),
        how: work.how,
        bundle: work.bundle,
        goal,
        signer: work.signer,
        warnings: work.warnings,
        build_id: work.build_id,
        cache: work.cache,
        state: work.state,
        arguments,
        proxies,
        stop,
    };
    warn_of_short_secrets(&work.templates, screen.as_ref());
    if work.bundle.is_some() && work.bound.iter().any(|bound| !bound.plan.publish.is_empty()) {
        let text = "the image stays on this host: an offline build publishes nothing".to_owned();
        screen.report("", &Event::Message { level: Level::Info, text });
    }
    // On one thread: processes die with the thread that started them.
    let places = Semaphore::new(machines_at_once(&work.bound));
    let build = async |bound| {
        let _place = places.acquire().await;
        one_build::run(bound, &shared).await
    };
    let ended = join_all(work.bound.iter().map(build)).await;
    screen.finish();
    for text in keep_within_budget(&shared.cache, &BTreeSet::new()) {
        screen.report("", &Event::Message { level: Level::Info, text });
    }
    leftovers::free_own(&ledger, screen.as_ref()).await;
    close_ledger(&ledger, screen.as_ref());
    conclude(ended)
}

/// As many as this host has processors and memory for, and one in any case. The processors of several machines may be
/// more than the host's: most of the time one of them waits.
fn machines_at_once(builds: &[Bound]) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let largest = builds.iter().map(|bound| wire::memory_of(&bound.plan)).max().unwrap_or(1);
    let room = environment::available_memory()
        .map_or(processors, |free| usize::try_from(free / largest.max(1)).unwrap_or(usize::MAX));
    processors.min(room).max(1)
}

/// `--from` names a stage of each plan.
fn check_from(from: Option<&str>, plans: &[Plan]) -> Result<(), Failure> {
    let Some(from) = from else { return Ok(()) };
    let labels = || plans.iter().flat_map(|plan| &plan.stages).map(|stage| stage.label.as_str());
    if labels().any(|label| label == from) {
        return Ok(());
    }
    let failure = Failure::new(Code::Wrong, format!("`--from {from}`: the template has no stage of this name"));
    Err(match dsimg_template::nearest(from, labels()) {
        Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
        None => failure.with_hint("`dsimg plan` names the stages"),
    })
}

/// A question that nobody can answer would keep a machine for ever.
fn check_terminal(arguments: &Build) -> Result<(), Failure> {
    let what = match arguments.on_error {
        OnError::Ask => "`--on-error ask` needs a terminal to ask at",
        OnError::Shell => "`--on-error shell` needs a terminal",
        OnError::Cleanup | OnError::Keep => return Ok(()),
    };
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    let failure = Failure::new(Code::Wrong, what);
    Err(failure.with_hint("use `--on-error cleanup` or `--on-error keep`"))
}

fn plan(
    arguments: &Build,
    templates: &[Template],
    catalog: &Catalog,
    state: &Path,
) -> Result<(Vec<Plan>, Inputs), Failure> {
    check_only(&arguments.only, templates)?;
    let inputs = gather_inputs(templates, catalog, &secrets::hash_key(templates, state)?)?;
    let plans = make_plans(templates, catalog, &inputs, &arguments.only)?;
    check_from(arguments.from.as_deref(), &plans)?;
    Ok((plans, inputs))
}

/// Unique among all builds, and sorted by time: `20261121-054302-4711-9f2c`.
pub(crate) fn new_build_id() -> Result<String, Failure> {
    let mut random = [0; 2];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::new(Code::HostNotReady, "this system gives no random numbers").because(error))?;
    let now: String = jiff::Timestamp::now().to_string().chars().take(19).filter(|c| !"-:".contains(*c)).collect();
    let now = now.replace('T', "-");
    Ok(format!("{now}-{}-{:02x}{:02x}", std::process::id(), random[0], random[1]))
}

pub(crate) fn open_ledger(state: &Path, build_id: &str) -> Result<Arc<Ledger>, Failure> {
    let folder = state.join("ledger");
    Ledger::open(&folder, build_id).map(Arc::new).map_err(|error| {
        Failure::file("cannot make the build's ledger in", &folder, error)
            .with_hint("set `DSIMG_STATE_DIR` to a folder that you may write to")
    })
}

/// What could not be freed stays in the ledger for the next run.
fn close_ledger(ledger: &Ledger, screen: &dyn Screen) {
    if let Err(error) = ledger.close() {
        screen.say(&format!("warning: cannot remove {}: {error}\n", ledger.path().display()));
    } else if ledger.path().exists() {
        screen.say(&format!("warning: not all was cleaned up; {} names what is left\n", ledger.path().display()));
    }
}

pub(crate) fn folder_of(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path).map_err(|error| Failure::file("cannot find", path, error))?;
    Ok(absolute.parent().map(Path::to_owned).unwrap_or_default())
}

fn warn_of_short_secrets(templates: &[Template], screen: &dyn Screen) {
    for name in secrets::too_short(templates) {
        let text = format!("the value of `{name}` is shorter than 4 bytes, so it can't be covered where it is printed");
        screen.report("", &Event::Message { level: Level::Warning, text });
    }
}

/// Several builds may have failed for several reasons: the code is that of the first in the template.
fn conclude(ended: Vec<Result<(), Failure>>) -> Result<(), Failure> {
    let mut failures: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        count => Err(Failure::new(failures[0].code, format!("{count} builds failed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_a_file_name_and_begins_with_the_time() {
        let id = new_build_id().unwrap();
        let parts: Vec<_> = id.split('-').collect();
        assert_eq!(parts.len(), 4, "{id}");
        assert_eq!((parts[0].len(), parts[1].len()), (8, 6), "{id}");
        assert!(id.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "{id}");
        assert_ne!(id, new_build_id().unwrap());
    }
}
