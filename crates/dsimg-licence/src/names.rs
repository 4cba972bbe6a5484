//! Names of licences and expressions, as SPDX writes them.

use crate::Licence;

/// An expression as it is, or else the words as a name; `None` for nothing and for `UNKNOWN`.
pub(crate) fn expression_or_name(text: &str) -> Option<Licence> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("unknown") {
        return None;
    }
    Some(if is_expression(text) { Licence::Expression(text.to_owned()) } else { name(text) })
}

pub(crate) fn is_expression(text: &str) -> bool {
    spdx::Expression::parse(text).is_ok()
}

/// One line of bounded length: some packages have the whole text there.
pub(crate) fn name(text: &str) -> Licence {
    const LONGEST: usize = 100;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let short: String = line.chars().take(LONGEST).collect();
    let is_whole = short.len() == line.len() && text.trim().lines().count() == 1;
    Licence::Name(if is_whole { short } else { format!("{}…", short.trim_end()) })
}

/// The identifier of this name in any case: `bsd-3-clause`. Those that SPDX gave up, such as `GPL-2.0`, say too little.
pub(crate) fn identifier(name: &str) -> Option<&'static str> {
    let known = spdx::identifiers::LICENSES.iter().find(|known| known.name.eq_ignore_ascii_case(name))?;
    spdx::license_id(known.name).filter(|id| !id.is_deprecated()).map(|_| known.name)
}

/// GNU licences say whether later versions may be taken: `GPL`, `2` → `GPL-2.0-only`. `None`: there is no such version.
pub(crate) fn gnu(family: &str, version: &str, or_later: bool) -> Option<&'static str> {
    let version = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    identifier(&format!("{family}-{version}-{}", if or_later { "or-later" } else { "only" }))
}
