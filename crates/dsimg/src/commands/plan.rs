//! `dsimg plan`: what a build would do, with nothing done.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use dsimg_build::Policy;
use dsimg_build::outlook::{Outlook, known_base, outlook};
use dsimg_checkpoint::{Listing, Store};
use dsimg_plan::plan::{FileKind, PlannedBase, PlannedFile};
use dsimg_plan::{Plan, Stage, Step, gather_inputs, make_plans};
use dsimg_template::template::aws::{AmiTable, AwsEbsTable};
use dsimg_template::template::{BuilderTable, Distro, Firmware, Image, Location, Publish, PublisherTable};
use dsimg_template::{Template, secret};

use crate::arguments::{self, Format};
use crate::environment;
use crate::failure::{Code, Failure};
use crate::locking::Locks;
use crate::reading::read_sound;
use crate::secrets;
use crate::ui::output::{print, say};
use crate::ui::text;

/// # Errors
/// The template has errors, or a file that it names can't be read.
pub(crate) fn run(arguments: &arguments::Plan) -> Result<(), Failure> {
    let (templates, catalog) = read_sound(&arguments.template, &arguments.variables, "plan", &say)?;
    check_only(&arguments.only, &templates)?;
    let key = secrets::hash_key(&templates, &environment::state_folder()?)?;
    let inputs = gather_inputs(&templates, &catalog, &key)?;
    let locks = Locks::beside(&arguments.template)?;
    let plans = make_plans(&templates, &catalog, &inputs, &arguments.only)?;
    let plans: Vec<_> = plans.into_iter().map(|plan| locks.pinned(plan)).collect();
    let listing = Store::new(&environment::cache_folder()?).list().unwrap_or_default();
    match arguments.format {
        Format::Text => {
            let mut text: String = plans.iter().map(|plan| describe(plan, &outlook_of(plan, &listing))).collect();
            if arguments.only.is_empty() {
                text.push_str(&describe_on_request(&templates));
            }
            print(&text::printable(&secret::describe(&text)))
        }
        Format::Json => print(&as_json(&plans)?),
    }
}

/// # Errors
/// `--only` names a builder that the template does not have, or no builder where all are on request.
pub(crate) fn check_only(only: &[String], templates: &[Template]) -> Result<(), Failure> {
    let builders = || templates.iter().flat_map(|template| &template.builders);
    let mut names: Vec<&str> = Vec::new();
    for builder in builders() {
        if !names.contains(&builder.name.as_str()) {
            names.push(&builder.name);
        }
    }
    if only.is_empty() && builders().all(|builder| builder.on_request) {
        let failure = Failure::new(Code::Wrong, "the template's builders are all `on_request`");
        return Err(failure.with_hint(format!("choose with `--only`: {}", names.join(", "))));
    }
    let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) else { return Ok(()) };
    let failure = Failure::new(Code::Wrong, format!("`--only {unknown}`: the template has no builder of this name"));
    Err(match dsimg_template::nearest(unknown, names.iter().copied()) {
        Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
        None => failure.with_hint(format!("its builders: {}", names.join(", "))),
    })
}

fn as_json(plans: &[Plan]) -> Result<String, Failure> {
    let with_hash = |plan: &Plan| Ok(serde_json::json!({ "hash": plan.hash(), "plan": serde_json::to_value(plan)? }));
    let plans: Result<Vec<_>, serde_json::Error> = plans.iter().map(with_hash).collect();
    let plans = plans.map_err(|error| Failure::new(Code::Bug, "the plan can't be written as JSON").because(error))?;
    Ok(format!("{:#}\n", serde_json::json!({ "format": 1, "plans": plans })))
}

/// The builders that are left out until they are asked for.
fn describe_on_request(templates: &[Template]) -> String {
    let builders = templates.iter().flat_map(|template| &template.builders).filter(|builder| builder.on_request);
    let names: BTreeSet<&str> = builders.map(|builder| builder.name.as_str()).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("on request, with `--only`: {}\n", names.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// What a build would take from checkpoints now.
fn outlook_of(plan: &Plan, listing: &Listing) -> Vec<Outlook> {
    outlook(plan, listing, known_base(plan, listing), &Policy::default(), jiff::Timestamp::now())
}

fn describe(plan: &Plan, outlook: &[Outlook]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} {} on `{}`", plan.image.name, plan.image.version, plan.builder);
    if let Some(cell) = &plan.cell {
        let _ = writeln!(text, "  matrix    {}", cell.name);
    }
    let _ = writeln!(text, "  plan      {}", plan.hash().short());
    let _ = writeln!(text, "  base      {}", describe_base(&plan.base));
    let _ = writeln!(text, "  machine   {}", describe_machine(&plan.machine, &plan.image));
    if let (BuilderTable::AwsEbs(aws), Some(digest)) = (&plan.machine, &plan.user_data) {
        let path = aws.instance.user_data.as_deref().unwrap_or(Path::new(""));
        let _ = writeln!(text, "  user data {} (sha256 {})", path.display(), digest.short());
    }
    for (name, value) in network_facts(plan) {
        let _ = writeln!(text, "  {name:<9} {value}");
    }
    for (index, (stage, outlook)) in plan.stages.iter().zip(outlook).enumerate() {
        describe_stage(index + 1, plan.stages.len(), stage, &mut text);
        let _ = match outlook {
            Outlook::Cached { made } => writeln!(text, "    cached, {} ago", age(*made)),
            Outlook::WillRun { why } => writeln!(text, "    will run: {why}"),
        };
    }
    for publish in &plan.publish {
        let _ = writeln!(text, "\n  publish {}", describe_publish(publish, &plan.image));
    }
    text.push('\n');
    text
}

/// `aws-ami: as the AMI ds-1.0 in eu-west-1, with copies in eu-central-1`
fn describe_publish(publish: &Publish, image: &Image) -> String {
    let PublisherTable::AwsAmi(aws) = &publish.table;
    let name = aws.ami.name_for(&image.name, &image.version);
    format!("{}: as the AMI {name} in {}{}", publish.name, aws.account.region, copies(&aws.ami))
}

fn copies(ami: &AmiTable) -> String {
    match ami.copies.keys().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => String::new(),
        [region] => format!(", with a copy in {region}"),
        ref regions => format!(", with copies in {}", regions.join(", ")),
    }
}

