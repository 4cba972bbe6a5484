//! The rig's control path; nothing of HTTP is needed but one request on one connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// The environment that points SDKs to a new rig, which ends with this process.
pub(crate) fn start() -> BTreeMap<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/ec2/rig.sh");
    let parent = format!("--with-parent={}", std::process::id());
    let output =
        Command::new(script).args(["start", "--no-machines", "--fast", &parent]).output().expect("the rig's script");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let exports = String::from_utf8(output.stdout).expect("text");
    let variables = exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(crate) fn get(path: &str) -> Value {
    ask("GET", path, &json!({}))
}

pub(crate) fn post(path: &str, body: &Value) -> Value {
    ask("POST", path, body)
}

/// Strikes the next fitting call, unless `order` says otherwise.
pub(crate) fn fault(order: &Value) {
    post("faults", order);
}

pub(crate) fn no_more_faults() {
    ask("DELETE", "faults", &json!({}));
}

/// Since the last call of this.
pub(crate) fn calls() -> Vec<Value> {
    let calls = get("calls").as_array().cloned().unwrap_or_default();
    ask("DELETE", "calls", &json!({}));
    calls
}

pub(crate) fn count(calls: &[Value], action: &str, outcome: &str) -> usize {
    calls.iter().filter(|call| call["action"] == action && call["outcome"] == outcome).count()
}

/// Ids of a kind that are alive, in all regions.
pub(crate) fn alive(kind: &str) -> Vec<String> {
    serde_json::from_value(get("alive")[kind].clone()).expect("a list of ids")
}

fn ask(method: &str, path: &str, body: &Value) -> Value {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").expect("the rig's environment");
    let address = endpoint.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).expect("the rig answers");
    let body = body.to_string();
    let head = format!(
        "{method} /_rig/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all((head + &body).as_bytes()).expect("the rig reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("the rig writes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).expect("JSON")
}
