//! `{{ … }}` in values and files, by minijinja.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::nearest::listed;
use crate::secret;

mod mistake;

pub(crate) use mistake::Mistake;
use mistake::{find_word, split_name, undefined_name};

/// What `{{ … }}` may name: the variables, `image`, `env`, `build`.
///
/// Sensitive variables are in it as placeholders only, see [`crate::secret`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Context {
    /// Variables by name, sensitive ones as placeholders.
    pub variables: BTreeMap<String, Variable>,
    /// `image.name`, `image.version`, `image.summary`
    pub image: BTreeMap<String, String>,
    /// `env.HOME`…: the environment of dsimg.
    pub environment: BTreeMap<String, String>,
    /// `build.date` (2026-11-21), `build.time` (2026-11-21T10:00:00Z), `build.id`.
    pub build: BTreeMap<String, String>,
}

/// A variable's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Variable {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Texts(Vec<String>),
}

/// Renders one text; the error is a sentence with the line inside `text`.
///
/// # Errors
/// A syntax error, an undefined variable, a filter that fails, or one that would change a sensitive value.
pub fn render(text: &str, context: &Context) -> Result<String, String> {
    Renderer::new(context).text(text).map_err(|mistakes| {
        let sentences: Vec<String> = mistakes
            .into_iter()
            .map(|mistake| {
                let line = mistake.range.map_or(1, |range| 1 + text[..range.start].matches('\n').count());
                let help = mistake.help.map(|help| format!(" ({help})")).unwrap_or_default();
                format!("line {line}: {}{help}", mistake.message)
            })
            .collect();
        sentences.join("; ")
    })
}

/// One context made ready to render many texts.
pub(crate) struct Renderer {
    environment: Environment<'static>,
    context: Context,
    values: Values,
}

/// The value of a variable that has none for a reason already reported; texts with it are not looked at further.
pub(crate) const UNKNOWN: &str = "\u{E003}";

type Values = BTreeMap<String, Value>;

/// Only texts with one of these are rendered; all others stay as they are.
pub(crate) fn is_rendered(text: &str) -> bool {
    ["{{", "{%"].iter().any(|open| text.contains(open))
}

