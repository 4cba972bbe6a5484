//! An HTTP/1.1 server that is told what to do with each request.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Counts from 0.
    pub(crate) number: usize,
    pub(crate) method: String,
    /// As on the request line: a path, or what a proxy is asked for.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    /// The start of `Range: bytes=N-`.
    pub(crate) fn range_start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Says this length instead of the body's own.
    pub(crate) claimed: Option<usize>,
    /// Sends no length at all; the end of the connection is the end of the body.
    pub(crate) endless: bool,
    /// After the body: wait for so long, then hang up.
    pub(crate) stall: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: &[u8]) -> Self {
        let (headers, stall) = (Vec::new(), Duration::ZERO);
        Self { status, headers, body: body.to_vec(), claimed: None, endless: false, stall }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Hangs up after the first `length` bytes, having promised all.
    pub(crate) fn cut_at(mut self, length: usize) -> Self {
        self.claimed = Some(self.body.len());
        self.body.truncate(length);
        self
    }

    pub(crate) fn stalling(mut self, time: Duration) -> Self {
        self.stall = time;
        self
    }

    /// What a good server says to a request with or without a range.
    pub(crate) fn good(request: &Request, content: &[u8], etag: &str) -> Self {
        let etag = format!("\"{etag}\"");
        let unchanged = request.headers.get("if-range").is_none_or(|known| *known == etag);
        match request.range_start().filter(|_| unchanged) {
            Some(start) if start >= content.len() => {
                Self::new(416, b"").header("Content-Range", format!("bytes */{}", content.len()))
            }
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
                Self::new(206, &content[start..]).header("Content-Range", range).header("ETag", etag)
            }
            None => Self::new(200, content).header("ETag", etag),
        }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (heard, answer) = (Arc::clone(&requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, answer) = (Arc::clone(&heard), Arc::clone(&answer));
                tokio::spawn(async move { serve(stream, &heard, &*answer).await });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request, one answer, and goodbye. `None` when the client went away.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    heard: &Mutex<Vec<Request>>,
    answer: &(impl Fn(&Request) -> Reply + ?Sized),
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut request = read_request(&mut stream).await?;
    {
        let mut heard = heard.lock().unwrap();
        request.number = heard.len();
        heard.push(request.clone());
    }
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.endless {
        head.push_str(&format!("Content-Length: {}\r\n", reply.claimed.unwrap_or(reply.body.len())));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    stream.write_all(&reply.body).await.ok()?;
    stream.flush().await.ok()?;
    tokio::time::sleep(reply.stall).await;
    stream.shutdown().await.ok()
}

pub(crate) async fn read_request(stream: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Request> {
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
    let (method, target) = (words.next()?, words.next()?);
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some(Request { number: 0, method, target, headers })
}
