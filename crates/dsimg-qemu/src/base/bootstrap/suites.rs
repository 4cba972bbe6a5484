//! Which suites there are, and how long each gets security updates.
//!
//! From Debian's distro-info-data. Debian's long-term support counts, as it comes by the same mirrors; Ubuntu's
//! extended maintenance does not, as it needs a subscription.

use jiff::civil::{Date, date};

use dsimg_machine::MachineError;
use dsimg_template::template::Distro;

#[derive(Debug, PartialEq)]
pub(super) struct Suite {
    pub(super) distro: Distro,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// The last day with security updates.
    pub(super) ends: Date,
}

const fn suite(distro: Distro, name: &'static str, version: &'static str, ends: Date) -> Suite {
    Suite { distro, name, version, ends }
}

const SUITES: [Suite; 20] = [
    suite(Distro::Debian, "jessie", "8", date(2020, 6, 30)),
    suite(Distro::Debian, "stretch", "9", date(2022, 6, 30)),
    suite(Distro::Debian, "buster", "10", date(2024, 6, 30)),
    suite(Distro::Debian, "bullseye", "11", date(2026, 8, 31)),
    suite(Distro::Debian, "bookworm", "12", date(2028, 6, 30)),
    suite(Distro::Debian, "trixie", "13", date(2030, 6, 30)),
    suite(Distro::Ubuntu, "xenial", "16.04", date(2021, 4, 30)),
    suite(Distro::Ubuntu, "bionic", "18.04", date(2023, 5, 31)),
    suite(Distro::Ubuntu, "focal", "20.04", date(2025, 5, 29)),
    suite(Distro::Ubuntu, "jammy", "22.04", date(2027, 6, 1)),
    suite(Distro::Ubuntu, "kinetic", "22.10", date(2023, 7, 20)),
    suite(Distro::Ubuntu, "lunar", "23.04", date(2024, 1, 25)),
    suite(Distro::Ubuntu, "mantic", "23.10", date(2024, 7, 11)),
    suite(Distro::Ubuntu, "noble", "24.04", date(2029, 5, 31)),
    suite(Distro::Ubuntu, "oracular", "24.10", date(2025, 7, 10)),
    suite(Distro::Ubuntu, "plucky", "25.04", date(2026, 1, 15)),
    suite(Distro::Ubuntu, "questing", "25.10", date(2026, 7, 9)),
    suite(Distro::Ubuntu, "resolute", "26.04", date(2031, 5, 29)),
    // The suites that never are a release: `ends` is before any build.
    suite(Distro::Debian, "sid", "unstable", Date::MIN),
    suite(Distro::Debian, "testing", "testing", Date::MIN),
];

/// Finds the suite, if it still gets security updates on the day `today`.
///
/// # Errors
/// The suite is past its end of life, is not a release, is of the other distribution, or is not known.
pub(super) fn find(distro: Distro, name: &str, today: Date) -> Result<&'static Suite, MachineError> {
    let hint = format!("suites with security updates today: {}", describe_live(distro, today));
    let Some(suite) = SUITES.iter().find(|suite| suite.name == name) else {
        let what = format!("dsimg does not know the {} suite `{name}`", distro_name(distro));
        return Err(MachineError::refused(what, hint));
    };
    if suite.distro != distro {
        let what = format!("`{name}` is a suite of {}, not of {}", distro_name(suite.distro), distro_name(distro));
        let hint = format!("write `distro = \"{}\"`, or take another suite; {hint}", distro_key(suite.distro));
        return Err(MachineError::refused(what, hint));
    }
    if suite.ends == Date::MIN {
        let what = format!("`{name}` is not a release: it changes every day and gets no security updates of its own");
        return Err(MachineError::refused(what, hint));
    }
    if suite.ends < today {
        let what = format!(
            "{} {} \"{name}\" reached its end of life on {}: no security updates since",
            distro_name(distro),
            suite.version,
            suite.ends
        );
        return Err(MachineError::refused(what, hint));
    }
    Ok(suite)
}

/// `trixie (13, until 2030-06-30), bookworm (12, until 2028-06-30)`: the newest first.
fn describe_live(distro: Distro, today: Date) -> String {
    let mut live: Vec<_> = SUITES.iter().filter(|suite| suite.distro == distro && suite.ends >= today).collect();
    live.sort_by_key(|suite| std::cmp::Reverse(suite.ends));
    let words: Vec<_> =
        live.iter().map(|suite| format!("{} ({}, until {})", suite.name, suite.version, suite.ends)).collect();
    if words.is_empty() { "none that this version of dsimg knows".to_owned() } else { words.join(", ") }
}

pub(super) fn distro_name(distro: Distro) -> &'static str {
    match distro {
        Distro::Debian => "Debian",
        Distro::Ubuntu => "Ubuntu",
    }
}

/// As templates write it.
pub(super) fn distro_key(distro: Distro) -> &'static str {
    match distro {
        Distro::Debian => "debian",
        Distro::Ubuntu => "ubuntu",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Date = date(2026, 11, 21);

    fn refusal(distro: Distro, name: &str) -> (String, String) {
        let error = find(distro, name, TODAY).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default().to_owned())
    }

    #[test]
    fn live_suites_are_found() {
        for (distro, name) in [
            (Distro::Debian, "trixie"),
            (Distro::Debian, "bookworm"),
            (Distro::Ubuntu, "noble"),
            (Distro::Ubuntu, "jammy"),
        ] {
            assert_eq!(find(distro, name, TODAY).unwrap().name, name);
        }
    }

    #[test]
    fn a_suite_past_its_end_is_refused_with_the_live_ones() {
        let (what, hint) = refusal(Distro::Debian, "bullseye");
        assert_eq!(what, "Debian 11 \"bullseye\" reached its end of life on 2026-08-31: no security updates since");
        assert_eq!(
            hint,
            "suites with security updates today: trixie (13, until 2030-06-30), bookworm (12, until 2028-06-30)"
        );
    }

    #[test]
    fn the_last_day_is_in() {
        assert!(find(Distro::Debian, "bullseye", date(2026, 8, 31)).is_ok());
        assert!(find(Distro::Debian, "bullseye", date(2026, 9, 1)).is_err());
    }

    #[test]
    fn unknown_foreign_and_rolling_suites_are_told_apart() {
        assert!(refusal(Distro::Debian, "noble").0.contains("is a suite of Ubuntu, not of Debian"));
        assert!(refusal(Distro::Debian, "noble").1.contains("distro = \"ubuntu\""));
        assert!(refusal(Distro::Debian, "sid").0.contains("is not a release"));
        assert!(refusal(Distro::Ubuntu, "wonderful").0.contains("does not know the Ubuntu suite `wonderful`"));
        assert!(refusal(Distro::Ubuntu, "wonderful").1.contains("noble (24.04, until 2029-05-31)"));
    }
}
