//! Times: what `--since` and `--until` accept, and how a record's time is written (always UTC).

use jiff::Timestamp;

const UNITS: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];

/// A point in time as an argument gives it: RFC 3339, or how long before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nanoseconds since 1970.
    At(u64),
    /// Seconds before now.
    Ago(u64),
}

impl Given {
    /// Nanoseconds since 1970, seen from `now` in the same unit.
    pub fn unix_nano(self, now: u64) -> u64 {
        match self {
            Self::At(time) => time,
            // 0 would mean "open".
            Self::Ago(seconds) => now.saturating_sub(seconds.saturating_mul(1_000_000_000)).max(1),
        }
    }
}

/// Reads `2026-11-22T21:04:46Z`, `15m`, `2h`, `1d12h`.
pub fn parse(text: &str) -> Result<Given, String> {
    if let Some(seconds) = seconds(text) {
        return Ok(Given::Ago(seconds));
    }
    let time: Timestamp = text.parse().map_err(|_| {
        format!(
            "`{text}` is neither a time (2026-11-22T21:04:46Z) nor a duration back from now \
             (15m, 2h, 1d)"
        )
    })?;
    match u64::try_from(time.as_nanosecond()) {
        Ok(nanoseconds) if nanoseconds > 0 => Ok(Given::At(nanoseconds)),
        _ => Err(format!("`{text}` lies outside of 1970 to 2554: give a later time")),
    }
}

/// The sum of number-unit pairs; nothing where the text is something else.
fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next()?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = tail.get(unit.len_utf8()..)?;
    }
    (!text.is_empty()).then_some(sum)
}

/// Now, nanoseconds since 1970.
pub fn now() -> u64 {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default()
}

/// RFC 3339 in UTC with `digits` decimals of a second.
pub fn rfc3339(unix_nano: u64, digits: usize) -> String {
    Timestamp::from_nanosecond(i128::from(unix_nano))
        .map_or_else(|_| format!("{unix_nano} ns"), |time| format!("{time:.digits$}"))
}

/// RFC 3339 in UTC with nine decimals of a second; `unix_nano` may lie before 1970.
pub fn exact(unix_nano: i64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_nano))
        .map_or_else(|_| format!("{unix_nano} ns"), |time| format!("{time:.9}"))
}

/// RFC 3339 in UTC with as many decimals as it needs.
pub fn shortest(unix_nano: i64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_nano))
        .map_or_else(|_| format!("{unix_nano} ns"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    #[test]
    fn a_duration_is_counted_back_from_now() {
        let now = 100 * HOUR;
        for (text, expected) in
            [("2h", 98), ("60m", 99), ("7200s", 98), ("1d", 76), ("1d1h", 75), ("0h", 100)]
        {
            assert_eq!(
                parse(text).map(|given| given.unix_nano(now)),
                Ok(expected * HOUR),
                "{text}"
            );
        }
    }

    #[test]
    fn a_duration_longer_than_all_time_begins_with_all_time() {
        assert_eq!(parse("5000w").map(|given| given.unix_nano(HOUR)), Ok(1));
    }

    #[test]
    fn a_time_is_read_in_any_offset() {
        let utc = parse("2026-11-22T21:04:46Z");
        assert_eq!(utc, Ok(Given::At(1_795_381_486_000_000_000)));
        assert_eq!(parse("2026-11-22T22:04:46+01:00"), utc);
    }

    #[test]
    fn anything_else_is_refused_with_examples() {
        for text in ["", "15", "m", "15x", "-1h", "yesterday", "2026-11-22", "1960-01-01T00:00:00Z"]
        {
            assert!(parse(text).is_err_and(|error| error.contains(text)), "{text}");
        }
        assert!(parse("99999999999999999999w").is_err());
    }

    #[test]
    fn times_are_written_in_utc_with_fixed_width() {
        assert_eq!(rfc3339(1_795_381_486_001_000_000, 3), "2026-11-22T21:04:46.001Z");
        assert_eq!(rfc3339(1_795_381_486_000_000_001, 9), "2026-11-22T21:04:46.000000001Z");
        assert_eq!(rfc3339(u64::MAX, 3), "2554-07-21T23:34:33.709Z");
    }
}
