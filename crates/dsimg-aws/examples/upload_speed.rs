//! How fast a disk is uploaded, against a stand-in for AWS that keeps nothing and only checks sums: see
//! tests/bench/upload.sh, which runs the parts as processes of their own.
//!
//!     upload_speed hash DISK            what two threads hash of it with SHA-256, alone on the machine
//!     upload_speed serve [bodies]       the stand-in; prints its port. With `bodies` it hashes what it gets, too
//!     upload_speed publish DISK FOLDER [holes]
//!                                       publishes it to AWS_ENDPOINT_URL and prints speed, the most memory taken, and
//!                                       the snapshot. With `holes`, the file's holes were never written

#[path = "upload_speed/stub.rs"]
mod stub;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dsimg_aws::AwsPublisher;
use dsimg_machine::{Event, Ledger, LocalImage, Publisher, Reporter, RunContext, WrittenParts};
use dsimg_plan::Digest;
use dsimg_template::template::aws::{AmiTable, AwsAccount, AwsAmiTable, Share};
use rustix::fs::SeekFrom;
use sha2::Digest as _;
use tokio_util::sync::CancellationToken;

const BLOCK: usize = 512 * 1024;
const THREADS: usize = 2;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["hash", disk] => hash(Path::new(disk)),
        ["serve"] => stub::serve(false),
        ["serve", "bodies"] => stub::serve(true),
        ["publish", disk, folder] => publish(Path::new(disk), Path::new(folder), false),
        ["publish", disk, folder, "holes"] => publish(Path::new(disk), Path::new(folder), true),
        _ => eprintln!("usage: upload_speed hash DISK | serve [bodies] | publish DISK FOLDER [holes]"),
    }
}

/// Two threads read and hash, one block after another.
fn hash(disk: &Path) {
    let file = File::open(disk).expect("the disk");
    let bytes = file.metadata().expect("the disk").len();
    let blocks = bytes / BLOCK as u64;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let file = &file;
            scope.spawn(move || {
                let mut block = vec![0; BLOCK];
                for index in (thread..blocks).step_by(THREADS) {
                    file.read_exact_at(&mut block, index * BLOCK as u64).expect("a block");
                    std::hint::black_box(sha2::Sha256::digest(&block));
                }
            });
        }
    });
    tell("hashed", bytes, began.elapsed());
}

/// How long blocks were sent, without the control calls and the waits for AWS around that.
#[derive(Default)]
struct Watch(Mutex<(Option<Instant>, Duration)>);

impl Reporter for Watch {
    fn report(&self, _: &str, event: &Event) {
        let mut watch = self.0.lock().expect("a lock");
        match event {
            Event::Progress { what, .. } if what.starts_with("upload") => {
                watch.0.get_or_insert_with(Instant::now);
            }
            Event::ProgressEnded { what } if what.starts_with("upload") => {
                watch.1 = watch.0.map_or(watch.1, |began| began.elapsed());
            }
            _ => {}
        }
    }
}

fn publish(disk: &Path, folder: &Path, with_holes: bool) {
    let bytes = std::fs::metadata(disk).expect("the disk").len();
    let image = LocalImage {
        name: "speed".to_owned(),
        version: "1".to_owned(),
        summary: None,
        disk: disk.to_owned(),
        sha256: Digest::of_bytes(b"speed"),
        written: with_holes.then(|| written_parts(disk)),
    };
    let watch = Arc::new(Watch::default());
    let run = RunContext {
        build_id: "speed".to_owned(),
        builder: "aws".to_owned(),
        cache: folder.join("cache"),
        work: folder.join("work"),
        ledger: Arc::new(Ledger::open(&folder.join("ledger"), "speed").expect("a ledger")),
        reporter: Arc::clone(&watch) as Arc<dyn Reporter>,
        cancel: CancellationToken::new(),
        hurry: CancellationToken::new(),
    };
    let publisher = AwsPublisher::new(&table(), folder);
    // As dsimg does: one thread for all that waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let amis = runtime.block_on(publisher.publish(&image, &run)).expect("it is published");
    tell("sent", bytes, watch.0.lock().expect("a lock").1);
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("memory: unknown"));
    println!("{}", amis[0].snapshots[0]);
}

fn written_parts(disk: &Path) -> WrittenParts {
    let file = File::open(disk).expect("the disk");
    let size = file.metadata().expect("the disk").len();
    let mut parts = Vec::new();
    let mut at = 0;
    while let Ok(from) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(from)).expect("a hole, or the end");
        parts.push((from, at));
    }
    WrittenParts::of(size, parts)
}

fn tell(what: &str, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("{what} {} MiB in {seconds:.2} s: {:.0} MiB/s", bytes >> 20, (bytes >> 20) as f64 / seconds);
}

fn table() -> AwsAmiTable {
    AwsAmiTable {
        account: AwsAccount { region: "us-east-1".to_owned(), profile: None },
        encrypted: None,
        kms_key: None,
        ami: AmiTable {
            name: None,
            description: None,
            copies: BTreeMap::new(),
            share: Share::default(),
            tags: BTreeMap::new(),
            deprecate_after: None,
            deregistration_protection: false,
            boot_mode: None,
            require_imds_v2: true,
            tpm: false,
            replace: false,
            parameter: None,
        },
        tags: BTreeMap::new(),
    }
}
