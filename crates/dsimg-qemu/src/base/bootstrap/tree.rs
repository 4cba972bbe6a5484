//! The tree of packages, by mmdebstrap, and the file system made of it.
//!
//! mmdebstrap works in namespaces of its own (`--mode=unshare`), as root and as any other user: what it mounts is
//! seen by nothing else, and goes away with it.

use std::ffi::OsString;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;

use dsimg_machine::{Event, MachineError, OutputStream, RunContext};
use dsimg_plan::Digest;
use dsimg_template::template::{CertificateAuthorities, Distro, Network};

use super::disk::ROOT_START;
use super::recipe::Recipe;
use super::scratch::Scratch;
use super::sources::{Archive, keyring, keyring_package};
use super::suites::{distro_key, distro_name};
use crate::process::Tool;
use crate::tail::Tail;

const ESSENTIAL: &str = include_str!("essential.sh");
const CUSTOMIZE: &str = include_str!("customize.sh");
const FILESYSTEM: &str = include_str!("filesystem.sh");

/// Both, so that the console is where the user looks, on a screen or on a serial line. The last one is the kernel's
/// own, and where messages of a boot go.
const COMMAND_LINE: &str = "console=tty0 console=ttyS0,115200";

/// The shell opens the disk before mmdebstrap leaves our user behind.
///
/// When dsimg is killed, only mmdebstrap's first process goes with it. The watch then kills the rest of the group,
/// with it the first process of mmdebstrap's namespace, and with that all others.
const START: &str = r#"
exec 9<>"$1" || exit
shift
(exec >/dev/null 2>&1 9>&-; while kill -0 $$; do sleep 1; done; kill -KILL -$$) &
exec mmdebstrap "$@"
"#;

/// Slow mirrors exist; a mirror that hangs is stopped by apt.
const LIMIT: Duration = Duration::from_secs(3600);
/// Of mmdebstrap's words, to find out why it failed.
const KEPT: usize = 32 << 10;

/// What the tree's own part of the disk needs beside the file system.
#[derive(Debug)]
pub(super) struct Parts {
    /// Sectors of grub for the BIOS.
    pub(super) boot: Vec<u8>,
    pub(super) core: Vec<u8>,
    pub(super) shim: Vec<u8>,
    pub(super) mok_manager: Vec<u8>,
    pub(super) grub: Vec<u8>,
    pub(super) kernel: String,
    pub(super) packages: usize,
    /// The newest time of a package's files, in seconds since 1970.
    pub(super) epoch: i64,
}

/// The files as `customize.sh` leaves them.
const PART_FILES: [&str; 8] =
    ["boot.img", "core.img", "shimx64.efi", "mmx64.efi", "grubx64.efi", "kernel", "packages", "epoch"];

pub(super) fn scripts_digest() -> Digest {
    Digest::of_value(&[ESSENTIAL, CUSTOMIZE, FILESYSTEM, COMMAND_LINE])
}

/// Is on the host what this recipe needs?
///
/// # Errors
/// Something is missing; the error names the package.
pub(super) fn check_host(recipe: &Recipe) -> Result<(), MachineError> {
    let install = |package: &str| format!("install it (Debian, Ubuntu: `apt-get install {package}`)");
    if !is_program("mmdebstrap") {
        let what = "`mmdebstrap` is not installed, and a base is made with it";
        let hint = format!("{}; or give a disk image as `base.image`", install("mmdebstrap"));
        return Err(MachineError::host(what, hint));
    }
    let (keyring, package) = (keyring(recipe.distro), keyring_package(recipe.distro));
    if !Path::new(keyring).exists() {
        let name = distro_name(recipe.distro);
        let what = format!("the keys that {name}'s packages are signed with are not on this host ({keyring})");
        return Err(MachineError::host(what, install(package)));
    }
    if !geteuid().is_root() && !is_program("newuidmap") {
        let what = "`newuidmap` is not installed, and a base can't be made without it unless by root";
        return Err(MachineError::host(what, install("uidmap")));
    }
    Ok(())
}

pub(crate) fn is_program(name: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(name).is_file())
}

/// `chroot` and others lie where a user's `PATH` often does not look.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

