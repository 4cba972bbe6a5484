//! Names of packages, where one has several spellings.

/// The normal form of a Python distribution's name: PyPA specification, "Name normalization".
#[must_use]
pub fn normal_name(name: &str) -> String {
    let parts: Vec<_> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    parts.join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_python_packages_have_one_form() {
        for name in ["Foo.Bar_baz", "foo-bar-baz", "foo--bar._baz"] {
            assert_eq!(normal_name(name), "foo-bar-baz");
        }
    }
}