impl Renderer {
    pub(crate) fn new(context: &Context) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Gives errors their place; what it collects is never printed.
        environment.set_debug(true);
        // No `{# comments #}`: bash writes the length of a variable as `${#name}`.
        let syntax =
            SyntaxConfig::builder().keep_trailing_newline(true).comment_delimiters("\u{E004}", "\u{E005}").build();
        environment.set_syntax(syntax.expect("these delimiters are valid"));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        // Booleans as TOML, shells and JSON write them, not as Python does.
        environment.set_formatter(|output, state, value| match bool::try_from(value.clone()) {
            Ok(value) => Ok(output.write_str(if value { "true" } else { "false" })?),
            Err(_) => minijinja::escape_formatter(output, state, value),
        });
        Self { environment, context: context.clone(), values: values(context, secret::placeholder) }
    }

    /// Renders a text, or says everything that is wrong with it.
    pub(crate) fn text(&self, text: &str) -> Result<String, Vec<Mistake>> {
        if !is_rendered(text) {
            return Ok(text.to_owned());
        }
        match self.environment.render_str(text, Value::from(self.values.clone())) {
            Ok(rendered) => self.refuse_changed_secrets(text, rendered),
            Err(error) => Err(self.every_mistake(text, error)),
        }
    }

    /// The elements, where the text is nothing but one `{{ … }}` that gives a list of strings.
    pub(crate) fn list(&self, text: &str) -> Option<Vec<String>> {
        let expression = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.to_owned();
        let value = self.environment.compile_expression_owned(expression).ok()?.eval(&self.values).ok()?;
        if value.kind() != ValueKind::Seq {
            return None;
        }
        value.try_iter().ok()?.map(|item| item.as_str().map(str::to_owned)).collect()
    }

    /// Whether an expression such as `auth == "ldap"` holds.
    pub(crate) fn condition(&self, expression: &str) -> Result<bool, Vec<Mistake>> {
        const OPEN: &str = "{{ ";
        let mistake = |message: String, help: Option<String>| vec![Mistake { message, range: None, help }];
        if is_rendered(expression) {
            let inner = expression.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
            let help = format!("write `when = {inner:?}`");
            return Err(mistake("`when` is an expression already, without `{{ }}`".to_owned(), Some(help)));
        }
        let compiled = self
            .environment
            .compile_expression_owned(expression.to_owned())
            .map_err(|error| vec![self.describe(expression, &error)])?;
        let names = compiled.undeclared_variables(false);
        if let Some(name) = names.iter().find(|name| self.is_sensitive(name)) {
            return Err(mistake(format!("`when` depends on the sensitive variable `{name}`"), None));
        }
        let unknown = Variable::Text(UNKNOWN.to_owned());
        if names.iter().any(|name| self.context.variables.get(name) == Some(&unknown)) {
            return Ok(true);
        }
        // `and` and `or` may never come to a name, so all are looked for; unless the expression asks for itself.
        if !expression.contains("defined") && !expression.contains("default") {
            let mut names: Vec<String> = compiled.undeclared_variables(true).into_iter().collect();
            names.sort();
            let mistakes: Vec<Mistake> = names
                .iter()
                .filter(|name| !self.is_defined(name))
                .map(|name| {
                    let (message, help) = mistake::undefined(&self.context, name);
                    Mistake { message, range: find_word(expression, name, 0), help }
                })
                .collect();
            if !mistakes.is_empty() {
                return Err(mistakes);
            }
        }
        self.text(&format!("{OPEN}{expression} }}}}")).map_err(|mut mistakes| {
            for range in mistakes.iter_mut().filter_map(|mistake| mistake.range.as_mut()) {
                let inside = |at: usize| at.saturating_sub(OPEN.len()).min(expression.len());
                *range = inside(range.start)..inside(range.end);
            }
            mistakes
        })?;
        let value = compiled.eval(&self.values).map_err(|error| vec![self.describe(expression, &error)])?;
        bool::try_from(value.clone()).map_err(|_| {
            let help = format!("compare it, such as `{0} == \"…\"`, or ask `{0} is defined`", expression.trim());
            mistake(format!("`when` is neither true nor false: it gives {}", kind_with_article(&value)), Some(help))
        })
    }

    /// Renders again with other values for the secrets: text that only carries them changes with them and
    /// not otherwise; a filter that reads them (`upper`, `length`, `urlencode`) gives itself away.
    fn refuse_changed_secrets(&self, text: &str, rendered: String) -> Result<String, Vec<Mistake>> {
        let sensitive: Vec<&String> = self.context.variables.keys().filter(|name| self.is_sensitive(name)).collect();
        if !sensitive.iter().any(|name| text.contains(name.as_str())) {
            return Ok(rendered);
        }
        let expected = sensitive
            .iter()
            .fold(rendered.clone(), |expected, name| expected.replace(&secret::placeholder(name), &probe(name)));
        match self.environment.render_str(text, Value::from(values(&self.context, probe))) {
            Ok(probed) if probed == expected && !mentions_part_of_secret(&rendered, &sensitive) => Ok(rendered),
            _ => {
                let names: Vec<&String> = sensitive.into_iter().filter(|name| text.contains(name.as_str())).collect();
                let message = format!("the sensitive variable {} would be changed here", listed(&names));
                let help = "a sensitive value is put in place inside the machine, so no filter can work on it; \
                            write `{{ name }}` alone";
                let range = names.first().and_then(|name| find_word(text, name, 0));
                Err(vec![Mistake { message, range, help: Some(help.to_owned()) }])
            }
        }
    }

    fn describe(&self, text: &str, error: &Error) -> Mistake {
        mistake::describe(&self.context, text, error)
    }

    fn is_defined(&self, name: &str) -> bool {
        let (first, rest) = split_name(name);
        match self.values.get(first) {
            Some(table) if table.kind() == ValueKind::Map && !rest.is_empty() => {
                table.get_attr(rest).is_ok_and(|value| !value.is_undefined())
            }
            value => value.is_some() || ["range", "dict", "namespace", "debug"].contains(&first),
        }
    }

    fn is_sensitive(&self, name: &str) -> bool {
        is_placeholder(name, self.context.variables.get(name))
    }

    /// Defines each undefined name and tries again, so that all are found.
    fn every_mistake(&self, text: &str, first: Error) -> Vec<Mistake> {
        let mut values = self.values.clone();
        let mut mistakes = Vec::new();
        let mut error = first;
        // A bound, should a name never become defined.
        for _ in 0..32 {
            mistakes.push(self.describe(text, &error));
            if !undefined_name(&error).is_some_and(|name| define(&mut values, &name)) {
                break;
            }
            match self.environment.render_str(text, Value::from(values.clone())) {
                Ok(_) => break,
                // What stands for the undefined value may not suit a filter or a sum: not the user's mistake.
                Err(next) if next.kind() != ErrorKind::UnknownFilter && !is_new(&values, &next) => break,
                Err(next) => error = next,
            }
        }
        mistakes
    }
}