/// Makes the tree and writes it as the root file system into a new raw disk, behind [`ROOT_START`], with room for a
/// partition table before and after it.
///
/// # Errors
/// The mirror can't be reached or is not signed by whom it should be, a package is not there, the host lacks
/// something, or the build was cancelled.
pub(super) async fn make(
    recipe: &Recipe,
    network: &Network,
    disk: &Path,
    scratch: &Scratch,
    run: &RunContext,
) -> Result<Parts, MachineError> {
    // mmdebstrap's user ids write it by an open descriptor; its folder is closed to all others.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(disk);
    file.and_then(|file| file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)))
        .map_err(|error| MachineError::file("cannot make", disk, error))?;
    let parts = tempfile::Builder::new().prefix("base-parts-").tempdir_in(&run.work);
    let parts = parts.map_err(|error| MachineError::file("cannot make a folder in", &run.work, error))?;

    let archive = Archive::of_build(recipe, network.apt.as_deref());
    let invocation = Invocation {
        essential: scratch.write("essential.sh", 0o755, ESSENTIAL.as_bytes())?,
        customize: scratch.write("customize.sh", 0o755, CUSTOMIZE.as_bytes())?,
        filesystem: scratch.write("filesystem.sh", 0o755, FILESYSTEM.as_bytes())?,
        certificates: certificates(network, scratch)?,
        parts: parts.path().to_owned(),
    };
    let mut tool = Tool::new("sh", "mmdebstrap", format!("make the {} base from {}", recipe.suite, archive.url()))
        .args(["-c", START, "sh"])
        .arg(disk)
        .args(arguments(recipe, &archive, &invocation))
        .env("PATH", search_path())
        .env("TMPDIR", scratch.path())
        .limit(LIMIT);
    for (name, value) in environment(recipe, network) {
        tool = tool.env(name, value);
    }
    let mut words = Tail::new(KEPT);
    let made = tool
        .run_with(run, &mut |stream, bytes| {
            if stream == OutputStream::Stderr {
                words.push(bytes);
            }
            run.report(&Event::Output { stream, bytes: bytes.to_vec() });
        })
        .await;
    if let Err(error) = made {
        return Err(explain(error, &String::from_utf8_lossy(&words.bytes()), recipe, &archive));
    }
    read_parts(parts.path())
}

/// The files that one run of mmdebstrap works with.
#[derive(Debug)]
struct Invocation {
    essential: PathBuf,
    customize: PathBuf,
    filesystem: PathBuf,
    /// What apt trusts for https, when not what this host does.
    certificates: Option<PathBuf>,
    /// Where the parts are put.
    parts: PathBuf,
}

fn arguments(recipe: &Recipe, archive: &Archive, files: &Invocation) -> Vec<OsString> {
    let option = |name: &str, value: &Path| {
        let mut option = OsString::from(format!("--{name}="));
        option.push(value);
        option
    };
    let mut arguments: Vec<OsString> = [
        "--mode=unshare",
        // Essential packages and apt: whatever else is in is in by name.
        "--variant=apt",
        "--format=null",
        // The last script cleans up, as it also writes the file system.
        "--skip=cleanup",
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Languages \"none\"",
        "--aptopt=Acquire::Retries \"3\"",
        // The tree is thrown away when the host crashes, so nothing in it need be on the host's disk for sure.
        "--dpkgopt=force-unsafe-io",
    ]
    .map(OsString::from)
    .into();
    if let Some(bundle) = &files.certificates {
        arguments.push(format!("--aptopt=Acquire::https::CaInfo \"{}\"", bundle.display()).into());
    }
    arguments.push(format!("--architectures={}", recipe.arch).into());
    arguments.push(format!("--include={}", recipe.packages.join(",")).into());
    arguments.push(option("essential-hook", &files.essential));
    arguments.push(option("customize-hook", &files.customize));
    for file in PART_FILES {
        let to = files.parts.join(file);
        arguments.push(format!("--customize-hook=download /tmp/dsimg/{file} {}", quote(&to)).into());
    }
    arguments.push(option("customize-hook", &files.filesystem));
    arguments.push(recipe.suite.clone().into());
    arguments.push("-".into());
    arguments.extend(archive.lines(recipe).into_iter().map(OsString::from));
    arguments
}

