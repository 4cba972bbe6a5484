//! `dsimg bundle`: template, lock and all that they name, in one file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dsimg_build::bundle::{
    ABOUT, About, BundleFault, FORMAT, HostFiles, VARIABLES, blob_of_base, blobs_of, gather, missing,
};
use dsimg_machine::KnownBase;
use dsimg_plan::{Digest, Plan};
use dsimg_store::{BundleBlob, Members, Store, pack};
use dsimg_template::template::{BuilderTable, CertificateAuthorities, Checksum, Location};

use crate::arguments::{Build, Bundle, Progress};
use crate::commands::build::{Work, folder_of, read_and_plan};
use crate::failure::{Code, Failure};
use crate::locking::{Bound, Use};
use crate::ui::output::{print, say};
use crate::ui::text::{bytes, printable};
use crate::{environment, offline, outcome, reading, wire};

/// Provisioners of the user's own, beside the template.
const PROVISIONERS: &str = "provisioners";
/// So many blobs are named.
const NAMED: usize = 5;

/// # Errors
/// The template or its lock can't be built from offline, something of it is not on this host, or the file can't be
/// written.
pub(crate) fn run(arguments: &Bundle) -> Result<(), Failure> {
    check_output(arguments)?;
    let work = read_and_plan(&as_build(arguments), &Use::Keep, None)?;
    for bound in &work.bound {
        check_kind(&bound.plan)?;
        // What does not fit is refused in the words of `--locked`.
        work.locks.bind(bound.plan.clone(), &Use::Strictly)?;
        offline::check_frozen(bound)?;
    }
    let folder = folder_of(&arguments.template)?;
    let store = Store::open(&work.cache).map_err(BundleFault::from)?;
    let bases = find_bases(&work, &folder)?;
    let packages = find_packages(&work, &store)?;
    let files = gather(&folder, &paths_of(&work, &folder))?;
    let members = members(&work, &bases, &files, arguments)?;

    let mut blobs = packages;
    blobs.extend(bases.iter().map(blob_of_base));
    blobs.extend(files.blobs);
    say(&printable(&format!("packing {} files, {} of bases among them\n", blobs.len(), bytes(size_of(&bases)))));
    pack(&store, &arguments.output, &members, &blobs).map_err(BundleFault::from)?;
    print(&describe(&work, &arguments.output)?)
}

fn check_output(arguments: &Bundle) -> Result<(), Failure> {
    let out = &arguments.output;
    if arguments.force || !out.exists() {
        return Ok(());
    }
    let what = format!("`{}` is there already", out.display());
    Err(Failure::new(Code::Wrong, what).with_hint("name another file, or replace it with `--force`"))
}

fn as_build(arguments: &Bundle) -> Build {
    let Bundle { template, variables, only, .. } = arguments.clone();
    Build { locked: true, ..Build::without_image(template, variables, only, Progress::Auto) }
}

fn check_kind(plan: &Plan) -> Result<(), Failure> {
    match &plan.machine {
        BuilderTable::Qemu(_) => Ok(()),
        BuilderTable::AwsEbs(_) => {
            let what = format!("builder `{}` works on AWS, which can't be done without a network", plan.builder);
            Err(Failure::new(Code::Wrong, what).with_hint("name the others with `--only`"))
        }
    }
}

/// The locked ones, each once.
fn find_bases(work: &Work<'_>, folder: &Path) -> Result<Vec<KnownBase>, Failure> {
    let mut bases: BTreeMap<Digest, KnownBase> = BTreeMap::new();
    for Bound { plan, lock, .. } in &work.bound {
        let Some(locked) = lock.as_ref().map(|lock| &lock.base) else { continue };
        let builder = wire::builder_for(plan, folder, &environment::proxies())?;
        let sha256 =
            Digest::parse(&locked.sha256).ok_or_else(|| BundleFault::NoDigest { name: "its base".to_owned() })?;
        let absent = || {
            let what = format!("the lock's base ({}, sha256 {}…) is not on this host", locked.source, sha256.short());
            let hint = "build once on the host that made the lock, and bundle there; or make the lock anew with \
                `dsimg lock --upgrade`";
            Failure::new(Code::Build, what).with_hint(hint)
        };
        let found = builder.find_base(&plan.base, &sha256, &work.cache)?.ok_or_else(absent)?;
        bases.insert(sha256, found);
    }
    Ok(bases.into_values().collect())
}

/// All blobs that the locks name.
fn find_packages(work: &Work<'_>, store: &Store) -> Result<BTreeSet<BundleBlob>, Failure> {
    let mut blobs = BTreeSet::new();
    for lock in work.bound.iter().filter_map(|bound| bound.lock.as_ref()) {
        blobs.extend(blobs_of(lock, store)?);
    }
    let missing = missing(&blobs, store);
    if missing.is_empty() {
        return Ok(blobs);
    }
    let named = missing.iter().take(NAMED).map(|name| format!("\n  {name}")).collect::<String>();
    let more = missing.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let what = format!("{} of the lock's files are not in the package store:{named}{more}", missing.len());
    let hint = "`dsimg build --locked --no-cache` fetches what is still published; `dsimg lock --upgrade` takes what is \
        published today";
    Err(Failure::new(Code::Build, what).with_hint(hint))
}

