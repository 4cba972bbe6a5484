//! Sizes and durations with their units written out: `4GiB`, `10m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text)
            .ok_or_else(|| format!("`{text}` is not a size; write a number and a unit, such as \"4GiB\""))?;
        let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
            let nearest = match unit.to_ascii_lowercase().as_str() {
                "g" | "gib" => Some("GiB"),
                "m" | "mib" => Some("MiB"),
                "k" | "kib" => Some("KiB"),
                "t" | "tib" => Some("TiB"),
                "gb" => Some("GB"),
                "mb" => Some("MB"),
                "tb" => Some("TB"),
                _ => None,
            };
            return Err(match nearest {
                Some(nearest) => format!("`{unit}` is not a unit of size; did you mean \"{number}{nearest}\"?"),
                None => format!("`{unit}` is not a unit of size; use B, KiB, MiB, GiB or TiB, such as \"4GiB\""),
            });
        };
        number.checked_mul(*factor).map(ByteSize).ok_or_else(|| format!("`{text}` is more than this program can count"))
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that leaves a whole number, else one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor {
                return if self.0.is_multiple_of(factor) {
                    write!(f, "{}{name}", self.0 / factor)
                } else {
                    write!(f, "{:.1}{name}", self.0 as f64 / factor as f64)
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A length of time, in whole seconds: a wait that is bounded, an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeout {
    pub seconds: u64,
}

impl Timeout {
    #[must_use]
    pub const fn from_minutes(minutes: u64) -> Self {
        Self { seconds: minutes * 60 }
    }

    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a duration; write a number and s, m, h, d or w, such as \"10m\" or \"1h30m\"");
        let mut seconds = 0u64;
        let mut rest = text;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
            let factor = match &rest[digits..unit_end] {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                "w" => 7 * 86_400,
                _ => return Err(wrong()),
            };
            seconds = number.checked_mul(factor).and_then(|n| seconds.checked_add(n)).ok_or_else(wrong)?;
            rest = &rest[unit_end..];
        }
        Ok(Self { seconds })
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.seconds;
        for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
            let count = rest / length;
            rest %= length;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// `"12GiB"` is 12 and `GiB`; spaces between them are allowed.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    let unit = text[end..].trim();
    (!unit.is_empty()).then_some((number, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!("4GiB".parse(), Ok(ByteSize(4 << 30)));
        assert_eq!("20 MB".parse(), Ok(ByteSize(20_000_000)));
        assert_eq!(ByteSize(4 << 30).to_string(), "4GiB");
        assert!("4".parse::<ByteSize>().is_err());
        assert!("4g".parse::<ByteSize>().unwrap_err().contains("4GiB"));
        assert!("99999999999TiB".parse::<ByteSize>().is_err());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!("1h30m".parse(), Ok(Timeout { seconds: 5400 }));
        assert_eq!(Timeout { seconds: 5400 }.to_string(), "1h30m");
        assert_eq!("2w".parse(), Ok(Timeout { seconds: 14 * 86_400 }));
        assert_eq!(Timeout { seconds: 0 }.to_string(), "0s");
        assert_eq!(Timeout { seconds: 7 * 86_400 + 90 }.to_string(), "7d1m30s");
        for wrong in ["", "10", "m", "10x", "1h30"] {
            assert!(wrong.parse::<Timeout>().is_err(), "{wrong}");
        }
    }
}
