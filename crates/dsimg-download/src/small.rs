//! What is small and read at once.

use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::Location;
use reqwest::Client;

use crate::access::Access;
use crate::failure::{self, Failure};
use crate::retry::Patience;

/// Where it is, and how it is reached.
#[derive(Debug, Clone)]
pub struct SmallRequest {
    pub location: Location,
    /// Media types that are welcome, as in an `Accept` header.
    pub accept: Option<&'static str>,
    pub access: Access,
}

/// What was found there.
#[derive(Debug, Clone, PartialEq)]
pub struct Small {
    pub bytes: Vec<u8>,
    /// As the server named it, without parameters; empty for a file.
    pub media_type: String,
    /// After redirects: what relative links start from. The path as it was for a file.
    pub url: String,
}

/// Reads a file or URL of at most `max` bytes; tries again after failures that may pass.
///
/// # Errors
/// It can't be had, or is larger.
pub async fn fetch_bytes(request: &SmallRequest, max: u64, run: &RunContext) -> Result<Small, MachineError> {
    let url = match &request.location {
        Location::Path(path) => return read_file(path, max).await,
        Location::Url(url) => url,
    };
    let client = request.access.client(url).await?;
    let mut patience = Patience::new(failure::without_password(url), run);
    loop {
        let outcome = tokio::select! {
            biased;
            () = run.cancel.cancelled() => return Err(MachineError::Cancelled),
            outcome = read_url(&client, url, request.accept, max) => outcome,
        };
        match outcome {
            Ok(small) => return Ok(small),
            Err(failure) => patience.after(failure).await?,
        }
    }
}

async fn read_url(client: &Client, url: &str, accept: Option<&str>, max: u64) -> Result<Small, Failure> {
    let mut request = client.get(url);
    if let Some(types) = accept {
        request = request.header("accept", types);
    }
    let mut response = request.send().await.map_err(|error| failure::of_error(url, &error))?;
    if !response.status().is_success() {
        return Err(failure::of_status(url, &response));
    }
    let media_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut small = Small { bytes: Vec::new(), media_type, url: response.url().to_string() };
    while let Some(chunk) = response.chunk().await.map_err(|error| failure::of_error(url, &error))? {
        small.bytes.extend_from_slice(&chunk);
        if small.bytes.len() as u64 > max {
            return Err(Failure::Final(too_large(&failure::without_password(url), max)));
        }
    }
    Ok(small)
}

async fn read_file(path: &std::path::Path, max: u64) -> Result<Small, MachineError> {
    use tokio::io::AsyncReadExt;
    let cannot = |source| MachineError::file("cannot read", path, source);
    let file = tokio::fs::File::open(path).await.map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).await.map_err(cannot)?;
    if bytes.len() as u64 > max {
        return Err(too_large(&path.display().to_string(), max));
    }
    Ok(Small { bytes, media_type: String::new(), url: path.display().to_string() })
}

fn too_large(shown: &str, max: u64) -> MachineError {
    let what = format!("`{shown}` is larger than {max} bytes, which nothing of its kind is");
    MachineError::refused(what, "check that it is the right file")
}
