//! A host with a disk, a state folder and an account, and what `dsimg gc` will do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};

use aws_sdk_ec2::types::{Filter, Image, Snapshot};
use serde::{Deserialize, Serialize};

use dsimg_aws::{AwsPublisher, kept_resources};
use dsimg_machine::ledger::AWS_NAME_TAG;
use dsimg_machine::{
    Ami, Event, Ledger, LocalImage, MachineError, Publisher, Reporter, Resource, RunContext, WrittenParts,
};
use dsimg_plan::Digest;
use dsimg_template::template::aws::{AmiTable, AwsAccount, AwsAmiTable, Share};
use tokio_util::sync::CancellationToken;

use crate::ROLE;

pub(crate) const BLOCK: u64 = 512 * 1024;
pub(crate) const HOME: &str = "us-east-1";
pub(crate) const AWAY: &str = "eu-west-1";

/// One host; gone with all its files when dropped.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) table: AwsAmiTable,
    pub(crate) image: LocalImage,
    pub(crate) said: Arc<Said>,
    pub(crate) cancel: CancellationToken,
}

/// All events.
#[derive(Default)]
pub(crate) struct Said(Mutex<Vec<Event>>);

impl Reporter for Said {
    fn report(&self, _: &str, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Said {
    pub(crate) fn words(&self) -> String {
        let events = self.0.lock().unwrap();
        let words = events.iter().filter_map(|event| match event {
            Event::Message { text, .. } => Some(text.as_str()),
            _ => None,
        });
        words.collect::<Vec<_>>().join("\n")
    }
}

/// What a process that is to be killed is told.
#[derive(Serialize, Deserialize)]
struct Order {
    state: PathBuf,
    table: AwsAmiTable,
    disk: PathBuf,
    written: Option<WrittenParts>,
    version: String,
    sha256: Digest,
}

impl World {
    /// Blocks of the disk: `.` never written, `0` written zeros, letters data.
    pub(crate) fn new(blocks: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = LocalImage {
            name: "ds-hub".to_owned(),
            version: "1".to_owned(),
            summary: Some("for tests".to_owned()),
            disk: folder.path().join("disk"),
            sha256: Digest::of_bytes(b""),
            written: None,
        };
        let mut world = Self { folder, table: table(), image, said: Arc::default(), cancel: CancellationToken::new() };
        world.write(blocks);
        world
    }

    /// Another disk.
    pub(crate) fn write(&mut self, blocks: &str) {
        let size = blocks.len() as u64 * BLOCK;
        let file = std::fs::File::create(&self.image.disk).unwrap();
        file.set_len(size).unwrap();
        let mut parts = Vec::new();
        for (index, letter) in (0_u64..).zip(blocks.bytes()) {
            if letter != b'.' {
                parts.push((index * BLOCK, (index + 1) * BLOCK));
            }
            if letter != b'.' && letter != b'0' {
                file.write_all_at(&[letter; BLOCK as usize], index * BLOCK).unwrap();
            }
        }
        self.image.written = Some(WrittenParts::of(size, parts));
        self.image.sha256 = Digest::of_bytes(blocks.as_bytes());
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn publisher(&self) -> AwsPublisher {
        AwsPublisher::new(&self.table, self.state()).of_image(&self.image.name, &self.image.version)
    }

    pub(crate) fn run(&self) -> RunContext {
        run(&self.state(), Arc::clone(&self.said) as Arc<dyn Reporter>, self.cancel.clone())
    }

    pub(crate) async fn publish(&self) -> Result<Vec<Ami>, MachineError> {
        self.publisher().publish(&self.image, &self.run()).await
    }

    pub(crate) async fn check_ready(&self) -> Result<(), MachineError> {
        self.publisher().check_ready(&self.run()).await
    }

    /// The same publish in a process of its own.
    pub(crate) fn publish_apart(&self) -> Child {
        let order = Order {
            state: self.state(),
            table: self.table.clone(),
            disk: self.image.disk.clone(),
            written: self.image.written.clone(),
            version: self.image.version.clone(),
            sha256: self.image.sha256.clone(),
        };
        let path = self.folder.path().join("order.json");
        std::fs::write(&path, serde_json::to_vec(&order).unwrap()).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .arg(path)
            .env(ROLE, "publish")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Acknowledged blocks in the journal of the only upload.
    pub(crate) fn journalled(&self) -> usize {
        let folder = self.state().join("aws/publishes");
        let Ok(mut entries) = std::fs::read_dir(folder) else { return 0 };
        let journal = entries.next().map(|entry| entry.unwrap().path().join("acknowledged"));
        let bytes = journal.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |facts| facts.len());
        usize::try_from(bytes / 40).unwrap()
    }

    /// Names of what the ledgers and what is kept say is there.
    pub(crate) fn on_record(&self) -> BTreeSet<String> {
        let ledgers = std::fs::read_dir(self.state().join("ledger")).into_iter().flatten();
        let mut open = kept_resources(&self.state()).unwrap();
        for ledger in ledgers {
            let text = std::fs::read_to_string(ledger.unwrap().path()).unwrap();
            let mut left: Vec<Resource> = Vec::new();
            for line in text.lines() {
                let line: BTreeMap<String, Resource> = serde_json::from_str(line).unwrap();
                match line.into_iter().next().unwrap() {
                    (made, resource) if made == "made" => left.push(resource),
                    (_, resource) => left.retain(|other| *other != resource),
                }
            }
            open.extend(left);
        }
        let name = |resource: Resource| match resource {
            Resource::Aws { name, .. } => Some(name),
            _ => None,
        };
        open.into_iter().filter_map(name).collect()
    }

    /// What `dsimg gc` does: removes all that has the temporary tag, in the regions that the ledgers and what is kept
    /// name. All of it must be on record there.
    pub(crate) async fn collect_garbage(&self) {
        let record = self.on_record();
        for region in [HOME, AWAY] {
            let ec2 = ec2(region).await;
            for image in tagged_images(region).await {
                assert!(record.contains(image.name().unwrap()), "{:?} is on no record: {record:?}", image.name());
                ec2.deregister_image().image_id(image.image_id().unwrap()).send().await.unwrap();
            }
            for snapshot in tagged_snapshots(region).await {
                let name = temporary_name(&snapshot);
                assert!(record.contains(&name), "{name} is on no record: {record:?}");
                // In use by an older AMI that was not deregistered yet.
                drop(ec2.delete_snapshot().snapshot_id(snapshot.snapshot_id().unwrap()).send().await);
            }
        }
    }
}

fn run(state: &std::path::Path, reporter: Arc<dyn Reporter>, cancel: CancellationToken) -> RunContext {
    let build_id = format!("test-{}", jiff::Timestamp::now().as_nanosecond());
    RunContext {
        ledger: Arc::new(Ledger::open(&state.join("ledger"), &build_id).unwrap()),
        build_id,
        builder: "aws".to_owned(),
        cache: state.join("cache"),
        work: state.join("work"),
        reporter,
        cancel,
        hurry: CancellationToken::new(),
    }
}

/// In a process of its own.
pub(crate) async fn publish_as_told() -> ExitCode {
    let path = std::env::args().nth(1).expect("an order");
    let order: Order = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let image = LocalImage {
        name: "ds-hub".to_owned(),
        version: order.version,
        summary: Some("for tests".to_owned()),
        disk: order.disk,
        sha256: order.sha256,
        written: order.written,
    };
    let run = run(&order.state, Arc::new(Said::default()), CancellationToken::new());
    let published = AwsPublisher::new(&order.table, &order.state).publish(&image, &run).await;
    ExitCode::from(u8::from(published.is_err()))
}

fn table() -> AwsAmiTable {
    AwsAmiTable {
        account: AwsAccount { region: HOME.to_owned(), profile: None },
        encrypted: None,
        kms_key: None,
        ami: AmiTable {
            name: None,
            description: None,
            copies: BTreeMap::new(),
            share: Share::default(),
            tags: BTreeMap::from([("Team".to_owned(), "data".to_owned())]),
            deprecate_after: None,
            deregistration_protection: false,
            boot_mode: None,
            require_imds_v2: true,
            tpm: false,
            replace: false,
            parameter: None,
        },
        tags: BTreeMap::from([("Cost".to_owned(), "42".to_owned())]),
    }
}

async fn config(region: &'static str) -> aws_config::SdkConfig {
    aws_config::defaults(aws_config::BehaviorVersion::latest()).region(region).load().await
}

pub(crate) async fn ec2(region: &'static str) -> aws_sdk_ec2::Client {
    aws_sdk_ec2::Client::new(&config(region).await)
}

pub(crate) async fn parameter(region: &'static str, name: &str) -> Option<String> {
    let ssm = aws_sdk_ssm::Client::new(&config(region).await);
    ssm.get_parameter().name(name).send().await.ok()?.parameter()?.value().map(ToOwned::to_owned)
}

/// A new key's alias and ARN.
pub(crate) async fn key_with_alias(region: &'static str) -> (String, String) {
    let kms = aws_sdk_kms::Client::new(&config(region).await);
    let key = kms.create_key().send().await.unwrap().key_metadata.unwrap();
    kms.create_alias().alias_name("alias/golden").target_key_id(&key.key_id).send().await.unwrap();
    ("alias/golden".to_owned(), key.arn.unwrap())
}

pub(crate) async fn images(region: &'static str) -> Vec<Image> {
    ec2(region).await.describe_images().owners("self").send().await.unwrap().images().to_vec()
}

pub(crate) async fn image(region: &'static str, id: &str) -> Image {
    images(region).await.into_iter().find(|image| image.image_id() == Some(id)).expect("the AMI is there")
}

pub(crate) async fn snapshot(region: &'static str, id: &str) -> Snapshot {
    let answer = ec2(region).await.describe_snapshots().snapshot_ids(id).send().await.unwrap();
    answer.snapshots()[0].clone()
}

async fn tagged_images(region: &'static str) -> Vec<Image> {
    let filter = Filter::builder().name("tag-key").values(AWS_NAME_TAG).build();
    ec2(region).await.describe_images().owners("self").filters(filter).send().await.unwrap().images().to_vec()
}

async fn tagged_snapshots(region: &'static str) -> Vec<Snapshot> {
    let filter = Filter::builder().name("tag-key").values(AWS_NAME_TAG).build();
    let call = ec2(region).await.describe_snapshots().owner_ids("self").filters(filter);
    call.send().await.unwrap().snapshots().to_vec()
}

fn temporary_name(snapshot: &Snapshot) -> String {
    let tag = snapshot.tags().iter().find(|tag| tag.key() == Some(AWS_NAME_TAG));
    tag.and_then(|tag| tag.value()).unwrap().to_owned()
}

pub(crate) fn tag<'a>(tags: &'a [aws_sdk_ec2::types::Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value())
}

/// The snapshot's blocks as letters, as [`World::new`] has them; `.` was never put, `?` is anything else.
pub(crate) async fn read_back(region: &'static str, snapshot: &str, blocks: usize) -> String {
    let ebs = aws_sdk_ebs::Client::new(&config(region).await);
    let listed = ebs.list_snapshot_blocks().snapshot_id(snapshot).send().await.unwrap();
    let mut letters = vec!['.'; blocks];
    for block in listed.blocks() {
        let (index, token) = (block.block_index().unwrap(), block.block_token().unwrap());
        let call = ebs.get_snapshot_block().snapshot_id(snapshot).block_index(index).block_token(token);
        let data = call.send().await.unwrap().block_data.collect().await.unwrap().into_bytes();
        let letter = if data.iter().all(|byte| *byte == data[0]) { char::from(data[0]) } else { '?' };
        letters[usize::try_from(index).unwrap()] = if letter == '\0' { '0' } else { letter };
    }
    letters.into_iter().collect()
}
