//! Tags that go onto what is made.

use std::collections::BTreeMap;

use crate::reader::Reader;
use crate::values::{Piece, Values};

/// AWS takes 50 on a thing; the others are left for dsimg's own.
const MOST: usize = 40;

/// `tags`, and whether `ami_tags` fit in beside them.
pub(super) fn read(reader: &mut Reader<'_>, values: &Values) -> BTreeMap<String, String> {
    for key in ["tags", "ami_tags"] {
        values.map(key).iter().for_each(|(name, value)| check(reader, name, value));
    }
    check_count(reader, values);
    values.string_map("tags")
}

fn check(reader: &mut Reader<'_>, name: &Piece, value: &Piece) {
    let lower = name.text.to_lowercase();
    if lower.starts_with("aws:") {
        reader.error_with_help(&name.span, format!("the tag `{}` is one of AWS's own", name.text), "rename it");
    } else if lower.starts_with("dsimg:") {
        let help = "they say what dsimg made, so that it finds and removes it: rename yours";
        reader.error_with_help(&name.span, format!("the tag `{}` is one of dsimg's own", name.text), help);
    }
    for (piece, what, most) in [(name, "name", 128), (value, "value", 256)] {
        let count = piece.text.chars().count();
        if count > most {
            let message = format!("the {what} of a tag has up to {most} characters, and this one {count}");
            reader.error(&piece.span, message);
        }
    }
}

fn check_count(reader: &mut Reader<'_>, values: &Values) {
    let mut names: Vec<&str> = Vec::new();
    let both = ["tags", "ami_tags"].into_iter().flat_map(|key| values.map(key));
    for (name, _) in both {
        if !names.contains(&name.text.as_str()) {
            names.push(&name.text);
        }
    }
    let later = values.key_span("ami_tags").or_else(|| values.key_span("tags"));
    if let Some(span) = later.filter(|_| names.len() > MOST) {
        let message = format!("there are {} tags, and {MOST} fit on an AMI", names.len());
        reader.error_with_help(&span, message, "AWS takes 50, and dsimg needs some for its own");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{Found, Value};

    #[test]
    fn the_tags_of_builder_and_ami_are_counted_together() {
        let problems = |tags: usize, ami_tags: usize| {
            let mut values = Values::default();
            for (key, count) in [("tags", tags), ("ami_tags", ami_tags)] {
                let piece = |text: String| Piece { text, span: 0..0 };
                let map = (0..count).map(|number| (piece(format!("{key}-{number}")), piece(String::new()))).collect();
                values.insert(key, Found { key_span: 0..0, span: 0..0, value: Value::Map(map) });
            }
            let mut reader = Reader::new("");
            read(&mut reader, &values);
            reader.problems.len()
        };
        assert_eq!((problems(MOST, 0), problems(20, 20)), (0, 0));
        assert_eq!((problems(MOST + 1, 0), problems(20, 21)), (1, 1));
    }
}
