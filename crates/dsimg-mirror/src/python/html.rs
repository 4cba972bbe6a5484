//! Pages in HTML: a link for each file, with attributes.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::python::page::PageFile;

/// All links of the page that lead to a file.
pub(crate) fn files(page: &str, at: &Address) -> Vec<PageFile> {
    let mut base = at.clone();
    let mut files = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end..]);
            continue;
        }
        let Some((tag, after)) = Tag::read(rest) else { break };
        rest = after;
        match tag.name.as_str() {
            "base" => {
                if let Some((address, _)) = tag.attributes.get("href").and_then(|link| at.join(link)) {
                    base = address;
                }
            }
            "a" => {
                let text = &rest[..rest.find('<').unwrap_or(rest.len())];
                files.extend(file_of(&tag, decode(text).trim(), &base));
            }
            _ => {}
        }
    }
    files
}

fn file_of(tag: &Tag, text: &str, base: &Address) -> Option<PageFile> {
    let link = tag.attributes.get("href")?;
    let (address, login) = base.join(link)?;
    let file_name = if text.is_empty() { address.file_name().to_owned() } else { text.to_owned() };
    if address.file_name().is_empty() {
        return None;
    }
    let fragment = link.split_once('#').and_then(|(_, fragment)| fragment.split_once('='));
    let metadata = ["data-core-metadata", "data-dist-info-metadata"].iter().find_map(|name| tag.attributes.get(*name));
    Some(PageFile {
        file_name,
        address,
        login,
        hashes: fragment.map(hash).into_iter().collect(),
        requires_python: tag.attributes.get("data-requires-python").cloned(),
        yanked: tag.attributes.get("data-yanked").cloned(),
        upload_time: tag.attributes.get("data-upload-time").cloned(),
        size: None,
        core_metadata: metadata
            .filter(|text| *text != "false")
            .map(|text| text.split_once('=').map(hash).into_iter().collect()),
    })
}

fn hash((algorithm, hex): (&str, &str)) -> (String, String) {
    (algorithm.to_owned(), hex.to_owned())
}

struct Tag {
    name: String,
    attributes: BTreeMap<String, String>,
}

impl Tag {
    /// The tag that the text begins with, and what comes after it. `None` where it does not end.
    fn read(text: &str) -> Option<(Self, &str)> {
        let text = &text[1..];
        let end = text.find(|letter: char| letter.is_whitespace() || letter == '>')?;
        let name = text[..end].to_ascii_lowercase();
        let (mut attributes, mut rest) = (BTreeMap::new(), &text[end..]);
        loop {
            rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '/');
            if let Some(after) = rest.strip_prefix('>') {
                return Some((Self { name, attributes }, after));
            }
            let end = rest.find(|letter: char| letter.is_whitespace() || matches!(letter, '=' | '>' | '/'))?;
            let key = rest[..end].to_ascii_lowercase();
            rest = rest[end..].trim_start();
            let mut value = "";
            if let Some(after) = rest.strip_prefix('=') {
                let after = after.trim_start();
                let (found, left) = match after.chars().next()? {
                    quote @ ('"' | '\'') => after[1..].split_once(quote)?,
                    _ => after.split_at(after.find(|letter: char| letter.is_whitespace() || letter == '>')?),
                };
                (value, rest) = (found, left);
            } else if end == 0 {
                // A stray sign.
                rest = rest.get(1..)?;
                continue;
            }
            attributes.entry(key).or_insert_with(|| decode(value));
        }
    }
}

/// Character references, as far as pages of indexes have them.
fn decode(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest.find(';').map(|end| &rest[1..end]).and_then(|name| Some((name, letter_of(name)?)));
        match reference {
            Some((name, letter)) => {
                plain.push(letter);
                rest = &rest[name.len() + 2..];
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain + rest
}

fn letter_of(reference: &str) -> Option<char> {
    let number = |text: &str, radix| u32::from_str_radix(text, radix).ok().and_then(char::from_u32);
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => match reference.strip_prefix('#')? {
            hex if hex.starts_with(['x', 'X']) => number(&hex[1..], 16),
            decimal => number(decimal, 10),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Address {
        Address::parse("https://pypi.example.org/simple/a/").unwrap().0
    }

    #[test]
    fn links_are_files() {
        let page = r##"<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"></head>
          <body><h1>Links for a</h1><!-- <a href="old-1.whl">old</a> -->
          <a href="../../packages/a-1.0-py3-none-any.whl#sha256=abc" data-requires-python="&gt;=3.9,&lt;4"
             data-dist-info-metadata="sha256=def" rel=internal>a-1.0-py3-none-any.whl</a><br/>
          <A HREF='a-1.0.tar.gz' data-yanked data-core-metadata=false>a-1.0.tar.gz</A>
          <a>no link</a> <a href="../">up</a><a href="https://files.example.org/b%2Bc-1.zip">b+c-1.zip</a>"##;
        insta::assert_debug_snapshot!(files(page, &at()));
    }

    #[test]
    fn a_base_is_what_links_start_from() {
        let page = r#"<head><base href="https://other.example.org/x/"></head><a href="a-1.tar.gz">a-1.tar.gz</a>"#;
        assert_eq!(files(page, &at())[0].address.as_str(), "https://other.example.org/x/a-1.tar.gz");
    }

    #[test]
    fn what_is_cut_short_or_wild_ends() {
        for page in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href=\"x",
            "<a ==>",
            "<a \"x\">y</a>",
            "<!--",
            "<a href=ü>",
            "&#x;<a href=a>",
        ] {
            files(page, &at());
        }
        assert_eq!(decode("a&amp;b&#43;c&#x2B;d&nope;e&"), "a&b+c+d&nope;e&");
    }
}
