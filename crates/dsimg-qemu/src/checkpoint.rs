//! A machine saved as it runs, and loaded again.
//!
//! The disk: the running machine gets a new overlay, and what was its disk until then becomes a layer that nobody
//! writes to any more. The memory: QEMU's migration to a file, with `mapped-ram` (QEMU 9.0), which gives each page
//! its place in the file, so that pages of zeros are holes and several threads read and write it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use dsimg_machine::{MachineError, RunContext};

use crate::qmp::{Qmp, QmpError};

/// Between two looks at a migration.
const PAUSE: Duration = Duration::from_millis(10);
/// A memory of many GiB on a slow disk takes minutes.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Threads that read or write the memory. They take turns at the file's lock: with two, both often wait, and a save takes a sixth
/// longer.
const CHANNELS: u32 = 4;
/// Bytes a second.
const UNLIMITED: u64 = 1 << 40;

/// Puts a new overlay on the machine's disk, which is paused. `active` is the node that the machine writes to now;
/// the header of its file gets `backing` for the file it stands on, as others will find it.
pub(crate) async fn put_overlay(
    qmp: &Qmp,
    active: &str,
    backing: &str,
    (node, overlay): (&str, &Path),
) -> Result<(), QmpError> {
    let header = json!({"device": active, "image-node-name": active, "backing-file": backing});
    qmp.execute("change-backing-file", header).await?;
    let mut layer = crate::arguments::disk_node(node, overlay);
    // QEMU puts it on the node by itself; nothing is opened by the file's own word.
    layer["backing"] = Value::Null;
    qmp.execute("blockdev-add", layer).await?;
    qmp.execute("blockdev-snapshot", json!({"node": active, "overlay": node})).await.map(drop)
}

/// Writes the memory of the machine, which is paused, into a new file.
pub(crate) async fn save_memory(qmp: &Qmp, file: &Path, run: &RunContext) -> Result<(), MachineError> {
    let what = "cannot save the machine's memory";
    prepare(qmp).await.map_err(|error| failed(what, &error))?;
    let uri = format!("file:{}", file.display());
    qmp.execute("migrate", json!({"uri": uri})).await.map_err(|error| failed(what, &error))?;
    until_done(qmp, what, run).await
}

/// Loads a memory into a QEMU that was started with `-incoming defer`. The machine is paused after it.
pub(crate) async fn load_memory(qmp: &Qmp, file: &Path, run: &RunContext) -> Result<(), MachineError> {
    let what = "cannot load the machine's memory";
    prepare(qmp).await.map_err(|error| failed(what, &error))?;
    let uri = format!("file:{}", file.display());
    qmp.execute("migrate-incoming", json!({"uri": uri})).await.map_err(|error| failed(what, &error))?;
    until_done(qmp, what, run).await
}

async fn prepare(qmp: &Qmp) -> Result<(), QmpError> {
    let on = |name: &str| json!({"capability": name, "state": true});
    let capabilities = json!({"capabilities": [on("mapped-ram"), on("multifd")]});
    qmp.execute("migrate-set-capabilities", capabilities).await?;
    // A bandwidth of its own is set by default, 128 MiB/s, as if the file were another host.
    let parameters = json!({"multifd-channels": CHANNELS, "max-bandwidth": UNLIMITED});
    qmp.execute("migrate-set-parameters", parameters).await.map(drop)
}

async fn until_done(qmp: &Qmp, what: &str, run: &RunContext) -> Result<(), MachineError> {
    let until = Instant::now() + LIMIT;
    loop {
        let answer = qmp.execute("query-migrate", json!({})).await.map_err(|error| failed(what, &error))?;
        let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("status") {
            "completed" => return Ok(()),
            "failed" | "cancelled" => return Err(broken(what, text("error-desc"))),
            _ if Instant::now() > until => return Err(broken(what, "it takes too long")),
            _ => {}
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = run.cancel.cancelled() => return Err(MachineError::Cancelled),
        }
    }
}

pub(crate) fn failed(what: &str, error: &QmpError) -> MachineError {
    broken(what, &error.to_string())
}

fn broken(what: &str, why: &str) -> MachineError {
    let what = if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") };
    MachineError::Machine { what, hint: None, console: String::new() }
}
