//! A template from its file, with everything around it that the reader asks for.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::json;

use dsimg_template::report::{self, Record, Style};
use dsimg_template::{
    Catalog, GivenVariable, PathKind, Problem, Rejected, Surroundings, Template, VariableSource, decode, has_errors,
    parse_template, parse_variable_file,
};

use crate::arguments::Variables;
use crate::catalog;
use crate::environment;
use crate::failure::{Code, Failure};
use crate::ui;

/// A file with what is wrong in it.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub path: PathBuf,
    pub text: String,
    pub problems: Vec<Problem>,
}

impl Checked {
    /// The problems as people read them.
    pub(crate) fn report(&self) -> String {
        let style = if ui::colours() { Style::Coloured } else { Style::Plain };
        report::report(&self.problems, &self.text, &self.path, style)
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        report::records(&self.problems, &self.text)
    }

    pub(crate) fn has_errors(&self) -> bool {
        has_errors(&self.problems)
    }
}

/// The files with their problems, for programs.
pub(crate) fn for_programs(checked: &[Checked]) -> serde_json::Value {
    checked.iter().map(|one| json!({ "path": one.path, "problems": one.records() })).collect()
}

/// What came of reading a template: its combinations and its warnings, or the files that have errors in them.
#[derive(Debug)]
pub(crate) struct Reading {
    /// One for each combination of the template's matrix; none when there are errors.
    pub templates: Vec<Template>,
    pub catalog: Catalog,
    /// The template's file first; then others that have problems.
    pub checked: Vec<Checked>,
}

/// Reads a template with the provisioners and variables around it. `build_id` is what `{{ build.id }}` gives.
///
/// # Errors
/// A file can't be read; what is wrong inside files is in the [`Reading`].
pub(crate) fn read(path: &Path, variables: &Variables, build_id: &str) -> Result<Reading, Failure> {
    read_with(path, variables, build_id, &PathKind::on_disk)
}

/// The same with another word on what is at a path.
fn read_with(
    path: &Path,
    variables: &Variables,
    build_id: &str,
    probe: &dyn Fn(&Path) -> PathKind,
) -> Result<Reading, Failure> {
    let bytes = read_file(path, "template")?;
    let (catalog, mut others) = match catalog::read(path) {
        Ok(catalog) => (Some(catalog), Vec::new()),
        Err(rejected) => (None, rejected.into_iter().map(from_rejected).collect()),
    };
    let surroundings = surroundings(given_variables(variables, &mut others)?, build_id, probe);
    let (text, (templates, problems)) = match (decode(&bytes), &catalog) {
        (Err(problem), _) => (String::new(), (Vec::new(), vec![problem])),
        // Without its provisioners a template can't be judged.
        (Ok(text), None) => (text.to_owned(), (Vec::new(), Vec::new())),
        (Ok(text), Some(catalog)) => (text.to_owned(), parse_template(text, path, catalog, &surroundings)),
    };
    let mut checked = vec![Checked { path: path.to_owned(), text, problems }];
    let templates = if others.is_empty() { templates } else { Vec::new() };
    checked.append(&mut others);
    Ok(Reading { templates, catalog: catalog.unwrap_or_default(), checked })
}

fn surroundings<'a>(
    variables: BTreeMap<String, GivenVariable>,
    build_id: &str,
    probe: &'a dyn Fn(&Path) -> PathKind,
) -> Surroundings<'a> {
    let now = jiff::Timestamp::now().to_string();
    let build = [("date", now[..10].to_owned()), ("time", whole_seconds(&now)), ("id", build_id.to_owned())];
    Surroundings {
        environment: environment::all(),
        variables,
        build: build.map(|(name, value)| (name.to_owned(), value)).into(),
        probe,
    }
}

/// `2026-11-21T05:43:02.123Z` without the fraction.
pub(crate) fn whole_seconds(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))
}

