//! One plan carried out: its work folder, its log, its reporters, and what is told at its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dsimg_build::bundle::Unpacked;
use dsimg_build::lock::{Stock, lock_of};
use dsimg_build::network::{reveal, rewrites};
use dsimg_build::{BuildError, BuildReport, Carried, Job, KeptLock, OnFailure, Policy, Sources, execute, take_stock};
use dsimg_download::{Access, ProxyEnvironment};
use dsimg_machine::ledger::FOLDER_MARKER;
use dsimg_machine::mask::{Masker, MaskingReporter};
use dsimg_machine::{Ledger, Reporter, Resource, RunContext};
use dsimg_manifest::lock::{LockedImage, is_exact};
use dsimg_manifest::manifest::Level;
use dsimg_manifest::{Lock, Manifest};
use dsimg_mirror::MirrorSettings;
use dsimg_plan::{Digest, Plan};
use dsimg_template::template::Builder;
use dsimg_template::units::Timeout;
use dsimg_template::{Catalog, Template, secret};

use crate::arguments::Build;
use crate::commands::build::Goal;
use crate::failure::{Code, Failure};
use crate::keep::Keeper;
use crate::locking::{Bound, Locks, Use};
use crate::signals::Stop;
use crate::signing::{MadeOf, Signer};
use crate::ui::log::LogFile;
use crate::ui::{Both, Screen};
use crate::{advisories, offline, outcome, publishing, wire};

/// What the builds of one command have in common.
pub(crate) struct Shared<'a> {
    pub arguments: &'a Build,
    /// One for each combination of the template's matrix.
    pub templates: &'a [Template],
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
    pub locks: RefCell<Locks>,
    pub how: Use,
    /// Nobody outside is asked for anything: it is all in here.
    pub bundle: Option<&'a Unpacked>,
    pub goal: Goal,
    pub signer: Option<Signer>,
}

impl Shared<'_> {
    fn template_of(&self, plan: &Plan) -> &Template {
        let made_it = |template: &&Template| template.cell == plan.cell;
        self.templates.iter().find(made_it).expect("every plan is made from one of the templates")
    }
}

/// # Errors
/// The build did not end with an image, or with a lock; the failure is in the log as well.
pub(crate) async fn run(bound: &Bound, shared: &Shared<'_>) -> Result<(), Failure> {
    let plan = &bound.plan;
    if shared.goal == Goal::Lock && bound.is_kept() {
        shared.screen.end(&plan.run_name());
        shared.screen.image(&outcome::describe_fitting_lock(plan, shared.locks.borrow().path()));
        return Ok(());
    }
    let folder = target(plan, shared);
    let there = already_there(plan, shared);
    if let Some(manifest) = there.as_ref().filter(|_| !is_to_be_published(plan, shared)) {
        remember_first_image(manifest, bound, shared)?;
        if let Err(failure) = sign_what_was_there(manifest, plan, shared) {
            shared.screen.result(&plan.run_name(), &outcome::failure(&failure, None));
            shared.screen.end(&plan.run_name());
            return Err(failure);
        }
        shared.screen.result(&plan.run_name(), &outcome::unchanged(manifest, &folder));
        shared.screen.end(&plan.run_name());
        shared.screen.image(&outcome::describe_unchanged(manifest, &folder));
        return Ok(());
    }
    let log = begin_log(plan, shared)?;
    let (run, reporter) = context(plan, shared, &log);
    let ended = match make_work_folder(&run) {
        Ok(()) => {
            let there = there.map(|manifest| BuildReport { folder, manifest, stock: None });
            let ended = match shared.goal {
                Goal::Image => {
                    let made = build_and_publish(there, bound, shared, &run, log.path()).await;
                    made.and_then(|report| sign(report, plan, shared)).map(Box::new).map(Ended::Image)
                }
                Goal::Lock => lock(bound, shared, &run, log.path()).await.map(Ended::Lock),
            };
            remove_work_folder(&run);
            ended
        }
        Err(failure) => Err(failure),
    };
    reporter.finish(&run.builder);
    shared.screen.end(&run.builder);
    tell(ended, plan, shared, &log)
}

/// What a build came to.
enum Ended {
    Image(Box<BuildReport>),
    Lock(Box<Lock>),
}

