//! The server: a thread of its own, alive as long as its [`Mirror`].

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use dsimg_download::Access;
use dsimg_store::Store;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::address::Rewrites;
use crate::apt::Lists;
use crate::desk::Desk;
use crate::error::MirrorError;
use crate::fetch::Fetcher;
use crate::pins::{Pinned, Pins};
use crate::record::{Fetched, FetchedKind, Records};
use crate::upstream::Upstream;

/// How a mirror works.
#[derive(Debug, Clone)]
pub struct MirrorSettings {
    pub store: Store,
    pub access: Access,
    /// A prefix of addresses and what takes its place when they are asked for outside, such as
    /// `http://deb.debian.org/debian` and `https://user:password@mirror.example.org/debian`.
    pub rewrites: Vec<(String, String)>,
    /// What is bound to a lock.
    pub pins: Option<Pins>,
    /// Nothing is asked for outside.
    pub offline: bool,
    /// Packages that were published later than so long ago are not given, unless the lock has them.
    pub min_age: Option<Duration>,
    /// What earlier stages were given, when the machine was taken up after them: the lists that it still has say what
    /// the packages must be.
    pub earlier: Vec<Fetched>,
}

impl MirrorSettings {
    /// Everything from outside, as it is there.
    #[must_use]
    pub fn open(store: Store, access: Access) -> Self {
        Self { store, access, rewrites: Vec::new(), pins: None, offline: false, min_age: None, earlier: Vec::new() }
    }
}

/// A running mirror. Dropped, it stops at once.
#[derive(Debug)]
pub struct Mirror {
    address: SocketAddr,
    records: Arc<Records>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// # Errors
    /// A setting can't be used, a part of the lock is not in the store, or no port is free.
    pub async fn start(settings: MirrorSettings) -> Result<Self, MirrorError> {
        let (records, stop) = (Arc::new(Records::new()), CancellationToken::new());
        let (told, started) = oneshot::channel();
        let (its_records, its_stop) = (Arc::clone(&records), stop.clone());
        let thread = std::thread::Builder::new().name("mirror".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(source) => {
                    let _nobody = told.send(Err(MirrorError::Start { source }));
                    return;
                }
            };
            runtime.block_on(async {
                match open(settings, its_records).await {
                    Ok((listener, desk)) => {
                        let _nobody = told.send(Ok(desk.port));
                        tokio::select! {
                            () = its_stop.cancelled() => {}
                            () = serve(listener, desk) => {}
                        }
                    }
                    Err(error) => {
                        let _nobody = told.send(Err(error));
                    }
                }
            });
            // What is being written is not waited for: it would only be left over, and is swept later.
            runtime.shutdown_background();
        });
        let thread = thread.map_err(|source| MirrorError::Start { source })?;
        let mirror = |port| Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            records,
            stop: stop.clone(),
            thread: Some(thread),
        };
        match started.await {
            Ok(Ok(port)) => Ok(mirror(port)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(MirrorError::Died),
        }
    }

    /// Where it listens: on this host alone.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is fetched from now on is of this stage.
    pub fn begin_stage(&self, label: &str) {
        self.records.begin_stage(label);
    }

    /// What was fetched since the last time, all of it in the store: waits for what is on its way.
    ///
    /// # Errors
    /// Something was given to the machine and then could not be stored.
    pub async fn take_record(&self) -> Result<Vec<Fetched>, MirrorError> {
        let (fetched, lost) = self.records.take().await;
        match lost.into_iter().next() {
            None => Ok(fetched),
            Some(why) => Err(MirrorError::Lost { why }),
        }
    }

    /// What was asked for and not in the lock, and for each a sentence for people.
    #[must_use]
    pub fn misses(&self) -> BTreeMap<String, String> {
        self.records.misses()
    }

    /// # Errors
    /// It had died before.
    pub async fn stop(mut self) -> Result<(), MirrorError> {
        self.stop.cancel();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
        if joined.unwrap_or(false) { Ok(()) } else { Err(MirrorError::Died) }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn open(settings: MirrorSettings, records: Arc<Records>) -> Result<(TcpListener, Arc<Desk>), MirrorError> {
    let rewrites = Rewrites::new(&settings.rewrites).map_err(|address| MirrorError::NoAddress { address })?;
    let door = settings.access.door().await?;
    let fetcher = Fetcher::new(Upstream::new(door, rewrites, settings.offline), settings.store);
    let pinned = match settings.pins {
        Some(pins) => Some(Pinned::read(pins, &fetcher).await?),
        None => None,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|source| MirrorError::Start { source })?;
    let port = listener.local_addr().map_err(|source| MirrorError::Start { source })?.port();
    let desk = Arc::new(Desk {
        fetcher,
        lists: Lists::default(),
        python: Mutex::new(HashMap::new()),
        records,
        pinned,
        partly: Mutex::new(HashMap::new()),
        min_age: settings.min_age,
        port,
    });
    for fetched in settings.earlier.iter().filter(|fetched| fetched.kind == FetchedKind::AptIndex) {
        desk.saw_earlier(fetched);
    }
    Ok((listener, desk))
}

async fn serve(listener: TcpListener, desk: Arc<Desk>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(talk(stream, Arc::clone(&desk)));
            }
            // Too many open files, as a rule: some are closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn talk(stream: TcpStream, desk: Arc<Desk>) {
    // Answers to a guest that waits for each are short; their ends must not wait for more.
    let _only_slower = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).half_close(true).max_buf_size(1 << 19).pipeline_flush(true);
    // A guest that goes away, and an answer that has to be broken off, are no errors here.
    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
}
