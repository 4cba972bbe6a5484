//! uv, and pip where this host has it, against a small index that moves on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use dsimg_manifest::lock::{Distribution, Lock};
use dsimg_mirror::{Fetched, FetchedKind, Mirror, MirrorSettings};
use dsimg_plan::Digest;
use serde_json::{Value, json};

use crate::client::{ask, get};
use crate::rig::{Rig, artifact, empty_lock, of_kind, run, said};
use crate::upstream::{Fault, Upstream};

const BEFORE: [(&str, &str, &str); 2] = [("toy", "1.0", "toy-lib==1.0"), ("toy-lib", "1.0", "")];
const AFTER: [(&str, &str, &str); 2] = [("toy", "2.0", "toy-lib==2.0"), ("toy-lib", "2.0", "")];

/// How an index is written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Json,
    /// Without metadata beside the wheels, as many companies' mirrors are.
    BareHtml,
}

/// The whole index anew: what is not named is gone.
pub(crate) fn publish(upstream: &Upstream, toys: &[(&str, &str, &str)], form: Form, uploaded: &str) {
    upstream.with(|state| state.files.retain(|path, _| !path.starts_with("/simple/") && !path.starts_with("/files/")));
    let mut pages: std::collections::BTreeMap<&str, Vec<Value>> = Default::default();
    for (name, version, needs) in toys {
        let file = format!("{}-{version}-py3-none-any.whl", name.replace('-', "_"));
        let metadata = metadata(name, version, needs);
        let bytes = wheel(name, version, &metadata);
        pages.entry(name).or_default().push(json!({
            "filename": file, "url": format!("https://files.example.org/{file}"),
            "hashes": {"sha256": Digest::of_bytes(&bytes)}, "size": bytes.len(), "upload-time": uploaded,
            "requires-python": ">=3.8", "core-metadata": {"sha256": Digest::of_bytes(metadata.as_bytes())},
        }));
        upstream.put(&format!("/files/{file}"), bytes);
        if form == Form::Json {
            upstream.put(&format!("/files/{file}.metadata"), metadata);
        }
    }
    for (name, files) in pages {
        let path = format!("/simple/{name}/");
        let (text, kind) = match form {
            Form::Json => {
                let page = json!({"meta": {"api-version": "1.1"}, "name": name, "files": files, "versions": []});
                (page.to_string(), "application/vnd.pypi.simple.v1+json")
            }
            Form::BareHtml => {
                let text = |file: &Value, key: &str| file[key].as_str().unwrap().to_owned();
                let links = files.iter().map(|file| {
                    let hash = file["hashes"]["sha256"].as_str().unwrap();
                    format!("<a href=\"../../files/{0}#sha256={hash}\">{0}</a>", text(file, "filename"))
                });
                (links.collect(), "text/html")
            }
        };
        upstream.put(&path, text);
        upstream.with(|state| state.types.insert(path, kind));
    }
}

fn metadata(name: &str, version: &str, needs: &str) -> String {
    let needs = if needs.is_empty() { String::new() } else { format!("Requires-Dist: {needs}\n") };
    format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
}