async fn build_and_publish(
    there: Option<BuildReport>,
    bound: &Bound,
    shared: &Shared<'_>,
    run: &RunContext,
    log: &Path,
) -> Result<BuildReport, Failure> {
    let plan = &bound.plan;
    if !is_to_be_published(plan, shared) {
        return carry_out(bound, shared, run, log).await;
    }
    publishing::check(plan, &shared.state, run).await?;
    let report = match there {
        Some(report) => report,
        None => carry_out(bound, shared, run, log).await?,
    };
    publishing::publish(report, plan, &shared.state, run).await
}

/// After the publishing, which writes into the files that are signed.
fn sign(report: BuildReport, plan: &Plan, shared: &Shared<'_>) -> Result<BuildReport, Failure> {
    if let Some(signer) = &shared.signer {
        signer.sign(&report.folder, &report.manifest, &made_of(plan, shared)?)?;
    }
    Ok(report)
}

fn sign_what_was_there(manifest: &Manifest, plan: &Plan, shared: &Shared<'_>) -> Result<(), Failure> {
    let Some(signer) = &shared.signer else { return Ok(()) };
    let folder = target(plan, shared);
    if signer.has_signed(&folder)? {
        return Ok(());
    }
    signer.sign(&folder, manifest, &made_of(plan, shared)?)
}

fn made_of(plan: &Plan, shared: &Shared<'_>) -> Result<MadeOf, Failure> {
    MadeOf::read(&shared.arguments.template, plan.run_name(), &shared.arguments.variables, shared.template_of(plan))
}

fn is_to_be_published(plan: &Plan, shared: &Shared<'_>) -> bool {
    !shared.arguments.no_publish && !publishing::is_done(plan, &target(plan, shared))
}

/// The image that this very plan gave before, unless it shall be made again.
fn already_there(plan: &Plan, shared: &Shared<'_>) -> Option<Manifest> {
    let again = shared.arguments.no_cache || shared.arguments.from.is_some() || shared.goal == Goal::Lock;
    if again { None } else { dsimg_build::unchanged(&target(plan, shared), plan, jiff::Timestamp::now()) }
}

fn policy(bound: &Bound, shared: &Shared<'_>) -> Policy {
    Policy { ignore: shared.arguments.no_cache, from: shared.arguments.from.clone().or(bound.from.clone()) }
}

/// The image; and the lock, where it was made for another state of the template.
async fn carry_out(bound: &Bound, shared: &Shared<'_>, run: &RunContext, log: &Path) -> Result<BuildReport, Failure> {
    tell_misfits(bound, run);
    let report = with_job(bound, shared, (run, log), async |job| Ok(execute(job, run).await?)).await?;
    if let Some(stock) = report.stock.as_ref().filter(|_| bound.lock.is_some() && !bound.is_kept()) {
        write_lock(stock.clone(), bound, shared, run).await?;
        run.info(format!("the lock {} is brought up to date", shared.locks.borrow().path().display()));
    }
    remember_first_image(&report.manifest, bound, shared)?;
    Ok(report)
}

/// What the first build from a lock gives stands in the lock from then on, and later ones are compared with it.
fn remember_first_image(manifest: &Manifest, bound: &Bound, shared: &Shared<'_>) -> Result<(), Failure> {
    let build = &manifest.build;
    let tree =
        build.reproducibility.as_ref().filter(|found| found.level >= Level::R2).and_then(|found| found.tree.clone());
    let (Some(lock), Some(tree)) = (bound.lock.as_ref().filter(|_| bound.is_kept()), tree) else { return Ok(()) };
    if lock.image.is_some() || shared.how == Use::Strictly {
        return Ok(());
    }
    let exact = build.artifacts.iter().filter(|artifact| is_exact(&artifact.format));
    let disks = exact.map(|artifact| (artifact.format.clone(), artifact.sha256.clone()));
    let disks = if bound.plan.image.seal { disks.collect() } else { BTreeMap::new() };
    let lock = Lock { image: Some(LockedImage { tree, disks }), ..lock.clone() };
    shared.locks.borrow_mut().update(&bound.plan.run_name(), lock)
}

/// The lock alone.
async fn lock(bound: &Bound, shared: &Shared<'_>, run: &RunContext, log: &Path) -> Result<Box<Lock>, Failure> {
    tell_misfits(bound, run);
    let stock = with_job(bound, shared, (run, log), async |job| Ok(take_stock(job, run).await?)).await?;
    write_lock(stock, bound, shared, run).await
}

