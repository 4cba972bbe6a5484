//! Freeze: what is installed is read back from the machine.

use std::collections::BTreeMap;
use std::time::Duration;

use dsimg_machine::RemoteCommand;
use dsimg_manifest::manifest::SystemFacts;
use dsimg_manifest::{Frozen, parse_frozen};
use dsimg_plan::make::GUEST_FOLDER;

use crate::error::BuildError;
use crate::guest::Guest;

/// Reading a few hundred small files takes seconds in an emulated machine.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Between the packages and the system's facts.
const BORDER: &str = "--- system";

/// What a machine is at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) packages: Frozen,
    pub(crate) system: SystemFacts,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub(crate) epoch: i64,
}

/// All packages that the provisioners' freeze scripts know how to find, and the system's name, kernel and languages.
/// Beside it runs `beside`, a text for bash: two commands would cost one more round trip to the machine.
///
/// # Errors
/// A script fails, or prints what is no package.
pub(crate) async fn read_machine(guest: &Guest<'_>, beside: &str) -> Result<Reading, BuildError> {
    let system = include_str!("guest/system.sh");
    let command = RemoteCommand::bash(&format!(
        "{{ :\n{beside}\n}} >/dev/null 2>&1 </dev/null &\nset -a; . {GUEST_FOLDER}/env; set +a; \
         for script in {GUEST_FOLDER}/freeze/*/freeze.sh; do bash \"$script\" || exit; done; \
         echo '{BORDER}'\n{system}\nwait"
    ));
    let text = guest.read(&command.with_timeout(LIMIT)).await?;
    let text = String::from_utf8_lossy(&text);
    let no_border = || BuildError::Freeze { why: "the system's own facts are missing".to_owned() };
    let (packages, system) = text.split_once(BORDER).ok_or_else(no_border)?;
    let packages = parse_frozen(packages).map_err(|why| BuildError::Freeze { why })?;
    let epoch = parse_epoch(system).ok_or_else(|| BuildError::Freeze { why: "the epoch is missing".to_owned() })?;
    Ok(Reading { packages, system: parse_system(system), epoch })
}

fn parse_epoch(text: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix("epoch\t"))?.parse().ok()
}

fn parse_system(text: &str) -> SystemFacts {
    let facts: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    let fact = |name: &str| facts.get(name).copied().unwrap_or_default().to_owned();
    let language = |name: &str| Some(fact(name)).filter(|version| !version.is_empty());
    SystemFacts {
        os: fact("os"),
        os_id: fact("os_id"),
        os_version: fact("os_version"),
        kernel: fact("kernel"),
        architecture: fact("architecture"),
        python: language("python"),
        r: language("r"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_facts_are_read() {
        let facts = parse_system("\nos\tDebian GNU/Linux 13 (trixie)\npython\t3.13.5\n");
        assert_eq!((facts.os.as_str(), facts.python.as_deref()), ("Debian GNU/Linux 13 (trixie)", Some("3.13.5")));
        assert_eq!(facts.r, None);
    }
}
