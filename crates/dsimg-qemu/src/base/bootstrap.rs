//! A base made from an apt mirror: packages become a tree, the tree a disk that boots anywhere, and the disk is kept
//! in the cache under what went into it.
//!
//! No step needs root, a loop device, or a machine to be booted: mmdebstrap and the file system are made in a user
//! namespace, and the parts of the disk around the file system are written by this program.

mod disk;
mod gpt;
mod recipe;
mod scratch;
mod sources;
mod store;
mod suites;
mod tree;
pub(crate) mod used;

/// What a host must have for it.
pub(crate) mod needs {
    pub(crate) use super::sources::{keyring, keyring_package};
    pub(crate) use super::tree::is_program;
}

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use dsimg_machine::{BaseImage, KnownBase, MachineError, RunContext, WrittenParts};
use dsimg_template::template::{Bootstrap, Compression, DiskFormat, Network};

use crate::disk::{Layout, QemuImg, Source, Target};
use crate::seal::write_anew;
use recipe::Recipe;
use scratch::Scratch;
use store::{Place, Record};
use tree::Parts;

pub(crate) use scratch::remove_tree;

/// Finds the base in the cache, or makes it. `today` decides which suites still get security updates.
///
/// # Errors
/// The recipe can't be had, the host lacks something, the mirror fails, or the build was cancelled.
pub(super) async fn prepare(
    bootstrap: &Bootstrap,
    network: &Network,
    today: Date,
    tools: &QemuImg,
    run: &RunContext,
) -> Result<BaseImage, MachineError> {
    let suite = suites::find(bootstrap.distro, &bootstrap.suite, today)?;
    let recipe = Recipe::new(bootstrap, suite)?;
    let place = Place::new(run, &recipe.key())?;
    if let Some((record, image)) = place.find() {
        return Ok(found(&record, image, run));
    }
    tree::check_host(&recipe)?;
    let _lock = place.lock(run).await?;
    // Another build may have made it meanwhile.
    if let Some((record, image)) = place.find() {
        return Ok(found(&record, image, run));
    }
    let unfinished = place.begin(run)?;
    match make(&recipe, network, &unfinished.disk(), today, tools, run).await {
        Ok(record) => {
            place.finish(unfinished, &record, run)?;
            run.info(format!("made the base: {} packages, kernel {}", record.packages, record.kernel));
        }
        Err(error) => {
            // The first error is the one to tell.
            if let Err(also) = unfinished.abandon(run) {
                run.warn(also.to_string());
            }
            return Err(error);
        }
    }
    let (_, image) = place.find().ok_or_else(|| MachineError::Machine {
        what: "the base was made and is not in the cache".to_owned(),
        hint: Some("is another program removing files from the cache folder?".to_owned()),
        console: String::new(),
    })?;
    Ok(image)
}

/// The base in a folder of the cache, if it was made here.
pub(super) fn read(folder: &Path) -> Option<KnownBase> {
    store::read(folder).map(|(record, image)| KnownBase { image, written: record.used })
}

fn found(record: &Record, image: BaseImage, run: &RunContext) -> BaseImage {
    run.debug(format!("the base is in the cache: {} packages, kernel {}", record.packages, record.kernel));
    image
}

async fn make(
    recipe: &Recipe,
    network: &Network,
    to: &Path,
    today: Date,
    tools: &QemuImg,
    run: &RunContext,
) -> Result<Record, MachineError> {
    run.info(format!(
        "making a {} {} base from packages; it takes a minute or more, and is kept for other builds",
        recipe.distro_key(),
        recipe.suite
    ));
    let raw = RawDisk(run.work.join("base.raw"));
    let parts = make_tree(recipe, network, &raw.0, run).await?;
    finish_disk(recipe, &raw.0, &parts)?;
    let raw = seal(raw, parts.epoch, run).await?;
    let used = used_of(&raw.0)?;
    let virtual_size = used.virtual_size;
    // Not compressed: every build reads it, and holes in it cost nothing.
    let target = Target { format: DiskFormat::Qcow2, compression: Compression::None, layout: Layout::Ordered };
    tools.convert(Source::File(&raw.0, "raw"), (to, target), ("write the base", virtual_size), run).await?;
    let (sha256, size) = store::digest(to.to_owned()).await?;
    Ok(Record {
        format: 1,
        recipe: recipe.clone(),
        sha256,
        size,
        virtual_size,
        made: today,
        kernel: parts.kernel,
        packages: parts.packages,
        used: used.parts,
    })
}

async fn make_tree(recipe: &Recipe, network: &Network, raw: &Path, run: &RunContext) -> Result<Parts, MachineError> {
    let scratch = Scratch::make(run)?;
    let made = tree::make(recipe, network, raw, &scratch, run).await;
    let closed = scratch.close(run).await;
    // The first error is the one to tell.
    let parts = made?;
    closed.map(|()| parts)
}

/// The same packages give the same base, to the bit, so that a lock of one host's base fits another's.
async fn seal(raw: RawDisk, epoch: i64, run: &RunContext) -> Result<RawDisk, MachineError> {
    let sealed = RawDisk(run.work.join("sealed-base.raw"));
    match write_anew(raw.0.clone(), sealed.0.clone(), epoch, run).await {
        Ok(_) => Ok(sealed),
        Err(error @ MachineError::Refused { .. }) => {
            run.warn(format!("each making of this base gives another one: {error}"));
            Ok(raw)
        }
        Err(error) => Err(error),
    }
}

