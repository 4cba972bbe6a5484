//! `dsimg init`: a commented template to start from.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use dsimg_template::nearest;

use crate::arguments::Init;
use crate::failure::{Code, Failure};
use crate::ui::output::print;

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../templates");

/// What is written where the argument is a folder.
const FILE_NAME: &str = "template.toml";

/// # Errors
/// There is no such template, or a file is there already, or the file can't be written.
pub(crate) fn run(arguments: &Init) -> Result<(), Failure> {
    if arguments.list {
        return print(&list());
    }
    let text = find(&arguments.template)?;
    let path = target(&arguments.file);
    write(&path, text, arguments.force)?;
    let shown = crate::outcome::quoted(&path);
    print(&format!("wrote {}\nnext:\n  dsimg validate {shown}\n  dsimg build {shown}\n", path.display()))
}

/// Each shipped template by its name, sorted.
fn shipped() -> Vec<(&'static str, &'static str)> {
    let named = SHIPPED.files().filter(|file| file.path().extension().is_some_and(|extension| extension == "toml"));
    let mut found: Vec<_> =
        named.filter_map(|file| Some((file.path().file_stem()?.to_str()?, file.contents_utf8()?))).collect();
    found.sort_unstable();
    found
}

/// The names, each with the first line of its template, which says what it is for.
fn list() -> String {
    let templates = shipped();
    let width = templates.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, text): &(&str, &str)| format!("{name:<width$}  {}\n", purpose(text));
    templates.iter().map(line).collect()
}

fn purpose(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
}

fn find(name: &str) -> Result<&'static str, Failure> {
    let templates = shipped();
    if let Some((_, text)) = templates.iter().find(|(known, _)| *known == name) {
        return Ok(text);
    }
    let names: Vec<_> = templates.iter().map(|(name, _)| *name).collect();
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", names.join(", ")),
    };
    Err(Failure::new(Code::Wrong, format!("there is no template `{name}` to start from")).with_hint(hint))
}

fn target(given: &Path) -> PathBuf {
    if given.is_dir() { given.join(FILE_NAME) } else { given.to_owned() }
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let file = if force { File::create(path) } else { File::create_new(path) };
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(Code::Wrong, format!("`{}` is there already", path.display()))
            .with_hint("name another file, or replace it with `--force`"),
        ErrorKind::NotFound => {
            Failure::new(Code::Wrong, format!("cannot write `{}`", path.display())).because("there is no such folder")
        }
        _ => Failure::file("cannot write", path, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_template_says_what_it_is_for() {
        let names: Vec<_> = shipped().into_iter().map(|(name, _)| name).collect();
        for name in ["python", "quickstart", "r", "team"] {
            assert!(names.contains(&name), "{names:?}");
        }
        for (name, text) in shipped() {
            assert!(purpose(text).len() > 10, "{name} begins with a comment that says what it is for");
            assert!(text.starts_with('#'), "{name}");
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_one() {
        assert!(find("pyton").unwrap_err().describe().contains("did you mean `python`?"));
        assert!(find("kubernetes").unwrap_err().describe().contains("there are: python"));
    }
}
