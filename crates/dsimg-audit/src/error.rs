use std::path::PathBuf;

/// Why an audit could not be done. What is merely missing is in the report instead.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the advisories in `{}` can't be read: {reason}", file.display())]
    Database { file: PathBuf, reason: String },
    #[error("the list of suppressions is wrong: {0}")]
    Suppressions(String),
}

impl AuditError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Database { .. } => "remove the file and fetch it again with `dsimg audit --update`",
            Self::Suppressions(_) => {
                "each entry is `[[suppress]]` with `id`, `reason` and `until`, such as `until = 2027-01-31`"
            }
        }
    }

    pub(crate) fn database(file: &std::path::Path, reason: impl ToString) -> Self {
        Self::Database { file: file.to_owned(), reason: reason.to_string() }
    }
}
