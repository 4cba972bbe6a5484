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

/// How much is asked of freeze scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Names and versions: between two stages.
    Versions,
    /// Also where packages came from, which means to search the package lists: once, at the end.
    Origins,
}

/// All packages that the provisioners' freeze scripts know how to find.
///
/// # Errors
/// A script fails, or prints what is no package.
pub(crate) async fn read_packages(guest: &Guest<'_>, depth: Depth) -> Result<Frozen, BuildError> {
    let origins = u8::from(depth == Depth::Origins);
    let command = RemoteCommand::bash(&format!(
        "set -a; . {GUEST_FOLDER}/env; DSIMG_ORIGINS={origins}; set +a; \
         for script in {GUEST_FOLDER}/freeze/*/freeze.sh; do bash \"$script\" || exit; done"
    ));
    let text = guest.read(&command.with_timeout(LIMIT)).await?;
    parse_frozen(&String::from_utf8_lossy(&text)).map_err(|why| BuildError::Freeze { why })
}

/// The system's name, kernel and languages.
///
/// # Errors
/// The machine can't be asked.
pub(crate) async fn read_system(guest: &Guest<'_>) -> Result<SystemFacts, BuildError> {
    let text = guest.read(&RemoteCommand::bash(include_str!("guest/system.sh")).with_timeout(LIMIT)).await?;
    let text = String::from_utf8_lossy(&text);
    let facts: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    let fact = |name: &str| facts.get(name).copied().unwrap_or_default().to_owned();
    let language = |name: &str| Some(fact(name)).filter(|version| !version.is_empty());
    Ok(SystemFacts {
        os: fact("os"),
        os_id: fact("os_id"),
        os_version: fact("os_version"),
        kernel: fact("kernel"),
        architecture: fact("architecture"),
        python: language("python"),
        r: language("r"),
    })
}
