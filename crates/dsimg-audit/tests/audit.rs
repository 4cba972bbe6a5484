//! Whole audits: what is found, what is not, and what is never taken for clean.

#![allow(clippy::unwrap_used, reason = "what panics here fails a test")]

mod rig;

use std::fs;
use std::path::Path;

use dsimg_audit::{OSV, Settings, Severity, audit, downloads, parse_suppressions, since};
use dsimg_manifest::Inventory;
use dsimg_manifest::lock::{Deb, Lock};
use rig::{deb, found, lock, r_package, record, run, run_with, settings, wheel, with, write_dump};
use serde_json::json;
use tempfile::TempDir;

/// One vulnerable package of each ecosystem, and one that is not.
fn image() -> Lock {
    let mut lock = lock();
    lock.deb = vec![
        deb("libssl3t64", "openssl", "3.5.1-1"),
        deb("openssl", "openssl", "3.5.1-1"),
        deb("git", "git", "1:2.47.3-0+deb13u1"),
        deb("libarchive13t64", "libarchive", "3.7.4-4"),
    ];
    lock.pypi = vec![wheel("jinja2", "3.1.3"), wheel("requests", "2.32.5")];
    lock.cran = vec![r_package("readxl", "1.4.0"), r_package("commonmark", "1.9")];
    lock
}

fn advisories() -> TempDir {
    let folder = TempDir::new().unwrap();
    let debian = [
        record("DEBIAN-CVE-2026-1", "Debian:13", "openssl", "3.5.4-1~deb13u1"),
        // Fixed in what is installed: an epoch counts more than all numbers.
        record("DEBIAN-CVE-2026-2", "Debian:13", "git", "1:2.47.3-0+deb13u1"),
        record("DEBIAN-CVE-2026-3", "Debian:13", "git", "99.0-1"),
        // A tilde comes before the end.
        record("DEBIAN-CVE-2026-4", "Debian:13", "libarchive", "3.7.4-4~deb13u1"),
        // Of another release, and of a binary package's name.
        record("DEBIAN-CVE-2026-5", "Debian:12", "openssl", "9.9"),
        record("DEBIAN-CVE-2026-6", "Debian:13", "libssl3t64", "9.9"),
        with(
            record("DEBIAN-CVE-2026-7", "Debian:13", "git", "9:9"),
            json!({"withdrawn": "2026-11-02T00:00:00Z", "modified": "2026-11-20T00:00:00Z"}),
        ),
    ];
    let pypi = [
        with(
            record("PYSEC-2026-1", "PyPI", "Jinja2", "3.1.4"),
            json!({"aliases": ["CVE-2026-34064", "GHSA-h75v-3vvj-5mfj"], "severity": []}),
        ),
        with(
            record("GHSA-h75v-3vvj-5mfj", "PyPI", "jinja2", "3.1.4"),
            json!({"aliases": ["CVE-2026-34064"], "severity": [{"type": "CVSS_V3", "score": rig::MEDIUM}]}),
        ),
        record("PYSEC-2026-2", "PyPI", "requests", "2.32.4"),
    ];
    let cran = [
        record("RSEC-2026-1", "CRAN", "commonmark", "1.8"),
        with(
            record("RSEC-2026-2", "CRAN", "readxl", ""),
            json!({"severity": [], "affected": [{
                "package": {"ecosystem": "CRAN", "name": "readxl"}, "versions": ["1.3.1", "1.4.0"]}]}),
        ),
    ];
    write_dump(&folder.path().join("Debian/all.zip"), &debian);
    write_dump(&folder.path().join("PyPI/all.zip"), &pypi);
    write_dump(&folder.path().join("CRAN/all.zip"), &cran);
    folder
}