/// The values that variables are given from outside, by those that win.
///
/// # Errors
/// A file of variables can't be read or has errors in it.
pub(crate) fn given(variables: &Variables) -> Result<BTreeMap<String, GivenVariable>, Failure> {
    let mut wrong = Vec::new();
    let given = given_variables(variables, &mut wrong)?;
    match wrong.first() {
        None => Ok(given),
        Some(checked) => {
            let what = format!("`{}` has errors in it", checked.path.display());
            Err(Failure::new(Code::Wrong, what).because(checked.report()))
        }
    }
}

/// The values that were given to variables which the template has, without those of sensitive ones.
///
/// # Errors
/// A file of values can't be read any more.
pub(crate) fn open_variables(variables: &Variables, template: &Template) -> Result<BTreeMap<String, String>, Failure> {
    let is_open = |name: &String| template.context.variables.contains_key(name) && !template.secrets.contains_key(name);
    let given = given_variables(variables, &mut Vec::new())?;
    Ok(given.into_iter().filter(|(name, _)| is_open(name)).map(|(name, given)| (name, given.value)).collect())
}

/// Of each variable the value that wins: flag, then the last file, then the environment.
fn given_variables(
    variables: &Variables,
    wrong: &mut Vec<Checked>,
) -> Result<BTreeMap<String, GivenVariable>, Failure> {
    let mut given = BTreeMap::new();
    let mut set = |name: String, value: String, source: VariableSource| {
        given.insert(name, GivenVariable { value, source });
    };
    for (name, value) in environment::template_variables() {
        set(name, value, VariableSource::Environment);
    }
    for path in &variables.files {
        let bytes = read_file(path, "file of variables")?;
        let parsed = decode(&bytes)
            .map_err(|problem| (String::new(), vec![problem]))
            .and_then(|text| parse_variable_file(text).map_err(|problems| (text.to_owned(), problems)));
        match parsed {
            Ok(values) => {
                for (name, value) in values {
                    set(name, value, VariableSource::File(path.display().to_string()));
                }
            }
            Err((text, problems)) => wrong.push(Checked { path: path.clone(), text, problems }),
        }
    }
    for (name, value) in &variables.flags {
        set(name.clone(), value.clone(), VariableSource::Flag);
    }
    Ok(given)
}

fn read_file(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let failure = Failure::new(Code::Wrong, format!("cannot read the {what} `{}`", path.display()));
        match error.kind() {
            ErrorKind::NotFound if what == "template" => {
                failure.because("there is no such file").with_hint("`dsimg init` writes a template to start from")
            }
            ErrorKind::NotFound => failure.because("there is no such file"),
            ErrorKind::IsADirectory => failure.because("it is a folder"),
            _ => failure.because(error),
        }
    })
}

fn from_rejected(rejected: Rejected) -> Checked {
    Checked { path: rejected.path, text: rejected.text, problems: rejected.problems }
}

/// The combinations of a template that can be built, with its warnings shown; or the report of what is wrong, and a failure.
///
/// # Errors
/// The template, its variables or its provisioners have errors.
pub(crate) fn read_sound(
    path: &Path,
    variables: &Variables,
    build_id: &str,
    say: &dyn Fn(&str),
) -> Result<(Vec<Template>, Catalog), Failure> {
    read_sound_with(path, variables, build_id, &PathKind::on_disk, say)
}

/// The same with another word on what is at a path.
///
/// # Errors
/// As of [`read_sound`].
pub(crate) fn read_sound_with(
    path: &Path,
    variables: &Variables,
    build_id: &str,
    probe: &dyn Fn(&Path) -> PathKind,
    say: &dyn Fn(&str),
) -> Result<(Vec<Template>, Catalog), Failure> {
    let reading = read_with(path, variables, build_id, probe)?;
    for checked in reading.checked.iter().filter(|checked| !checked.problems.is_empty()) {
        say(&format!("{}\n", checked.report()));
    }
    if reading.templates.is_empty() {
        let failure = Failure::new(Code::Wrong, format!("`{}` can't be built as it is", path.display()));
        return Err(failure.with_files(for_programs(&reading.checked)));
    }
    Ok((reading.templates, reading.catalog))
}