fn values(context: &Context, sensitive: fn(&str) -> String) -> Values {
    let mut values: Values = context
        .variables
        .iter()
        .map(|(name, variable)| {
            let value = match variable {
                _ if is_placeholder(name, Some(variable)) => Value::from(sensitive(name)),
                Variable::Text(text) => Value::from(text.clone()),
                Variable::Integer(integer) => Value::from(*integer),
                Variable::Boolean(value) => Value::from(*value),
                Variable::Texts(texts) => Value::from(texts.clone()),
            };
            (name.clone(), value)
        })
        .collect();
    for (name, table) in [("image", &context.image), ("env", &context.environment), ("build", &context.build)] {
        let table: Values = table.iter().map(|(key, text)| (key.clone(), Value::from(text.clone()))).collect();
        values.insert(name.to_owned(), Value::from(table));
    }
    values
}

/// A sensitive variable has its own placeholder for a value.
fn is_placeholder(name: &str, variable: Option<&Variable>) -> bool {
    matches!(variable, Some(Variable::Text(text)) if *text == secret::placeholder(name))
}

/// Stands for a secret in the second rendering: other letters, both cases, signs that filters escape.
fn probe(name: &str) -> String {
    format!("\u{E000}{name} aZ<é>\"'&%/\\\u{E001}")
}

/// Whether more of a placeholder than whole ones is left in the text.
fn mentions_part_of_secret(text: &str, sensitive: &[&String]) -> bool {
    let rest = sensitive.iter().fold(text.to_owned(), |rest, name| rest.replace(&secret::placeholder(name), ""));
    secret::mentions_secret(&rest)
}

/// Whether an error is about a name that has not been given a value by [`define`].
fn is_new(values: &Values, error: &Error) -> bool {
    undefined_name(error).is_some_and(|name| {
        let first = split_name(&name).0;
        values.get(first).is_none_or(|value| value.kind() == ValueKind::Map)
    })
}

/// Gives an undefined name an empty value; false where it has no place for one.
fn define(values: &mut Values, name: &str) -> bool {
    let (first, rest) = split_name(name);
    if rest.is_empty() {
        return values.insert(first.to_owned(), Value::from("")).is_none();
    }
    let mut table: Values = match values.get(first) {
        Some(table) if table.kind() == ValueKind::Map => {
            let Ok(keys) = table.try_iter() else { return false };
            keys.filter_map(|key| Some((key.as_str()?.to_owned(), table.get_item(&key).ok()?))).collect()
        }
        _ => return false,
    };
    let new = table.insert(rest.to_owned(), Value::from("")).is_none();
    values.insert(first.to_owned(), Value::from(table));
    new
}