#[test]
fn vulnerable_versions_are_found_and_fixed_ones_are_not() {
    let folder = advisories();
    let report = run(&image(), folder.path());
    let expected = [("RSEC-2026-2", "readxl"), ("DEBIAN-CVE-2026-1", "openssl"), ("PYSEC-2026-1", "jinja2")];
    assert_eq!(found(&report), expected);
    let openssl = &report.findings[1];
    assert_eq!(openssl.packages, ["libssl3t64", "openssl"]);
    assert_eq!((openssl.severity, openssl.fixed.as_deref()), (Some(Severity::Critical), Some("3.5.4-1~deb13u1")));
    assert_eq!(report.findings[2].severity, Some(Severity::Medium), "of the database that knows one");
    assert_eq!(report.findings[0].severity, None);
    assert_eq!((report.checked, report.unchecked.len(), report.missing.len()), (8, 0, 0));
    assert!(!report.verdict.passed);
    assert_eq!(report.verdict.reasons, ["2 of severity high or above, or of none that is known"]);
}

#[test]
fn reports_have_three_forms() {
    let folder = advisories();
    let mut lock = image();
    lock.deb.push(Deb { index: None, ..deb("own-tool", "own-tool", "1.0") });
    lock.pypi.push(wheel("ctx", "0.1.2"));
    let malicious = [record("MAL-2026-9", "PyPI", "ctx", "9"), record("PYSEC-2026-3", "PyPI", "requests", "1")];
    write_dump(&folder.path().join("PyPI/all.zip"), &malicious);
    fs::remove_dir_all(folder.path().join("CRAN")).unwrap();
    let text = "[[suppress]]\nid = \"DEBIAN-CVE-2026-1\"\nreason = \"no TLS server\"\nuntil = 2026-12-31\n";
    let settings = Settings { suppressions: parse_suppressions(text).unwrap(), ..settings() };
    let report = run_with(&lock, folder.path(), &settings);
    let here = folder.path().to_str().unwrap();
    insta::assert_snapshot!("text", report.to_text());
    insta::assert_snapshot!("json", report.to_json().replace(here, "DIR"));
    insta::assert_snapshot!("sarif", report.to_sarif("templates/ds hub.lock"));
}

#[test]
fn nothing_found_and_all_checked_passes() {
    let folder = advisories();
    let mut lock = image();
    lock.deb.drain(..2);
    lock.pypi.remove(0);
    lock.cran.remove(0);
    let report = run(&lock, folder.path());
    assert!(report.verdict.passed, "{}", report.to_text());
    assert_eq!(report.checked, 4);
}

#[test]
fn an_ecosystem_without_advisories_fails() {
    let mut lock = lock();
    lock.pypi = vec![wheel("requests", "2.32.5")];
    let folder = TempDir::new().unwrap();
    let fails = |why: &str| {
        let report = run(&lock, folder.path());
        assert_eq!(report.verdict.reasons, ["no advisories for PyPI"], "{why}");
        assert_eq!((report.checked, report.missing[0].packages), (0, 1), "{why}");
    };
    fails("no file at all");
    write_dump(&folder.path().join("PyPI/all.zip"), &[]);
    fails("an empty one");
    write_dump(&folder.path().join("PyPI/all.zip"), &[record("RSEC-1", "CRAN", "requests", "9")]);
    fails("one of another ecosystem");
    let report = run_with(&lock, folder.path(), &Settings { allow_unchecked: true, ..settings() });
    assert!(report.verdict.passed && report.to_text().contains("0 packages checked, 1 not"), "{}", report.to_text());
}

