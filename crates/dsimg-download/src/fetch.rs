//! A file with a known digest, wherever it is.

use std::path::{Path, PathBuf};

use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::Location;

use crate::access::Access;
use crate::attempt::{Meter, Source};
use crate::checksums::file_name;
use crate::digest::Expected;
use crate::failure::shown;
use crate::partial::Partial;
use crate::retry::Patience;
use crate::writer::Content;

/// A file by its place and its digest.
#[derive(Debug, Clone)]
pub struct Download {
    /// A complete path, or an `http(s)://` URL.
    pub location: Location,
    pub expected: Expected,
    pub access: Access,
}

/// The path of a file that has the expected digest: the one it was named by, or in the cache, where builds that want
/// it at the same time download it once.
///
/// A download that was interrupted goes on where it stopped, also in a later run; what the server never finishes, or
/// what has another digest in the end, is an error.
///
/// # Errors
/// It can't be had, or it is not what was expected; the wrong file is removed then.
pub async fn fetch(request: &Download, cache: &Path, run: &RunContext) -> Result<PathBuf, MachineError> {
    let url = match &request.location {
        Location::Path(path) => return check_file(path, &request.expected, run).await,
        Location::Url(url) => url,
    };
    let folder = cache.join("downloads");
    tokio::fs::create_dir_all(&folder).await.map_err(|source| MachineError::file("cannot make", &folder, source))?;
    let target = folder.join(request.expected.file_name());
    match Partial::claim(&target, &shown(&request.location), run).await? {
        Some(partial) => download(request, url, partial, run).await,
        None => {
            mark_as_used(&target).await;
            Ok(target)
        }
    }
}

async fn download(request: &Download, url: &str, partial: Partial, run: &RunContext) -> Result<PathBuf, MachineError> {
    let expected = &request.expected;
    let client = request.access.client(url).await?;
    let content = partial.read_back(expected).await?;
    let meter = Meter::new(&file_name(&request.location), run);
    let source = Source { client: &client, url, expected, partial: &partial, meter };
    let content = complete(&source, content, &shown(&request.location), run).await?;
    drop(source);
    if content.digest() == *expected {
        return partial.finish().await;
    }
    partial.discard().await?;
    Err(wrong_digest(&shown(&request.location), expected, &content, "it was removed again"))
}

/// Tries until the server has nothing more to send. What was put together from pieces and is wrong is downloaded once
/// more in one piece: the file may have changed between them.
async fn complete(
    source: &Source<'_>,
    mut content: Content,
    shown: &str,
    run: &RunContext,
) -> Result<Content, MachineError> {
    let mut patience = Patience::new(shown.to_owned(), run);
    let mut started_over = false;
    if content.length > 0 {
        run.info(format!("`{shown}`: going on after {} bytes", content.length));
    }
    loop {
        let before = content.length;
        let outcome = tokio::select! {
            biased;
            () = run.cancel.cancelled() => return Err(MachineError::Cancelled),
            outcome = source.attempt(&mut content) => outcome,
        };
        if content.length > before {
            patience.progress();
        }
        match outcome {
            Ok(()) if content.pieced && !started_over && content.digest() != *source.expected => {
                run.warn(format!("`{shown}`: its pieces don't belong together; once more from the start"));
                content = Content::empty(source.expected);
                started_over = true;
            }
            Ok(()) => return Ok(content),
            Err(failure) => patience.after(failure).await?,
        }
    }
}

async fn check_file(path: &Path, expected: &Expected, run: &RunContext) -> Result<PathBuf, MachineError> {
    let cannot_read = |source| MachineError::file("cannot read", path, source);
    let mut file = tokio::fs::File::open(path).await.map_err(cannot_read)?.into_std().await;
    let algorithm = expected.clone();
    let reading = tokio::task::spawn_blocking(move || Content::read_back(&mut file, &algorithm));
    let content = tokio::select! {
        () = run.cancel.cancelled() => return Err(MachineError::Cancelled),
        content = reading => content.unwrap_or_else(|stopped| Err(std::io::Error::other(stopped))).map_err(cannot_read)?,
    };
    if content.digest() == *expected {
        return Ok(path.to_owned());
    }
    Err(wrong_digest(&path.display().to_string(), expected, &content, "it was left as it is"))
}

fn wrong_digest(shown: &str, expected: &Expected, content: &Content, done: &str) -> MachineError {
    let (algorithm, got, length) = (expected.algorithm(), content.digest(), content.length);
    MachineError::refused(
        format!(
            "`{shown}` is not the file that was expected ({done})\n  expected {algorithm} {}\n  got      {algorithm} {} \
             ({length} bytes)",
            expected.hex(),
            got.hex()
        ),
        "if the file was replaced by a newer one, check where it comes from and write down its new checksum",
    )
}

/// So that the oldest of the cache are those that nobody wanted for long.
async fn mark_as_used(path: &Path) {
    let path = path.to_owned();
    let _age_unknown = tokio::task::spawn_blocking(move || {
        std::fs::File::open(path).and_then(|file| file.set_modified(std::time::SystemTime::now()))
    })
    .await;
}
