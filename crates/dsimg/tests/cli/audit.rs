use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use dsimg_manifest::LockFile;
use dsimg_manifest::lock::{Deb, write_lock};
use serde_json::{Value, json};

use crate::place::Place;
use crate::sample;

const CRITICAL: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";

/// Fixed in a version.
fn record(id: &str, ecosystem: &str, name: &str, fixed: &str) -> Value {
    json!({
        "id": id, "modified": "2026-11-01T00:00:00Z", "summary": format!("a hole in {name}"),
        "severity": [{"type": "CVSS_V3", "score": CRITICAL}],
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
        }],
    })
}

fn advise(place: &Place, records: &[Value]) {
    for record in records {
        let ecosystem = record["affected"][0]["package"]["ecosystem"].as_str().unwrap();
        let id = record["id"].as_str().unwrap();
        place.write(&format!("osv/{ecosystem}/{id}.json"), &record.to_string());
    }
}

/// Debs by their source packages, one with an epoch, one with a tilde.
fn lock_of(numpy: &str, digest: &str) -> LockFile {
    let mut lock = sample::lock();
    let deb = |name: &str, source: &str, version: &str| Deb {
        source: source.to_owned(),
        source_version: version.to_owned(),
        ..sample::deb(name, version, "tools")
    };
    lock.deb = vec![deb("git", "git", "1:2.47.3-0+deb13u1"), deb("libarchive13t64", "libarchive", "3.7.4-4~deb13u1")];
    lock.pypi = vec![sample::wheel("numpy", numpy, "/opt/ds")];
    lock.cran = vec![sample::tarball("digest", digest)];
    LockFile { runs: BTreeMap::from([("kvm".to_owned(), lock)]) }
}

fn place() -> Place {
    let place = Place::new();
    place.write("team.lock", &write_lock(&lock_of("2.3.4", "0.6.37")));
    place
}

fn clean() -> Vec<Value> {
    vec![
        record("DEBIAN-CVE-1", "Debian:13", "git", "1:2.47.3-0+deb13u1"),
        // Without its epoch it is older than any fixed version.
        record("DEBIAN-CVE-2", "Debian:13", "git", "99.0-1"),
        record("DEBIAN-CVE-3", "Debian:13", "libarchive", "3.7.4-4~deb13u1"),
        record("PYSEC-1", "PyPI", "NumPy", "2.3.4"),
        record("RSEC-1", "CRAN", "digest", "0.6.37"),
    ]
}

