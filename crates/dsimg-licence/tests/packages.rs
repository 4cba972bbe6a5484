//! Licences out of whole files, as registries and apt deliver them, and out of what is none.

#![allow(clippy::unwrap_used, reason = "what panics here fails a test")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use dsimg_licence::{Kind, Licence, licence_of};
use tempfile::TempDir;

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 Somebody
License: GPL-2+ or Expat
";

fn expression(text: &str) -> Option<Licence> {
    Some(Licence::Expression(text.to_owned()))
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // As dpkg writes paths, and past the crate's own check of them.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Through the program of that name.
fn packed(program: &str, content: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(program);
    let mut input = child.stdin.take().unwrap();
    let content = content.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&content));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).into_bytes());
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn deb(data_name: &str, data: &[u8]) -> Vec<u8> {
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), (data_name, data)])
}

fn write(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    // Without an ending, as the package store names files.
    let file = folder.path().join("0123abcd");
    fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn debs_of_each_compression_are_read() {
    let folder = TempDir::new().unwrap();
    let copyright: (&str, &[u8]) = ("./usr/share/doc/x/copyright", COPYRIGHT.as_bytes());
    let other: (&str, &[u8]) = ("./usr/share/doc/x/examples/copyright", b"Format: copyright-format\n");
    let data = tar(&[("./usr/bin/x", &[7; 100_000]), other, copyright, ("./usr/share/man/x", b"x")]);
    let mut forms =
        vec![("data.tar", data.clone()), ("data.tar.gz", packed("gzip", &data)), ("data.tar.xz", packed("xz", &data))];
    if Command::new("zstd").arg("--version").output().is_ok() {
        forms.push(("data.tar.zst/", packed("zstd", &data)));
    } else {
        eprintln!("zstd skipped: it is not here");
    }
    for (name, data) in forms {
        let file = write(&folder, &deb(name, &data));
        assert_eq!(licence_of(Kind::Deb, &file).unwrap(), expression("GPL-2.0-or-later OR MIT"), "{name}");
    }
    let without = write(&folder, &deb("data.tar", &tar(&[("./usr/bin/x", b"x")])));
    assert_eq!(licence_of(Kind::Deb, &without).unwrap(), None);
}

#[test]
fn what_comes_after_the_licence_is_not_read() {
    let folder = TempDir::new().unwrap();
    let mut data = tar(&[("./usr/share/doc/x/copyright", COPYRIGHT.as_bytes()), ("./usr/lib/x", &[7; 1_000_000])]);
    data.truncate(4096);
    let file = write(&folder, &deb("data.tar", &data));
    assert!(licence_of(Kind::Deb, &file).unwrap().is_some());
}

#[test]
fn wheels_source_distributions_and_r_packages_are_read() {
    let folder = TempDir::new().unwrap();
    let mut wheel = zip::ZipWriter::new(File::create(folder.path().join("wheel")).unwrap());
    let vendored = "x/_vendor/y-1.dist-info/METADATA";
    for (path, text) in [
        (vendored, "License-Expression: GPL-3.0-only\n"),
        ("x-1.dist-info/METADATA", "Name: x\nLicense-Expression: MIT\n\nLicense: other\n"),
    ] {
        wheel.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
        wheel.write_all(text.as_bytes()).unwrap();
    }
    wheel.finish().unwrap();
    assert_eq!(licence_of(Kind::Python, &folder.path().join("wheel")).unwrap(), expression("MIT"));
    let sdist = tar(&[
        ("x-1/src/x.egg-info/PKG-INFO", b"License: GPL\n"),
        ("x-1/PKG-INFO", b"Name: x\nClassifier: License :: OSI Approved :: MIT License\n"),
    ]);
    let file = write(&folder, &packed("gzip", &sdist));
    assert_eq!(licence_of(Kind::Python, &file).unwrap(), expression("MIT"));
    let r = tar(&[
        ("x/tests/y/DESCRIPTION", b"License: GPL-3\n"),
        ("x/DESCRIPTION", b"Package: x\nLicense: GPL-2 | GPL-3\n"),
    ]);
    let file = write(&folder, &packed("gzip", &r));
    assert_eq!(licence_of(Kind::R, &file).unwrap(), expression("GPL-2.0-only OR GPL-3.0-only"));
}

#[test]
fn what_is_no_package_is_named() {
    let folder = TempDir::new().unwrap();
    let refused = |kind: Kind, bytes: &[u8], what: &str| {
        let file = write(&folder, bytes);
        let error = licence_of(kind, &file).expect_err(what);
        assert!(error.to_string().contains("0123abcd") && !error.hint().is_empty(), "{error}");
    };
    let data = packed("xz", &tar(&[("./usr/bin/x", &[7; 200_000]), ("./usr/share/doc/x/copyright", b"x")]));
    let whole = deb("data.tar.xz", &data);
    refused(Kind::Deb, b"", "empty");
    refused(Kind::Deb, b"<html>blocked</html>", "a page");
    for length in [9, 60, 100, 180, whole.len() / 2, whole.len() - data.len() + 20] {
        refused(Kind::Deb, &whole[..length], &format!("cut at {length}"));
    }
    refused(Kind::Deb, &deb("data.tar.lzo", &data), "an unknown compression");
    refused(Kind::Deb, &ar(&[("debian-binary", b"2.0\n")]), "no data");
    let mut odd = whole.clone();
    odd[8 + 48..8 + 58].copy_from_slice(b"xxxxxxxxxx");
    refused(Kind::Deb, &odd, "no size");
    odd[8 + 48..8 + 58].copy_from_slice(b"9999999999");
    refused(Kind::Deb, &odd, "a size past the end");
    for kind in [Kind::Python, Kind::R] {
        refused(kind, b"P", "one byte");
        refused(kind, b"PK\x03\x04 no zip", "no zip");
        refused(kind, &packed("gzip", b"no tar at all"), "no tar");
        refused(kind, &packed("gzip", &tar(&[("x/y", b"x")])), "nothing in it");
    }
    assert!(licence_of(Kind::R, Path::new("/nowhere")).is_err());
}

/// Real packages: `DSIMG_DEBS` names a folder of them, as `apt-get download` fills it.
#[test]
#[ignore = "wants a folder of real packages"]
fn real_packages_are_read() {
    let folder = std::env::var_os("DSIMG_DEBS").expect("DSIMG_DEBS names a folder");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let debs: Vec<_> = files.iter().filter(|file| file.extension().is_some_and(|end| end == "deb")).collect();
    let (mut found, mut slowest) = (0, (0, PathBuf::new()));
    let started = Instant::now();
    for file in &debs {
        let begun = Instant::now();
        let licence = licence_of(Kind::Deb, file).unwrap();
        found += usize::from(licence.is_some());
        slowest = slowest.max((begun.elapsed().as_millis(), file.to_path_buf()));
        println!("{} {:?}", file.file_name().unwrap().display(), licence.as_ref().map(Licence::as_str));
    }
    println!("{} packages, {found} with a licence, {:?}, slowest {slowest:?}", debs.len(), started.elapsed());
    assert!(found * 2 > debs.len());
}
