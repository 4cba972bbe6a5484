//! One plan carried out: its work folder, its log, its reporters, and what is told at its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dsimg_build::{BuildReport, Job, OnFailure, Policy, Sources, execute};
use dsimg_download::{Access, ProxyEnvironment};
use dsimg_machine::ledger::FOLDER_MARKER;
use dsimg_machine::mask::{Masker, MaskingReporter};
use dsimg_machine::{Ledger, Reporter, Resource, RunContext};
use dsimg_plan::Plan;
use dsimg_template::{Catalog, Template, secret};

use crate::arguments::Build;
use crate::failure::Failure;
use crate::keep::Keeper;
use crate::signals::Stop;
use crate::ui::log::LogFile;
use crate::ui::{Both, Screen};
use crate::{outcome, wire};

/// What the builds of one command have in common.
pub(crate) struct Shared<'a> {
    pub arguments: &'a Build,
    pub template: &'a Template,
    /// How many run beside each other.
    pub builds: usize,
    pub catalog: &'a Catalog,
    /// The template's, absolute.
    pub folder: PathBuf,
    pub build_id: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// The report of the template's warnings.
    pub warnings: String,
    pub cache: PathBuf,
    pub state: PathBuf,
    pub proxies: ProxyEnvironment,
    pub masker: Arc<Masker>,
    pub screen: Arc<dyn Screen>,
    pub ledger: Arc<Ledger>,
    pub stop: Stop,
}

/// # Errors
/// The build did not end with an image; the failure is in the log as well.
pub(crate) async fn run(plan: &Plan, shared: &Shared<'_>) -> Result<(), Failure> {
    let log = begin_log(plan, shared)?;
    let (run, reporter) = context(plan, shared, &log);
    let ended = match make_work_folder(&run) {
        Ok(()) => {
            let ended = carry_out(plan, shared, &run, log.path()).await;
            remove_work_folder(&run);
            ended
        }
        Err(failure) => Err(failure),
    };
    reporter.finish(&plan.builder);
    shared.screen.end(&plan.builder);
    tell(ended, plan, shared, &log)
}

async fn carry_out(plan: &Plan, shared: &Shared<'_>, run: &RunContext, log: &Path) -> Result<BuildReport, Failure> {
    let builder = wire::builder_for(plan, &shared.folder, &shared.proxies);
    let keeper = Keeper::new(shared, run);
    let job = Job {
        plan,
        builder: builder.as_ref(),
        catalog: shared.catalog,
        sources: Sources { folder: &shared.folder, secrets: &shared.template.secrets },
        target: &target(plan, shared),
        force: shared.arguments.force,
        access: &access(shared),
        started: shared.started.clone(),
        dsimg_version: env!("CARGO_PKG_VERSION"),
        on_failure: keeper.as_ref().map(|keeper| keeper as &dyn OnFailure),
        log,
        checkpoints: Policy::default(),
    };
    Ok(execute(&job, run).await?)
}

/// With several builders in the template the builder's name is part of the folder's, whichever are built.
pub(crate) fn target(plan: &Plan, shared: &Shared<'_>) -> PathBuf {
    let image = format!("{}-{}", plan.image.name, plan.image.version);
    let name = if shared.template.builders.len() > 1 { format!("{image}-{}", plan.builder) } else { image };
    shared.arguments.output.join(name)
}

fn access(shared: &Shared<'_>) -> Access {
    let mut access = Access::from_network(&shared.template.network).or_environment(&shared.proxies);
    let secrets = &shared.template.secrets;
    for proxy in [&mut access.http_proxy, &mut access.https_proxy].into_iter().flatten() {
        if let Some(revealed) = secret::reveal(proxy, secrets) {
            *proxy = revealed;
        }
    }
    access.extra_authorities = access.extra_authorities.map(|path| shared.folder.join(path));
    access
}

fn begin_log(plan: &Plan, shared: &Shared<'_>) -> Result<Arc<LogFile>, Failure> {
    let path = shared.state.join("logs").join(format!("{}-{}.log", shared.build_id, plan.builder));
    let log = LogFile::create(&path).map_err(|error| Failure::file("cannot make the log", &path, error))?;
    log.write(&plan.builder, &format!("dsimg {}, build {}", env!("CARGO_PKG_VERSION"), shared.build_id));
    log.write(&plan.builder, &shared.masker.mask_text(&shared.warnings));
    Ok(Arc::new(log))
}

/// Nothing reaches the screen or the log but through the mask.
fn context(plan: &Plan, shared: &Shared<'_>, log: &Arc<LogFile>) -> (RunContext, Arc<MaskingReporter>) {
    let both = Arc::new(Both(Arc::clone(&shared.screen), Arc::clone(log)));
    let reporter = Arc::new(MaskingReporter::new(Arc::clone(&shared.masker), both));
    let run = RunContext {
        build_id: shared.build_id.clone(),
        builder: plan.builder.clone(),
        cache: shared.cache.clone(),
        work: shared.cache.join("work").join(format!("{}-{}", shared.build_id, plan.builder)),
        ledger: Arc::clone(&shared.ledger),
        reporter: Arc::clone(&reporter) as Arc<dyn Reporter>,
        cancel: shared.stop.cancel.clone(),
        hurry: shared.stop.hurry.clone(),
    };
    (run, reporter)
}

/// In the ledger before it is there; the mark in it lets a later run remove it with all that is in it.
fn make_work_folder(run: &RunContext) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |error| {
        Failure::file("cannot make the work folder", &run.work, error)
            .with_hint("set `DSIMG_CACHE_DIR` to a folder that you may write to, with room for images")
    };
    if let Some(parent) = run.work.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    run.ledger.will_make(Resource::Folder { path: run.work.clone() }).map_err(failed)?;
    std::fs::DirBuilder::new().mode(0o700).create(&run.work).map_err(failed)?;
    std::fs::write(run.work.join(FOLDER_MARKER), "").map_err(failed)
}

fn remove_work_folder(run: &RunContext) {
    let removed = std::fs::remove_dir_all(&run.work)
        .and_then(|()| run.ledger.is_gone(Resource::Folder { path: run.work.clone() }));
    if let Err(error) = removed {
        run.warn(format!("cannot remove {}: {error}; the next build tries again", run.work.display()));
    }
}

/// The image in words, or the failure with its log.
fn tell(ended: Result<BuildReport, Failure>, plan: &Plan, shared: &Shared<'_>, log: &LogFile) -> Result<(), Failure> {
    let folder = target(plan, shared);
    match ended {
        Ok(report) => {
            shared.screen.result(&plan.builder, &outcome::success(&report, &folder, log.path()));
            shared.screen.image(&outcome::describe(&report, &folder));
            Ok(())
        }
        Err(failure) => {
            let failure = failure.map_texts(|text| secret::describe(&shared.masker.mask_text(text)));
            log.write(&plan.builder, &failure.describe());
            shared.screen.result(&plan.builder, &outcome::failure(&failure, Some(log.path())));
            let failure = failure.with_log(log.path());
            if shared.builds == 1 {
                return Err(failure);
            }
            // The others go on, maybe for an hour: it is told now, and the end only names the builder.
            let code = failure.code;
            shared.screen.say(&failure.of_builder(&plan.builder).describe());
            Err(Failure::new(code, format!("no image from builder `{}`", plan.builder)))
        }
    }
}
