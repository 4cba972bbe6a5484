use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dsimg_checkpoint::{Base, FileFacts, Kind, Memory};
use dsimg_machine::{Event, HostFacts, Ledger, MachineError, Reporter, Resource};
use dsimg_plan::plan::PlannedBase;
use dsimg_template::template::Network;

use super::*;

const PLAN: &str = r#"{"format": 1, "image": {"name": "t", "summary": "", "version": "1"}, "builder": "kvm",
    "machine": {"type": "qemu", "accelerator": "auto", "boot_timeout": 300, "compression": "zstd", "cpus": 2,
        "disk": 1, "firmware": "bios", "formats": ["qcow2"], "memory": 1, "qemu_args": [], "ssh_user": null},
    "base": {"bootstrap": {"arch": "amd64", "components": [], "distro": "debian", "mirror": null, "packages": [],
        "suite": "trixie"}},
    "disk_key": "9a238bc49329a928ae5c875935de8218d993ba338b8d5bd04dc054b2fbd7bb3c",
    "network": {"apt": null, "ca": "host", "cran": null, "keep": false, "no_proxy": [], "pip": null, "proxy": null},
    "stages": []}"#;

fn notes() -> Notes {
    let system = dsimg_manifest::manifest::SystemFacts { os: "Debian".to_owned(), ..Default::default() };
    Notes { system, ..Notes::default() }
}

/// Looks at the memory that it is to start from, and starts nothing.
#[derive(Default)]
struct Looking {
    /// Path, content and bytes on the disk.
    seen: Mutex<Option<(PathBuf, Vec<u8>, u64)>>,
}

#[async_trait]
impl Builder for Looking {
    async fn check_ready(&self, _: &Plan, _: &RunContext) -> Result<HostFacts, MachineError> {
        unreachable!("only resumed")
    }

    async fn prepare_base(&self, _: &PlannedBase, _: &Network, _: &RunContext) -> Result<BaseImage, MachineError> {
        unreachable!("only resumed")
    }

    async fn boot(&self, _: &BaseImage, _: &Plan, _: &RunContext) -> Result<Box<dyn Machine>, MachineError> {
        unreachable!("only resumed")
    }

