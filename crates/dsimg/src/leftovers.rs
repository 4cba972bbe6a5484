//! What builds that died left behind is freed when the next one begins.

use std::path::Path;

use dsimg_machine::ledger::{DeadLedger, find_dead};
use dsimg_machine::{Event, Level, Resource};

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

async fn free_one(dead: DeadLedger, say: &dyn Fn(Level, String)) {
    let build = dead.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut is_free = true;
    // Processes come first: they hold files of the folders.
    let (processes, folders): (Vec<_>, Vec<_>) =
        dead.left.iter().partition(|left| matches!(left, Resource::Process { .. }));
    for left in processes.into_iter().chain(folders) {
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
    }
}