fn used_of(raw: &Path) -> Result<WrittenParts, MachineError> {
    let failed = |error| MachineError::file("cannot read", raw, error);
    used::used_parts(&File::open(raw).map_err(failed)?).map_err(failed)
}

fn finish_disk(recipe: &Recipe, raw: &Path, parts: &Parts) -> Result<(), MachineError> {
    let failed = |error| MachineError::file("cannot write", raw, error);
    let mut file = File::options().read(true).write(true).open(raw).map_err(failed)?;
    if !disk::has_root(&mut file).map_err(failed)? {
        return Err(MachineError::Machine {
            what: format!("the {} base has no root file system, though mmdebstrap ended well", recipe.suite),
            hint: Some("the log file has all of its output".to_owned()),
            console: String::new(),
        });
    }
    disk::finish(&mut file, &recipe.ids(), recipe.distro_key(), parts).map_err(failed)
}

/// The disk before it is a qcow2; goes away with this value.
struct RawDisk(PathBuf);

impl Drop for RawDisk {
    fn drop(&mut self) {
        // The build's folder is removed at the end in any case.
        drop(std::fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use dsimg_template::template::Distro;
    use jiff::civil::date;

    use super::*;
    use crate::testing::TestRun;

    #[tokio::test]
    async fn a_dead_suite_is_refused_before_anything_is_made() {
        let run = TestRun::new();
        let bullseye = recipe::tests::bootstrap(Distro::Debian, "bullseye");
        let tools = QemuImg::new("/nowhere/qemu-img");
        let today = date(2026, 11, 21);
        let error = prepare(&bullseye, &Network::default(), today, &tools, &run.context).await.unwrap_err();
        assert!(matches!(error, MachineError::Refused { .. }), "{error:?}");
        assert_eq!(std::fs::read_dir(&run.context.cache).unwrap().count(), 0);
    }

    #[tokio::test]
    #[ignore = "downloads 300 packages from an apt mirror; about a minute"]
    async fn a_base_is_made_once() {
        let run = TestRun::new();
        let suite = std::env::var("DSIMG_TEST_SUITE").unwrap_or_else(|_| "trixie".to_owned());
        let bootstrap = recipe::tests::bootstrap(Distro::Debian, &suite);
        let today = date(2026, 11, 21);
        let tools = QemuImg::new("qemu-img");
        let begin = std::time::Instant::now();
        let base = prepare(&bootstrap, &Network::default(), today, &tools, &run.context).await;
        if std::env::var_os("DSIMG_TEST_VERBOSE").is_some() {
            for event in run.events() {
                if let dsimg_machine::Event::Output { bytes, .. } = event {
                    eprint!("{}", String::from_utf8_lossy(&bytes));
                }
            }
            eprintln!("{:?}: {base:?}", begin.elapsed());
        }
        let base = base.unwrap();
        assert_eq!(run.context.ledger.open_entries().unwrap(), [], "nothing is left behind");
        assert_eq!(std::fs::read_dir(&run.context.work).unwrap().count(), 0, "the work folder is empty again");
        let info = tools.info(&base.path, Some("qcow2"), &run.context).await.unwrap();
        assert_eq!((info.virtual_size, info.backing_filename), (base.virtual_size, None));
        let again = prepare(&bootstrap, &Network::default(), today, &tools, &run.context).await.unwrap();
        assert_eq!(again, base);
        if let Some(keep) = std::env::var_os("DSIMG_TEST_KEEP") {
            std::fs::copy(&base.path, keep).unwrap();
        }
    }

    #[tokio::test]
    #[ignore = "downloads 300 packages from an apt mirror, twice; two minutes"]
    async fn the_same_packages_are_the_same_base() {
        let tools = QemuImg::new("qemu-img");
        let mut made = Vec::new();
        for _ in 0..2 {
            let run = TestRun::new();
            let bootstrap = recipe::tests::bootstrap(Distro::Debian, "trixie");
            let base =
                prepare(&bootstrap, &Network::default(), date(2026, 11, 21), &tools, &run.context).await.unwrap();
            made.push((base.sha256, base.virtual_size));
        }
        assert_eq!(made[0], made[1]);
    }

    #[tokio::test]
    #[ignore = "downloads packages from an apt mirror"]
    async fn a_cancelled_build_leaves_nothing() {
        let run = TestRun::new();
        let bootstrap = recipe::tests::bootstrap(Distro::Debian, "trixie");
        let tools = QemuImg::new("qemu-img");
        let network = Network::default();
        let base = prepare(&bootstrap, &network, date(2026, 11, 21), &tools, &run.context);
        let cancel = async {
            // In the midst of the packages' own scripts, which is the hardest place to stop.
            let unpacks = |event: &dsimg_machine::Event| match event {
                dsimg_machine::Event::Output { bytes, .. } => {
                    String::from_utf8_lossy(bytes).contains("installing remaining packages")
                }
                _ => false,
            };
            while !run.events().iter().any(unpacks) {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            run.context.cancel.cancel();
            std::time::Instant::now()
        };
        let (base, cancelled) = tokio::join!(base, cancel);
        assert!(matches!(base, Err(MachineError::Cancelled)), "{base:?}");
        assert!(cancelled.elapsed() < std::time::Duration::from_secs(30), "{:?}", cancelled.elapsed());
        assert_eq!(run.context.ledger.open_entries().unwrap(), []);
        assert_eq!(std::fs::read_dir(&run.context.work).unwrap().count(), 0, "the work folder is empty again");
    }
}