async fn write_lock(stock: Stock, bound: &Bound, shared: &Shared<'_>, run: &RunContext) -> Result<Box<Lock>, Failure> {
    let before = shared.locks.borrow().get(&bound.plan).cloned();
    let lock = lock_of(stock, before, &bound.plan, &access(&bound.plan, shared), run).await?;
    let (new, advisories) = (lock.clone(), advisories::folder(&shared.cache));
    // Dumps have hundreds of thousands of records.
    let checked = tokio::task::spawn_blocking(move || advisories::refuse_malicious(&new, &advisories));
    checked.await.map_err(|_| BuildError::Cancelled)??;
    shared.locks.borrow_mut().update(&bound.plan.run_name(), lock.clone())?;
    Ok(Box::new(lock))
}

fn tell_misfits(bound: &Bound, run: &RunContext) {
    for misfit in &bound.misfits {
        run.info(format!("the lock does not fit stage `{}`: {}", misfit.stage, secret::describe(&misfit.why)));
    }
}

/// One plan and all that it is carried out with.
async fn with_job<T>(
    bound: &Bound,
    shared: &Shared<'_>,
    (run, log): (&RunContext, &Path),
    work: impl AsyncFnOnce(&Job<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let plan = &match shared.bundle {
        Some(_) => offline::alone(&bound.plan),
        None => bound.plan.clone(),
    };
    let builder = wire::builder_for(plan, &shared.folder, &shared.proxies)?;
    let keeper = Keeper::new(shared, run);
    let sha256 = shared.locks.borrow().sha256().cloned();
    let strict = shared.how == Use::Strictly;
    let kept = bound.lock.as_ref().filter(|_| bound.is_kept()).zip(sha256.as_ref());
    let job = Job {
        plan,
        builder: builder.as_ref(),
        catalog: shared.catalog,
        sources: Sources { folder: &shared.folder, secrets: &shared.template_of(plan).secrets },
        target: &target(plan, shared),
        force: shared.arguments.force,
        access: &access(plan, shared),
        started: shared.started.clone(),
        dsimg_version: env!("CARGO_PKG_VERSION"),
        on_failure: keeper.as_ref().map(|keeper| keeper as &dyn OnFailure),
        log,
        checkpoints: policy(bound, shared),
        repositories: Some(repositories(bound, shared)?),
        lock: kept.map(|(lock, sha256)| KeptLock { lock, sha256, strict }),
        plan_hash: bound.plan.hash(),
        offline: shared.bundle.map(|bundle| Carried { bases: &bundle.about.bases }),
    };
    work(&job).await
}

/// What the machine installs from.
fn repositories(bound: &Bound, shared: &Shared<'_>) -> Result<MirrorSettings, Failure> {
    let plan = &bound.plan;
    let network = reveal(&plan.network, &shared.template_of(plan).secrets).ok_or_else(|| {
        Failure::new(Code::Wrong, "a secret in `[network]` was changed by a filter, so it can't be put in")
    })?;
    let store = dsimg_store::Store::open(&shared.cache).map_err(BuildError::from)?;
    if let Some(lock) = &bound.lock {
        // Also what comes from checkpoints: what no lock needs is pruned first.
        lock.blobs().into_iter().filter_map(Digest::parse).for_each(|digest| store.mark_used(&digest));
    }
    Ok(MirrorSettings {
        rewrites: rewrites(&network),
        pins: bound.pins(),
        offline: shared.bundle.is_some(),
        min_age: network.min_age.map(Timeout::as_duration),
        ..MirrorSettings::open(store, access(plan, shared))
    })
}

pub(crate) fn target(plan: &Plan, shared: &Shared<'_>) -> PathBuf {
    shared.arguments.output.join(folder_name(plan, &shared.template_of(plan).builders))
}

/// The builder's name is part of the folder's where several are built with unasked, whichever are now, and for one that
/// is built with on request: what is built alone as a rule has the plain name.
fn folder_name(plan: &Plan, builders: &[Builder]) -> String {
    let image = format!("{}-{}", plan.image.name, plan.image.version);
    let unasked: Vec<_> = builders.iter().filter(|builder| !builder.on_request).collect();
    match unasked[..] {
        [builder] if builder.name == plan.builder => image,
        _ => format!("{image}-{}", plan.builder),
    }
}

fn access(plan: &Plan, shared: &Shared<'_>) -> Access {
    let template = shared.template_of(plan);
    let mut access = Access::from_network(&template.network).or_environment(&shared.proxies);
    let secrets = &template.secrets;
    for proxy in [&mut access.http_proxy, &mut access.https_proxy].into_iter().flatten() {
        if let Some(revealed) = secret::reveal(proxy, secrets) {
            *proxy = revealed;
        }
    }
    access.extra_authorities = access.extra_authorities.map(|path| shared.folder.join(path));
    access
}

fn begin_log(plan: &Plan, shared: &Shared<'_>) -> Result<Arc<LogFile>, Failure> {
    let path = shared.state.join("logs").join(format!("{}-{}.log", shared.build_id, plan.run_name()));
    let log = LogFile::create(&path).map_err(|error| Failure::file("cannot make the log", &path, error))?;
    log.write(&plan.run_name(), &format!("dsimg {}, build {}", env!("CARGO_PKG_VERSION"), shared.build_id));
    log.write(&plan.run_name(), &shared.masker.mask_text(&shared.warnings));
    Ok(Arc::new(log))
}

/// Nothing reaches the screen or the log but through the mask.
fn context(plan: &Plan, shared: &Shared<'_>, log: &Arc<LogFile>) -> (RunContext, Arc<MaskingReporter>) {
    let both = Arc::new(Both(Arc::clone(&shared.screen), Arc::clone(log)));
    let reporter = Arc::new(MaskingReporter::new(Arc::clone(&shared.masker), both));
    let run = RunContext {
        build_id: shared.build_id.clone(),
        builder: plan.run_name(),
        cache: shared.cache.clone(),
        work: shared.cache.join("work").join(format!("{}-{}", shared.build_id, plan.run_name())),
        ledger: Arc::clone(&shared.ledger),
        reporter: Arc::clone(&reporter) as Arc<dyn Reporter>,
        cancel: shared.stop.cancel.clone(),
        hurry: shared.stop.hurry.clone(),
    };
    (run, reporter)
}

/// In the ledger before it is there; the mark in it lets a later run remove it with all that is in it.
pub(crate) fn make_work_folder(run: &RunContext) -> Result<(), Failure> {
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

pub(crate) fn remove_work_folder(run: &RunContext) {
    let removed = std::fs::remove_dir_all(&run.work)
        .and_then(|()| run.ledger.is_gone(Resource::Folder { path: run.work.clone() }));
    if let Err(error) = removed {
        run.warn(format!("cannot remove {}: {error}; the next build tries again", run.work.display()));
    }
}

/// The image in words, or the failure with its log.
fn tell(ended: Result<Ended, Failure>, plan: &Plan, shared: &Shared<'_>, log: &LogFile) -> Result<(), Failure> {
    let folder = target(plan, shared);
    match ended {
        Ok(Ended::Lock(lock)) => {
            shared.screen.image(&outcome::describe_lock(&lock, plan, shared.locks.borrow().path()));
            Ok(())
        }
        Ok(Ended::Image(report)) => {
            shared.screen.result(&plan.run_name(), &outcome::success(&report, &folder, log.path()));
            shared.screen.image(&outcome::describe(&report, &folder));
            Ok(())
        }
        Err(failure) => {
            let failure = failure.map_texts(|text| secret::describe(&shared.masker.mask_text(text)));
            log.write(&plan.run_name(), &failure.describe());
            shared.screen.result(&plan.run_name(), &outcome::failure(&failure, Some(log.path())));
            let failure = failure.with_log(log.path());
            if shared.builds == 1 {
                return Err(failure);
            }
            // The others go on, maybe for an hour: it is told now, and the end only names the builder.
            let code = failure.code;
            let who = in_words(plan);
            shared.screen.say(&failure.of_build(&who).describe());
            Err(Failure::new(code, format!("no image from {who}")))
        }
    }
}

fn in_words(plan: &Plan) -> String {
    match &plan.cell {
        Some(cell) => format!("builder `{}` with {}", plan.builder, cell.name),
        None => format!("builder `{}`", plan.builder),
    }
}
