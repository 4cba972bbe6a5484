//! What builds that died left behind is freed when the next one begins.

use std::path::Path;

use dsimg_machine::ledger::{DeadLedger, find_dead};
use dsimg_machine::{Event, Ledger, Level, Resource};

use crate::ui::Screen;
use crate::wire;

/// Frees and tells. What can't be freed stays in its ledger, and the build goes on.
pub(crate) async fn free(state: &Path, screen: &dyn Screen) {
    let folder = state.join("ledger");
    let say = |level, text| screen.report("", &Event::Message { level, text });
    match find_dead(&folder) {
        Ok(dead) => {
            for ledger in dead {
                free_one(ledger, &say).await;
            }
        }
        Err(error) => {
            say(Level::Warning, format!("cannot look for what dead builds left in {}: {error}", folder.display()));
        }
    }
}

/// What this process's own builds made and did not take away: work that was dropped half done by a cancel.
/// Called when no build runs any more.
pub(crate) async fn free_own(ledger: &Ledger, screen: &dyn Screen) {
    let open = ledger.open_entries().unwrap_or_default();
    let (processes, others): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|left| matches!(left, Resource::Process { .. }));
    for left in processes.into_iter().chain(others.into_iter().rev()) {
        let freed = match wire::reclaim(&left).await {
            Ok(()) => ledger.is_gone(left).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = freed {
            screen.say(&format!("warning: not all was cleaned up: {why}\n"));
        }
    }
}

async fn free_one(dead: DeadLedger, say: &dyn Fn(Level, String)) {
    let build = dead.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut is_free = true;
    // Processes come first: they hold files of the folders. What was made last holds what was made before it, as an
    // instance its security group.
    let (processes, others): (Vec<_>, Vec<_>) =
        dead.left.iter().partition(|left| matches!(left, Resource::Process { .. }));
    for left in processes.into_iter().chain(others.into_iter().rev()) {
        match wire::reclaim(left).await {
            Ok(()) => say(Level::Info, format!("removed what build {build} left behind: {}", describe(left))),
            Err(error) => {
                is_free = false;
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                say(Level::Warning, format!("build {build} left something behind: {error}{hint}"));
            }
        }
    }
    let path = dead.path.clone();
    if is_free && let Err(error) = dead.remove() {
        say(Level::Warning, format!("cannot remove {}: {error}", path.display()));
    }
}

fn describe(left: &Resource) -> String {
    match left {
        Resource::Folder { path } => path.display().to_string(),
        Resource::Process { pid, .. } => format!("process {pid}"),
        Resource::Aws { region, name, .. } => format!("{name} in {region}"),
    }
}
