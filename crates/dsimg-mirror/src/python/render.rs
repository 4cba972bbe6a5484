//! Pages as they are served: every link leads to this mirror.

use serde_json::{Map, Value, json};

use crate::ask::normal_name;
use crate::python::page::{FileName, Page, PageFile};

pub(crate) const JSON: &str = "application/vnd.pypi.simple.v1+json";
const HTML: &str = "text/html; charset=utf-8";

/// The page and its content type, in the form that an `Accept` header prefers.
pub(crate) fn render(page: &Page, accept: Option<&str>) -> (Vec<u8>, &'static str) {
    match accept.is_some_and(wants_json) {
        true => (json_page(page), JSON),
        false => (html_page(page).into_bytes(), HTML),
    }
}

/// Both pip and uv put JSON first and weigh the rest less.
fn wants_json(accept: &str) -> bool {
    let weight = |kind: &str| {
        let weights = accept.split(',').filter_map(|part| {
            let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
            let weight = parameters.split(';').find_map(|text| text.trim().strip_prefix("q=")?.parse().ok());
            (name.trim() == kind).then(|| weight.unwrap_or(1.0_f32))
        });
        weights.fold(0.0, f32::max)
    };
    let json = weight(JSON).max(weight("application/vnd.pypi.simple.latest+json"));
    json > 0.0 && json >= weight("text/html").max(weight("application/vnd.pypi.simple.v1+html"))
}

fn json_page(page: &Page) -> Vec<u8> {
    let mut versions: Vec<String> = Vec::new();
    for file in &page.files {
        if let Some(FileName { version, .. }) = FileName::parse(&file.file_name, Some(&page.name))
            && !versions.contains(&version)
        {
            versions.push(version);
        }
    }
    // From 1.1 on every file has a size.
    let api = if page.files.iter().all(|file| file.size.is_some()) { "1.1" } else { "1.0" };
    let files: Vec<Value> = page.files.iter().map(json_file).collect();
    let page =
        json!({"meta": {"api-version": api}, "name": normal_name(&page.name), "versions": versions, "files": files});
    page.to_string().into_bytes()
}

fn json_file(file: &PageFile) -> Value {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("filename", json!(file.file_name));
    set("url", json!(link(file)));
    set("hashes", json!(file.hashes));
    if let Some(python) = &file.requires_python {
        set("requires-python", json!(python));
    }
    if let Some(reason) = &file.yanked {
        set("yanked", if reason.is_empty() { json!(true) } else { json!(reason) });
    }
    if let Some(time) = &file.upload_time {
        set("upload-time", json!(time));
    }
    if let Some(size) = file.size {
        set("size", json!(size));
    }
    if let Some(hashes) = &file.core_metadata {
        set("core-metadata", if hashes.is_empty() { json!(true) } else { json!(hashes) });
    }
    fields.into()
}

/// From the root of this server: the guest may reach it by more than one name.
fn link(file: &PageFile) -> String {
    file.address.below("/pypi-file")
}

fn html_page(page: &Page) -> String {
    let name = escape(&page.name);
    let mut text = format!(
        "<!DOCTYPE html>\n<html>\n<head><meta name=\"pypi:repository-version\" content=\"1.0\"><title>Links for \
         {name}</title></head>\n<body>\n"
    );
    for file in &page.files {
        // Readers look for one, and sha256 is what all of them know.
        let best = file.hashes.get_key_value("sha256").or_else(|| file.hashes.iter().next());
        let hash = best.map(|(algorithm, hex)| format!("#{algorithm}={hex}")).unwrap_or_default();
        text.push_str(&format!("<a href=\"{}\"", escape(&(link(file) + &hash))));
        let mut attribute = |name: &str, value: &str| text.push_str(&format!(" {name}=\"{}\"", escape(value)));
        if let Some(python) = &file.requires_python {
            attribute("data-requires-python", python);
        }
        if let Some(reason) = &file.yanked {
            attribute("data-yanked", reason);
        }
        if let Some(hashes) = &file.core_metadata {
            let value = hashes.iter().next().map_or("true".to_owned(), |(algorithm, hex)| format!("{algorithm}={hex}"));
            attribute("data-core-metadata", &value);
            attribute("data-dist-info-metadata", &value);
        }
        text.push_str(&format!(">{}</a><br>\n", escape(&file.file_name)));
    }
    text + "</body>\n</html>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    #[test]
    fn both_forms_say_the_same() {
        let at = Address::parse("https://pypi.example.org/simple/a/").unwrap().0;
        let upstream = br#"{"name": "a", "files": [
          {"filename": "a-1.0-py3-none-any.whl", "url": "https://files.example.org/a-1.0-py3-none-any.whl",
           "hashes": {"sha256": "ab", "blake2b": "00"}, "requires-python": "<4,>=3.9", "yanked": "it's \"bad\"", "size": 3,
           "upload-time": "2025-01-02T03:04:05.678901Z", "core-metadata": {"sha256": "cd"}},
          {"filename": "a-0.9.tar.gz", "url": "/p/a-0.9.tar.gz", "hashes": {"md5": "ef"}, "core-metadata": true}]}"#;
        let page = Page::parse(upstream, "a", &at).unwrap();
        let (json, kind) = render(&page, Some(JSON));
        assert_eq!(kind, JSON);
        let value: Value = serde_json::from_slice(&json).unwrap();
        insta::assert_json_snapshot!(value);
        let (html, kind) = render(&page, None);
        assert_eq!(kind, HTML);
        insta::assert_snapshot!(String::from_utf8(html).unwrap());
    }

    #[test]
    fn clients_get_the_form_that_they_ask_for() {
        for (accept, json) in [
            ("application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01", true),
            (
                "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
                true,
            ),
            ("text/html", false),
            ("text/html, application/vnd.pypi.simple.v1+json;q=0.5", false),
            ("*/*", false),
            ("application/vnd.pypi.simple.v1+json;q=0", false),
        ] {
            assert_eq!(wants_json(accept), json, "{accept}");
        }
    }
}