/// As a shell reads it back; mmdebstrap splits the words of its own hooks so.
fn quote(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

fn environment(recipe: &Recipe, network: &Network) -> Vec<(&'static str, String)> {
    let ids = recipe.ids();
    let mut environment = vec![
        ("LC_ALL", "C.UTF-8".to_owned()),
        // `customize.sh` makes it.
        ("INITRD", "No".to_owned()),
        ("DSIMG_DISTRO", distro_key(recipe.distro).to_owned()),
        ("DSIMG_SOURCES", Archive::of_image(recipe).deb822(recipe)),
        ("DSIMG_ROOT_UUID", ids.root.to_string()),
        ("DSIMG_ESP_ID", ids.esp_text()),
        ("DSIMG_CMDLINE", COMMAND_LINE.to_owned()),
        ("DSIMG_ROOT_OFFSET", ROOT_START.to_string()),
    ];
    // By the environment, as a proxy's URL may hold a password and arguments are seen by all.
    if let Some(proxy) = &network.proxy {
        environment.push(("http_proxy", proxy.clone()));
        environment.push(("https_proxy", proxy.clone()));
    }
    if !network.no_proxy.is_empty() {
        environment.push(("no_proxy", network.no_proxy.join(",")));
    }
    environment
}

/// What apt trusts, as a file that mmdebstrap's user ids can read. apt on the host trusts what the host does already.
fn certificates(network: &Network, scratch: &Scratch) -> Result<Option<PathBuf>, MachineError> {
    const HOST: &str = "/etc/ssl/certs/ca-certificates.crt";
    let Some(CertificateAuthorities::File(file)) = &network.ca else { return Ok(None) };
    let mut bundle = std::fs::read(file).map_err(|error| MachineError::file("cannot read", file, error))?;
    bundle.push(b'\n');
    // Beside the host's own: the file is most often that of one proxy.
    bundle.extend(std::fs::read(HOST).unwrap_or_default());
    scratch.write("ca.pem", 0o644, &bundle).map(Some)
}

fn read_parts(folder: &Path) -> Result<Parts, MachineError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| MachineError::file("cannot read", path, error))
    };
    let text = |name| Ok::<_, MachineError>(String::from_utf8_lossy(&read(name)?).trim().to_owned());
    Ok(Parts {
        boot: read("boot.img")?,
        core: read("core.img")?,
        shim: read("shimx64.efi")?,
        mok_manager: read("mmx64.efi")?,
        grub: read("grubx64.efi")?,
        kernel: text("kernel")?,
        packages: text("packages")?.lines().count(),
        epoch: epoch_of(&text("epoch")?)?,
    })
}

fn epoch_of(text: &str) -> Result<i64, MachineError> {
    text.parse().map_err(|_| MachineError::Machine {
        what: format!("the base's packages have no time: `{text}`"),
        hint: Some("the log file has all of mmdebstrap's output".to_owned()),
        console: String::new(),
    })
}

/// Finds in mmdebstrap's words what went wrong, and what to do about it.
fn explain(error: MachineError, words: &str, recipe: &Recipe, archive: &Archive) -> MachineError {
    let MachineError::Machine { what, console, .. } = error else { return error };
    let line_with = |signs: &[&str]| {
        words.lines().find(|line| signs.iter().any(|sign| line.contains(sign))).map(|line| line.trim().to_owned())
    };
    let url = archive.url();
    let purpose = format!("cannot make the {} base from {url}", recipe.suite);
    if let Some(line) =
        line_with(&["NO_PUBKEY", "Missing key", "EXPKEYSIG", "is not signed", "is no longer signed", "BADSIG"])
    {
        let package = keyring_package(recipe.distro);
        let hint = format!(
            "if the mirror is right, this host's keys may be too old: `apt-get install --only-upgrade {package}`"
        );
        return MachineError::host(format!("{purpose}: its signature can't be checked: {line}"), hint);
    }
    if let Some(line) = line_with(&["Unable to locate package", "has no installation candidate", "couldn't be found"]) {
        let hint = "look at `packages` and `components` of `base.bootstrap`";
        return MachineError::refused(format!("{purpose}: {line}"), hint);
    }
    let hint_network = "check the network; a mirror or proxy can be set by `apt` and `proxy` under `[network]`";
    let unreachable = [
        "Could not resolve",
        "Temporary failure",
        "Could not connect",
        "Unable to connect",
        "Connection failed",
        "Connection timed out",
        "Mirror sync in progress",
    ];
    if let Some(line) = line_with(&unreachable) {
        return MachineError::try_again(format!("{purpose}: {line}"), hint_network);
    }
    if let Some(line) = line_with(&["ertificate verif", "ertificate is NOT trusted"]) {
        let hint =
            "if a proxy re-signs TLS, make its CA known: to this host, or as a PEM file by `ca` under `[network]`";
        return MachineError::host(format!("{purpose}: {line}"), hint);
    }
    if let Some(line) = line_with(&["does not have a Release file", "404  Not Found"]) {
        let sibling = if recipe.distro == Distro::Debian { " (and `debian-security` beside it)" } else { "" };
        let hint = format!("is this a mirror{sibling} that has the suite? see `mirror` and `[network] apt`");
        return MachineError::refused(format!("{purpose}: {line}"), hint);
    }
    if let Some(line) = line_with(&["Failed to fetch", "Hash Sum mismatch"]) {
        return MachineError::try_again(format!("{purpose}: {line}"), hint_network);
    }
    if let Some(line) = line_with(&["newuidmap", "subuid", "unshare failed", "unshare() failed", "unprivileged"]) {
        let hint = "run as root, or let this user have user namespaces: install `uidmap`, give it a line in \
                    /etc/subuid and /etc/subgid, and see `sysctl kernel.unprivileged_userns_clone`";
        return MachineError::host(format!("{purpose}: {line}"), hint);
    }
    MachineError::Machine { what, hint: Some("the log file has all of its output".to_owned()), console }
}