/// All that the template names on this host, as it names it.
fn paths_of(work: &Work<'_>, folder: &Path) -> BTreeSet<PathBuf> {
    let named = work.inputs.files.keys().chain(work.inputs.user_data.keys()).cloned();
    let authorities = work.templates.iter().filter_map(|template| match &template.network.ca {
        Some(CertificateAuthorities::File(path)) => Some(path.clone()),
        _ => None,
    });
    let own = Some(PathBuf::from(PROVISIONERS)).filter(|own| folder.join(own).is_dir());
    named.chain(authorities).chain(own).collect()
}

/// Disk images and their checksums, since the base was made of them; and keys of hosts that lead into a network.
fn spared(work: &Work<'_>) -> BTreeSet<PathBuf> {
    let builders = work.templates.iter().flat_map(|template| &template.builders);
    let keys = builders.filter_map(|builder| match &builder.table {
        BuilderTable::AwsEbs(table) => table.reach.bastion.as_ref().map(|bastion| bastion.key.clone()),
        BuilderTable::Qemu(_) => None,
    });
    let images = work.templates.iter().filter_map(|template| template.base.image.as_ref());
    let locations = images.flat_map(|image| {
        let checksum = match &image.checksum {
            Checksum::File(location) => Some(location),
            _ => None,
        };
        [Some(&image.location), checksum]
    });
    let path = |location: &Location| match location {
        Location::Path(path) => Some(path.clone()),
        Location::Url(_) => None,
    };
    locations.flatten().filter_map(path).chain(keys).collect()
}

fn members(work: &Work<'_>, bases: &[KnownBase], files: &HostFiles, arguments: &Bundle) -> Result<Members, Failure> {
    let (variables, secrets) = values(work, arguments)?;
    let (template, lock) = (arguments.template.as_path(), work.locks.path());
    let (template_place, lock_place) = (place(template, files)?, place(lock, files)?);
    let about = About {
        format: FORMAT,
        dsimg: env!("CARGO_PKG_VERSION").to_owned(),
        template: template_place.clone(),
        only: arguments.only.clone(),
        runs: work.bound.iter().map(|bound| bound.plan.run_name()).collect(),
        bases: bases.iter().map(without_path).collect(),
        secrets,
        files: files.files.clone(),
        spared: spared(work),
    };
    let about = serde_json::to_vec_pretty(&about).expect("texts and numbers only");
    let read = |path: &Path| std::fs::read(path).map_err(|error| Failure::file("cannot read", path, error));
    Ok(Members::from([
        (template_place, read(template)?),
        (lock_place, read(lock)?),
        (ABOUT.to_owned(), about),
        (VARIABLES.to_owned(), variables.into_bytes()),
    ]))
}

fn place(path: &Path, files: &HostFiles) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| BundleFault::Place { path: path.to_owned() })?;
    Ok(if files.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", files.folder) })
}

/// Where it lies on this host is nobody else's business.
fn without_path(base: &KnownBase) -> KnownBase {
    let mut base = base.clone();
    base.image.path = base.image.path.file_name().map(PathBuf::from).unwrap_or_default();
    base
}

/// The values that the template's variables have from outside, as a `--var-file`; and the names of those that are sensitive,
/// which are not in it.
fn values(work: &Work<'_>, arguments: &Bundle) -> Result<(String, BTreeSet<String>), Failure> {
    let is_secret = |name: &str| work.templates.iter().any(|template| template.secrets.contains_key(name));
    // The environment may have some for other templates.
    let is_known = |name: &str| work.templates.iter().any(|template| template.context.variables.contains_key(name));
    let given = reading::given(&arguments.variables)?;
    let (secret, plain): (Vec<_>, Vec<_>) =
        given.into_iter().filter(|(name, _)| is_known(name)).partition(|(name, _)| is_secret(name));
    // JSON's strings are TOML's, but for one character.
    let quoted = |value: &str| serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f");
    let lines = plain.iter().map(|(name, given)| format!("{name} = {}\n", quoted(&given.value)));
    Ok((lines.collect(), secret.into_iter().map(|(name, _)| name).collect()))
}

fn size_of(bases: &[KnownBase]) -> u64 {
    let size = |base: &KnownBase| std::fs::metadata(&base.image.path).map_or(0, |about| about.len());
    bases.iter().map(size).sum()
}

fn describe(work: &Work<'_>, out: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(out).map_err(|error| Failure::file("cannot read", out, error))?.len();
    let runs: Vec<_> = work.bound.iter().map(|bound| format!("`{}`", bound.plan.run_name())).collect();
    let text = format!("{}: {}, for {}\nnext, on the other host:\n", out.display(), bytes(size), runs.join(", "));
    Ok(printable(&format!("{text}  dsimg build --offline {}\n", outcome::quoted(out))))
}