/// `3 min`
fn age(made: jiff::Timestamp) -> String {
    let seconds = jiff::Timestamp::now().duration_since(made).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn describe_base(base: &PlannedBase) -> String {
    match base {
        PlannedBase::Bootstrap(bootstrap) => {
            let distro = match bootstrap.distro {
                Distro::Debian => "debian",
                Distro::Ubuntu => "ubuntu",
            };
            let mirror = bootstrap.mirror.as_ref().map(|mirror| format!(", from {mirror}")).unwrap_or_default();
            format!("{distro} {} ({}), made from packages{mirror}", bootstrap.suite, bootstrap.arch)
        }
        PlannedBase::Image(image) => match &image.location {
            Location::Path(path) => path.display().to_string(),
            Location::Url(url) => url.clone(),
        },
        PlannedBase::Ami(ami) => match (&ami.id, &ami.name, &ami.owner) {
            (Some(id), _, _) => format!("AMI {id}"),
            (None, name, owner) => format!(
                "the newest AMI {} of {}",
                name.as_deref().unwrap_or("that fits the filters"),
                owner.as_deref().unwrap_or("any account")
            ),
        },
    }
}

fn describe_machine(machine: &BuilderTable, image: &Image) -> String {
    let qemu = match machine {
        BuilderTable::Qemu(qemu) => qemu,
        BuilderTable::AwsEbs(aws) => return describe_instance(aws, image),
    };
    let firmware = match qemu.firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    let formats: Vec<_> = qemu.formats.iter().map(|format| format.as_str()).collect();
    format!(
        "{} cpus, {} of memory, a disk of {}, {firmware}; written as {}",
        qemu.cpus,
        qemu.memory,
        qemu.disk,
        formats.join(" and ")
    )
}

fn describe_instance(aws: &AwsEbsTable, image: &Image) -> String {
    let spot = if aws.instance.spot.is_some() { ", spot" } else { "" };
    format!(
        "{} in {}{spot}, a disk of {}; becomes the AMI {}{}",
        aws.instance.types.join(" or "),
        aws.account.region,
        aws.instance.root.size,
        aws.ami.name_for(&image.name, &image.version),
        copies(&aws.ami)
    )
}

fn network_facts(plan: &Plan) -> Vec<(&'static str, String)> {
    let network = &plan.network;
    let facts = [("proxy", &network.proxy), ("apt", &network.apt), ("pip", &network.pip), ("cran", &network.cran)];
    facts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
}

fn describe_stage(number: usize, count: usize, stage: &Stage, text: &mut String) {
    let kind = if stage.label == stage.provisioner { String::new() } else { format!(" ({})", stage.provisioner) };
    let _ = writeln!(text, "\n  stage {number} of {count}: {}{kind}, key {}", stage.label, stage.key.short());
    for tool in &stage.tools {
        let _ = writeln!(text, "    bring {tool}, for the time of the build");
    }
    let own = stage.steps.iter().filter(|step| matches!(step, Step::Write { .. })).count();
    if own > 0 {
        let _ = writeln!(text, "    write {own} files of the provisioner");
    }
    stage.steps.iter().for_each(|step| describe_step(step, text));
}

fn describe_step(step: &Step, text: &mut String) {
    let _ = match step {
        Step::Write { .. } => Ok(()),
        Step::Upload { files } => {
            files.iter().try_for_each(|file| writeln!(text, "    upload {}", describe_file(file)))
        }
        Step::Run { script, timeout, retries, may_reboot } => {
            let name = script.rsplit('/').next().unwrap_or(script);
            let again = if *retries > 0 { format!(", up to {retries} times again") } else { String::new() };
            let reboot = if *may_reboot { ", may reboot" } else { "" };
            writeln!(text, "    run {name} (within {timeout}{again}{reboot})")
        }
        Step::Fetch { from, to } => writeln!(text, "    fetch {from} as {}", to.display()),
        Step::Reboot => writeln!(text, "    reboot"),
    };
}

fn describe_file(file: &PlannedFile) -> String {
    let from = file.source.as_ref().map(|source| format!("{} ", source.display())).unwrap_or_default();
    match &file.kind {
        FileKind::File { size, sha256, .. } => {
            format!("{from}to {} ({}, sha256 {})", file.path, text::bytes(*size), sha256.short())
        }
        FileKind::Folder => format!("{from}to {} (a folder)", file.path),
        FileKind::Symlink { target } => format!("{from}to {} (a link to {target})", file.path),
        FileKind::Rendered { content, .. } => {
            format!("{from}to {} (rendered, {})", file.path, text::bytes(content.len() as u64))
        }
    }
}
