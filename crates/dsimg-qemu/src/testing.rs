//! For tests: a run with folders of its own, and programs that are scripts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use dsimg_machine::{Event, Ledger, Level, Reporter, RunContext};
use dsimg_template::template::{Accelerator, Compression, DiskFormat, Firmware, QemuTable};
use dsimg_template::units::{ByteSize, Timeout};

pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// What was reported.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Reporter for Recorder {
    fn report(&self, _: &str, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A run whose folders go away with it.
pub(crate) struct TestRun {
    pub(crate) context: RunContext,
    recorder: Arc<Recorder>,
    folder: tempfile::TempDir,
}

impl TestRun {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cache, work) = (folder.path().join("cache"), folder.path().join("work"));
        std::fs::create_dir(&cache).unwrap();
        std::fs::create_dir(&work).unwrap();
        let recorder = Arc::new(Recorder::default());
        let context = RunContext {
            build_id: "test".to_owned(),
            builder: "kvm".to_owned(),
            ledger: Arc::new(Ledger::open(&folder.path().join("ledger"), "test").unwrap()),
            cache,
            work,
            reporter: Arc::clone(&recorder) as Arc<dyn Reporter>,
            cancel: CancellationToken::new(),
            hurry: CancellationToken::new(),
        };
        Self { context, recorder, folder }
    }

    /// A program that bash runs.
    pub(crate) fn script(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("script");
        // Written by another process: were it open for writing here, another test's fork could keep it open, and
        // a file that is open for writing can't be executed.
        let mut writer = Command::new("sh");
        writer.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut writer = writer.spawn().unwrap();
        writer.stdin.take().unwrap().write_all(format!("#!/bin/bash\n{text}\n").as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        path
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.recorder.0.lock().unwrap().clone()
    }

    /// The texts of the messages, without those for the log file.
    pub(crate) fn messages(&self) -> Vec<String> {
        let message = |event: Event| match event {
            Event::Message { level, text } if level > Level::Debug => Some(text),
            _ => None,
        };
        self.events().into_iter().filter_map(message).collect()
    }
}

/// A small machine without KVM.
pub(crate) fn qemu_table() -> QemuTable {
    QemuTable {
        cpus: 2,
        memory: ByteSize(2 << 30),
        disk: ByteSize(6 << 30),
        firmware: Firmware::Bios,
        formats: vec![DiskFormat::Qcow2, DiskFormat::Vmdk, DiskFormat::Vhdx],
        compression: Compression::Zstd,
        accelerator: Accelerator::Tcg,
        ssh_user: None,
        boot_timeout: Timeout::from_minutes(5),
        qemu_args: Vec::new(),
    }
}