fn kind_with_article(value: &Value) -> String {
    match value.kind() {
        ValueKind::Number => "a number".to_owned(),
        ValueKind::String => "a string".to_owned(),
        ValueKind::Seq => "a list".to_owned(),
        ValueKind::None => "nothing".to_owned(),
        kind => format!("a {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context {
            variables: BTreeMap::from([
                ("python".to_owned(), Variable::Text("3.11".to_owned())),
                ("cpus".to_owned(), Variable::Integer(4)),
                ("gpu".to_owned(), Variable::Boolean(false)),
                ("extra".to_owned(), Variable::Texts(vec!["git".to_owned(), "tmux".to_owned()])),
                ("token".to_owned(), Variable::Text(secret::placeholder("token"))),
            ]),
            image: BTreeMap::from([("name".to_owned(), "ds".to_owned())]),
            environment: BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]),
            build: BTreeMap::from([("date".to_owned(), "2026-11-21".to_owned())]),
        }
    }

    fn wrong(text: &str) -> Vec<(String, Option<String>)> {
        let mistakes = Renderer::new(&context()).text(text).unwrap_err();
        mistakes.into_iter().map(|mistake| (mistake.message, mistake.help)).collect()
    }

    #[test]
    fn everything_that_may_be_named() {
        let text = "{{ python }} {{ cpus + 1 }} {{ image.name }} {{ env.HOME }} {{ build.date }} {{ gpu }}\n";
        assert_eq!(render(text, &context()).unwrap(), "3.11 5 ds /root 2026-11-21 false\n");
        assert_eq!(render("<{{ env.NOT | default('&') }}>", &context()).unwrap(), "<&>");
        assert_eq!(render("${x} {a}", &context()).unwrap(), "${x} {a}");
        let lengths = "${#x} ${#list[@]} ${x%%.*} {{ python }}";
        assert_eq!(render(lengths, &context()).unwrap(), "${#x} ${#list[@]} ${x%%.*} 3.11");
        assert_eq!(render("{% raw %}{{.Name}}{% endraw %}", &context()).unwrap(), "{{.Name}}");
    }

    #[test]
    fn every_undefined_name_is_found_with_its_place() {
        let text = "{{ pyhton }}-{{ env.HOEM }}-{{ image.nam }}";
        let mistakes = Renderer::new(&context()).text(text).unwrap_err();
        let places: Vec<&str> = mistakes.iter().map(|mistake| &text[mistake.range.clone().unwrap()]).collect();
        assert_eq!(places, ["pyhton", "env.HOEM", "image.nam"]);
        let help: Vec<&str> = mistakes.iter().filter_map(|mistake| mistake.help.as_deref()).collect();
        assert_eq!(help, ["did you mean `python`?", "did you mean `env.HOME`?", "did you mean `image.name`?"]);
    }

    #[test]
    fn advice_fits_the_mistake() {
        let help = |text| wrong(text)[0].1.clone().unwrap_or_default();
        assert_eq!(help("{{ HOME }}"), "did you mean `env.HOME`?");
        assert_eq!(help("{{ var.python }}"), "variables are named as they are: `{{ python }}`");
        assert_eq!(help("{{ python | uper }}"), "did you mean `upper`?");
        assert_eq!(wrong("{{ python")[0].0, "`{{` without `}}`");
        assert_eq!(wrong("{{ nothing | upper }}").len(), 1);
    }

    #[test]
    fn secrets_stay_placeholders_and_no_filter_touches_them() {
        assert_eq!(render("T={{ token }}", &context()).unwrap(), format!("T={}", secret::placeholder("token")));
        for text in ["{{ token | upper }}", "{{ token | lower }}", "{{ token | length }}", "{{ token[0] }}"] {
            assert!(wrong(text)[0].0.contains("would be changed"), "{text}");
        }
    }

    #[test]
    fn a_lone_list_stays_a_list() {
        let renderer = Renderer::new(&context());
        assert_eq!(renderer.list("{{ extra }}").unwrap(), ["git", "tmux"]);
        assert_eq!(renderer.list("{{ python }}"), None);
        assert_eq!(renderer.list("{{ extra }} {{ extra }}"), None);
    }

    #[test]
    fn conditions_are_true_or_false_and_nothing_else() {
        let renderer = Renderer::new(&context());
        assert_eq!(renderer.condition("python == '3.11' and not gpu"), Ok(true));
        assert_eq!(renderer.condition("env.CI is defined"), Ok(false));
        assert!(renderer.condition("python").is_err());
        assert!(renderer.condition("token == 'x'").is_err());
        assert!(renderer.condition("{{ gpu }}").is_err());
        let undefined = renderer.condition("gpus").unwrap_err();
        assert_eq!(undefined[0].range, Some(0..4));
        let never_reached = renderer.condition("gpu and (gpus or env.HOEM == 'x')").unwrap_err();
        let help: Vec<Option<&str>> = never_reached.iter().map(|mistake| mistake.help.as_deref()).collect();
        assert_eq!(help, [Some("did you mean `env.HOME`?"), Some("did you mean `gpu`?")]);
    }
}
