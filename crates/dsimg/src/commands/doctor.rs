//! `dsimg doctor`: does this host have what builds need, and how does it install what is missing?

mod system;

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use dsimg_machine::{Event, Ledger, Reporter, RunContext};

use crate::arguments::{Doctor, Format};
use crate::commands::build::new_build_id;
use crate::environment;
use crate::failure::{Code, Failure};
use crate::ui::output::print;
use crate::ui::text::printable;
use crate::wire::{self, Check, Verdict};

use system::System;

/// # Errors
/// Something that builds need is missing; all was printed before.
pub(crate) async fn run(arguments: &Doctor) -> Result<(), Failure> {
    let system = System::of_host();
    let checks = look().await?;
    match arguments.format {
        Format::Text => print(&printable(&describe(&checks, &system)))?,
        Format::Json => print(&format!("{:#}\n", record(&checks, &system)))?,
    }
    let missing: Vec<_> = checks.iter().filter(|check| check.needed && check.is_missing()).map(|c| c.what).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::HostNotReady, format!("this host is not ready: {}", missing.join(", "))))
}

/// The probe of KVM runs a small machine, which wants folders and a ledger like a build.
async fn look() -> Result<Vec<Check>, Failure> {
    let (cache, state) = (environment::cache_folder()?, environment::state_folder()?);
    let folder = state.join("ledger");
    let build_id = format!("doctor-{}", new_build_id()?);
    let ledger =
        Ledger::open(&folder, &build_id).map_err(|error| Failure::file("cannot make a ledger in", &folder, error))?;
    let run = RunContext {
        builder: "doctor".to_owned(),
        work: cache.clone(),
        cache,
        ledger: Arc::new(ledger),
        reporter: Arc::new(Silent),
        cancel: CancellationToken::new(),
        hurry: CancellationToken::new(),
        build_id,
    };
    let checks = wire::examine(&run).await;
    run.ledger.close().map_err(|error| Failure::file("cannot remove", run.ledger.path(), error))?;
    Ok(checks)
}

struct Silent;

impl Reporter for Silent {
    fn report(&self, _: &str, _: &Event) {}
}

/// One line for each part of the host, then how to install what is missing.
fn describe(checks: &[Check], system: &System) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}\n", system.name);
    let width = checks.iter().map(|check| check.what.len()).max().unwrap_or(0);
    for check in checks {
        let (word, said, hint) = match &check.verdict {
            Verdict::Good(found) => ("ok", found, &None),
            Verdict::Doubtful { why, hint } => ("note", why, hint),
            Verdict::Missing { why, hint, .. } => (if check.needed { "MISSING" } else { "absent" }, why, hint),
        };
        let said = said.replace('\n', " ");
        let _ = writeln!(text, "{word:<7}  {:<width$}  {said}", check.what);
        if let Some(hint) = hint {
            let _ = writeln!(text, "{:<7}  {:<width$}  {hint}", "", "");
        }
    }
    if !checks.iter().any(|check| check.needed && check.is_missing()) {
        text.push_str("\nThis host is ready: what is absent or noted is needed by few builds.\n");
    }
    let packages = missing_packages(checks);
    if !packages.is_empty() {
        let _ = writeln!(text, "\n{}", system.advice(&packages));
    }
    text
}

/// Debian's names of the packages that bring what is missing, each once.
fn missing_packages(checks: &[Check]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for check in checks {
        if let Verdict::Missing { package: Some(package), .. } = check.verdict
            && !packages.contains(&package)
        {
            packages.push(package);
        }
    }
    packages
}

fn record(checks: &[Check], system: &System) -> serde_json::Value {
    let checks_json: Vec<_> = checks
        .iter()
        .map(|check| {
            let (state, text, hint) = match &check.verdict {
                Verdict::Good(found) => ("ok", found, None),
                Verdict::Doubtful { why, hint } => ("note", why, hint.as_ref()),
                Verdict::Missing { why, hint, .. } => ("missing", why, hint.as_ref()),
            };
            json!({ "what": check.what, "needed": check.needed, "state": state, "text": text, "hint": hint })
        })
        .collect();
    let packages = missing_packages(checks);
    json!({
        "format": 1,
        "system": system.name,
        "ready": !checks.iter().any(|check| check.needed && check.is_missing()),
        "checks": checks_json,
        "install": (!packages.is_empty()).then(|| system.advice(&packages)),
    })
}

impl System {
    fn of_host() -> Self {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let is_root = rustix::process::geteuid().is_root();
        let qemu_status = std::fs::read_to_string("/var/lib/dpkg/status").unwrap_or_default();
        Self::new(std::env::consts::OS, &release, is_root, system::has_backported_qemu(&qemu_status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        let missing = |what, needed, package| Check {
            what,
            needed,
            verdict: Verdict::Missing { why: "not installed".to_owned(), package: Some(package), hint: None },
        };
        vec![
            Check { what: "qemu-img", needed: true, verdict: Verdict::Good("version 10.0".to_owned()) },
            Check {
                what: "KVM",
                needed: false,
                verdict: Verdict::Doubtful { why: "does not work".to_owned(), hint: Some("slower".to_owned()) },
            },
            missing("mmdebstrap", true, "mmdebstrap"),
            missing("UEFI firmware", false, "ovmf"),
        ]
    }

    #[test]
    fn what_is_missing_is_shown_with_the_way_to_install_it() {
        let system = System::new("linux", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n", false, false);
        insta::assert_snapshot!(describe(&checks(), &system), @r"
        Debian GNU/Linux 13 (trixie)

        ok       qemu-img       version 10.0
        note     KVM            does not work
                                slower
        MISSING  mmdebstrap     not installed
        absent   UEFI firmware  not installed

        Install what is not there:
          sudo apt-get update
          sudo apt-get install --no-install-recommends mmdebstrap ovmf
        ");
        let record = record(&checks(), &system);
        assert_eq!(record["ready"], false);
        assert_eq!(record["checks"][2]["state"], "missing");
        assert!(record["install"].as_str().unwrap().contains("mmdebstrap ovmf"));
    }

    #[test]
    fn a_ready_host_is_told_so() {
        let system = System::new("linux", "", true, false);
        assert!(
            describe(&checks()[..2], &system)
                .ends_with("This host is ready: what is absent or noted is needed by few builds.\n")
        );
    }
}
