//! A client of QEMU's machine protocol (QMP): JSON lines over an inherited socket.
//!
//! The protocol: `docs/interop/qmp-spec.rst` of QEMU. Fields and events that this client does not know
//! are passed over, as the protocol asks of its clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::condition::Condition;

/// For commands that QEMU answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A line longer than this is not QEMU's.
const LONGEST_LINE: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    /// QEMU understood the command and could not do it.
    #[error("QEMU refused `{command}`: {text}")]
    Refused { command: String, text: String },
    #[error("QEMU did not answer `{command}` within {} s", limit.as_secs())]
    TimedOut { command: String, limit: Duration },
    #[error("QEMU closed its control connection before it answered `{command}`")]
    Closed { command: String },
    #[error("QEMU answered `{command}` with something else than was asked for: {answer}")]
    Unexpected { command: String, answer: String },
}

type Answer = Result<Value, String>;
type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// An open control connection to one QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    pending: Pending,
    next_id: AtomicU64,
    condition: watch::Receiver<Condition>,
    reader: JoinHandle<()>,
}

impl Qmp {
    /// Waits for QEMU's greeting and leaves the negotiation mode.
    pub(crate) async fn connect(stream: UnixStream) -> Result<Self, QmpError> {
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greeted = tokio::time::timeout(ANSWER_LIMIT, next_line(&mut reader)).await;
        let greeting = "the greeting".to_owned();
        match greeted {
            Err(_) => return Err(QmpError::TimedOut { command: greeting, limit: ANSWER_LIMIT }),
            Ok(None) => return Err(QmpError::Closed { command: greeting }),
            Ok(Some(line)) if !line.greets() => {
                return Err(QmpError::Unexpected { command: greeting, answer: "no greeting".to_owned() });
            }
            Ok(Some(_)) => {}
        }
        let pending = Pending::default();
        let (changes, condition) = watch::channel(Condition::default());
        let reader = tokio::spawn(read_lines(reader, Arc::clone(&pending), changes));
        let qmp =
            Self { writer: tokio::sync::Mutex::new(writer), pending, next_id: AtomicU64::new(1), condition, reader };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Carries out a command that QEMU answers at once.
    pub(crate) async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(ANSWER_LIMIT, command, arguments).await
    }

    pub(crate) async fn execute_within(
        &self,
        limit: Duration,
        command: &str,
        arguments: Value,
    ) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let exchange = async {
            let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
            line.push('\n');
            self.writer.lock().await.write_all(line.as_bytes()).await.ok()?;
            receiver.await.ok()
        };
        let answer = tokio::time::timeout(limit, exchange).await;
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let command = command.to_owned();
        match answer {
            Err(_) => Err(QmpError::TimedOut { command, limit }),
            Ok(None) => Err(QmpError::Closed { command }),
            Ok(Some(Err(text))) => Err(QmpError::Refused { command, text }),
            Ok(Some(Ok(value))) => Ok(value),
        }
    }

    /// A command of the human monitor, for what QMP has no command of its own.
    pub(crate) async fn human(&self, command_line: &str) -> Result<String, QmpError> {
        let answer = self.execute("human-monitor-command", json!({"command-line": command_line})).await?;
        match answer {
            Value::String(text) => Ok(text),
            other => Err(QmpError::Unexpected { command: command_line.to_owned(), answer: other.to_string() }),
        }
    }

    /// QEMU's run state, such as `running`, `paused`, `internal-error`.
    pub(crate) async fn run_state(&self) -> Result<String, QmpError> {
        let answer = self.execute("query-status", json!({})).await?;
        match answer.get("status").and_then(Value::as_str) {
            Some(status) => Ok(status.to_owned()),
            None => Err(QmpError::Unexpected { command: "query-status".to_owned(), answer: answer.to_string() }),
        }
    }

    /// What the events told until now; `changed` on it waits for the next.
    pub(crate) fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.clone()
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Any line that QEMU sends.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Refusal>,
    id: Option<u64>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

impl Line {
    fn greets(&self) -> bool {
        self.greeting.is_some()
    }
}