#[test]
fn what_can_not_be_checked_is_listed_and_fails() {
    let folder = advisories();
    let mut lock = image();
    lock.deb = vec![
        Deb { index: None, ..deb("local", "local", "1.0") },
        deb("no-source", "", ""),
        deb("odd", "odd", "one_two"),
    ];
    lock.pypi = vec![wheel("requests", "2.32.5"), wheel("legacy", "2004a-final-x")];
    lock.cran = vec![r_package("commonmark", "1.9")];
    lock.cran[0].commit = Some("r-lib/commonmark@0123".to_owned());
    let report = run(&lock, folder.path());
    let names: Vec<_> = report.unchecked.iter().map(|unchecked| unchecked.name.as_str()).collect();
    assert_eq!(names, ["commonmark", "local", "no-source", "odd", "legacy"]);
    assert_eq!(report.verdict.reasons, ["5 could not be checked"]);
    assert_eq!(report.checked, 1);
    // A manifest alone knows no source packages, and a repository of others has no advisories here.
    lock.deb = vec![deb("docker-ce", "docker-ce", "5:28.0-1")];
    lock.indexes[0].component = "stable".to_owned();
    let why = run(&lock, folder.path()).unchecked.into_iter().find(|entry| entry.name == "docker-ce").unwrap().why;
    assert!(why.contains("not the distribution's"), "{why}");
    lock.base.source = "https://example.org/disk.qcow2".to_owned();
    lock.deb = vec![deb("git", "git", "1:2")];
    lock.indexes[0].component = "main".to_owned();
    lock.indexes[0].suite = "stable".to_owned();
    let why = run(&lock, folder.path()).unchecked.into_iter().find(|entry| entry.name == "git").unwrap().why;
    assert!(why.contains("release of the distribution is not known"), "{why}");
}

