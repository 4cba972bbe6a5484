//! Reads tables against their keys and collects every problem on the way.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::keys::{Key, Shape, names};
use crate::nearest::{listed, suggestion};
use crate::place;
use crate::problem::Problem;
use crate::render::{Mistake, Renderer, UNKNOWN, is_rendered};
use crate::secret;
use crate::surroundings::PathKind;
use crate::tree::{Node, NodeValue, Table};
use crate::units::{ByteSize, Timeout};
use crate::values::{Found, Piece, Value, Values};

/// Reads one text; problems gather in it.
pub(crate) struct Reader<'a> {
    pub(crate) text: &'a str,
    /// `None`: strings are taken as they are, as in a `provisioner.toml`.
    pub(crate) renderer: Option<Renderer>,
    pub(crate) files: Option<Files<'a>>,
    pub(crate) problems: Vec<Problem>,
}

/// Where files named in the text are looked for.
pub(crate) struct Files<'a> {
    pub(crate) folder: PathBuf,
    pub(crate) probe: &'a dyn Fn(&Path) -> PathKind,
    /// Off while a stage is read that will not be carried out.
    pub(crate) must_exist: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, renderer: None, files: None, problems: Vec::new() }
    }

    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(crate) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.report(Problem::error(span.clone(), message));
    }

    pub(crate) fn error_with_help(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.report(Problem::error(span.clone(), message).with_help(help));
    }

    /// Reads every value of a table; `what` names the table in "missing key `x` in …".
    pub(crate) fn table(&mut self, table: &Table, span: &Range<usize>, what: &str, keys: &[Key]) -> Values {
        self.check_keys(table, span, what, keys);
        let mut values = Values::default();
        for entry in &table.entries {
            let Some(key) = keys.iter().find(|key| key.name == entry.key) else { continue };
            if let Some(value) = self.value(key, &entry.node) {
                let found = Found { key_span: entry.key_span.clone(), span: entry.node.span.clone(), value };
                values.insert(&key.name, found);
            }
        }
        values
    }

    /// Reports unknown and missing keys, and those that this version does not have yet.
    pub(crate) fn check_keys(&mut self, table: &Table, span: &Range<usize>, what: &str, keys: &[Key]) {
        for entry in &table.entries {
            match keys.iter().find(|key| key.name == entry.key) {
                Some(key) if matches!(key.shape, Shape::NotYet) => {
                    let message = format!("this version of dsimg does not have `{}` yet", key.name);
                    self.error_with_help(&entry.key_span, message, "remove it, or take a later version");
                }
                Some(_) => {}
                None => {
                    let mut problem = Problem::error(entry.key_span.clone(), format!("unknown key `{}`", entry.key));
                    let renamed = keys.iter().find(|key| key.other_names.contains(&entry.key.as_str()));
                    problem.help = match renamed {
                        Some(key) => Some(format!("did you mean `{}`? {}", key.name, key.summary)),
                        None => suggestion(&entry.key, &names(keys), "known keys"),
                    };
                    self.report(problem);
                }
            }
        }
        for key in keys.iter().filter(|key| key.required && table.get(&key.name).is_none()) {
            let (message, help) = match &key.shape {
                Shape::Table(inner) => {
                    let inner: Vec<&str> = inner.iter().filter(|k| k.required).map(|k| k.name.as_str()).collect();
                    (format!("missing table `[{}]`", key.name), format!("with its keys {}", listed(&inner)))
                }
                _ => (format!("missing key `{}` in {what}", key.name), format!("`{}`: {}", key.name, key.summary)),
            };
            self.error_with_help(span, message, help);
        }
    }

    pub(crate) fn value(&mut self, key: &Key, node: &Node) -> Option<Value> {
        match &key.shape {
            Shape::Text => self.piece(key, node).map(Value::Text),
            Shape::Choice(choices) => self.choice(key, node, choices).map(Value::Text),
            Shape::Texts => self.pieces(key, node).map(Value::Texts),
            Shape::Choices(choices) => self.choices(key, node, choices).map(Value::Texts),
            Shape::Integer { least, most } => self.integer(key, node, *least..=*most).map(Value::Integer),
            Shape::Integers => self.integers(key, node).map(Value::Integers),
            Shape::Boolean => self.boolean(key, node).map(Value::Boolean),
            Shape::Duration => self.parsed::<Timeout>(key, node, "\"10m\"").map(Value::Duration),
            Shape::Size => self.parsed::<ByteSize>(key, node, "\"4GiB\"").map(Value::Size),
            Shape::Map => self.map(key, node).map(Value::Map),
            Shape::Url => self.url(key, node).map(Value::Text),
            Shape::Path => self.path(key, node).map(Value::Path),
            Shape::Paths => {
                let pieces = self.pieces(key, node)?;
                let good = pieces.iter().filter(|piece| self.check_path(piece)).count();
                (good == pieces.len()).then_some(Value::Paths(pieces))
            }
            Shape::Condition => self.condition(node).map(Value::Boolean),
            Shape::Table(keys) => match &node.value {
                NodeValue::Table(table) => {
                    let what = format!("`{}`", key.name);
                    Some(Value::Table(self.table(table, &node.span, &what, keys)))
                }
                _ => self.wrong_kind(key, node, "a table"),
            },
            Shape::Tables(keys) => self.tables(key, node, keys).map(Value::Tables),
            Shape::Own | Shape::NotYet => None,
        }
    }

    /// A rendered string.
    pub(crate) fn piece(&mut self, key: &Key, node: &Node) -> Option<Piece> {
        let Some(text) = node.as_text() else { return self.wrong_kind(key, node, "a string") };
        let text = self.rendered(node, text)?;
        self.check_characters(key, &node.span, &text).then(|| Piece { text, span: node.span.clone() })
    }

    fn check_characters(&mut self, key: &Key, span: &Range<usize>, text: &str) -> bool {
        if text.contains('\0') {
            self.error(span, format!("`{}` holds a NUL character", key.name));
            return false;
        }
        if secret::mentions_secret(text) && !key.may_be_secret {
            let name = secret::describe(text);
            let message = format!("`{}` may not hold a sensitive variable: {name}", key.name);
            self.error_with_help(span, message, "it is written to files and shown on screen");
            return false;
        }
        true
    }

    fn rendered(&mut self, node: &Node, text: &str) -> Option<String> {
        if secret::mentions_secret(text) {
            self.error(&node.span, "the characters U+E000 and U+E001 may not be used");
            return None;
        }
        match self.renderer.as_ref().filter(|_| is_rendered(text)) {
            None => Some(text.to_owned()),
            Some(renderer) => match renderer.text(text) {
                // Something in it has no value for a reason that is reported already.
                Ok(rendered) if rendered.contains(UNKNOWN) => None,
                Ok(rendered) => Some(rendered),
                Err(mistakes) => {
                    self.mistakes(node, text, mistakes);
                    None
                }
            },
        }
    }

    pub(crate) fn mistakes(&mut self, node: &Node, text: &str, mistakes: Vec<Mistake>) {
        for mistake in mistakes {
            let span = match mistake.range {
                Some(range) => place::inside_string(self.text, &node.span, text, range),
                None => node.span.clone(),
            };
            let mut problem = Problem::error(span, mistake.message);
            problem.help = mistake.help;
            self.report(problem);
        }
    }

    /// A list of strings; an element that is one `{{ list }}` stands for its elements.
    pub(crate) fn pieces(&mut self, key: &Key, node: &Node) -> Option<Vec<Piece>> {
        let spread = |reader: &Self, node: &Node| -> Option<Vec<Piece>> {
            let texts = reader.renderer.as_ref()?.list(node.as_text()?)?;
            Some(texts.into_iter().map(|text| Piece { text, span: node.span.clone() }).collect())
        };
        match &node.value {
            NodeValue::List(items) => {
                let mut pieces = Vec::with_capacity(items.len());
                let mut all_good = true;
                for item in items {
                    match spread(self, item) {
                        Some(several) => pieces.extend(several),
                        None if item.as_text().is_none() => {
                            self.wrong_element(key, item, "strings");
                            all_good = false;
                        }
                        None => match self.piece(key, item) {
                            Some(piece) => pieces.push(piece),
                            None => all_good = false,
                        },
                    }
                }
                all_good.then_some(pieces)
            }
            NodeValue::Text(_) => match spread(self, node) {
                Some(pieces) => Some(pieces),
                None => self.wrong_kind(key, node, "a list of strings"),
            },
            _ => self.wrong_kind(key, node, "a list of strings"),
        }
    }

    fn choice(&mut self, key: &Key, node: &Node, choices: &[String]) -> Option<Piece> {
        let piece = self.piece(key, node)?;
        if choices.contains(&piece.text) {
            return Some(piece);
        }
        let known: Vec<&str> = choices.iter().map(String::as_str).collect();
        let mut problem =
            Problem::error(piece.span, format!("`{}` cannot be `{}`", key.name, secret::describe(&piece.text)));
        problem.help = suggestion(&piece.text, &known, "it can be");
        self.report(problem);
        None
    }

    fn choices(&mut self, key: &Key, node: &Node, choices: &[String]) -> Option<Vec<Piece>> {
        let pieces = self.pieces(key, node)?;
        let mut all_good = true;
        for (at, piece) in pieces.iter().enumerate() {
            if !choices.contains(&piece.text) {
                let known: Vec<&str> = choices.iter().map(String::as_str).collect();
                let mut problem =
                    Problem::error(piece.span.clone(), format!("`{}` cannot hold `{}`", key.name, piece.text));
                problem.help = suggestion(&piece.text, &known, "it can hold");
                self.report(problem);
                all_good = false;
            } else if pieces[..at].iter().any(|earlier| earlier.text == piece.text) {
                self.error(&piece.span, format!("`{}` holds `{}` twice", key.name, piece.text));
                all_good = false;
            }
        }
        if pieces.is_empty() {
            self.error_with_help(
                &node.span,
                format!("`{}` is empty", key.name),
                format!("it can hold {}", listed(choices)),
            );
            return None;
        }
        all_good.then_some(pieces)
    }

    fn integer(&mut self, key: &Key, node: &Node, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let integer = match &node.value {
            NodeValue::Integer(integer) => *integer,
            NodeValue::Text(text) if is_rendered(text) => {
                let rendered = self.rendered(node, text)?;
                match rendered.trim().parse() {
                    Ok(integer) => integer,
                    Err(_) => {
                        let shown = secret::describe(&rendered);
                        self.error(&node.span, format!("`{}` must be an integer, but is `{shown}`", key.name));
                        return None;
                    }
                }
            }
            _ => return self.wrong_kind(key, node, "an integer"),
        };
        if range.contains(&integer) {
            return Some(integer);
        }
        let message = format!("`{}` must be between {} and {}, not {integer}", key.name, range.start(), range.end());
        self.error(&node.span, message);
        None
    }

    fn integers(&mut self, key: &Key, node: &Node) -> Option<Vec<i64>> {
        let NodeValue::List(items) = &node.value else {
            return self.wrong_kind(key, node, "a list of integers");
        };
        let read: Vec<Option<i64>> = items.iter().map(|item| self.integer(key, item, i64::MIN..=i64::MAX)).collect();
        read.into_iter().collect()
    }

    fn boolean(&mut self, key: &Key, node: &Node) -> Option<bool> {
        match &node.value {
            NodeValue::Boolean(value) => Some(*value),
            NodeValue::Text(text) if is_rendered(text) => {
                let rendered = self.rendered(node, text)?;
                match rendered.trim() {
                    "true" => Some(true),
                    "false" => Some(false),
                    other => {
                        let shown = secret::describe(other);
                        self.error(&node.span, format!("`{}` must be true or false, but is `{shown}`", key.name));
                        None
                    }
                }
            }
            _ => self.wrong_kind(key, node, "true or false"),
        }
    }

    /// A size or a duration, with its unit.
    fn parsed<T: std::str::FromStr<Err = String>>(&mut self, key: &Key, node: &Node, example: &str) -> Option<T> {
        if matches!(node.value, NodeValue::Integer(_)) {
            let message = format!("`{}` needs a unit", key.name);
            self.error_with_help(&node.span, message, format!("write a number and its unit, such as {example}"));
            return None;
        }
        let piece = self.piece(key, node)?;
        match piece.text.parse() {
            Ok(value) => Some(value),
            Err(message) => {
                let (message, help) = match message.split_once("; ") {
                    Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
                    None => (message, None),
                };
                let mut problem = Problem::error(piece.span, message);
                problem.help = help;
                self.report(problem);
                None
            }
        }
    }

    fn map(&mut self, key: &Key, node: &Node) -> Option<Vec<(Piece, Piece)>> {
        let NodeValue::Table(table) = &node.value else {
            return self.wrong_kind(key, node, "a table of strings");
        };
        let mut map = Vec::with_capacity(table.entries.len());
        for entry in &table.entries {
            if entry.key.is_empty() {
                self.error(&entry.key_span, format!("a name in `{}` is empty", key.name));
                continue;
            }
            let inner = Key { name: entry.key.clone(), ..key.clone() };
            if let Some(piece) = self.piece(&inner, &entry.node) {
                map.push((Piece { text: entry.key.clone(), span: entry.key_span.clone() }, piece));
            }
        }
        (map.len() == table.entries.len()).then_some(map)
    }

    fn tables(&mut self, key: &Key, node: &Node, keys: &[Key]) -> Option<Vec<Values>> {
        let NodeValue::List(items) = &node.value else {
            return self.wrong_kind(key, node, "a list of tables");
        };
        let what = format!("`{}`", key.name);
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                NodeValue::Table(table) => tables.push(self.table(table, &item.span, &what, keys)),
                _ => self.wrong_element(key, item, "tables"),
            }
        }
        Some(tables)
    }

    fn url(&mut self, key: &Key, node: &Node) -> Option<Piece> {
        let piece = self.piece(key, node)?;
        let host = piece.text.strip_prefix("http://").or_else(|| piece.text.strip_prefix("https://"));
        match host {
            Some(host) if !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace) => {
                Some(piece)
            }
            _ => {
                let shown = secret::describe(&piece.text);
                let message = format!("`{}` must be a URL, not `{shown}`", key.name);
                self.error_with_help(&piece.span, message, "it begins with `http://` or `https://`");
                None
            }
        }
    }

    fn path(&mut self, key: &Key, node: &Node) -> Option<Piece> {
        let key = Key { may_be_secret: false, ..key.clone() };
        let piece = self.piece(&key, node)?;
        self.check_path(&piece).then_some(piece)
    }

    /// Whether the file or folder is there.
    pub(crate) fn check_path(&mut self, piece: &Piece) -> bool {
        self.check_kind(piece, &[PathKind::File, PathKind::Folder])
    }

    /// Whether the file is there, and is a file.
    pub(crate) fn check_file(&mut self, piece: &Piece) -> bool {
        self.check_kind(piece, &[PathKind::File])
    }

    fn check_kind(&mut self, piece: &Piece, wanted: &[PathKind]) -> bool {
        let path = secret::describe(&piece.text);
        if piece.text.is_empty() {
            self.error(&piece.span, "the path is empty");
            return false;
        }
        let Some(files) = self.files.as_ref().filter(|files| files.must_exist) else { return true };
        let kind = (files.probe)(&files.folder.join(&piece.text));
        if wanted.contains(&kind) {
            return true;
        }
        let message = match kind {
            PathKind::Missing if wanted.contains(&PathKind::Folder) => format!("there is no file or folder `{path}`"),
            PathKind::Missing => format!("there is no file `{path}`"),
            PathKind::Unreadable => format!("`{path}` cannot be read"),
            PathKind::Folder => format!("`{path}` is a folder, not a file"),
            PathKind::File => format!("`{path}` is a file, not a folder"),
        };
        let help = if piece.text.starts_with('~') {
            "`~` has no meaning here; write `{{ env.HOME }}`"
        } else {
            "relative paths start from the template's folder"
        };
        self.error_with_help(&piece.span, message, help);
        false
    }

    fn condition(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            NodeValue::Boolean(value) => Some(*value),
            NodeValue::Text(text) => match self.renderer.as_ref()?.condition(text) {
                Ok(value) => Some(value),
                Err(mistakes) => {
                    self.mistakes(node, text, mistakes);
                    None
                }
            },
            _ => {
                let key = Key::new("when", Shape::Condition, "");
                self.wrong_kind(&key, node, "an expression in quotes, true or false")
            }
        }
    }

    fn wrong_element(&mut self, key: &Key, node: &Node, wanted: &str) {
        let raw = self.text.get(node.span.clone()).unwrap_or_default();
        let scalar = matches!(node.value, NodeValue::Integer(_) | NodeValue::Boolean(_) | NodeValue::Other(_));
        let mut problem = Problem::error(
            node.span.clone(),
            format!("the elements of `{}` must be {wanted}, not {}", key.name, node.kind()),
        );
        problem.help = (scalar && wanted == "strings").then(|| format!("put it into quotes: \"{raw}\""));
        self.report(problem);
    }

    /// Reports a value of the wrong kind, with the right way to write what was meant.
    pub(crate) fn wrong_kind<T>(&mut self, key: &Key, node: &Node, wanted: &str) -> Option<T> {
        let raw = self.text.get(node.span.clone()).unwrap_or_default();
        let short = raw.len() <= 60 && !raw.contains('\n');
        let name = &key.name;
        let help = match &node.value {
            _ if !short => None,
            NodeValue::Integer(_) | NodeValue::Boolean(_) | NodeValue::Other(_) if wanted == "a string" => {
                Some(format!("put it into quotes: `{name} = \"{raw}\"`"))
            }
            NodeValue::Text(_) if wanted == "a list of strings" => Some(format!("write `{name} = [{raw}]`")),
            NodeValue::Text(text) if wanted == "an integer" && text.trim().parse::<i64>().is_ok() => {
                Some(format!("without quotes: `{name} = {}`", text.trim()))
            }
            NodeValue::Text(text) if wanted == "true or false" => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(format!("without quotes: `{name} = true`")),
                "false" | "no" | "off" | "0" => Some(format!("without quotes: `{name} = false`")),
                _ => None,
            },
            NodeValue::Table(_) if wanted == "a list of tables" => Some(format!("write `{name} = [{{ … }}]`")),
            _ => None,
        };
        let mut problem = Problem::error(node.span.clone(), format!("`{name}` must be {wanted}, not {}", node.kind()));
        problem.help = help;
        self.report(problem);
        None
    }
}
