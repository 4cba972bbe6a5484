//! Paragraphs of `Name: value` lines, continued by lines that begin with a blank: what Debian, R and Python write.

/// One paragraph.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Continuation lines stay lines of the value, without the blanks before them.
    pub(crate) fn parse(paragraph: &str) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in paragraph.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        Self(fields)
    }

    /// The first of that name, which is written in small letters.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// The text's paragraphs, which empty lines end. Lines of comments are left out.
pub(crate) fn paragraphs(text: &str) -> Vec<Fields> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let paragraphs = lines.split(|line| line.trim().is_empty()).filter(|lines| !lines.is_empty());
    paragraphs.map(|lines| Fields::parse(&lines.join("\n"))).collect()
}