#[test]
fn a_record_that_can_not_be_understood_is_not_passed_over() {
    let folder = advisories();
    let mut lock = lock();
    lock.pypi = vec![wheel("requests", "2.32.5")];
    let odd =
        |affected: serde_json::Value| with(record("PYSEC-9", "PyPI", "requests", "1"), json!({"affected": [affected]}));
    let package = json!({"ecosystem": "PyPI", "name": "requests"});
    let events = json!([{"introduced": "0"}, {"fixed": "not a version"}]);
    for affected in [
        json!({"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}),
        json!({"package": package, "ranges": [{"type": "GIT", "events": [{"introduced": "0123"}]}]}),
        json!({"package": package}),
    ] {
        write_dump(&folder.path().join("PyPI/all.zip"), &[odd(affected)]);
        let report = run(&lock, folder.path());
        assert_eq!(report.verdict.reasons, ["1 could not be checked"], "{}", report.to_text());
        assert!(report.unchecked[0].why.starts_with("PYSEC-9: "));
    }
}

#[test]
fn malicious_packages_always_fail() {
    let folder = advisories();
    let mut lock = lock();
    lock.pypi = vec![wheel("ctx", "0.1.2")];
    let versions = json!([{"package": {"ecosystem": "PyPI", "name": "ctx"}, "versions": ["0.1.2"]}]);
    let all = json!([{"package": {"ecosystem": "PyPI", "name": "ctx"}}]);
    let text = "[[suppress]]\nid = \"MAL-2026-1\"\nreason = \"we like it\"\nuntil = 2027-01-31\n";
    let settings = Settings {
        threshold: Severity::Critical,
        allow_unchecked: true,
        suppressions: parse_suppressions(text).unwrap(),
        ..settings()
    };
    for affected in [versions, all] {
        let malicious = with(record("MAL-2026-1", "PyPI", "ctx", "9"), json!({"affected": affected, "severity": []}));
        write_dump(&folder.path().join("PyPI/all.zip"), &[malicious]);
        let report = run_with(&lock, folder.path(), &settings);
        assert_eq!(report.verdict.reasons, ["1 malicious"]);
    }
}

#[test]
fn suppressions_end() {
    let folder = advisories();
    let list = |until: &str, more: &str| {
        let text = format!("[[suppress]]\nid = \"DEBIAN-CVE-2026-1\"\nreason = \"x\"\nuntil = {until}\n{more}");
        Settings { suppressions: parse_suppressions(&text).unwrap(), ..settings() }
    };
    let mut lock = lock();
    lock.deb = vec![deb("libssl3t64", "openssl", "3.5.1-1")];
    let audit = |settings: &Settings| run_with(&lock, folder.path(), settings);
    assert!(audit(&list("2026-11-21", "")).verdict.passed, "on its last day");
    let ended = audit(&list("2026-11-20", ""));
    assert!(!ended.verdict.passed && ended.notes[0].contains("ended on 2026-11-20"));
    assert!(audit(&list("2026-12-31", "package = \"libssl3t64\"\n")).verdict.passed);
    let other = audit(&list("2026-12-31", "package = \"nginx\"\n"));
    assert!(!other.verdict.passed && other.notes[0].contains("fits nothing"));
}

#[test]
fn old_advisories_fail() {
    let folder = advisories();
    let mut lock = lock();
    lock.pypi = vec![wheel("requests", "2.32.5")];
    let at = |now: &str| run_with(&lock, folder.path(), &Settings { now: now.parse().unwrap(), ..settings() }).verdict;
    assert!(at("2026-11-26T12:00:00Z").passed);
    assert_eq!(at("2026-11-27T12:00:01Z").reasons, ["the advisories for PyPI are 8 days old, and the limit is 7"]);
    write_dump(
        &folder.path().join("PyPI/all.zip"),
        &[with(record("PYSEC-1", "PyPI", "x", "1"), json!({"modified": null}))],
    );
    assert_eq!(at("2026-11-26T12:00:00Z").reasons, ["the age of the advisories for PyPI is not known"]);
}

#[test]
fn advisories_may_lie_as_osv_scanner_keeps_them() {
    let mut lock = lock();
    lock.deb = vec![deb("openssl", "openssl", "3.5.1-1")];
    let records = [record("DEBIAN-CVE-1", "Debian:13", "openssl", "4")];
    for place in ["Debian/all.zip", "Debian:13/all.zip", "osv-scanner/Debian/all.zip", "osv-scanner/Debian:13/all.zip"]
    {
        let folder = TempDir::new().unwrap();
        write_dump(&folder.path().join(place), &records);
        assert_eq!(found(&run(&lock, folder.path())), [("DEBIAN-CVE-1", "openssl")], "{place}");
    }
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("Debian")).unwrap();
    fs::write(folder.path().join("Debian/DEBIAN-CVE-1.json"), records[0].to_string()).unwrap();
    assert_eq!(found(&run(&lock, folder.path())), [("DEBIAN-CVE-1", "openssl")]);
}

#[test]
fn ubuntu_and_bioconductor_have_advisories_of_their_own() {
    let folder = TempDir::new().unwrap();
    let mut lock = lock();
    lock.base.source = "ubuntu noble amd64".to_owned();
    lock.deb = vec![deb("linux-image-6.8.0-45-generic", "linux-signed", "6.8.0-45.45")];
    lock.cran = vec![r_package("limma", "3.64.0")];
    lock.cran[0].repository = "https://bioconductor.org/packages/3.21/bioc".to_owned();
    let ubuntu = [
        with(
            record("UBUNTU-CVE-1", "Ubuntu:24.04:LTS", "linux", "6.8.0-50.51"),
            json!({"severity": [{"type": "Ubuntu", "score": "high"}], "upstream": ["CVE-2026-1"]}),
        ),
        record("UBUNTU-CVE-2", "Ubuntu:Pro:24.04:LTS", "linux", "9"),
        record("UBUNTU-CVE-3", "Ubuntu:22.04:LTS", "linux", "9"),
    ];
    write_dump(&folder.path().join("Ubuntu/all.zip"), &ubuntu);
    write_dump(&folder.path().join("Bioconductor/all.zip"), &[record("BIOC-1", "Bioconductor", "limma", "3.65")]);
    let report = run(&lock, folder.path());
    assert_eq!(found(&report), [("BIOC-1", "limma"), ("UBUNTU-CVE-1", "linux")]);
    assert_eq!(report.findings[1].severity, Some(Severity::High));
    assert!(report.findings[1].also.contains("CVE-2026-1"));
    let urls: Vec<_> = downloads(&Inventory::of_lock("kvm", &lock), OSV)
        .into_iter()
        .map(|download| (download.url, download.file.display().to_string()))
        .collect();
    let expected = ["Bioconductor", "Ubuntu"].map(|name| {
        (format!("https://osv-vulnerabilities.storage.googleapis.com/{name}/all.zip"), format!("{name}/all.zip"))
    });
    assert_eq!(urls, expected);
}

#[test]
fn a_file_that_is_no_dump_is_named() {
    let folder = advisories();
    let file = folder.path().join("Debian/all.zip");
    let whole = fs::read(&file).unwrap();
    let refused = |bytes: &[u8], why: &str| {
        fs::write(&file, bytes).unwrap();
        let error = audit(&Inventory::of_lock("kvm", &image()), folder.path(), &settings()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(file.to_str().unwrap()) && !error.hint().is_empty(), "{why}: {text}");
    };
    for length in [0, 1, 30, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
        refused(&whole[..length], &format!("cut at {length}"));
    }
    refused(b"<html>blocked by the proxy</html>", "no zip");
    // In the middle of the first record's data.
    let mut flipped = whole.clone();
    flipped[100] ^= 0xff;
    refused(&flipped, "a byte was changed");
}

#[test]
fn a_record_that_is_none_is_named() {
    let mut lock = lock();
    lock.pypi = vec![wheel("requests", "2.32.5")];
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("PyPI/all.zip");
    for wrong in [json!(["PYSEC-1"]), json!({"id": 7}), json!({"id": "x", "affected": "all"})] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut zip = zip::ZipWriter::new(fs::File::create(&file).unwrap());
        zip.start_file("PYSEC-1.json", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, wrong.to_string().as_bytes()).unwrap();
        zip.finish().unwrap();
        match audit(&Inventory::of_lock("kvm", &lock), folder.path(), &settings()) {
            Err(error) => assert!(error.to_string().contains("`PYSEC-1.json`"), "{error}"),
            Ok(report) => assert!(!report.verdict.passed, "{wrong}"),
        }
    }
}

