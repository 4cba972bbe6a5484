//! The advisories on this host: where they are, how they come, and what no lock may have.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use dsimg_audit::{AuditError, Download, Finding, Settings, Severity, audit, check_dump};
use dsimg_download::{Access, Answer, Question, Trouble};
use dsimg_manifest::{Inventory, Lock};
use jiff::Timestamp;

use crate::failure::{Code, Failure};

/// After failures that may pass.
const TRIES: u32 = 3;

pub(crate) fn folder(cache: &Path) -> PathBuf {
    cache.join("osv")
}

pub(crate) fn failure(error: &AuditError) -> Failure {
    let code = match error {
        AuditError::Database { .. } => Code::Unchecked,
        AuditError::Suppressions(_) => Code::Wrong,
    };
    Failure::new(code, error.to_string()).with_hint(error.hint())
}

/// Fetches one file of advisories below `folder`: whole or not at all. Gives the number of its records.
///
/// # Errors
/// It can't be had, or is no dump; what was there before is there still.
pub(crate) async fn fetch(download: &Download, folder: &Path, access: &Access) -> Result<usize, Failure> {
    let target = folder.join(&download.file);
    let parent = target.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(|error| Failure::file("cannot make", parent, error))?;
    let cannot = |error| Failure::file("cannot write", &target, error);
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent).map_err(cannot)?;
    let mut tries = 0;
    let trouble = loop {
        tries += 1;
        file.as_file_mut().set_len(0).map_err(cannot)?;
        std::io::Seek::rewind(&mut file).map_err(cannot)?;
        match write_answer(&download.url, &mut file, access).await {
            Ok(Ok(())) => break None,
            Ok(Err(trouble)) if trouble.passing && tries < TRIES => {
                tokio::time::sleep(std::time::Duration::from_secs(u64::from(tries))).await;
            }
            Ok(Err(trouble)) => break Some(trouble),
            Err(failure) => return Err(failure),
        }
    };
    if let Some(trouble) = trouble {
        let code = if trouble.passing { Code::TryAgain } else { Code::Wrong };
        let failure = Failure::new(code, format!("the advisories for {} can't be had", download.family));
        let failure = failure.because(format!("`{}`: {}", download.url, trouble.why));
        return Err(failure.with_hint(trouble.hint.unwrap_or_else(|| {
            "`--mirror` or `DSIMG_OSV_MIRROR` names another place, and `--database` a folder that is there".to_owned()
        })));
    }
    let records = check_dump(file.path()).map_err(|error| {
        let AuditError::Database { reason, .. } = &error else { return failure(&error) };
        Failure::new(Code::Wrong, format!("`{}` is no dump of advisories: {reason}", download.url))
            .with_hint("look whether a proxy answers in its place")
    })?;
    file.as_file().sync_all().map_err(cannot)?;
    file.persist(&target).map_err(|error| cannot(error.error))?;
    Ok(records)
}

/// The inner error is the network's, the outer this host's.
async fn write_answer(
    url: &str,
    file: &mut tempfile::NamedTempFile,
    access: &Access,
) -> Result<Result<(), Trouble>, Failure> {
    let question = Question { url, ..Question::default() };
    let mut answer: Answer = match access.door().await?.ask(&question).await {
        Ok(answer) => answer,
        Err(trouble) => return Ok(Err(trouble)),
    };
    if answer.status() != 200 {
        let why = format!("the server answers {} {}", answer.status(), answer.reason());
        let passing = answer.status() >= 500 || answer.status() == 429;
        return Ok(Err(Trouble { why, hint: None, passing }));
    }
    loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => {
                file.write_all(&bytes).map_err(|error| Failure::file("cannot write", file.path(), error))?;
            }
            Ok(None) => return Ok(Ok(())),
            Err(trouble) => return Ok(Err(trouble)),
        }
    }
}

/// Where there are advisories, no package of a lock may be made to do harm; what was needed on the way ran, too.
///
/// # Errors
/// One is; or the advisories can't be read.
pub(crate) fn refuse_malicious(lock: &Lock, folder: &Path) -> Result<(), Failure> {
    if !folder.is_dir() {
        return Ok(());
    }
    let mut all = lock.clone();
    all.deb.iter_mut().for_each(|one| one.passing = false);
    all.pypi.iter_mut().for_each(|one| one.passing = false);
    all.cran.iter_mut().for_each(|one| one.passing = false);
    let settings = Settings {
        threshold: Severity::Critical,
        allow_unchecked: true,
        max_age_days: None,
        suppressions: Vec::new(),
        now: Timestamp::now(),
    };
    let report = audit(&Inventory::of_lock("", &all), folder, &settings).map_err(|error| failure(&error))?;
    let malicious: Vec<_> = report.findings.iter().filter(|finding| finding.is_malicious).map(in_words).collect();
    if malicious.is_empty() {
        return Ok(());
    }
    let what = format!("the lock is not written: it would have a malicious package\n  {}", malicious.join("\n  "));
    Err(Failure::new(Code::Found, what)
        .with_hint("take it out of the template, and see what the machine that built with it could reach"))
}

fn in_words(finding: &Finding) -> String {
    let Finding { id, ecosystem, name, version, summary, .. } = finding;
    format!("{ecosystem} {name} {version} ({id}): {summary}")
}

#[cfg(test)]
mod tests {
    use dsimg_manifest::lock::{Distribution, LockedBase};

    use super::*;

    fn lock(version: &str, passing: bool) -> Lock {
        let package = Distribution {
            name: "ctx".to_owned(),
            version: version.to_owned(),
            location: "/opt/ds".to_owned(),
            requested: true,
            stage: "python".to_owned(),
            passing,
            index: "https://pypi.org/simple".to_owned(),
            licence: None,
            artifact: None,
        };
        let (kind, source) = ("bootstrap".to_owned(), "debian trixie amd64".to_owned());
        Lock {
            base: LockedBase { kind, source, id: None, sha256: "2".repeat(64) },
            pypi: vec![package],
            ..Lock::default()
        }
    }

    #[test]
    fn no_lock_has_a_malicious_package() {
        let database = tempfile::tempdir().unwrap();
        let record = r#"{"id": "MAL-2026-9", "summary": "steals keys", "modified": "2026-11-01T00:00:00Z", "affected":
            [{"package": {"ecosystem": "PyPI", "name": "ctx"}, "versions": ["0.1.2"]}]}"#;
        std::fs::create_dir(database.path().join("PyPI")).unwrap();
        std::fs::write(database.path().join("PyPI/MAL-2026-9.json"), record).unwrap();
        for passing in [false, true] {
            let refused = refuse_malicious(&lock("0.1.2", passing), database.path()).unwrap_err();
            assert_eq!(refused.code, Code::Found);
            assert!(refused.describe().contains("PyPI ctx 0.1.2 (MAL-2026-9): steals keys"), "{}", refused.describe());
        }
        assert!(refuse_malicious(&lock("0.1.3", false), database.path()).is_ok());
        assert!(refuse_malicious(&lock("0.1.2", false), &database.path().join("none")).is_ok());
        std::fs::write(database.path().join("PyPI/broken.json"), "{").unwrap();
        let broken = refuse_malicious(&lock("0.1.3", false), database.path()).unwrap_err();
        assert_eq!(broken.code, Code::Unchecked);
    }
}
