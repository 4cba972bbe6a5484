//! Single requests, whose answers are read as they come.

use std::time::Duration;

use bytes::Bytes;
use dsimg_machine::MachineError;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response};

use crate::access::Access;
use crate::failure::{self, Failure};

/// The way outside, open for many requests; connections are used again. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    plain: Client,
    /// Or why there is none.
    tls: Result<Client, (String, Option<String>)>,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub struct Question<'a> {
    /// With a login, where one is needed: `https://user:password@host/path`.
    pub url: &'a str,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Ask for the head alone.
    pub head: bool,
}

/// What the server says, to be read piece by piece. Any status is an answer.
#[derive(Debug)]
pub struct Answer {
    response: Response,
    url: String,
}

/// No answer, or none to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Why, in words that complete "`URL`: …".
    pub why: String,
    pub hint: Option<String>,
    /// Another try may help.
    pub passing: bool,
}

impl Access {
    /// # Errors
    /// The proxy or the certificates that were named can't be used. A host that trusts nobody is no error before
    /// something is asked for by https.
    pub async fn door(&self) -> Result<Door, MachineError> {
        let tls = self.client("https:").await;
        let tls = tls.map_err(|error| (error.to_string(), error.hint().map(str::to_owned)));
        Ok(Door { plain: self.client("http:").await?, tls })
    }
}

impl Door {
    /// # Errors
    /// Nobody answers.
    pub async fn ask(&self, question: &Question<'_>) -> Result<Answer, Trouble> {
        let client = match &self.tls {
            _ if !question.url.starts_with("https:") => &self.plain,
            Ok(client) => client,
            Err((why, hint)) => return Err(Trouble { why: why.clone(), hint: hint.clone(), passing: false }),
        };
        let method = if question.head { Method::HEAD } else { Method::GET };
        let mut request = client.request(method, question.url);
        for (name, value) in &question.headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.map_err(|error| Trouble::of(question.url, &error))?;
        Ok(Answer { response, url: question.url.to_owned() })
    }
}

impl Answer {
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The usual words for the status, such as `Not Found`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.response.status().canonical_reason().unwrap_or_default()
    }

    /// A header's value; `None` also for one that is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers: &HeaderMap = self.response.headers();
        headers.get(name)?.to_str().ok()
    }

    /// Bytes that are still to come, where the server says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Where it was found, after redirects; a login is left out.
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = self.response.url().clone();
        // Only an address that can't have a login refuses to lose it.
        let _has_none = url.set_username("").and_then(|()| url.set_password(None));
        url.to_string()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// It broke off, or nothing came for the time that [`Access::stall_limit`] gives.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Trouble> {
        self.response.chunk().await.map_err(|error| Trouble::of(&self.url, &error))
    }

    /// How long the server asks to wait before the next try, at most a minute.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        failure::retry_after(&self.response)
    }
}

impl Trouble {
    fn of(url: &str, error: &reqwest::Error) -> Self {
        match failure::of_error(url, error) {
            Failure::Passing { why, .. } => Self { why, hint: None, passing: true },
            Failure::Final(error) => {
                let shown = format!("`{}`: ", failure::without_password(url));
                let told = error.to_string();
                let why = told.strip_prefix(&shown).unwrap_or(&told).to_owned();
                Self { why, hint: error.hint().map(str::to_owned), passing: false }
            }
        }
    }
}
