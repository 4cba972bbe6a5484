//! What QEMU's events say about the machine, folded into one value.

use serde_json::Value;

/// How the machine is, as far as its events tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Condition {
    /// Virtual CPUs do not run.
    pub(crate) paused: bool,
    /// The last I/O error that paused the machine.
    pub(crate) io_error: Option<IoError>,
    /// The guest's kernel gave up.
    pub(crate) panicked: bool,
    /// The `reason` of the SHUTDOWN event, such as `guest-shutdown`.
    pub(crate) shutdown: Option<String>,
    /// How often the guest has started anew by itself.
    pub(crate) guest_resets: u32,
    /// The guest has set its network card up.
    pub(crate) network_up: bool,
}

/// The host could not read or write the machine's disk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IoError {
    /// The host's disk is full.
    pub(crate) no_space: bool,
    /// The host's word for it, such as `Input/output error`.
    pub(crate) reason: String,
}

impl Condition {
    /// Takes in one event; those that say nothing about the condition are passed over.
    pub(crate) fn take_in(&mut self, event: &str, data: &Value) {
        let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |key: &str| data.get(key).and_then(Value::as_bool).unwrap_or_default();
        match event {
            "STOP" => self.paused = true,
            "RESUME" => {
                self.paused = false;
                self.io_error = None;
            }
            "BLOCK_IO_ERROR" if text("action") == "stop" => {
                self.io_error = Some(IoError { no_space: flag("nospace"), reason: text("reason") });
            }
            "GUEST_PANICKED" => self.panicked = true,
            "SHUTDOWN" => self.shutdown = Some(text("reason")),
            "NIC_RX_FILTER_CHANGED" => self.network_up = true,
            "RESET" if flag("guest") => self.guest_resets += 1,
            _ => {}
        }
    }

    /// Why nothing can be expected of the machine as it is, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        if let Some(error) = &self.io_error {
            return Some(if error.no_space {
                "the host's disk is full, so QEMU paused the machine".to_owned()
            } else {
                format!(
                    "the host cannot read or write the machine's disk ({}), so QEMU paused the machine",
                    error.reason
                )
            });
        }
        if self.panicked {
            return Some("the guest's kernel panicked".to_owned());
        }
        self.shutdown.as_ref().map(|reason| match reason.as_str() {
            "guest-shutdown" => "the guest powered itself off".to_owned(),
            "guest-panic" => "the guest's kernel panicked".to_owned(),
            "host-signal" => "QEMU was told to end by a signal".to_owned(),
            "host-qmp-quit" => "the machine was stopped".to_owned(),
            other => format!("the machine was shut down ({other})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(events: &[(&str, Value)]) -> Condition {
        let mut condition = Condition::default();
        for (event, data) in events {
            condition.take_in(event, data);
        }
        condition
    }

    #[test]
    fn a_full_host_disk_is_told_apart_from_other_errors() {
        let full = json!({"action": "stop", "nospace": true, "reason": "No space left on device"});
        let condition = after(&[("BLOCK_IO_ERROR", full), ("STOP", Value::Null)]);
        assert!(condition.paused);
        assert!(condition.trouble().unwrap().contains("disk is full"));
        let broken = json!({"action": "stop", "nospace": false, "reason": "Input/output error"});
        assert!(after(&[("BLOCK_IO_ERROR", broken)]).trouble().unwrap().contains("(Input/output error)"));
    }

    #[test]
    fn a_machine_that_goes_on_is_in_no_trouble() {
        let full = json!({"action": "stop", "nospace": true, "reason": "x"});
        assert_eq!(after(&[("BLOCK_IO_ERROR", full), ("STOP", Value::Null), ("RESUME", Value::Null)]).trouble(), None);
        let reported = json!({"action": "report", "nospace": true, "reason": "x"});
        assert_eq!(after(&[("BLOCK_IO_ERROR", reported), ("RTC_CHANGE", json!({"offset": 1}))]), Condition::default());
    }

    #[test]
    fn resets_by_the_guest_are_counted() {
        let reset = |guest: bool| ("RESET", json!({"guest": guest, "reason": "guest-reset"}));
        assert_eq!(after(&[reset(true), reset(false), reset(true)]).guest_resets, 2);
    }

    #[test]
    fn how_it_ended_is_told() {
        let shutdown = |reason: &str| after(&[("SHUTDOWN", json!({"guest": true, "reason": reason}))]).trouble();
        assert!(shutdown("guest-shutdown").unwrap().contains("powered itself off"));
        assert!(shutdown("guest-panic").unwrap().contains("panicked"));
        assert!(shutdown("a-new-reason").unwrap().contains("a-new-reason"));
    }
}
