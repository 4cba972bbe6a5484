//! Asking outside: through rewrites, with the logins that belong to a host.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use dsimg_download::{Answer, Door, Question, Trouble};

use crate::address::{Address, Login, Rewrites};
use crate::refusal::Refusal;

/// Tries in a row that brought nothing.
pub(crate) const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Upstream {
    door: Door,
    pub(crate) rewrites: Rewrites,
    pub(crate) offline: bool,
    credentials: Mutex<BTreeMap<String, Credentials>>,
}

/// What a host wants to see. Kept by host, so that an index's login never goes to where its files lie, if that is
/// another.
#[derive(Debug, Clone)]
enum Credentials {
    Login(Login),
    /// An `Authorization` header, as the guest's tool sent it.
    Header(String),
}

/// A try that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) refusal: Refusal,
    /// Another try may help.
    pub(crate) passing: bool,
    pub(crate) wait: Option<Duration>,
}

impl Upstream {
    pub(crate) fn new(door: Door, rewrites: Rewrites, offline: bool) -> Self {
        let credentials = rewrites.logins().map(|(host, login)| (host, Credentials::Login(login))).collect();
        Self { door, rewrites, offline, credentials: Mutex::new(credentials) }
    }

    /// A login that came with an address.
    pub(crate) fn learn_login(&self, host: &str, login: Login) {
        self.learn(host, Credentials::Login(login));
    }

    /// An `Authorization` header that came with a request.
    pub(crate) fn learn_header(&self, host: &str, header: String) {
        self.learn(host, Credentials::Header(header));
    }

    fn learn(&self, host: &str, credentials: Credentials) {
        let mut known = self.credentials.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(host.to_owned(), credentials);
    }

    /// The address that is asked in place of this one, where a mirror stands for it.
    pub(crate) fn mirror_of(&self, address: &Address) -> Option<String> {
        let place = self.rewrites.place_of(address).address;
        Some(place).filter(|place| place != address).map(|place| place.as_str().to_owned())
    }

    fn credentials(&self, host: &str) -> Option<Credentials> {
        self.credentials.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(host).cloned()
    }

    /// One request. An answer has a status that is good for something: 200, 206, 304 or 416.
    pub(crate) async fn ask(
        &self,
        address: &Address,
        mut headers: Vec<(&'static str, String)>,
        head: bool,
    ) -> Result<Answer, Failure> {
        let place = self.rewrites.place_of(address);
        let host = place.address.host();
        let login = match (place.login, self.credentials(host)) {
            (Some(login), _) | (None, Some(Credentials::Login(login))) => Some(login),
            (None, Some(Credentials::Header(header))) => {
                headers.push(("authorization", header));
                None
            }
            (None, None) => None,
        };
        let url = place.address.to_ask(login.as_deref());
        let answer = self.door.ask(&Question { url: &url, headers, head }).await;
        let answer = answer.map_err(|trouble| Failure::of_trouble(&place.address, &trouble))?;
        match answer.status() {
            200 | 206 | 304 | 416 => Ok(answer),
            _ => Err(Failure::of_status(&place.address, &answer)),
        }
    }

    /// The head of a file, with tries.
    pub(crate) async fn head(&self, address: &Address) -> Result<Answer, Refusal> {
        self.patiently(|| self.ask(address, vec![("accept-encoding", "identity".to_owned())], true)).await
    }

    /// Tries again what may pass.
    pub(crate) async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Refusal> {
        let mut failed = 0;
        loop {
            match attempt().await {
                Ok(good) => return Ok(good),
                Err(failure) => {
                    failed += 1;
                    failure.or_wait(failed).await?;
                }
            }
        }
    }
}

impl Failure {
    pub(crate) fn lasting(refusal: Refusal) -> Self {
        Self { refusal, passing: false, wait: None }
    }

    pub(crate) fn of_trouble(at: &Address, trouble: &Trouble) -> Self {
        let status = if trouble.why.contains("nothing more came") || trouble.why.contains("no connection within") {
            504
        } else {
            502
        };
        let mut refusal = Refusal::new(status, format!("{}: {}", at.host(), trouble.why));
        refusal.hint.clone_from(&trouble.hint);
        Self { refusal, passing: trouble.passing, wait: None }
    }

    fn of_status(at: &Address, answer: &Answer) -> Self {
        let status = answer.status();
        let told = format!("{} answers {status} {} for {at}", at.host(), answer.reason());
        let refusal = match status {
            404 | 410 => Refusal::not_found(told),
            401 | 403 => Refusal::new(403, told).hint("does it want a login? An address in the template may have one"),
            407 => {
                Refusal::new(502, told).hint("the proxy wants a login: `proxy = \"http://NAME:PASSWORD@HOST:PORT\"`")
            }
            _ => Refusal::new(502, told),
        };
        let passing = status >= 500 || matches!(status, 408 | 425 | 429);
        Self { refusal, passing, wait: answer.retry_after() }
    }

    /// Waits before the next try; the refusal when there is none.
    pub(crate) async fn or_wait(self, failed: u32) -> Result<(), Refusal> {
        if !self.passing {
            return Err(self.refusal);
        }
        if failed >= TRIES {
            let Refusal { status, reason, hint } = self.refusal;
            let hint = hint.unwrap_or_else(|| "check the network and `[network]` of the template, or try later".into());
            return Err(Refusal::new(status, format!("{reason} ({failed} tries)")).hint(hint));
        }
        tokio::time::sleep(self.wait.unwrap_or(PAUSE * failed)).await;
        Ok(())
    }
}