    async fn resume(&self, saved: &SavedMachine, _: &Plan, _: &RunContext) -> Result<Box<dyn Machine>, MachineError> {
        *self.seen.lock().unwrap() = saved.memory.clone().map(|path| {
            let (content, metadata) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap());
            (path, content, metadata.blocks() * 512)
        });
        Err(MachineError::refused("this one starts nothing", ""))
    }

    async fn reclaim(&self, _: &Resource) -> Result<(), MachineError> {
        Ok(())
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Reporter for Recorder {
    fn report(&self, _: &str, event: &Event) {
        if let Event::Message { text, .. } = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

struct Place {
    folder: tempfile::TempDir,
    store: Store,
    fit: MemoryFit,
    run: RunContext,
    told: Arc<Recorder>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let told = Arc::new(Recorder::default());
        let run = RunContext {
            build_id: "b".to_owned(),
            builder: "kvm".to_owned(),
            cache: folder.path().join("cache"),
            work: folder.path().join("work"),
            ledger: Arc::new(Ledger::open(&folder.path().join("ledger"), "b").unwrap()),
            reporter: Arc::clone(&told) as Arc<dyn Reporter>,
            cancel: Default::default(),
            hurry: Default::default(),
        };
        fs::create_dir(&run.work).unwrap();
        let fit = MemoryFit { key: Digest::of_bytes(b"fit"), facts: BTreeMap::new() };
        Self { store: Store::new(&run.cache), folder, fit, run, told }
    }

    /// With a memory of 4 MiB, of which 100 KB are no holes.
    fn publish(&self) -> Checkpoint {
        let draft = self.store.draft(self.folder.path()).unwrap();
        let file = |name: &str, size: u64| {
            let file = File::create(draft.path().join(name)).unwrap();
            file.set_len(size).unwrap();
            file
        };
        for (name, size) in [("disk.qcow2", 100), ("access.json", 10)] {
            drop(file(name, size));
        }
        file(MEMORY, 4 << 20).write_all_at(&[7; 100_000], 1 << 20).unwrap();
        let unknown = || FileFacts { size: 0, allocated: 0, sha256: Digest::of_bytes(b"") };
        let (key, facts) = (self.fit.key.clone(), self.fit.facts.clone());
        let checkpoint = Checkpoint {
            format: 0,
            id: "id".to_owned(),
            parent: None,
            base: Base { path: "bases/b".to_owned(), sha256: Digest::of_bytes(b"base") },
            depth: 1,
            key: Digest::of_bytes(b"key"),
            locked_key: None,
            kind: Kind::Stage,
            label: "python".to_owned(),
            image: "ds".to_owned(),
            inputs: serde_json::Value::Null,
            disk: unknown(),
            memory: Some(Memory { key, facts, file: unknown() }),
            access: unknown(),
            made: jiff::Timestamp::now(),
            notes: serde_json::to_value(notes()).unwrap(),
        };
        self.store.publish(draft, checkpoint).unwrap()
    }

    /// What the machine would have been started from, and why it was not.
    async fn open(&self, checkpoint: &Checkpoint) -> (Option<(PathBuf, Vec<u8>, u64)>, BuildError) {
        let (builder, plan) = (Looking::default(), serde_json::from_str(PLAN).unwrap());
        let mut listing = Listing::default();
        listing.checkpoints.push(checkpoint.clone());
        let place = (&listing, checkpoint);
        let opened = open_checkpoint((&builder, &plan), &self.store, place, Some(&self.fit), &self.run).await;
        (builder.seen.into_inner().unwrap(), opened.err().unwrap())
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.0.lock().unwrap())
    }

    fn work(&self) -> usize {
        fs::read_dir(&self.run.work).unwrap().count()
    }
}

#[tokio::test]
async fn a_compressed_memory_is_unpacked_for_the_machine() {
    let place = Place::new();
    let checkpoint = place.publish();
    let (plain, error) = place.open(&checkpoint).await;
    assert_eq!(error.to_string(), "this one starts nothing");
    let (path, content, _) = plain.unwrap();
    assert_eq!(path, place.store.folder_of("id").join(MEMORY));
    assert_eq!(place.told(), [""; 0]);

    // The checkpoint is as it was known before it was compressed.
    place.store.compress_memory("id").unwrap();
    let (unpacked, error) = place.open(&checkpoint).await;
    assert_eq!(error.to_string(), "this one starts nothing");
    let (path, again, allocated) = unpacked.unwrap();
    assert!(path.starts_with(&place.run.work), "{}", path.display());
    assert!(again == content && allocated < 1 << 20, "{allocated}");
    let told = place.told();
    assert!(told.len() == 1 && told[0].starts_with("the memory saved after `python` was compressed: unpacked in"));
    // The store's own stays compressed, and nothing is left beside it.
    assert!(place.store.is_compressed("id"));
    assert_eq!(place.work(), 0);
}

#[tokio::test]
async fn a_compressed_memory_that_is_damaged_is_dropped() {
    let place = Place::new();
    let checkpoint = place.publish();
    place.store.compress_memory("id").unwrap();
    let packed = place.store.folder_of("id").join("memory.zst");
    fs::set_permissions(&packed, fs::Permissions::from_mode(0o600)).unwrap();
    let file = File::options().write(true).open(&packed).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let (seen, error) = place.open(&checkpoint).await;
    assert!(seen.is_none() && matches!(error, BuildError::Store(StoreError::Damaged(_))), "{error}");
    assert_eq!(place.work(), 0);
    assert!(after_failure(error, &checkpoint, &place.store, true, &place.run).unwrap());
    let listing = place.store.list().unwrap();
    assert_eq!((listing.checkpoints.len(), listing.damaged.len()), (1, 0));
    assert_eq!(listing.checkpoints[0].memory, None);
}

#[tokio::test]
async fn a_cancelled_build_unpacks_nothing() {
    let place = Place::new();
    let checkpoint = place.publish();
    place.store.compress_memory("id").unwrap();
    place.run.cancel.cancel();
    let (seen, error) = place.open(&checkpoint).await;
    assert!(seen.is_none() && error.is_cancelled(), "{error}");
    assert_eq!(place.work(), 0);
    assert!(place.store.is_compressed("id"));
}

/// Boots machines that do not come up.
#[derive(Default)]
struct Crashing {
    /// They are gone when they are looked at; else they only don't answer.
    are_gone: bool,
    boots: Mutex<u32>,
}

struct Crashed {
    is_gone: bool,
}

#[async_trait]
impl Builder for Crashing {
    async fn check_ready(&self, _: &Plan, _: &RunContext) -> Result<HostFacts, MachineError> {
        unreachable!("only booted")
    }

    async fn prepare_base(&self, _: &PlannedBase, _: &Network, _: &RunContext) -> Result<BaseImage, MachineError> {
        unreachable!("only booted")
    }

    async fn boot(&self, _: &BaseImage, _: &Plan, _: &RunContext) -> Result<Box<dyn Machine>, MachineError> {
        *self.boots.lock().unwrap() += 1;
        Ok(Box::new(Crashed { is_gone: self.are_gone }))
    }

    async fn reclaim(&self, _: &Resource) -> Result<(), MachineError> {
        Ok(())
    }
}

#[async_trait]
impl Machine for Crashed {
    async fn connect(&self) -> Result<Box<dyn Session>, MachineError> {
        Err(MachineError::Machine {
            what: "the machine did not come up".to_owned(),
            hint: None,
            console: String::new(),
        })
    }

    fn console_tail(&self) -> String {
        String::new()
    }

    async fn ssh_command(&self) -> Result<String, MachineError> {
        unreachable!("it never runs")
    }

    async fn trouble(&self) -> Option<String> {
        self.is_gone.then(|| "QEMU died".to_owned())
    }

    async fn wait_for_power_off(&mut self) -> Result<(), MachineError> {
        unreachable!("it never runs")
    }

    async fn write_image(&mut self, _: &str, _: &std::path::Path) -> Result<dsimg_machine::Written, MachineError> {
        unreachable!("it never runs")
    }

    async fn stop(self: Box<Self>) -> Result<(), MachineError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_machine_that_is_gone_at_its_boot_is_tried_once_more() {
    for (are_gone, boots) in [(true, 2), (false, 1)] {
        let place = Place::new();
        let builder = Crashing { are_gone, ..Crashing::default() };
        let base = BaseImage {
            path: PathBuf::new(),
            id: None,
            sha256: Digest::of_bytes(b"base"),
            description: String::new(),
            virtual_size: 0,
            user: "root".to_owned(),
        };
        let plan = serde_json::from_str(PLAN).unwrap();
        let error = super::boot((&builder, &plan), &base, &place.run).await.err().unwrap();
        assert_eq!(error.to_string(), "the machine did not come up");
        assert_eq!(*builder.boots.lock().unwrap(), boots);
        assert_eq!(place.told().len() + 1, usize::try_from(boots).unwrap());
    }
}