#[test]
fn vulnerable_packages_of_each_kind_are_found() {
    let place = place();
    advise(&place, &clean());
    let ran = place.dsimg(&["audit", "team.lock", "--database", "osv"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    advise(
        &place,
        &[
            record("DEBIAN-CVE-4", "Debian:13", "git", "1:2.47.3-0+deb13u2"),
            record("DEBIAN-CVE-5", "Debian:13", "libarchive", "3.7.4-4"),
            record("PYSEC-2", "PyPI", "numpy", "2.3.5"),
            record("RSEC-2", "CRAN", "digest", "0.6.38"),
        ],
    );
    let ran = place.dsimg(&["audit", "team.lock", "--database", "osv"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    // The age of the advisories grows.
    let out: String =
        ran.out.lines().filter(|line| !line.contains("newest of")).map(|line| format!("{line}\n")).collect();
    insta::assert_snapshot!(format!("{out}---\n{}", ran.err));
    let json = place.dsimg(&["audit", "team.lock", "--database", "osv", "--format", "json"]);
    assert_eq!(json.code, Some(6));
    let report: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(report["findings"].as_array().unwrap().len(), 4);
    let sarif = place.dsimg(&["audit", "team.lock", "--database", "osv", "--format", "sarif", "-o", "audit.sarif"]);
    assert_eq!((sarif.code, sarif.out.as_str()), (Some(6), ""));
    assert!(place.read("audit.sarif").contains("2.1.0"));
}

#[test]
fn the_threshold_and_suppressions_decide_what_fails() {
    let place = place();
    let mut mild = record("PYSEC-2", "PyPI", "numpy", "2.3.5");
    mild["severity"][0]["score"] = "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N".into();
    advise(&place, &clean());
    advise(&place, &[mild]);
    let audit = |more: &[&str]| place.dsimg(&[&["audit", "team.lock", "--database", "osv"], more].concat()).code;
    assert_eq!(audit(&[]), Some(0));
    assert_eq!(audit(&["--severity", "medium"]), Some(6));
    place.write("known.toml", "[[suppress]]\nid = \"PYSEC-2\"\nreason = \"not reachable\"\nuntil = 2999-01-01\n");
    assert_eq!(audit(&["--severity", "medium", "--suppressions", "known.toml"]), Some(0));
    place.write("known.toml", "[[suppress]]\nid = \"PYSEC-2\"\n");
    assert_eq!(audit(&["--suppressions", "known.toml"]), Some(2));
    assert_eq!(audit(&["--severity", "bad"]), Some(2));
    let mut malicious = record("MAL-2026-1", "PyPI", "numpy", "9");
    malicious["severity"] = json!([]);
    advise(&place, &[malicious]);
    place.write("known.toml", "[[suppress]]\nid = \"MAL-2026-1\"\nreason = \"x\"\nuntil = 2999-01-01\n");
    assert_eq!(audit(&["--severity", "critical", "--suppressions", "known.toml"]), Some(6), "nobody lives with that");
}

#[test]
fn what_could_not_be_checked_fails_with_a_code_of_its_own() {
    let place = place();
    advise(&place, &clean());
    fs::remove_dir_all(place.path("osv/CRAN")).unwrap();
    let ran = place.dsimg(&["audit", "team.lock", "--database", "osv"]);
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.err.contains("no advisories for CRAN"), "{ran:?}");
    assert_eq!(place.dsimg(&["audit", "team.lock", "--database", "osv", "--allow-unchecked"]).code, Some(0));
    let none = place.dsimg(&["audit", "team.lock"]);
    assert_eq!(none.code, Some(7), "{none:?}");
    assert!(none.err.contains("no advisories for CRAN, Debian:13, PyPI"), "{none:?}");
    place.write("osv/CRAN/all.zip", "PK but no zip");
    let broken = place.dsimg(&["audit", "team.lock", "--database", "osv"]);
    assert_eq!((broken.code, broken.out.as_str()), (Some(7), ""));
    assert!(broken.err.contains("the advisories in `osv/CRAN/all.zip` can't be read"), "{broken:?}");
}

/// One file in a zip that stores it as it is. Source: APPNOTE.TXT of PKWARE, sections 4.3.7, 4.3.12 and 4.3.16.
fn zip(name: &str, content: &str) -> Vec<u8> {
    let mut crc = !0_u32;
    for byte in content.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let (size, name_size) = (u32::try_from(content.len()).unwrap(), u16::try_from(name.len()).unwrap());
    let mut about = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    about.extend((!crc).to_le_bytes());
    about.extend(size.to_le_bytes());
    about.extend(size.to_le_bytes());
    about.extend(name_size.to_le_bytes());
    about.extend([0, 0]);
    let local = [b"PK\x03\x04", about.as_slice(), name.as_bytes(), content.as_bytes()].concat();
    let central = [b"PK\x01\x02\x14\0", about.as_slice(), &[0; 14], name.as_bytes()].concat();
    let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
    end.extend(u32::try_from(central.len()).unwrap().to_le_bytes());
    end.extend(u32::try_from(local.len()).unwrap().to_le_bytes());
    end.extend([0, 0]);
    [local, central, end].concat()
}

/// Answers each path once and ends.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/dumps/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for _ in 0..files.len() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let body = &files.iter().find(|(name, _)| *name == path).unwrap_or_else(|| panic!("{path}")).1;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    (address, server)
}

#[test]
fn an_update_fetches_what_the_image_needs() {
    let place = place();
    let dump =
        |id: &str, ecosystem, name, fixed| zip(&format!("{id}.json"), &record(id, ecosystem, name, fixed).to_string());
    let (mirror, server) = serve(vec![
        ("/dumps/Debian/all.zip", dump("DEBIAN-CVE-1", "Debian:13", "git", "1:2.0")),
        ("/dumps/PyPI/all.zip", dump("PYSEC-1", "PyPI", "numpy", "2.3.5")),
        ("/dumps/CRAN/all.zip", dump("RSEC-1", "CRAN", "digest", "0.1")),
    ]);
    let mut command = place.command(&["audit", "team.lock", "--update"]);
    let ran = place.ran(command.env("DSIMG_OSV_MIRROR", &mirror).output().unwrap());
    server.join().unwrap();
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.err.starts_with("CRAN: 1 advisories\nDebian: 1 advisories\nPyPI: 1 advisories\n"), "{ran:?}");
    assert!(ran.out.contains("PYSEC-1"), "{ran:?}");
    let mut files = place.files("home/.cache/dsimg/osv");
    files.sort();
    assert_eq!(files, ["CRAN/all.zip", "Debian/all.zip", "PyPI/all.zip"]);
    // What was fetched stays, and is not replaced by what is no dump.
    let (mirror, server) = serve(vec![("/dumps/CRAN/all.zip", b"<html>log in first</html>".to_vec())]);
    let ran = place.dsimg(&["audit", "team.lock", "--update", "--mirror", &mirror]);
    server.join().unwrap();
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("is no dump of advisories"), "{ran:?}");
    assert_eq!(place.files("home/.cache/dsimg/osv").len(), 3);
    assert_eq!(place.dsimg(&["audit", "team.lock"]).code, Some(6));
}