#[cfg(test)]
mod tests {
    use super::super::recipe::tests::{bootstrap, recipe};
    use super::*;

    fn trixie() -> (Recipe, Archive) {
        let recipe = recipe(&bootstrap(Distro::Debian, "trixie")).unwrap();
        let archive = Archive::of_image(&recipe);
        (recipe, archive)
    }

    #[test]
    fn the_arguments_name_suite_scripts_and_sources_in_order() {
        let (recipe, archive) = trixie();
        let files = Invocation {
            essential: "/s/essential.sh".into(),
            customize: "/s/customize.sh".into(),
            filesystem: "/s/filesystem.sh".into(),
            certificates: Some("/s/ca.pem".into()),
            parts: "/w/it's here".into(),
        };
        let arguments: Vec<String> =
            arguments(&recipe, &archive, &files).into_iter().map(|it| it.into_string().unwrap()).collect();
        assert!(arguments.contains(&"--aptopt=Acquire::https::CaInfo \"/s/ca.pem\"".to_owned()));
        assert!(
            arguments.contains(&r"--customize-hook=download /tmp/dsimg/core.img '/w/it'\''s here/core.img'".to_owned())
        );
        let position = |wanted: &str| arguments.iter().position(|it| it == wanted).unwrap();
        assert!(position("--customize-hook=/s/customize.sh") < position("--customize-hook=/s/filesystem.sh"));
        assert_eq!(arguments[arguments.len() - 5..arguments.len() - 3], ["trixie", "-"]);
        assert!(arguments.last().unwrap().ends_with("trixie-security main"));
    }

    #[test]
    fn a_proxy_is_in_the_environment_and_not_in_the_arguments() {
        let (recipe, _) = trixie();
        let network = Network { proxy: Some("http://jane:hunter2@proxy:3128".to_owned()), ..Network::default() };
        let environment = environment(&recipe, &network);
        assert!(environment.contains(&("https_proxy", "http://jane:hunter2@proxy:3128".to_owned())));
        assert!(environment.iter().all(|(name, value)| *name != "DSIMG_SOURCES" || !value.contains("proxy")));
    }

    #[test]
    fn failures_are_told_apart() {
        let (recipe, archive) = trixie();
        let explained = |words: &str| {
            let error = MachineError::Machine { what: "failed".to_owned(), hint: None, console: String::new() };
            explain(error, words, &recipe, &archive)
        };
        let old_keys = explained("I: go\nW: GPG error: http://x trixie InRelease: NO_PUBKEY 6ED0E7B82643E131\n");
        assert!(old_keys.hint().unwrap().contains("debian-archive-keyring"), "{old_keys:?}");
        assert!(matches!(explained("Err: Could not resolve 'mirror'"), MachineError::TryAgain { .. }));
        assert!(matches!(explained("E: Unable to locate package numpi"), MachineError::Refused { .. }));
        let missing = explained("E: The repository 'http://x trixie Release' does not have a Release file.");
        assert!(matches!(missing, MachineError::Refused { .. }));
        assert!(matches!(explained("something else"), MachineError::Machine { .. }));
    }
}
