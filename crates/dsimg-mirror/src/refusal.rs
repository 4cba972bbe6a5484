//! Why the guest does not get what it asks for.

/// An answer other than the file. The reason is put on the status line too, because that is what apt shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) reason: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn not_found(reason: impl Into<String>) -> Self {
        Self::new(404, reason)
    }

    /// The mirror itself failed, not what it asks.
    pub(crate) fn of_store(error: &dsimg_store::StoreError) -> Self {
        let refusal = Self::new(500, format!("dsimg: {error}"));
        match error.hint() {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }

    /// What stands behind the number: one line of printable ASCII.
    pub(crate) fn status_line(&self) -> String {
        let printable = self.reason.chars().map(|letter| match letter {
            ' '..='~' => letter,
            _ if letter.is_whitespace() => ' ',
            _ => '?',
        });
        printable.take(300).collect()
    }

    pub(crate) fn body(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}\nhint: {hint}\n", self.reason),
            None => format!("{}\n", self.reason),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_is_one_line() {
        let refusal = Refusal::new(502, "déb.org\r\nSet-Cookie: a").hint("wait");
        assert_eq!(refusal.status_line(), "d?b.org  Set-Cookie: a");
        assert_eq!(refusal.body(), "déb.org\r\nSet-Cookie: a\nhint: wait\n");
    }
}
