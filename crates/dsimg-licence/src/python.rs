//! Licences of Python distributions. Sources: PEP 639, and "Core metadata specifications" of PyPA.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _};
use std::path::Path;

use crate::Licence;
use crate::archive::{find_in_tar, gzip, read_text};
use crate::fields::Fields;
use crate::names::{expression_or_name, is_expression, name};

/// `METADATA` of a wheel, `PKG-INFO` of a source distribution.
pub(crate) fn metadata(file: &Path) -> io::Result<String> {
    let mut open = BufReader::new(File::open(file)?);
    let mut magic = [0; 2];
    open.read_exact(&mut magic)?;
    open.rewind()?;
    let found = match &magic {
        b"PK" => find_in_zip(open)?,
        [0x1f, 0x8b] => find_in_tar(gzip(open), is_metadata)?,
        _ => return Err(io::Error::other("it is neither a wheel nor a source distribution")),
    };
    found.ok_or_else(|| io::Error::other("it has no METADATA"))
}

fn find_in_zip(source: BufReader<File>) -> io::Result<Option<String>> {
    let mut archive = zip::ZipArchive::new(source)?;
    let index = (0..archive.len()).find(|index| {
        let name = archive.name_for_index(*index);
        name.is_some_and(|name| name.is_ok_and(|name| is_metadata(&name)))
    });
    index.map(|index| read_text(&mut archive.by_index(index)?)).transpose()
}

fn is_metadata(path: &str) -> bool {
    match path.split_once('/') {
        Some((folder, "METADATA")) => folder.ends_with(".dist-info"),
        Some((folder, "PKG-INFO")) => !folder.ends_with(".egg-info"),
        _ => false,
    }
}

pub(crate) fn licence(metadata: &str) -> Option<Licence> {
    // After an empty line comes the description, which may say anything.
    let head = metadata.replace("\r\n", "\n");
    let head = head.split("\n\n").next().unwrap_or_default();
    let fields = Fields::parse(head);
    let expression = fields.get("license-expression").filter(|text| is_expression(text));
    if let Some(expression) = expression {
        return Some(Licence::Expression(expression.to_owned()));
    }
    let words = fields.get("license").and_then(expression_or_name);
    let classifiers: Vec<_> = fields.all("classifier").filter_map(|text| text.strip_prefix("License :: ")).collect();
    let certain = match &classifiers[..] {
        [one] => of_classifier(one),
        // Nobody says whether several are all in force or may be chosen from.
        _ => None,
    };
    match (words, certain) {
        (Some(expression @ Licence::Expression(_)), _) => Some(expression),
        (Some(Licence::Name(words)), None) => Some(of_words(&words)),
        (_, Some(certain)) => Some(Licence::Expression(certain.to_owned())),
        (None, None) => {
            let names: Vec<_> = classifiers.iter().map(|text| text.rsplit(" :: ").next().unwrap_or(text)).collect();
            (!names.is_empty()).then(|| name(&names.join(", ")))
        }
    }
}

/// Words of which no two meanings are known.
fn of_words(words: &str) -> Licence {
    let certain = match words.to_ascii_lowercase().trim_end_matches(" license") {
        "mit" | "the mit" | "expat" => "MIT",
        "apache 2.0"
        | "apache-2"
        | "apache 2"
        | "apache license 2.0"
        | "apache license, version 2.0"
        | "apache software license 2.0"
        | "apache license version 2.0"
        | "apache2.0" => "Apache-2.0",
        "bsd 3-clause" | "bsd-3" | "3-clause bsd" | "bsd 3 clause" | "new bsd" | "modified bsd" => "BSD-3-Clause",
        "bsd 2-clause" | "2-clause bsd" | "simplified bsd" => "BSD-2-Clause",
        "mpl 2.0" | "mozilla public license 2.0" | "mozilla public license 2.0 (mpl 2.0)" => "MPL-2.0",
        "iscl" => "ISC",
        "gplv3+" | "gpl-3.0+" => "GPL-3.0-or-later",
        "gplv2+" | "gpl-2.0+" => "GPL-2.0-or-later",
        "lgplv3+" | "lgpl-3.0+" => "LGPL-3.0-or-later",
        _ => return name(words),
    };
    Licence::Expression(certain.to_owned())
}

