//! `dsimg build --offline`: a bundle takes the place of a template, and nobody outside is asked for anything.

use std::path::Path;

use dsimg_build::bundle::{self, Unpacked};
use dsimg_manifest::Lock;
use dsimg_plan::Plan;
use dsimg_template::PathKind;
use dsimg_template::template::{Network, NetworkAccess};

use crate::arguments::{Build, Progress, Variables};
use crate::failure::{Code, Failure};
use crate::locking::{Bound, Locks, Use};
use crate::ui::output::say;
use crate::ui::text::printable;
use crate::{environment, reading};

/// The bundle that the arguments name, and the arguments of a build of the template in it.
///
/// # Errors
/// It is no bundle or damaged, or a value that it does not hold is not given.
pub(crate) fn open(arguments: &Build) -> Result<(Unpacked, Build), Failure> {
    let cache = environment::cache_folder()?;
    if !arguments.template.exists() {
        let path = arguments.template.display();
        return Err(Failure::new(Code::Wrong, format!("there is no bundle `{path}`"))
            .with_hint(format!("`dsimg bundle TEMPLATE --output {path}` makes one, where there is a network")));
    }
    if !arguments.json && arguments.progress != Progress::Quiet {
        say(&printable(&format!("unpacking {}\n", arguments.template.display())));
    }
    let bundle = bundle::open(&arguments.template, &cache)?;
    let about = &bundle.about;
    // Before the files that were named now, so that these win.
    let files = [bundle.variables.clone()].into_iter().chain(arguments.variables.files.iter().cloned()).collect();
    let variables = Variables { files, ..arguments.variables.clone() };
    check_secrets(&bundle, &variables)?;
    let arguments = Build {
        template: bundle.template.clone(),
        variables,
        only: if arguments.only.is_empty() { about.only.clone() } else { arguments.only.clone() },
        locked: true,
        no_publish: true,
        ..arguments.clone()
    };
    Ok((bundle, arguments))
}

fn check_secrets(bundle: &Unpacked, variables: &Variables) -> Result<(), Failure> {
    let given = reading::given(variables)?;
    let Some(name) = bundle.about.secrets.iter().find(|name| !given.contains_key(*name)) else { return Ok(()) };
    let what = format!("the sensitive variable `{name}` had a value when the bundle was made, which is not in it");
    Err(Failure::new(Code::Wrong, what)
        .with_hint(format!("give it again: in a `--var-file`, or as `DSIMG_VAR_{name}`")))
}

/// What is at a path, for a template; a bundle leaves out what nothing is made of any more.
pub(crate) fn probe(bundle: Option<&Unpacked>, path: &Path) -> PathKind {
    let is_spared = |bundle: &Unpacked| bundle.about.spared.iter().any(|spared| bundle.folder().join(spared) == path);
    if bundle.is_some_and(is_spared) { PathKind::File } else { PathKind::on_disk(path) }
}

/// The plans with the lock of the bundle.
///
/// # Errors
/// The bundle was not made for one of them, or it would need what no bundle holds.
pub(crate) fn bind(plans: Vec<Plan>, locks: &Locks, bundle: &Unpacked) -> Result<Vec<Bound>, Failure> {
    let runs = &bundle.about.runs;
    let bind = |plan: Plan| {
        let name = plan.run_name();
        if !runs.contains(&name) {
            let made_for: Vec<_> = runs.iter().map(|name| format!("`{name}`")).collect();
            let what = format!("the bundle has nothing for `{name}`");
            return Err(Failure::new(Code::Wrong, what).with_hint(format!("it was made for {}", made_for.join(", "))));
        }
        let bound = locks.bind(plan, &Use::Strictly).map_err(|failure| {
            failure.with_hint(format!(
                "build with the variables that it was made with, and with its dsimg ({}); or make it anew",
                bundle.about.dsimg
            ))
        })?;
        check_frozen(&bound)?;
        Ok(bound)
    };
    plans.into_iter().map(bind).collect()
}

/// # Errors
/// A stage fetched something past dsimg when the lock was made: it would fail after an hour.
pub(crate) fn check_frozen(bound: &Bound) -> Result<(), Failure> {
    if bound.plan.network.is_alone() {
        // It did without, whatever it tried.
        return Ok(());
    }
    let Some(unfrozen) = bound.lock.as_ref().and_then(first_unfrozen) else { return Ok(()) };
    let reached: Vec<_> = unfrozen.reached.iter().map(String::as_str).collect();
    let what = format!(
        "stage `{}` used the network by itself ({}), which no bundle can hold",
        unfrozen.stage,
        reached.join(", ")
    );
    Err(Failure::new(Code::Wrong, what).with_hint(
        "bring what it fetches as a file; or, if it can do without, say `access = \"packages\"` in `[network]`",
    ))
}

fn first_unfrozen(lock: &Lock) -> Option<&dsimg_manifest::lock::Unfrozen> {
    lock.unfrozen.iter().find(|unfrozen| !unfrozen.reached.is_empty())
}

/// The plan with a machine that reaches nothing but dsimg, on a host that has a network, too.
pub(crate) fn alone(plan: &Plan) -> Plan {
    let network = Network { access: NetworkAccess::Packages, ..plan.network.clone() };
    Plan { network, ..plan.clone() }
}
