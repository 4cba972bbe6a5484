//! One request for the whole or the rest of a file.

use std::time::{Duration, Instant};

use dsimg_machine::{Event, RunContext};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};

use crate::digest::Expected;
use crate::failure::{self, Failure};
use crate::partial::{Origin, Partial};
use crate::writer::{Content, Writer};

/// What every try of one download works with.
pub(crate) struct Source<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: &'a str,
    pub(crate) expected: &'a Expected,
    pub(crate) partial: &'a Partial,
    pub(crate) meter: Meter<'a>,
}

/// What the server is about to send.
enum Answer {
    Whole {
        response: Response,
        total: Option<u64>,
    },
    Rest {
        response: Response,
        total: Option<u64>,
    },
    /// All of it is here already.
    Nothing,
}

impl Source<'_> {
    /// Goes on behind `content`, or from the start where the server can't. `content` stays what the file holds.
    pub(crate) async fn attempt(&self, content: &mut Content) -> Result<(), Failure> {
        let (response, total) = match self.ask(content).await? {
            Answer::Nothing => return Ok(()),
            Answer::Whole { response, total } => {
                *content = Content::empty(self.expected);
                self.partial.set_origin(&origin_of(self.url, response.headers(), total)).await?;
                (response, total)
            }
            Answer::Rest { response, total } => {
                content.pieced = true;
                (response, total)
            }
        };
        if let Some(total) = total {
            self.partial.check_room(total.saturating_sub(content.length))?;
        }
        self.receive(response, total, content).await
    }

    async fn ask(&self, content: &Content) -> Result<Answer, Failure> {
        if content.length == 0 {
            return self.ask_whole().await;
        }
        let origin = self.partial.origin().await;
        let same_place = origin.url == self.url;
        let mut request = self.client.get(self.url).header(ACCEPT_ENCODING, "identity");
        request = request.header(RANGE, format!("bytes={}-", content.length));
        if let Some(known) = origin.etag.as_ref().or(origin.last_modified.as_ref()).filter(|_| same_place) {
            request = request.header(IF_RANGE, known);
        }
        let response = request.send().await.map_err(|error| failure::of_error(self.url, &error))?;
        let range = ContentRange::of(&response);
        match response.status() {
            StatusCode::PARTIAL_CONTENT => match range {
                Some(range)
                    if range.start == Some(content.length) && !(same_place && range.differs(&origin, &response)) =>
                {
                    Ok(Answer::Rest { response, total: range.total })
                }
                _ => self.ask_whole().await,
            },
            StatusCode::RANGE_NOT_SATISFIABLE if range.and_then(|range| range.total) == Some(content.length) => {
                Ok(Answer::Nothing)
            }
            StatusCode::RANGE_NOT_SATISFIABLE => self.ask_whole().await,
            status if status.is_success() => Ok(Answer::Whole { total: response.content_length(), response }),
            _ => Err(failure::of_status(self.url, &response)),
        }
    }

    async fn ask_whole(&self) -> Result<Answer, Failure> {
        let request = self.client.get(self.url).header(ACCEPT_ENCODING, "identity");
        let response = request.send().await.map_err(|error| failure::of_error(self.url, &error))?;
        if response.status() != StatusCode::OK {
            return Err(failure::of_status(self.url, &response));
        }
        Ok(Answer::Whole { total: response.content_length(), response })
    }

    async fn receive(&self, mut response: Response, total: Option<u64>, content: &mut Content) -> Result<(), Failure> {
        let writer = Writer::start(self.partial.second_handle()?, content.clone());
        let mut received = content.length;
        self.meter.show(received, total);
        let outcome = loop {
            match response.chunk().await {
                Ok(None) => break Ok(()),
                Ok(Some(chunk)) => {
                    received += chunk.len() as u64;
                    self.meter.show(received, total);
                    if !writer.write(chunk.to_vec()).await {
                        break Ok(());
                    }
                }
                Err(error) => break Err(broken(self.url, &error, received, total)),
            }
        };
        *content = writer.finish().await.map_err(|source| {
            Failure::Final(dsimg_machine::MachineError::file("cannot write", self.partial.path(), source))
        })?;
        match total {
            Some(total) if outcome.is_ok() && content.length != total => {
                Err(Failure::passing(format!("it ended after {} of {total} bytes", content.length)))
            }
            _ => outcome,
        }
    }
}

fn broken(url: &str, error: &reqwest::Error, received: u64, total: Option<u64>) -> Failure {
    let place = match total {
        Some(total) => format!("after {received} of {total} bytes"),
        None => format!("after {received} bytes"),
    };
    match failure::of_error(url, error) {
        Failure::Passing { why, wait } => Failure::Passing { why: format!("broken off {place}: {why}"), wait },
        final_one @ Failure::Final(_) => final_one,
    }
}

fn origin_of(url: &str, headers: &HeaderMap, total: Option<u64>) -> Origin {
    Origin {
        url: url.to_owned(),
        etag: strong_etag(headers),
        last_modified: text(headers, &LAST_MODIFIED).map(str::to_owned),
        total,
    }
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    text(headers, &ETAG).filter(|etag| !etag.starts_with("W/")).map(str::to_owned)
}

fn text<'h>(headers: &'h HeaderMap, name: &reqwest::header::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes 100-199/200`, `bytes */200`, with `*` for an unknown total.
#[derive(Debug, PartialEq)]
struct ContentRange {
    start: Option<u64>,
    total: Option<u64>,
}

impl ContentRange {
    fn of(response: &Response) -> Option<Self> {
        Self::parse(text(response.headers(), &CONTENT_RANGE)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
        Some(Self { start, total: total.trim().parse().ok() })
    }

    /// Another file than the one whose beginning is here, from a server that does not look at `If-Range`.
    fn differs(&self, origin: &Origin, response: &Response) -> bool {
        let known_and_not = |known: &Option<String>, now: Option<String>| match (known, now) {
            (Some(known), Some(now)) => *known != now,
            _ => false,
        };
        let length_changed = matches!((origin.total, self.total), (Some(known), Some(now)) if known != now);
        length_changed || known_and_not(&origin.etag, strong_etag(response.headers()))
    }
}

/// Tells how far a download is, ten times a second at most, and that it is over when dropped.
pub(crate) struct Meter<'a> {
    run: &'a RunContext,
    what: String,
    last: std::sync::Mutex<Option<Instant>>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(what: &str, run: &'a RunContext) -> Self {
        Self { run, what: what.to_owned(), last: std::sync::Mutex::new(None) }
    }

    fn show(&self, done: u64, total: Option<u64>) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= Duration::from_millis(100)) || Some(done) == total;
        if due {
            *last = Some(Instant::now());
            self.run.report(&Event::Progress { what: self.what.clone(), done, total });
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        let began = self.last.get_mut().is_ok_and(|last| last.is_some());
        if began {
            self.run.report(&Event::ProgressEnded { what: self.what.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        let range = |start, total| Some(ContentRange { start, total });
        assert_eq!(ContentRange::parse("bytes 100-199/200"), range(Some(100), Some(200)));
        assert_eq!(ContentRange::parse("bytes 100-199/*"), range(Some(100), None));
        assert_eq!(ContentRange::parse("bytes */200"), range(None, Some(200)));
        assert_eq!(ContentRange::parse("lines 1-2/3"), None);
    }
}
