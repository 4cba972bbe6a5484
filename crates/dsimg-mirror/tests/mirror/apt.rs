//! This host's own apt, with folders of the test's, against a small repository that moves on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dsimg_manifest::lock::{Deb, Lock};
use dsimg_mirror::{DebName, Fetched, FetchedKind, Mirror, MirrorSettings, lock_parts};
use dsimg_plan::Digest;

use crate::client::get;
use crate::rig::{Rig, empty_lock, of_kind, pins, run, said};
use crate::upstream::Upstream;

/// A package by name, version and what it needs.
type Toy<'a> = (&'a str, &'a str, &'a str);

const BEFORE: [Toy<'_>; 3] =
    [("toy", "1:1.0+a~1", "toy-lib (= 1.0)"), ("toy-lib", "1.0", ""), ("toy-other", "1.0", "")];
const AFTER: [Toy<'_>; 3] = [("toy", "1:2.0", "toy-lib (= 2.0)"), ("toy-lib", "2.0", ""), ("toy-new", "1.0", "")];

/// The whole repository anew: what is not named is gone.
pub(crate) fn publish(upstream: &Upstream, toys: &[Toy<'_>]) {
    let work = tempfile::tempdir().unwrap();
    let mut list = String::new();
    upstream.with(|state| state.files.retain(|path, _| !path.starts_with("/debian/")));
    for (name, version, depends) in toys {
        let bytes = build(work.path(), name, version, depends);
        let file = format!("pool/{name}_{}_all.deb", version.split(':').next_back().unwrap());
        list.push_str(&format!(
            "Package: {name}\nSource: toys (9.9)\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\n{}\
             Filename: {file}\nSize: {}\nSHA256: {}\nDescription: a toy\n\n",
            if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") },
            bytes.len(),
            Digest::of_bytes(&bytes),
        ));
        upstream.put(&format!("/debian/{file}"), bytes);
    }
    let path = format!("main/binary-{}/Packages.gz", arch());
    let packed = gzip(&list);
    let plain = path.trim_end_matches(".gz");
    let release = format!(
        "Origin: Toys\nLabel: Toys\nSuite: stable\nCodename: trixie\nVersion: 13\nDate: Sat, 08 Nov 2025 09:55:41 UTC\n\
         Valid-Until: Sat, 08 Nov 2098 09:55:41 UTC\nArchitectures: {}\nComponents: main contrib\n\
         No-Support-for-Architecture-all: Packages\nSHA256:\n {} {} {plain}\n {} {} {path}\n",
        arch(),
        Digest::of_bytes(list.as_bytes()),
        list.len(),
        Digest::of_bytes(&packed),
        packed.len(),
    );
    upstream.put("/debian/dists/trixie/Release", release);
    upstream.put(&format!("/debian/dists/trixie/{path}"), packed);
}

fn build(work: &Path, name: &str, version: &str, depends: &str) -> Vec<u8> {
    let tree = work.join(name);
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
    let control = format!(
        "Package: {name}\nSource: toys (9.9)\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\n\
         {depends}Description: a toy\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    fs::write(tree.join("what"), format!("{name} {version}")).unwrap();
    let (tree, deb) = (tree.to_str().unwrap(), work.join(format!("{name}.deb")));
    let built = Command::new("dpkg-deb").args(["--root-owner-group", "--build", tree, deb.to_str().unwrap()]).output();
    let built = built.unwrap();
    assert!(built.status.success(), "{}", said(&built));
    fs::read(deb).unwrap()
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

pub(crate) fn arch() -> String {
    let output = Command::new("dpkg").arg("--print-architecture").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// apt with nothing of this host's but its programs.
pub(crate) struct Guest {
    folder: tempfile::TempDir,
    options: Vec<String>,
}

impl Guest {
    /// `trusted`: the test's repository is not signed.
    pub(crate) fn new(mirror: &Mirror, sources: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in ["lists/partial", "cache/archives/partial", "sources.d", "state", "preferences.d", "conf.d"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("status"), "").unwrap();
        fs::write(at("sources.d/test.sources"), sources).unwrap();
        let set = |name: &str, path: &str| format!("Dir::{name}={}", at(path).display());
        let options = vec![
            set("State", "state"),
            set("State::lists", "lists"),
            set("State::status", "status"),
            set("Cache", "cache"),
            set("Etc::SourceParts", "sources.d"),
            set("Etc::PreferencesParts", "preferences.d"),
            set("Etc::SourceList", "none"),
            set("Etc::Preferences", "none"),
            format!("Acquire::http::Proxy=http://{}/", mirror.address()),
            "Acquire::Languages=none".to_owned(),
            "APT::Update::Error-Mode=any".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ];
        Self { folder, options }
    }

    /// What the crate's page asks for with a lock.
    pub(crate) fn of_lock(mirror: &Mirror) -> Self {
        let mut guest = Self::new(mirror, &SOURCES.replace("Trusted: yes\n", ""));
        guest.options.push("Acquire::AllowInsecureRepositories=true".to_owned());
        guest.options.push("APT::Get::AllowUnauthenticated=true".to_owned());
        guest
    }

    pub(crate) async fn apt_get(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y"]).env("LC_ALL", "C.UTF-8");
        // No configuration of this host's, such as proxies.
        command.env("APT_CONFIG", self.folder.path().join("apt.conf"));
        fs::write(
            self.folder.path().join("apt.conf"),
            format!("Dir::Etc::Parts \"{}\";\n", self.at("conf.d").display()),
        )
        .unwrap();
        for option in &self.options {
            command.args(["-o", option]);
        }
        command.args(arguments);
        run(command).await
    }

    pub(crate) async fn good(&self, arguments: &[&str]) -> String {
        let output = self.apt_get(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    /// Files that were downloaded.
    pub(crate) fn debs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("cache/archives")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".deb")).collect();
        names.sort();
        names
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }
}

pub(crate) const SOURCES: &str =
    "Types: deb\nURIs: http://deb.example.org/debian\nSuites: trixie\nComponents: main contrib\nTrusted: yes\n";

const INSTALL: [&str; 3] = ["install", "--download-only", "toy"];

/// A lock of all that was fetched.
pub(crate) fn lock_of(rig: &Rig, fetched: &[Fetched]) -> Lock {
    let parts = lock_parts(fetched, &[], &rig.store).unwrap();
    let debs = parts.debs.into_iter().map(|part| Deb {
        name: part.package.name,
        version: part.package.version,
        arch: part.package.arch,
        source: part.source,
        source_version: part.source_version,
        requested: true,
        stage: part.stage,
        passing: false,
        index: part.index,
        origin: "Toys trixie main".to_owned(),
        licence: None,
        artifact: Some(part.artifact),
    });
    Lock { deb: debs.collect(), indexes: parts.indexes, ..empty_lock() }
}

/// A lock of the repository as it was before.
pub(crate) async fn lock_before(rig: &Rig) -> (Lock, Vec<Fetched>) {
    publish(&rig.upstream, &BEFORE);
    let mirror = rig.open().await;
    mirror.begin_stage("tools");
    let guest = Guest::new(&mirror, SOURCES);
    guest.good(&["update"]).await;
    guest.good(&INSTALL).await;
    let fetched = mirror.take_record().await.unwrap();
    mirror.stop().await.unwrap();
    (lock_of(rig, &fetched), fetched)
}

#[tokio::test]
async fn apt_installs_through_it_and_the_second_time_from_the_store() {
    let rig = Rig::new().await;
    let (_, fetched) = lock_before(&rig).await;
    let debs = of_kind(&fetched, FetchedKind::AptPackage);
    let shown =
        |file: &&Fetched| format!("{} {} {} {} {}", file.stage, file.name, file.version, file.arch, file.repository);
    assert_eq!(
        debs.iter().map(shown).collect::<Vec<_>>(),
        [
            "tools toy-lib 1.0 all http://deb.example.org/debian trixie main",
            "tools toy 1:1.0+a~1 all http://deb.example.org/debian trixie main"
        ]
    );
    assert_eq!(debs[1].url, "http://deb.example.org/debian/pool/toy_1.0+a~1_all.deb");
    let indexes: Vec<_> =
        of_kind(&fetched, FetchedKind::AptIndex).iter().map(|file| file.url.rsplit('/').next().unwrap()).collect();
    assert_eq!(indexes, ["Release", "Packages.gz"]);
    rig.upstream.asked();

    let mirror = rig.open().await;
    let guest = Guest::new(&mirror, SOURCES);
    guest.good(&["update"]).await;
    guest.good(&INSTALL).await;
    assert_eq!(guest.debs(), ["toy-lib_1.0_all.deb", "toy_1%3a1.0+a~1_all.deb"]);
    // Lists are asked about; packages are known by their sha256.
    assert!(rig.upstream.asked().iter().all(|asked| !asked.contains("/pool/")));
    assert_eq!(of_kind(&mirror.take_record().await.unwrap(), FetchedKind::AptPackage).len(), 2);

    // A machine that is taken up from a checkpoint has its lists already; the next mirror knows them from the record.
    let earlier = of_kind(&fetched, FetchedKind::AptIndex).into_iter().cloned().collect();
    let mirror = Mirror::start(dsimg_mirror::MirrorSettings { earlier, ..rig.settings() }).await.unwrap();
    get(mirror.address(), &debs[0].url).await;
    assert!(rig.upstream.asked().is_empty());
}

#[tokio::test]
async fn what_the_index_does_not_list_so_is_broken_off() {
    let rig = Rig::new().await;
    publish(&rig.upstream, &BEFORE);
    let mirror = rig.open().await;
    let guest = Guest::new(&mirror, SOURCES);
    guest.good(&["update"]).await;
    let path = "/debian/pool/toy-lib_1.0_all.deb";
    let right = rig.upstream.with(|state| state.files.get(path).unwrap().clone());
    let mut wrong = right.clone();
    wrong[70] ^= 1;
    rig.upstream.put(path, wrong);
    let output = guest.apt_get(&INSTALL).await;
    assert!(!output.status.success());
    assert!(said(&output).contains("is not what was expected: its sha256 is"), "{}", said(&output));
    let record = mirror.take_record().await.unwrap();
    assert!(record.iter().all(|file| file.name != "toy-lib"));
    // Nor is it kept: the next try gets the right one.
    rig.upstream.put(path, right);
    guest.good(&INSTALL).await;
}

#[tokio::test]
async fn a_failure_outside_is_in_apts_own_words() {
    let rig = Rig::new().await;
    publish(&rig.upstream, &BEFORE);
    let mirror = rig.open().await;
    let guest = Guest::new(&mirror, SOURCES);
    guest.good(&["update"]).await;
    rig.upstream.with(|state| state.files.remove("/debian/pool/toy-lib_1.0_all.deb"));
    let output = guest.apt_get(&INSTALL).await;
    let told = format!("404  {} answers 404 Not Found for http://", rig.upstream.address);
    assert!(said(&output).contains(&told), "{}", said(&output));
    rig.upstream.end();
    let output = guest.apt_get(&["update"]).await;
    assert!(!output.status.success() && said(&output).contains("onnection refused"), "{}", said(&output));
}

#[tokio::test]
async fn a_lock_gives_what_the_repository_no_longer_has() {
    let rig = Rig::new().await;
    let (lock, _) = lock_before(&rig).await;
    publish(&rig.upstream, &AFTER);
    rig.upstream.asked();
    let mirror = rig.locked(&lock).await;
    let guest = Guest::of_lock(&mirror);
    let told = guest.good(&["update"]).await;
    assert!(!told.contains("W: Skipping") && !told.contains("Conflicting"), "{told}");
    guest.good(&INSTALL).await;
    assert_eq!(guest.debs(), ["toy-lib_1.0_all.deb", "toy_1%3a1.0+a~1_all.deb"]);
    assert!(rig.upstream.asked().is_empty());
    assert_eq!(mirror.take_record().await.unwrap().len(), 2);
    // What apt shows of the repository is what it showed then.
    let policy = guest.good(&["install", "-s", "toy"]).await;
    assert!(policy.contains("Inst toy (1:1.0+a~1 Toys:13/stable [all])"), "{policy}");
    // Upstream's newer packages are not there at all, nor those it always had.
    for name in ["toy-new", "toy-other"] {
        let output = guest.apt_get(&["install", "-s", name]).await;
        assert!(said(&output).contains(&format!("Unable to locate package {name}")), "{}", said(&output));
    }
    assert!(mirror.misses().is_empty());
    let got = get(mirror.address(), "http://deb.example.org/debian/pool/toy_2.0_all.deb").await;
    assert_eq!((got.status, got.text().contains("not in the lock")), (404, true));
    assert_eq!(mirror.misses().len(), 1);
}

#[tokio::test]
async fn a_lock_works_offline_and_names_what_is_missing() {
    let rig = Rig::new().await;
    let (lock, fetched) = lock_before(&rig).await;
    rig.upstream.end();
    let mirror = rig.locked_offline(&lock).await;
    let guest = Guest::of_lock(&mirror);
    guest.good(&["update"]).await;
    guest.good(&INSTALL).await;
    assert_eq!(guest.debs().len(), 2);
    mirror.stop().await.unwrap();

    let library = of_kind(&fetched, FetchedKind::AptPackage)[0].clone();
    let blob = rig.store.find(&library.sha256).unwrap();
    fs::write(&blob, vec![0; library.size as usize]).unwrap();
    let mirror = rig.locked_offline(&lock).await;
    let guest = Guest::of_lock(&mirror);
    guest.good(&["update"]).await;
    let told = said(&guest.apt_get(&INSTALL).await);
    assert!(told.contains("toy-lib 1.0 is in the lock and not in the package store"), "{told}");
    assert!(told.contains(library.sha256.as_str()), "{told}");
}

#[tokio::test]
async fn a_lock_without_a_store_makes_its_lists_of_the_packages() {
    let rig = Rig::new().await;
    let (lock, _) = lock_before(&rig).await;
    let elsewhere = rig.elsewhere().await;
    let mirror = elsewhere.locked(&lock).await;
    let guest = Guest::of_lock(&mirror);
    let told = guest.good(&["update"]).await;
    assert!(!told.contains("W: Skipping") && !told.contains("Conflicting"), "{told}");
    guest.good(&INSTALL).await;
    assert_eq!(guest.debs(), ["toy-lib_1.0_all.deb", "toy_1%3a1.0+a~1_all.deb"]);
    let policy = guest.good(&["install", "-s", "toy"]).await;
    assert!(policy.contains("Inst toy (1:1.0+a~1 trixie [all])"), "{policy}");
    mirror.stop().await.unwrap();

    // What is published no more can't be had without the store.
    publish(&elsewhere.upstream, &AFTER);
    let nowhere = elsewhere.elsewhere().await;
    let settings = MirrorSettings { pins: Some(pins(&lock)), ..nowhere.settings() };
    let error = Mirror::start(settings).await.unwrap_err();
    assert!(error.to_string().contains("is in the lock and not in the package store"), "{error}");
    assert!(error.hint().unwrap().contains("dsimg bundle"));
}

#[tokio::test]
async fn a_lock_without_its_package_fetches_it_if_it_is_the_same() {
    let rig = Rig::new().await;
    let (lock, fetched) = lock_before(&rig).await;
    let library = of_kind(&fetched, FetchedKind::AptPackage)[0].clone();
    fs::remove_file(rig.store.find(&library.sha256).unwrap()).unwrap();
    rig.upstream.asked();
    let mirror = rig.locked(&lock).await;
    let guest = Guest::of_lock(&mirror);
    guest.good(&["update"]).await;
    guest.good(&INSTALL).await;
    assert_eq!(rig.upstream.asked(), ["GET /debian/pool/toy-lib_1.0_all.deb"]);
    // Rebuilt with the same version: not the bytes of the lock.
    mirror.take_record().await.unwrap();
    fs::remove_file(rig.store.find(&library.sha256).unwrap()).unwrap();
    rig.upstream.with(|state| state.files.get_mut("/debian/pool/toy-lib_1.0_all.deb").unwrap()[70] ^= 1);
    let mirror = rig.locked(&lock).await;
    let guest = Guest::of_lock(&mirror);
    guest.good(&["update"]).await;
    let told = said(&guest.apt_get(&INSTALL).await);
    assert!(told.contains("toy-lib 1.0 is in the lock and not in the package store"), "{told}");
    assert!(told.contains("not what was expected"), "{told}");
}

#[tokio::test]
async fn parts_of_a_lock_name_source_and_list() {
    let rig = Rig::new().await;
    let (_, fetched) = lock_before(&rig).await;
    let asked = [
        DebName { name: "toy-other".into(), version: "1.0".into(), arch: "all".into() },
        DebName { name: "toy-other".into(), version: "0.9".into(), arch: "all".into() },
    ];
    let parts = lock_parts(&fetched, &asked, &rig.store).unwrap();
    assert_eq!(parts.indexes.len(), 1);
    let index = &parts.indexes[0];
    assert_eq!((index.id.as_str(), index.uri.as_str()), ("toys-trixie-main", "http://deb.example.org/debian"));
    assert_eq!(index.date, "Sat, 08 Nov 2025 09:55:41 UTC");
    let entries = String::from_utf8(rig.store.read(&Digest::parse(&index.entries).unwrap()).unwrap()).unwrap();
    assert_eq!(entries.matches("Package: ").count(), 2);
    let toy = parts.debs.iter().find(|part| part.package.name == "toy").unwrap();
    assert_eq!((toy.source.as_str(), toy.source_version.as_str(), toy.stage.as_str()), ("toys", "9.9", "tools"));
    assert_eq!((toy.package.version.as_str(), toy.index.as_deref()), ("1:1.0+a~1", Some("toys-trixie-main")));
    assert_eq!(parts.listed.len(), 1);
    assert_eq!((parts.listed[0].package.version.as_str(), parts.listed[0].source.as_str()), ("1.0", "toys"));
    // Once more, from the same: the same.
    assert_eq!(lock_parts(&fetched, &asked, &rig.store).unwrap(), parts);
}

#[tokio::test]
async fn what_is_freed_or_new_comes_from_outside_and_the_rest_stays() {
    let rig = Rig::new().await;
    let (lock, _) = lock_before(&rig).await;
    publish(&rig.upstream, &AFTER);
    let mirror = rig.partly(&lock, &[]).await;
    mirror.begin_stage("tools");
    let guest = Guest::of_lock(&mirror);
    guest.good(&["update"]).await;
    let told = guest.good(&["install", "-s", "toy", "toy-new"]).await;
    assert!(told.contains("Inst toy (1:1.0+a~1 Toys:13/stable [all])") && told.contains("Inst toy-new (1.0"), "{told}");
    guest.good(&["install", "--download-only", "toy", "toy-new"]).await;
    assert_eq!(guest.debs(), ["toy-lib_1.0_all.deb", "toy-new_1.0_all.deb", "toy_1%3a1.0+a~1_all.deb"]);
    // A lock that is made of that has old and new, and works as the first did.
    let next = lock_of(&rig, &mirror.take_record().await.unwrap());
    let names: Vec<_> =
        next.deb.iter().map(|deb| (deb.name.as_str(), deb.version.as_str(), deb.index.as_deref())).collect();
    let index = Some("toys-trixie-main");
    assert_eq!(names, [("toy-lib", "1.0", index), ("toy-new", "1.0", index), ("toy", "1:1.0+a~1", index)]);
    rig.upstream.end();
    let mirror = rig.locked_offline(&next).await;
    let guest = Guest::of_lock(&mirror);
    guest.good(&["update"]).await;
    guest.good(&["install", "--download-only", "toy", "toy-new"]).await;

    let rig = Rig::new().await;
    let (lock, _) = lock_before(&rig).await;
    publish(&rig.upstream, &AFTER);
    let mirror = rig.partly(&lock, &["toy", "toy-lib"]).await;
    let guest = Guest::of_lock(&mirror);
    guest.good(&["update"]).await;
    let told = guest.good(&["install", "-s", "toy"]).await;
    assert!(told.contains("Inst toy (1:2.0"), "{told}");
    // The whole suite is gone: the lock has its own.
    rig.upstream.with(|state| state.files.clear());
    let mirror = rig.partly(&lock, &[]).await;
    let guest = Guest::of_lock(&mirror);
    guest.good(&["update"]).await;
    guest.good(&INSTALL).await;
}

#[tokio::test]
async fn a_package_that_is_too_young_is_refused_in_apts_own_words() {
    let rig = Rig::new().await;
    publish(&rig.upstream, &BEFORE);
    let yesterday = jiff::Timestamp::now().as_second() - 86_400;
    rig.upstream.with(|state| state.modified.insert("/debian/pool/toy-lib_1.0_all.deb".into(), yesterday));
    let min_age = Some(std::time::Duration::from_secs(7 * 86_400));
    let mirror = Mirror::start(dsimg_mirror::MirrorSettings { min_age, ..rig.settings() }).await.unwrap();
    let guest = Guest::new(&mirror, SOURCES);
    guest.good(&["update"]).await;
    let told = said(&guest.apt_get(&INSTALL).await);
    assert!(told.contains("403  package toy-lib 1.0 is refused: it is 24 h old, and min_age is 7 days"), "{told}");
}
