//! As much of AWS as one publish calls. Blocks are counted, their sums kept, and CompleteSnapshot is held against them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

#[derive(Default)]
struct State {
    hash_bodies: bool,
    sums: Mutex<BTreeMap<u32, Vec<u8>>>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

pub(crate) fn serve(hash_bodies: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let state = Arc::new(State { hash_bodies, ..State::default() });
    for connection in listener.incoming().map_while(Result::ok) {
        let state = Arc::clone(&state);
        std::thread::spawn(move || drop(talk(connection, &state)));
    }
}

fn talk(connection: TcpStream, state: &State) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut writer = connection.try_clone()?;
    let mut reader = BufReader::new(connection);
    let mut body = Vec::new();
    while let Some(request) = read_head(&mut reader)? {
        let length = request.headers.get("content-length").map_or(0, |text| text.parse().unwrap_or(0));
        body.resize(length, 0);
        if request.method == "PUT" && !state.hash_bodies {
            // AWS's receiving costs this host nothing: as little of it as can be.
            let buffered = reader.buffer().len().min(length);
            reader.read_exact(&mut body[..buffered])?;
            pass_over(&writer, &mut body[buffered..])?;
        } else {
            reader.read_exact(&mut body)?;
        }
        let (status, kind, answer) = answer(&request, &body, state);
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", answer.len());
        writer.write_all((head + &answer).as_bytes())?;
    }
    Ok(())
}

/// The kernel throws the bytes away: nothing is copied.
fn pass_over(connection: &TcpStream, mut room: &mut [u8]) -> std::io::Result<()> {
    while !room.is_empty() {
        let (_, passed) =
            rustix::net::recv(connection, &mut *room, rustix::net::RecvFlags::TRUNC | rustix::net::RecvFlags::WAITALL)?;
        if passed == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        room = &mut room[passed..];
    }
    Ok(())
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(ToOwned::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Ok(Some(Request { method, path, headers }))
}

fn answer(request: &Request, body: &[u8], state: &State) -> (u16, &'static str, String) {
    let json = "application/json";
    let path = request.path.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path.split('/').skip(1).collect::<Vec<_>>()[..].as_ref()) {
        ("PUT", ["snapshots", _, "blocks", index]) => match put(index, request, body, state) {
            true => (201, json, String::new()),
            false => (400, json, r#"{"Message":"a wrong block"}"#.to_owned()),
        },
        ("POST", ["snapshots", "completion", _]) => match complete(request, state) {
            true => (202, json, r#"{"Status":"pending"}"#.to_owned()),
            false => (400, json, r#"{"Message":"a wrong sum"}"#.to_owned()),
        },
        ("POST", ["snapshots"]) => (201, json, r#"{"SnapshotId":"snap-1","BlockSize":524288}"#.to_owned()),
        _ => (200, "text/xml", control(&String::from_utf8_lossy(body))),
    }
}

fn put(index: &str, request: &Request, body: &[u8], state: &State) -> bool {
    let sum = request.headers.get("x-amz-checksum").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let is_right = body.len() == 512 * 1024 && (!state.hash_bodies || Sha256::digest(body).as_slice() == sum);
    state.sums.lock().expect("a lock").insert(index.parse().expect("a number"), sum);
    is_right
}

fn complete(request: &Request, state: &State) -> bool {
    let sums = std::mem::take(&mut *state.sums.lock().expect("a lock"));
    let mut whole = Sha256::new();
    sums.values().for_each(|sum| whole.update(sum));
    request.headers.get("x-amz-changedblockscount") == Some(&sums.len().to_string())
        && request.headers.get("x-amz-checksum") == Some(&STANDARD.encode(whole.finalize()))
}

fn control(form: &str) -> String {
    let action = form.split('&').find_map(|field| field.strip_prefix("Action=")).unwrap_or_default();
    let inner = match action {
        "GetCallerIdentity" => {
            let who = "<Account>123456789012</Account><Arn>arn:aws:iam::123456789012:user/speed</Arn>";
            return format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult>{who}</GetCallerIdentityResult></GetCallerIdentityResponse>"
            );
        }
        "DescribeImages" if form.contains("ImageId.1") => {
            "<imagesSet><item><imageId>ami-1</imageId><name>speed-1</name><imageState>available</imageState>\
             <rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping><item><deviceName>/dev/xvda</deviceName>\
             <ebs><snapshotId>snap-1</snapshotId></ebs></item></blockDeviceMapping></item></imagesSet>"
        }
        "DescribeSnapshots" => {
            "<snapshotSet><item><snapshotId>snap-1</snapshotId><status>completed</status></item></snapshotSet>"
        }
        "RegisterImage" => "<imageId>ami-1</imageId>",
        _ => "<return>true</return>",
    };
    format!("<{action}Response>{inner}</{action}Response>")
}
