//! `--json`: one event a line on standard output.

use std::sync::Once;
use std::time::Duration;

use dsimg_machine::{Event, Level, Reporter};
use serde::Serialize;
use serde_json::{Value, json};

use crate::ui::{Screen, output};

/// The version of the form of the lines.
const FORMAT: u32 = 1;

/// Each line is an object with `time` (RFC 3339, UTC) and `type`; the first has the type `version`, events have the
/// type `event` and the builder's name, and the last has the type `result`.
#[derive(Debug)]
pub(crate) struct JsonLines {
    begun: Once,
}

impl JsonLines {
    fn write(&self, kind: &str, fields: Value) {
        self.begun.call_once(|| {
            write_line(&stamp("version", json!({ "format": FORMAT, "dsimg": env!("CARGO_PKG_VERSION") })));
        });
        write_line(&stamp(kind, fields));
    }
}

impl Default for JsonLines {
    fn default() -> Self {
        Self { begun: Once::new() }
    }
}

impl Reporter for JsonLines {
    fn report(&self, builder: &str, event: &Event) {
        #[derive(Serialize)]
        struct Line<'a> {
            builder: &'a str,
            #[serde(flatten)]
            event: &'a Event,
        }
        if matches!(event, Event::Message { level: Level::Debug, .. }) {
            return;
        }
        if let Ok(mut fields) = serde_json::to_value(Line { builder, event }) {
            in_milliseconds(&mut fields);
            self.write("event", fields);
        }
    }
}

impl Screen for JsonLines {
    /// Words for people go to the other stream.
    fn say(&self, text: &str) {
        output::say(text);
    }

    /// The result line says it.
    fn image(&self, _text: &str) {}

    fn result(&self, builder: &str, fields: &Value) {
        let mut fields = fields.clone();
        if !builder.is_empty() {
            fields["builder"] = json!(builder);
        }
        self.write("result", fields);
    }
}

/// `elapsed`, which serde writes in two parts, becomes `elapsed_ms`.
fn in_milliseconds(fields: &mut Value) {
    let Some(elapsed) = fields.as_object_mut().and_then(|fields| fields.remove("elapsed")) else { return };
    if let Ok(elapsed) = serde_json::from_value::<Duration>(elapsed) {
        fields["elapsed_ms"] = json!(elapsed.as_millis() as u64);
    }
}

fn stamp(kind: &str, mut fields: Value) -> Value {
    fields["type"] = json!(kind);
    fields["time"] = json!(jiff::Timestamp::now().to_string());
    fields
}

/// A reader that went away is no reason to stop a build.
fn write_line(line: &Value) {
    drop(output::print(&format!("{line}\n")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_milliseconds() {
        let mut fields = serde_json::to_value(Event::PhaseEnded {
            phase: dsimg_machine::Phase::Boot,
            elapsed: Duration::from_millis(1500),
        })
        .unwrap();
        in_milliseconds(&mut fields);
        assert_eq!(fields, json!({ "event": "phase-ended", "phase": "boot", "elapsed_ms": 1500 }));
    }
}