#[test]
fn two_images_are_compared() {
    let folder = advisories();
    let mut later = image();
    later.deb[0].source_version = "3.5.4-1~deb13u1".to_owned();
    later.deb[1].source_version = "3.5.4-1~deb13u1".to_owned();
    later.cran[1].version = "1.7".to_owned();
    let since = since(&run(&image(), folder.path()), &run(&later, folder.path()));
    let ids = |findings: &[dsimg_audit::Finding]| findings.iter().map(|found| found.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&since.fixed), ["DEBIAN-CVE-2026-1"]);
    assert_eq!(ids(&since.introduced), ["RSEC-2026-1"]);
    assert_eq!(since.remaining.len(), 2);
    assert!(since.to_text().contains("fixed: 1\n  critical  DEBIAN-CVE-2026-1  openssl 3.5.1-1\n"));
}

/// As large as the largest dumps: 150 000 records.
#[test]
#[ignore = "writes a file of more than 100 MB"]
fn a_large_dump_takes_little_memory() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("Debian/all.zip");
    write_large(&file);
    let mut lock = lock();
    lock.deb = (0..300).map(|number| deb(&format!("p{number}"), &format!("source-{number}"), "1.0-1")).collect();
    // Starts the counting of the peak anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_memory();
    let started = std::time::Instant::now();
    let report = run(&lock, folder.path());
    let (took, memory) = (started.elapsed(), peak_memory() - before);
    let size = fs::metadata(&file).unwrap().len() >> 20;
    println!("{size} MiB, {} records, {took:?}, {memory} KiB more", report.databases[0].records);
    assert!(size >= 100 && memory < 300 << 10, "{memory} KiB");
    assert_eq!(report.findings.len(), 300);
}

fn write_large(file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut zip = zip::ZipWriter::new(std::io::BufWriter::new(fs::File::create(file).unwrap()));
    let options = zip::write::SimpleFileOptions::default().compression_level(Some(1));
    let mut state = 1_u64;
    for number in 0..150_000 {
        let mut details = String::new();
        for _ in 0..32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            details += &format!("{state:016x}");
        }
        let id = format!("DEBIAN-CVE-{number}");
        let record = with(record(&id, "Debian:13", &format!("source-{number}"), "2.0"), json!({"details": details}));
        zip.start_file(format!("{id}.json"), options).unwrap();
        std::io::Write::write_all(&mut zip, record.to_string().as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

/// KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
