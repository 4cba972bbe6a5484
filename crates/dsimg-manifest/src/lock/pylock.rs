//! An environment of the lock in Python's own form: `pylock.toml`, PEP 751.

use std::fmt::Write as _;

use super::{Distribution, Lock};

/// The text of the environment's `pylock.toml`, which uv and pip install from. Distributions that came in another way than
/// from an index are left out.
#[must_use]
pub fn pylock(lock: &Lock, location: &str) -> String {
    let mut text = "lock-version = \"1.0\"\ncreated-by = \"dsimg\"\n".to_owned();
    for distribution in lock.pypi.iter().filter(|distribution| distribution.location == location) {
        write_package(distribution, &mut text);
    }
    text
}

fn write_package(distribution: &Distribution, text: &mut String) {
    let Distribution { name, version, index, artifact: Some(artifact), .. } = distribution else { return };
    let file = quoted(artifact.file_name());
    let (url, sha256, size) = (quoted(&artifact.url), &artifact.sha256, artifact.size);
    let entry = format!("{{ name = {file}, url = {url}, size = {size}, hashes = {{ sha256 = \"{sha256}\" }} }}");
    let (name, version, index) = (quoted(name), quoted(version), quoted(index));
    let _ = write!(text, "\n[[packages]]\nname = {name}\nversion = {version}\nindex = {index}\n");
    let _ = if artifact.file_name().ends_with(".whl") {
        writeln!(text, "wheels = [{entry}]")
    } else {
        writeln!(text, "sdist = {entry}")
    };
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_written_as_the_standard_says() {
        insta::assert_snapshot!(pylock(&crate::lock::sample().runs["kvm"], "/opt/ds"));
    }
}