/// Until QEMU closes the connection; then commands without an answer fail as their senders are dropped.
async fn read_lines(mut reader: BufReader<OwnedReadHalf>, pending: Pending, changes: watch::Sender<Condition>) {
    while let Some(line) = next_line(&mut reader).await {
        if let Some(event) = &line.event {
            changes.send_if_modified(|condition| {
                let before = condition.clone();
                condition.take_in(event, &line.data);
                *condition != before
            });
            continue;
        }
        let answer = match line.error {
            Some(refusal) => Err(refusal.desc),
            None => Ok(line.returned.unwrap_or_default()),
        };
        let waiting = line.id.and_then(|id| pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
        if let Some(waiting) = waiting {
            // The command may have given up waiting.
            let _given_up = waiting.send(answer);
        }
    }
    pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// `None` at the end of the connection, and at a line that is not QEMU's.
async fn next_line(reader: &mut BufReader<OwnedReadHalf>) -> Option<Line> {
    let mut text = Vec::new();
    let count = reader.take(LONGEST_LINE).read_until(b'\n', &mut text).await.ok()?;
    if count == 0 {
        return None;
    }
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that answers as the script says: what it reads is checked by the test through `answer`.
    fn qemu(stream: UnixStream, answer: impl Fn(Value) -> Vec<String> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(async move {
            let (reader, mut writer) = stream.into_split();
            let mut reader = BufReader::new(reader);
            writer.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n").await.unwrap();
            let mut line = String::new();
            while reader.read_line(&mut line).await.unwrap() > 0 {
                for reply in answer(serde_json::from_str(&line).unwrap()) {
                    writer.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
                }
                line.clear();
            }
        })
    }

    fn done(command: &Value, value: Value) -> String {
        json!({"return": value, "id": command["id"], "unknown-field": 1}).to_string()
    }

    #[tokio::test]
    async fn answers_find_their_commands_in_any_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let held = Mutex::new(Vec::new());
        let _qemu = qemu(theirs, move |command| match command["execute"].as_str().unwrap() {
            "first" => {
                held.lock().unwrap().push(done(&command, json!("one")));
                vec![]
            }
            "second" => vec![done(&command, json!("two")), held.lock().unwrap().pop().unwrap()],
            _ => vec![done(&command, json!({}))],
        });
        let qmp = Qmp::connect(ours).await.unwrap();
        let (first, second) = tokio::join!(qmp.execute("first", json!({})), qmp.execute("second", json!({})));
        assert_eq!(first.unwrap(), json!("one"));
        assert_eq!(second.unwrap(), json!("two"));
    }

    #[tokio::test]
    async fn a_refusal_carries_qemus_words() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let _qemu = qemu(theirs, |command| match command["execute"].as_str().unwrap() {
            "qmp_capabilities" => vec![done(&command, json!({}))],
            _ => vec![
                json!({"error": {"class": "GenericError", "desc": "no such thing"}, "id": command["id"]}).to_string(),
            ],
        });
        let qmp = Qmp::connect(ours).await.unwrap();
        let error = qmp.execute("fetch", json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused `fetch`: no such thing");
    }

    #[tokio::test]
    async fn events_between_answers_change_the_condition() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let _qemu = qemu(theirs, |command| {
            let event = json!({
                "event": "SHUTDOWN",
                "data": {"guest": true, "reason": "guest-shutdown"},
                "timestamp": {"seconds": 1, "microseconds": 2},
            });
            vec![r#"{"event": "NEW_EVENT"}"#.to_owned(), event.to_string(), done(&command, json!({}))]
        });
        let qmp = Qmp::connect(ours).await.unwrap();
        assert_eq!(qmp.condition().borrow().shutdown.as_deref(), Some("guest-shutdown"));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_a_limit_and_a_late_answer_is_dropped() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let _qemu = qemu(theirs, |command| match command["execute"].as_str().unwrap() {
            "silent" => vec![],
            _ => vec![done(&command, json!({}))],
        });
        let qmp = Qmp::connect(ours).await.unwrap();
        let error = qmp.execute("silent", json!({})).await.unwrap_err();
        assert!(matches!(error, QmpError::TimedOut { .. }), "{error}");
        assert!(qmp.pending.lock().unwrap().is_empty());
        qmp.execute("other", json!({})).await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_connection_fails_what_waits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = theirs.into_split();
        let qemu = tokio::spawn(async move {
            writer.write_all(b"{\"QMP\": {}}\n").await.unwrap();
            let mut some = [0; 10];
            reader.read_exact(&mut some).await.unwrap();
        });
        let error = Qmp::connect(ours).await.unwrap_err();
        assert!(matches!(error, QmpError::Closed { .. }), "{error}");
        qemu.await.unwrap();
    }
}
