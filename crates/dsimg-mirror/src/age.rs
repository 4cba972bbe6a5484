//! `min_age`: what was published only just now is not installed, since poisoned releases are found within days.

use std::time::Duration;

use jiff::Timestamp;

use crate::refusal::Refusal;

/// A package, and how old it must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AgeLimit {
    pub(crate) min_age: Duration,
    /// For people: `numpy 2.3.4`.
    pub(crate) package: String,
}

impl AgeLimit {
    /// By the `Last-Modified` of the file. One without it may be of today, so it is refused.
    pub(crate) fn check(&self, last_modified: Option<&str>) -> Result<(), Refusal> {
        let (package, wanted) = (&self.package, days(self.min_age));
        let Some(time) = last_modified.and_then(read_time) else {
            let told = format!("{package} is refused: min_age is {wanted}, and its server does not say how old it is");
            return Err(Refusal::new(403, told)
                .hint("take it from a mirror that keeps `Last-Modified`, lock it, or leave `min_age` out"));
        };
        if is_older(time, self.min_age) {
            return Ok(());
        }
        let age = Timestamp::now().duration_since(time).unsigned_abs();
        let told = format!("{package} is refused: it is {} old, and min_age is {wanted}", days(age));
        Err(Refusal::new(403, told).hint("name an older version in the template, wait, or make `min_age` shorter"))
    }
}

pub(crate) fn is_older(time: Timestamp, min_age: Duration) -> bool {
    Timestamp::now().duration_since(time)
        >= jiff::SignedDuration::try_from(min_age).unwrap_or(jiff::SignedDuration::MAX)
}

/// `Sat, 08 Nov 2025 09:55:41 GMT`
pub(crate) fn read_time(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
}

fn days(time: Duration) -> String {
    let hours = time.as_secs() / 3600;
    match hours {
        0 => "less than an hour".to_owned(),
        1..48 => format!("{hours} h"),
        _ => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> AgeLimit {
        AgeLimit { min_age: Duration::from_secs(7 * 86_400), package: "numpy 2.3.4".to_owned() }
    }

    #[test]
    fn what_is_young_or_of_unknown_age_is_refused() {
        limit().check(Some("Sat, 08 Nov 2025 09:55:41 GMT")).unwrap();
        let ago = |hours: i64| Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        let text = |time| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap();
        let told = limit().check(Some(&text(ago(30)))).unwrap_err();
        assert_eq!(told.reason, "numpy 2.3.4 is refused: it is 30 h old, and min_age is 7 days");
        limit().check(Some(&text(ago(24 * 8)))).unwrap();
        for unknown in [None, Some("yesterday")] {
            assert!(limit().check(unknown).unwrap_err().reason.contains("does not say how old"));
        }
    }
}
