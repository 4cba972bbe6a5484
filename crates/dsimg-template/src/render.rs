//! `{{ … }}` in values and files, by minijinja.

use std::collections::BTreeMap;

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

/// Renders one text; the error is minijinja's sentence with the line inside `text`.
///
/// # Errors
/// A syntax error, an undefined variable, or a filter that fails.
pub fn render(text: &str, context: &Context) -> Result<String, String> {
    let _ = (text, context);
    unimplemented!()
}
