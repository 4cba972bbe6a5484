//! What this process was started with: the only file that reads environment variables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dsimg_download::ProxyEnvironment;

use dsimg_template::units::ByteSize;

use crate::failure::{Code, Failure};

/// Some builds of a large template with all their memory states.
const DEFAULT_BUDGET: ByteSize = ByteSize(30 << 30);

/// The packages of some large templates, with those of their last upgrades.
const DEFAULT_PACKAGES_BUDGET: ByteSize = ByteSize(20 << 30);

/// The prefix of variables that set the template's.
const VARIABLE_PREFIX: &str = "DSIMG_VAR_";

/// Where bases, downloads and work folders are: `DSIMG_CACHE_DIR`, else `dsimg` in the user's cache folder.
///
/// # Errors
/// There is no home folder to put it in.
pub(crate) fn cache_folder() -> Result<PathBuf, Failure> {
    own_folder("DSIMG_CACHE_DIR", "XDG_CACHE_HOME", ".cache")
}

/// Where ledgers and logs are: `DSIMG_STATE_DIR`, else `dsimg` in the user's state folder.
///
/// # Errors
/// There is no home folder to put it in.
pub(crate) fn state_folder() -> Result<PathBuf, Failure> {
    own_folder("DSIMG_STATE_DIR", "XDG_STATE_HOME", ".local/state")
}

/// Everything that `{{ env.X }}` may name; what is not UTF-8 is left out.
pub(crate) fn all() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Values for the template's variables, by their names.
pub(crate) fn template_variables() -> BTreeMap<String, String> {
    let named = |(name, value): (String, String)| Some((name.strip_prefix(VARIABLE_PREFIX)?.to_owned(), value));
    all().into_iter().filter_map(named).collect()
}

/// The proxies, in small or capital letters.
pub(crate) fn proxies() -> ProxyEnvironment {
    let read = |name: &str| text(name).or_else(|| text(&name.to_uppercase()));
    ProxyEnvironment {
        // `HTTP_PROXY` in capitals is what a CGI client may set; small letters only, as curl does it.
        http: text("http_proxy"),
        https: read("https_proxy"),
        all: read("all_proxy"),
        no: read("no_proxy"),
    }
}

/// Whether the user wants no colours: <https://no-color.org>.
pub(crate) fn no_colour() -> bool {
    text("NO_COLOR").is_some() || text("TERM").is_some_and(|term| term == "dumb")
}

/// Whether the terminal can't redraw lines.
pub(crate) fn no_movement() -> bool {
    text("TERM").is_none_or(|term| term == "dumb")
}

/// What checkpoints may take of the disk: `DSIMG_CACHE_BUDGET`, such as `60GiB`, else 30 GiB.
///
/// # Errors
/// The variable holds no size.
pub(crate) fn cache_budget() -> Result<ByteSize, Failure> {
    budget("DSIMG_CACHE_BUDGET", DEFAULT_BUDGET)
}

/// What the package store may take of the disk: `DSIMG_PACKAGES_BUDGET`, else 20 GiB.
///
/// # Errors
/// The variable holds no size.
pub(crate) fn packages_budget() -> Result<ByteSize, Failure> {
    budget("DSIMG_PACKAGES_BUDGET", DEFAULT_PACKAGES_BUDGET)
}

fn budget(name: &str, default: ByteSize) -> Result<ByteSize, Failure> {
    let Some(text) = text(name) else { return Ok(default) };
    text.parse().map_err(|why: String| Failure::new(Code::Wrong, format!("`{name}`: {why}")))
}

/// Where OSV's dumps are fetched from instead of OSV: `DSIMG_OSV_MIRROR`.
pub(crate) fn osv_mirror() -> Option<String> {
    text("DSIMG_OSV_MIRROR")
}

/// The key that signs images: `DSIMG_SIGN_KEY`.
pub(crate) fn signing_key() -> Option<PathBuf> {
    text("DSIMG_SIGN_KEY").map(PathBuf::from)
}

/// Who vouches for this host: `DSIMG_BUILDER_ID`.
pub(crate) fn builder_id() -> Option<String> {
    text("DSIMG_BUILDER_ID")
}

/// Bytes of memory that programs may still take: `MemAvailable` of `/proc/meminfo` (proc(5)).
pub(crate) fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}

/// The value of a variable that is set and not empty.
pub(crate) fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn own_folder(own: &str, standard: &str, below_home: &str) -> Result<PathBuf, Failure> {
    let absolute = |path: PathBuf| {
        std::path::absolute(&path).map_err(|error| {
            Failure::new(Code::HostNotReady, format!("cannot find `{}`", path.display())).because(error)
        })
    };
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = folder(own) {
        return absolute(path);
    }
    // The standard has relative paths ignored.
    if let Some(path) = folder(standard).filter(|path| path.is_absolute()) {
        return Ok(path.join("dsimg"));
    }
    match std::env::home_dir().filter(|home| !home.as_os_str().is_empty()) {
        Some(home) => absolute(home.join(below_home).join("dsimg")),
        None => Err(Failure::new(Code::HostNotReady, "there is no home folder: `HOME` is not set")
            .with_hint(format!("set `{own}` to a folder that dsimg may use"))),
    }
}
