//! An HTTP server with a tree of files that can move on, and that can be told to misbehave.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dsimg_plan::Digest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

/// What goes wrong, once for each that is queued for a path.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Status(u16),
    /// Hangs up after so many bytes of the body, having promised all.
    CutAt(usize),
    /// Other bytes of the same length.
    Wrong,
    /// Waits before the body.
    Slow(Duration),
    /// No length is told: the end of the connection is the end.
    NoLength,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) types: BTreeMap<String, &'static str>,
    /// Seconds since 1970.
    pub(crate) modified: BTreeMap<String, i64>,
    faults: BTreeMap<String, Vec<Fault>>,
    asked: Vec<Asked>,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state, serving }
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.with(|state| state.files.insert(path.to_owned(), bytes.into()));
    }

    pub(crate) fn fault(&self, path: &str, fault: Fault) {
        self.with(|state| state.faults.entry(path.to_owned()).or_default().push(fault));
    }

    /// Requests since the last time, as `GET /path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.with(|state| std::mem::take(&mut state.asked));
        asked.into_iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.with(|state| std::mem::take(&mut state.asked))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Nobody answers any more.
    pub(crate) fn end(&self) {
        self.serving.abort();
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let asked = read(&mut stream).await?;
    let (content, fault, kind, modified) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        let path = asked.path.split('?').next().unwrap_or_default().replace("%2B", "+");
        let fault = state.faults.get_mut(&path).filter(|faults| !faults.is_empty()).map(|faults| faults.remove(0));
        let modified = state.modified.get(&path).copied().unwrap_or(1_700_000_000);
        (state.files.get(&path).cloned(), fault, state.types.get(&path).copied(), modified)
    };
    let answer = answer(&asked, content, fault.as_ref(), kind, modified);
    if let Some(Fault::Slow(time)) = fault {
        tokio::time::sleep(time).await;
    }
    stream.write_all(answer.head.as_bytes()).await.ok()?;
    if asked.method != "HEAD" {
        stream.write_all(&answer.body).await.ok()?;
    }
    stream.shutdown().await.ok()
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

fn answer(asked: &Asked, content: Option<Vec<u8>>, fault: Option<&Fault>, kind: Option<&str>, modified: i64) -> Answer {
    let plain = |status: u16| Answer {
        head: format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        body: Vec::new(),
    };
    if let Some(Fault::Status(status)) = fault {
        return plain(*status);
    }
    let Some(mut body) = content else { return plain(404) };
    let etag = format!("\"{}\"", Digest::of_bytes(&body).short());
    let time = jiff::Timestamp::from_second(modified).unwrap();
    let time = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap();
    if asked.headers.get("if-none-match") == Some(&etag) {
        return plain(304);
    }
    if matches!(fault, Some(Fault::Wrong)) {
        body.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let total = body.len();
    let unchanged = asked.headers.get("if-range").is_none_or(|mark| *mark == etag);
    let range = asked.headers.get("range").filter(|_| unchanged).and_then(|range| range.strip_prefix("bytes="));
    let (status, range) = match range.and_then(|range| range.split_once('-')) {
        Some((start, end)) => {
            let start: usize = start.parse().unwrap();
            let end = end.parse::<usize>().map_or(total, |end| end + 1);
            body = body[start..end].to_vec();
            (206, format!("Content-Range: bytes {start}-{}/{total}\r\n", end - 1))
        }
        None => (200, String::new()),
    };
    let length = match fault {
        Some(Fault::NoLength) => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    if let Some(Fault::CutAt(length)) = fault {
        body.truncate(*length);
    }
    let kind = kind.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status} X\r\n{length}{range}{kind}ETag: {etag}\r\nLast-Modified: {time}\r\nConnection: close\r\n\r\n"
    );
    Answer { head, body }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.take(65_536).read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some(Asked { method, path, headers })
}