/// Those that mean one licence: not `BSD License`, nor `Apache Software License`, which tells no version.
fn of_classifier(classifier: &str) -> Option<&'static str> {
    Some(match classifier.strip_prefix("OSI Approved :: ").unwrap_or(classifier) {
        "MIT License" => "MIT",
        "MIT No Attribution License (MIT-0)" => "MIT-0",
        "ISC License (ISCL)" => "ISC",
        "Mozilla Public License 1.1 (MPL 1.1)" => "MPL-1.1",
        "Mozilla Public License 2.0 (MPL 2.0)" => "MPL-2.0",
        "GNU General Public License v2 (GPLv2)" => "GPL-2.0-only",
        "GNU General Public License v2 or later (GPLv2+)" => "GPL-2.0-or-later",
        "GNU General Public License v3 (GPLv3)" => "GPL-3.0-only",
        "GNU General Public License v3 or later (GPLv3+)" => "GPL-3.0-or-later",
        "GNU Lesser General Public License v2 or later (LGPLv2+)" => "LGPL-2.0-or-later",
        "GNU Lesser General Public License v3 (LGPLv3)" => "LGPL-3.0-only",
        "GNU Lesser General Public License v3 or later (LGPLv3+)" => "LGPL-3.0-or-later",
        "GNU Affero General Public License v3" => "AGPL-3.0-only",
        "GNU Affero General Public License v3 or later (AGPLv3+)" => "AGPL-3.0-or-later",
        "The Unlicense (Unlicense)" => "Unlicense",
        "Boost Software License 1.0 (BSL-1.0)" => "BSL-1.0",
        "Universal Permissive License (UPL)" => "UPL-1.0",
        "European Union Public Licence 1.2 (EUPL 1.2)" => "EUPL-1.2",
        "Zero-Clause BSD (0BSD)" => "0BSD",
        "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication" => "CC0-1.0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_field_counts_most() {
        let expression = |text: &str| Some(Licence::Expression(text.to_owned()));
        let name = |text: &str| Some(Licence::Name(text.to_owned()));
        let mit = "Classifier: License :: OSI Approved :: MIT License\n";
        let bsd = "Classifier: License :: OSI Approved :: BSD License\n";
        let cases = [
            (
                "License-Expression: MIT AND (BSD-3-Clause OR Apache-2.0)\n".to_owned(),
                expression("MIT AND (BSD-3-Clause OR Apache-2.0)"),
            ),
            (format!("License-Expression: not one\n{mit}"), expression("MIT")),
            ("License: BSD-3-Clause\n".to_owned(), expression("BSD-3-Clause")),
            ("License: Apache License, Version 2.0\n".to_owned(), expression("Apache-2.0")),
            (format!("License: see LICENSE.txt\n{mit}"), expression("MIT")),
            (format!("License: BSD\n{bsd}"), name("BSD")),
            (mit.to_owned(), expression("MIT")),
            (bsd.to_owned(), name("BSD License")),
            (format!("{mit}{bsd}"), name("MIT License, BSD License")),
            (format!("License: UNKNOWN\n{mit}"), expression("MIT")),
            (
                "License: Copyright (c) 2020\n        All rights\n        reserved\n".to_owned(),
                name("Copyright (c) 2020…"),
            ),
            ("Name: x\n".to_owned(), None),
            ("Name: x\n\nLicense: MIT\n".to_owned(), None),
        ];
        for (text, expected) in cases {
            assert_eq!(licence(&format!("Metadata-Version: 2.4\n{text}")), expected, "{text}");
        }
    }
}
