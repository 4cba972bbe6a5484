//! `dsimg audit`: an image's packages against the advisories on this host.

use std::path::Path;

use dsimg_audit::report::Report;
use dsimg_audit::{OSV, Settings, audit, downloads, parse_suppressions};
use dsimg_download::Access;
use dsimg_manifest::Inventory;
use jiff::Timestamp;

use crate::arguments::{Audit, AuditFormat};
use crate::failure::{Code, Failure};
use crate::named::Named;
use crate::ui::output::{deliver, say};
use crate::ui::text::printable;
use crate::{advisories, environment};

/// # Errors
/// Something was found, not all could be checked, or the advisories can't be had.
pub(crate) async fn run(arguments: &Audit) -> Result<(), Failure> {
    let inventory = Named::open(&arguments.image, arguments.only.as_deref())?.known_packages()?;
    let settings = settings(arguments)?;
    let database = match &arguments.database {
        Some(folder) => folder.clone(),
        None => advisories::folder(&environment::cache_folder()?),
    };
    if arguments.update {
        update(&inventory, &database, arguments).await?;
    }
    let report = audit(&inventory, &database, &settings).map_err(|error| advisories::failure(&error))?;
    let text = match arguments.format {
        AuditFormat::Text => printable(&report.to_text()),
        AuditFormat::Json => report.to_json(),
        AuditFormat::Sarif => report.to_sarif(&arguments.image.display().to_string()),
    };
    deliver(&text, arguments.output.as_deref())?;
    conclude(&report, arguments)
}

fn settings(arguments: &Audit) -> Result<Settings, Failure> {
    let suppressions = match &arguments.suppressions {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| {
                Failure::new(Code::Wrong, format!("cannot read `{}`", file.display())).because(error)
            })?;
            parse_suppressions(&text).map_err(|error| advisories::failure(&error).because(file.display()))?
        }
        None => Vec::new(),
    };
    Ok(Settings {
        threshold: arguments.severity,
        allow_unchecked: arguments.allow_unchecked,
        max_age_days: arguments.max_age,
        suppressions,
        now: Timestamp::now(),
    })
}

async fn update(inventory: &Inventory, database: &Path, arguments: &Audit) -> Result<(), Failure> {
    let mirror = arguments.mirror.clone().or_else(environment::osv_mirror).unwrap_or_else(|| OSV.to_owned());
    let access = Access::default().or_environment(&environment::proxies());
    for download in downloads(inventory, &mirror) {
        let records = advisories::fetch(&download, database, &access).await?;
        say(&format!("{}: {records} advisories\n", download.family));
    }
    Ok(())
}

/// What was found counts more than what was not looked for.
fn conclude(report: &Report, arguments: &Audit) -> Result<(), Failure> {
    let verdict = &report.verdict;
    if verdict.passed {
        return Ok(());
    }
    let what = format!("`{}` does not pass: {}", arguments.image.display(), verdict.reasons.join("; "));
    if verdict.found > 0 {
        let hint = "`dsimg lock --upgrade NAME` moves a package; `--suppressions` names what you live with, and why";
        return Err(Failure::new(Code::Found, what).with_hint(hint));
    }
    let hint = "`--update` fetches advisories; `--allow-unchecked` passes what nobody keeps advisories for";
    Err(Failure::new(Code::Unchecked, what).with_hint(hint))
}
