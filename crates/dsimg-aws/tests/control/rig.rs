//! The rig of tests/ec2, and a client for its control path.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What AWS SDKs are to find in their environment. The rig ends with this process.
pub(crate) fn start(options: &[&str]) -> BTreeMap<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/ec2/rig.sh");
    let parent = format!("--with-parent={}", std::process::id());
    let mut start = Command::new(script);
    start.arg("start").arg(parent).args(options).stderr(Stdio::inherit());
    let printed = start.output().unwrap();
    assert!(printed.status.success(), "the rig did not start");
    let text = String::from_utf8(printed.stdout).unwrap();
    let exports = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let mut environment: BTreeMap<_, _> = exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    environment.insert("DSIMG_CALLER_ADDRESS".to_owned(), "203.0.113.7".to_owned());
    environment
}

fn host() -> String {
    let url = std::env::var("AWS_ENDPOINT_URL").expect("these tests are run by `in_the_rig`");
    url.strip_prefix("http://").unwrap().to_owned()
}

fn send(method: &str, path: &str, kind: &str, body: &str) -> String {
    try_to_send(method, path, kind, body).unwrap_or_else(|answer| panic!("{method} {path}: {answer}"))
}

/// The content of an answer, or all of one that is an error.
fn try_to_send(method: &str, path: &str, kind: &str, body: &str) -> Result<String, String> {
    let host = host();
    let mut stream = TcpStream::connect(&host).unwrap();
    // Whose service it is, moto reads from the signature, which nobody checks.
    let scope = "AWS4-HMAC-SHA256 Credential=AKIARIGRIGRIGRIGRIG0/20261121/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: {scope}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    if head.contains(" 200 ") { Ok(content.to_owned()) } else { Err(answer) }
}

/// `/_rig/…`
pub(crate) fn control(method: &str, path: &str, body: &Value) -> Value {
    serde_json::from_str(&send(method, &format!("/_rig/{path}"), "application/json", &body.to_string())).unwrap()
}

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

fn form(action: &str, parameters: &[(&str, &str)]) -> String {
    let form: String = parameters.iter().map(|(name, value)| format!("&{name}={value}")).collect();
    format!("Action={action}&Version=2016-11-15{form}")
}

/// A call of EC2 as somebody else makes it; the answer is XML.
pub(crate) fn ec2(action: &str, parameters: &[(&str, &str)]) -> String {
    send("POST", "/", FORM, &form(action, parameters))
}

/// The same until it is not throttled.
pub(crate) fn ec2_patiently(action: &str, parameters: &[(&str, &str)]) -> String {
    loop {
        match try_to_send("POST", "/", FORM, &form(action, parameters)) {
            Ok(answer) => return answer,
            Err(answer) => assert!(answer.contains("RequestLimitExceeded"), "{action}: {answer}"),
        }
    }
}

/// A new account with one AMI to start from.
pub(crate) fn reset() -> String {
    control("POST", "reset", &json!({}));
    control("DELETE", "faults", &json!({}));
    let order = json!({"name": "debian-13-amd64-20261101", "created": "2026-11-01T00:00:00Z"});
    let image = control("POST", "images", &order);
    control("DELETE", "calls", &json!({}));
    image["ImageId"].as_str().unwrap().to_owned()
}

pub(crate) fn fault(action: &str, kind: &str, more: Value) {
    let mut order = json!({"action": action, "kind": kind});
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    control("POST", "faults", &order);
}

/// What there is, without empty kinds.
pub(crate) fn alive() -> BTreeMap<String, Vec<String>> {
    let all: BTreeMap<String, Vec<String>> = serde_json::from_value(control("GET", "alive", &json!({}))).unwrap();
    all.into_iter().filter(|(_, ids)| !ids.is_empty()).collect()
}

/// Actions in their order.
pub(crate) fn calls() -> Vec<String> {
    let calls = control("GET", "calls", &json!({}));
    calls.as_array().unwrap().iter().map(|call| call["action"].as_str().unwrap().to_owned()).collect()
}

/// How many calls were answered.
pub(crate) fn answered() -> usize {
    let calls = control("GET", "calls", &json!({}));
    calls.as_array().unwrap().iter().filter(|call| call["outcome"] == "ok").count()
}
