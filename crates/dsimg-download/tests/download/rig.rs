//! What every test needs: a cache, somebody to report to, a content and its digest.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dsimg_download::{Access, Download, Expected, fetch};
use dsimg_machine::{Event, Ledger, MachineError, Reporter, RunContext};
use dsimg_template::template::Location;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<Event>>);

impl Reporter for Heard {
    fn report(&self, _: &str, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

pub(crate) struct Rig {
    pub(crate) cache: tempfile::TempDir,
    pub(crate) run: RunContext,
    heard: Arc<Heard>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let cache = tempfile::tempdir().unwrap();
        let heard = Arc::new(Heard::default());
        let run = RunContext {
            build_id: "test".to_owned(),
            builder: "test".to_owned(),
            cache: cache.path().to_owned(),
            work: cache.path().join("work"),
            ledger: Arc::new(Ledger::open(&cache.path().join("ledger"), "test").unwrap()),
            reporter: Arc::clone(&heard) as Arc<dyn Reporter>,
            cancel: CancellationToken::new(),
            hurry: CancellationToken::new(),
        };
        Self { cache, run, heard }
    }

    pub(crate) async fn fetch(&self, url: &str, content: &[u8]) -> Result<PathBuf, MachineError> {
        self.fetch_with(url, content, Access::default()).await
    }

    pub(crate) async fn fetch_with(&self, url: &str, content: &[u8], access: Access) -> Result<PathBuf, MachineError> {
        let request = Download { location: Location::Url(url.to_owned()), expected: sha256(content), access };
        fetch(&request, self.cache.path(), &self.run).await
    }

    /// Of everything said, the texts.
    pub(crate) fn said(&self) -> String {
        let events = self.heard.0.lock().unwrap();
        let texts = events.iter().filter_map(|event| match event {
            Event::Message { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.heard.0.lock().unwrap().clone()
    }

    /// Names in the folder of downloads, sorted.
    pub(crate) fn downloads(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.cache.path().join("downloads")) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Puts the beginning of a download there, as a run that was killed leaves it.
    pub(crate) fn leave_partial(&self, content: &[u8], beginning: &[u8]) {
        let folder = self.cache.path().join("downloads");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.partial", cache_name(content))), beginning).unwrap();
    }
}

pub(crate) fn sha256(content: &[u8]) -> Expected {
    let digest = Sha256::digest(content);
    Expected::Sha256(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) fn cache_name(content: &[u8]) -> String {
    format!("sha256-{}", sha256(content).hex())
}

/// Bytes that differ everywhere.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

/// What a person reads: the text and the hint.
pub(crate) fn told(error: &MachineError) -> String {
    format!("{error}\nhint: {}", error.hint().unwrap_or("none"))
}