fn wheel(name: &str, version: &str, metadata: &str) -> Vec<u8> {
    let stem = name.replace('-', "_");
    let info = format!("{stem}-{version}.dist-info");
    let record = format!("{stem}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n");
    let kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let files = [
        (format!("{stem}.py"), format!("version = '{version}'\n")),
        (format!("{info}/METADATA"), metadata.to_owned()),
        (format!("{info}/WHEEL"), kind.to_owned()),
        (format!("{info}/RECORD"), record),
    ];
    for (path, text) in files {
        archive.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// uv as the builds use it, from the tests' cache.
fn uv() -> PathBuf {
    let cache = std::env::var_os("DSIMG_TEST_CACHE").unwrap_or_else(|| "/var/tmp/dsimg-tests".into());
    let tools = Path::new(&cache).join("cache/tools");
    let entries = std::fs::read_dir(&tools).unwrap_or_else(|error| panic!("{}: {error}", tools.display()));
    let mut found: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("uv").exists() || path.is_file()).collect();
    found.sort();
    let newest = found.pop().expect("a build has fetched uv");
    if newest.is_file() { newest } else { newest.join("uv") }
}

struct Guest {
    folder: tempfile::TempDir,
    index: String,
}

impl Guest {
    fn new(mirror: &Mirror) -> Self {
        let index = format!("http://{}/pypi/https/pypi.example.org/simple", mirror.address());
        Self { folder: tempfile::tempdir().unwrap(), index }
    }

    /// What uv says; with the versions that were installed.
    async fn uv(&self, packages: &[&str]) -> (bool, String) {
        let mut command = Command::new(uv());
        command.args(["pip", "install", "--no-config", "--target"]).arg(self.folder.path().join("lib")).args(packages);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("UV_CACHE_DIR", self.folder.path().join("cache")).env("UV_DEFAULT_INDEX", &self.index);
        command.env("UV_PYTHON_DOWNLOADS", "never").env("NO_COLOR", "1").env("UV_HTTP_RETRIES", "0");
        let output = run(command).await;
        (output.status.success(), said(&output))
    }

    async fn good(&self, packages: &[&str]) -> String {
        let (good, told) = self.uv(packages).await;
        assert!(good, "{told}");
        told
    }
}

/// A lock of all that was fetched.
fn lock_of(fetched: &[Fetched]) -> Lock {
    let files = of_kind(fetched, FetchedKind::PythonFile).into_iter().map(|file| Distribution {
        name: file.name.clone(),
        version: file.version.clone(),
        location: "/opt/ds".into(),
        requested: true,
        stage: file.stage.clone(),
        passing: false,
        index: file.repository.clone(),
        licence: None,
        artifact: Some(artifact(file)),
    });
    Lock { pypi: files.collect(), ..empty_lock() }
}

const LONG_AGO: &str = "2020-01-02T03:04:05.678901Z";

async fn lock_before(rig: &Rig) -> Lock {
    publish(&rig.upstream, &BEFORE, Form::Json, LONG_AGO);
    let mirror = rig.open().await;
    mirror.begin_stage("python");
    Guest::new(&mirror).good(&["toy"]).await;
    lock_of(&mirror.take_record().await.unwrap())
}

#[tokio::test]
async fn uv_installs_through_it_and_the_second_time_from_the_store() {
    let rig = Rig::new().await;
    publish(&rig.upstream, &BEFORE, Form::Json, LONG_AGO);
    let mirror = rig.open().await;
    mirror.begin_stage("python");
    let told = Guest::new(&mirror).good(&["toy"]).await;
    assert!(told.contains("+ toy==1.0") && told.contains("+ toy-lib==1.0"), "{told}");
    let fetched = mirror.take_record().await.unwrap();
    let shown =
        |file: &&Fetched| format!("{} {} {} {} {}", file.stage, file.name, file.version, file.repository, file.url);
    assert_eq!(
        of_kind(&fetched, FetchedKind::PythonFile).iter().map(shown).collect::<Vec<_>>(),
        [
            "python toy 1.0 https://pypi.example.org/simple https://files.example.org/toy-1.0-py3-none-any.whl",
            "python toy-lib 1.0 https://pypi.example.org/simple https://files.example.org/toy_lib-1.0-py3-none-any.whl"
        ]
    );
    assert_eq!(of_kind(&fetched, FetchedKind::PythonMetadata).len(), 2);
    rig.upstream.asked();
    mirror.stop().await.unwrap();

    let mirror = rig.open().await;
    Guest::new(&mirror).good(&["toy"]).await;
    assert!(rig.upstream.asked().iter().all(|asked| asked.starts_with("GET /simple/")));
    assert_eq!(of_kind(&mirror.take_record().await.unwrap(), FetchedKind::PythonFile).len(), 2);
}

#[tokio::test]
async fn an_index_in_plain_html_works_too() {
    let rig = Rig::new().await;
    publish(&rig.upstream, &BEFORE, Form::BareHtml, LONG_AGO);
    let mirror = rig.open().await;
    let told = Guest::new(&mirror).good(&["toy"]).await;
    assert!(told.contains("+ toy==1.0") && told.contains("+ toy-lib==1.0"), "{told}");
    let fetched = mirror.take_record().await.unwrap();
    // Looking into a wheel is not fetching it; each is on record once, by the name that it has for everybody.
    let urls: Vec<_> = of_kind(&fetched, FetchedKind::PythonFile).iter().map(|file| file.url.as_str()).collect();
    assert_eq!(
        urls,
        [
            "https://files.example.org/toy-1.0-py3-none-any.whl",
            "https://files.example.org/toy_lib-1.0-py3-none-any.whl"
        ]
    );
}

#[tokio::test]
async fn pages_are_written_in_the_form_that_is_asked_for() {
    let rig = Rig::new().await;
    publish(&rig.upstream, &BEFORE, Form::Json, LONG_AGO);
    let mirror = rig.open().await;
    let path = "/pypi/https/pypi.example.org/simple/Toy_Lib/";
    let json = [("Accept", "application/vnd.pypi.simple.v1+json")];
    let got = ask(mirror.address(), "GET", path, &json).await;
    assert_eq!(got.headers["content-type"], "application/vnd.pypi.simple.v1+json");
    let file = &got.json()["files"][0];
    assert_eq!(file["url"], "/pypi-file/https/files.example.org/toy_lib-1.0-py3-none-any.whl");
    assert_eq!((&file["upload-time"], &file["requires-python"]), (&json!(LONG_AGO), &json!(">=3.8")));
    let got = ask(mirror.address(), "GET", path, &[("Accept", "text/html")]).await;
    assert_eq!(got.headers["content-type"], "text/html; charset=utf-8");
    assert!(got.text().contains("<a href=\"/pypi-file/https/files.example.org/toy_lib-1.0-py3-none-any.whl#sha256="));
    let got = get(mirror.address(), "/pypi/https/pypi.example.org/simple/none/").await;
    assert_eq!(got.status, 404);
    rig.upstream.put("/simple/rubbish/", "{\"files\": 3}");
    let got = get(mirror.address(), "/pypi/https/pypi.example.org/simple/rubbish/").await;
    assert_eq!((got.status, got.reason.contains("is no page of a Python index")), (502, true));
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_not_kept() {
    let rig = Rig::new().await;
    publish(&rig.upstream, &BEFORE, Form::Json, LONG_AGO);
    let mirror = rig.open().await;
    rig.upstream.fault("/files/toy_lib-1.0-py3-none-any.whl", Fault::Wrong);
    let guest = Guest::new(&mirror);
    let (good, told) = guest.uv(&["toy"]).await;
    assert!(!good, "{told}");
    assert!(mirror.take_record().await.unwrap().iter().all(|file| !file.url.ends_with("toy_lib-1.0-py3-none-any.whl")));
    guest.good(&["toy"]).await;
}

#[tokio::test]
async fn a_lock_gives_what_the_index_no_longer_has() {
    let rig = Rig::new().await;
    let lock = lock_before(&rig).await;
    publish(&rig.upstream, &AFTER, Form::Json, LONG_AGO);
    rig.upstream.asked();
    let mirror = rig.locked(&lock).await;
    let told = Guest::new(&mirror).good(&["toy"]).await;
    assert!(told.contains("+ toy==1.0") && told.contains("+ toy-lib==1.0"), "{told}");
    assert!(rig.upstream.asked().is_empty());
    assert_eq!(mirror.take_record().await.unwrap().len(), 2);
    assert!(mirror.misses().is_empty());
    // From another index there is nothing of it, which is no news; what the lock does not have is.
    let got = get(mirror.address(), "/pypi/https/other.example.org/simple/toy/").await;
    assert_eq!((got.status, mirror.misses().len()), (404, 0));
    let (good, told) = Guest::new(&mirror).uv(&["toy-new"]).await;
    assert!(!good, "{told}");
    assert_eq!(mirror.misses()["Python package toy-new"], "Python package toy-new is not in the lock");
}

#[tokio::test]
async fn a_lock_works_offline_and_names_what_is_missing() {
    let rig = Rig::new().await;
    let lock = lock_before(&rig).await;
    rig.upstream.end();
    let mirror = rig.locked_offline(&lock).await;
    Guest::new(&mirror).good(&["toy"]).await;
    mirror.stop().await.unwrap();
    let blob = rig.store.find(&Digest::parse(&lock.pypi[1].artifact.as_ref().unwrap().sha256).unwrap()).unwrap();
    std::fs::remove_file(blob).unwrap();
    let mirror = rig.locked_offline(&lock).await;
    let got = get(mirror.address(), "/pypi-file/https/files.example.org/toy_lib-1.0-py3-none-any.whl").await;
    assert_eq!(got.status, 503);
    assert!(got.reason.starts_with("toy-lib 1.0 is in the lock and not in the package store"), "{}", got.reason);
    assert!(got.text().contains("hint: take a store or a bundle"), "{}", got.text());
}

#[tokio::test]
async fn a_login_of_the_index_goes_not_to_where_its_files_are() {
    let rig = Rig::new().await;
    let files = Upstream::start().await;
    files.put("/a-1.0-py3-none-any.whl", "wheel");
    let link = files.url("/a-1.0-py3-none-any.whl");
    let page = json!({"name": "a", "files": [{"filename": "a-1.0-py3-none-any.whl", "url": link, "hashes": {}}]});
    rig.upstream.put("/private/a/", page.to_string());
    let mirror = rig.open().await;
    let path = format!("/pypi/http/me:pw@{}/private/a/", rig.upstream.address);
    let got = ask(mirror.address(), "GET", &path, &[("Accept", "application/vnd.pypi.simple.v1+json")]).await;
    assert_eq!(rig.upstream.requests()[0].headers["authorization"], "Basic bWU6cHc=");
    let link = got.json()["files"][0]["url"].as_str().unwrap().to_owned();
    // As clients do, who take the mirror for the one server of both.
    ask(mirror.address(), "GET", &link, &[("Authorization", "Basic bWU6cHc=")]).await;
    assert!(!files.requests()[0].headers.contains_key("authorization"));
    let record = mirror.take_record().await.unwrap();
    assert_eq!(record[0].repository, format!("http://{}/private", rig.upstream.address));
}

#[tokio::test]
async fn what_is_too_young_is_left_out() {
    let rig = Rig::new().await;
    let now = jiff::Timestamp::now().to_string();
    publish(&rig.upstream, &AFTER, Form::Json, &now);
    let week = Some(std::time::Duration::from_secs(7 * 86_400));
    let mirror = Mirror::start(MirrorSettings { min_age: week, ..rig.settings() }).await.unwrap();
    let (good, told) = Guest::new(&mirror).uv(&["toy"]).await;
    assert!(!good && told.contains("toy"), "{told}");
    // An index that does not say when: the file's own time counts.
    publish(&rig.upstream, &AFTER, Form::BareHtml, &now);
    for path in ["/files/toy-2.0-py3-none-any.whl", "/files/toy_lib-2.0-py3-none-any.whl"] {
        rig.upstream.with(|state| state.modified.insert(path.to_owned(), jiff::Timestamp::now().as_second() - 90_000));
    }
    let mirror = Mirror::start(MirrorSettings { min_age: week, ..rig.settings() }).await.unwrap();
    get(mirror.address(), "/pypi/https/pypi.example.org/simple/toy/").await;
    let got = get(mirror.address(), "/pypi-file/https/files.example.org/toy-2.0-py3-none-any.whl").await;
    assert_eq!((got.status, got.reason.as_str()), (403, "toy 2.0 is refused: it is 25 h old, and min_age is 7 days"));
    publish(&rig.upstream, &AFTER, Form::Json, LONG_AGO);
    Guest::new(&mirror).good(&["toy"]).await;
}

#[tokio::test]
async fn what_is_freed_or_new_comes_from_outside_and_the_rest_stays() {
    let rig = Rig::new().await;
    let lock = lock_before(&rig).await;
    let mut after = AFTER.to_vec();
    after.push(("toy-new", "1.0", ""));
    publish(&rig.upstream, &after, Form::Json, LONG_AGO);
    let mirror = rig.partly(&lock, &[]).await;
    let told = Guest::new(&mirror).good(&["toy", "toy-new"]).await;
    assert!(
        told.contains("+ toy==1.0") && told.contains("+ toy-lib==1.0") && told.contains("+ toy-new==1.0"),
        "{told}"
    );
    assert!(mirror.misses().is_empty());
    let mirror = rig.partly(&lock, &["toy", "toy-lib"]).await;
    let told = Guest::new(&mirror).good(&["toy"]).await;
    assert!(told.contains("+ toy==2.0") && told.contains("+ toy-lib==2.0"), "{told}");
}

#[tokio::test]
async fn pip_installs_from_a_lock_too() {
    let rig = Rig::new().await;
    let lock = lock_before(&rig).await;
    publish(&rig.upstream, &AFTER, Form::Json, LONG_AGO);
    let mirror = rig.locked(&lock).await;
    let folder = tempfile::tempdir().unwrap();
    let index = format!("http://{}/pypi/https/pypi.example.org/simple", mirror.address());
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "--no-cache-dir", "--isolated", "--index-url", &index, "--dest"]);
    command.arg(folder.path()).args(["--only-binary", ":all:", "toy"]);
    let output = run(command).await;
    let told = said(&output);
    if told.contains("No module named pip") {
        eprintln!("this host's Python has no pip: not tried");
        return;
    }
    assert!(output.status.success(), "{told}");
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["toy-1.0-py3-none-any.whl", "toy_lib-1.0-py3-none-any.whl"]);
}
