//! What shell lines do that they should not.

use std::sync::LazyLock;

use regex_lite::Regex;

use super::{Subject, pattern, place_of, strings};
use crate::place;
use crate::problem::Problem;
use crate::provision::Stage;
use crate::reader::Reader;
use crate::values::Piece;

/// A `venv` of the pip provisioner that is the system's Python.
pub(super) fn check_environments(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    for stage in subject.stages_of("pip") {
        let Some(venv) = stage.values.text("venv") else { continue };
        let folder = venv.text.trim_end_matches('/');
        if ["", "/usr", "/usr/local"].contains(&folder) {
            let message = format!("`venv = \"{}\"` is the system's Python, not a virtual environment", venv.text);
            let help = "Debian 12 and later refuse to install into it (PEP 668): name a folder such as `/opt/venv`";
            reader.error_with_help(&venv.span.clone(), message, help);
        }
    }
}

/// `pip install`; group 1 is the command, with its path (`/opt/ds/bin/pip`, `python3 -m pip`), group 2 its options.
static PIP: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?:^|[\s;&|(])((?:\S*/)?(?:pip3?(?:\.\d+)?|python3?(?:\.\d+)? -m pip)) install(\s[^;&|]*)?")
});

/// A download whose output is the input of a program.
static PIPED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"\b(?:curl|wget)\b[^|;\n]*\|\s*(?:sudo\s+(?:-\S+\s+)*)?(?:/(?:usr/)?bin/)?",
        r"(?:(?:ba|da|z)?sh|python3?|perl|R|Rscript)\b",
    ))
});

/// A download that is the script of a shell: `bash <(curl …)`, `sh -c "$(curl …)"`.
static SUBSTITUTED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"\b(?:(?:ba|da|z)?sh\s+(?:-\S+\s+)*(?:<\(|["']?\$\()|eval\s+["']?\$\()\s*(?:curl|wget)\b[^)]*\)"#)
});

/// `pip install` outside a virtual environment, and downloads run unseen.
pub(super) fn check_scripts(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    let mut problems = Vec::new();
    for (stage, piece) in
        subject.stages_of("shell").flat_map(|stage| stage.values.pieces().map(move |(_, p)| (stage, p)))
    {
        let script = continued(&piece.text);
        let in_environment = enters_environment(stage);
        for line in script.lines().filter(|line| !line.trim_start().starts_with('#')) {
            if let Some(found) = PIP.captures(line).filter(|_| !in_environment) {
                let command = found.get(1).map_or("", |command| command.as_str());
                let options = found.get(2).map_or("", |options| options.as_str());
                if is_system_python(command) && !has_own_target(options) {
                    problems.push(outside_environment(reader, piece, command));
                }
            }
            if let Some(found) = PIPED.find(line).or_else(|| SUBSTITUTED.find(line)) {
                problems.push(run_unseen(reader, piece, found.as_str()));
            }
        }
    }
    problems.into_iter().for_each(|problem| reader.report(problem));
}

/// The lines of `inline` are one script: what one sets up holds for the next.
fn enters_environment(stage: &Stage) -> bool {
    let mut pieces = stage.values.pieces();
    pieces.any(|(_, piece)| piece.text.contains("bin/activate") || piece.text.contains("VIRTUAL_ENV"))
}

/// Lines that end in `\` as one.
fn continued(script: &str) -> String {
    script.replace("\\\n", " ")
}

fn is_system_python(command: &str) -> bool {
    let program = command.split(' ').next().unwrap_or(command);
    match program.rsplit_once('/') {
        None => true,
        Some((folder, _)) => ["/usr/bin", "/bin", "/usr/local/bin"].contains(&folder),
    }
}

/// Options that put the packages elsewhere, or say that the risk is known.
fn has_own_target(options: &str) -> bool {
    ["--target", "--prefix", "--root", "--break-system-packages", "--python"].iter().any(|o| options.contains(o))
        || options.split_whitespace().any(|option| option == "-t")
}

fn outside_environment(reader: &Reader<'_>, piece: &Piece, command: &str) -> Problem {
    let place = place_of(reader, piece, &format!("{command} install"));
    Problem::warning(place, format!("`{command} install` outside a virtual environment")).with_help(
        "Debian 12 and later refuse it (PEP 668): use a `[[provision]]` of type `pip`, \
         or an environment's own pip, such as `/opt/venv/bin/pip install`",
    )
}

fn run_unseen(reader: &Reader<'_>, piece: &Piece, found: &str) -> Problem {
    Problem::warning(place_of(reader, piece, found), "a download is run without a look at what came")
        .with_help("save it to a file, check that with `echo \"SHA256  FILE\" | sha256sum --check`, then run it")
}

static EVERYWHERE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:^|[^0-9.])(0\.0\.0\.0/0)|(?:^|[^0-9A-Fa-f:])(::/0)"));

/// `0.0.0.0/0` and `::/0` in any string.
pub(super) fn check_open_networks(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    let mut problems = Vec::new();
    for (text, node) in strings(subject.root) {
        for found in EVERYWHERE.captures_iter(text) {
            let Some(network) = found.get(1).or_else(|| found.get(2)) else { continue };
            let place = place::inside_string(reader.text, &node.span, text, network.range());
            let problem = Problem::warning(place, format!("`{}` is the whole internet", network.as_str()));
            problems.push(problem.with_help("name the networks that are meant, such as `10.0.0.0/8`"));
        }
    }
    problems.into_iter().for_each(|problem| reader.report(problem));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environments_own_pip_is_fine() {
        assert!(is_system_python("pip"));
        assert!(is_system_python("python3 -m pip"));
        assert!(is_system_python("/usr/bin/pip3"));
        assert!(!is_system_python("/opt/ds/bin/pip"));
        assert!(!is_system_python("$VENV/bin/python -m pip"));
        assert!(has_own_target(" --target /srv/x numpy"));
        assert!(!has_own_target(" numpy"));
    }
}
