//! Durations as people write them in flags, settings files and annotations: `500ms`, `3s`, `5m`, `1h`, `1h30m`.

use std::time::Duration;

/// What a duration may be, for error texts.
pub const ALLOWED: &str = "a duration such as 500ms, 3s, 5m, 1h or 1h30m";

/// The longest duration that is accepted: 365 days.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not number-unit pairs.
    #[error("not {ALLOWED}")]
    Syntax,
    /// Longer than [`LONGEST`].
    #[error("longer than 365 days")]
    TooLong,
}

/// Parses whole numbers with units `ms`, `s`, `m`, `h` and `d`, each unit at most once and the larger before the smaller.
/// A bare number has no unit and is refused, `0` alone is zero.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        if digits == 0 || letters == 0 {
            return Err(DurationError::Syntax);
        }
        let unit = &rest[digits..digits + letters];
        // `find` goes on from the unit before, so units come in falling order, each once.
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or(DurationError::Syntax)?;
        let number: u64 = rest[..digits].parse().map_err(|_| DurationError::TooLong)?;
        millis = number.checked_mul(*factor).and_then(|n| n.checked_add(millis)).ok_or(DurationError::TooLong)?;
        rest = &rest[digits + letters..];
    }
    let duration = Duration::from_millis(millis);
    match text {
        "" => Err(DurationError::Syntax),
        _ if duration > LONGEST => Err(DurationError::TooLong),
        _ => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let ms = Duration::from_millis;
        for (text, want) in [
            ("500ms", ms(500)),
            ("3s", ms(3_000)),
            ("5m", ms(300_000)),
            ("1h", ms(3_600_000)),
            ("1h30m", ms(5_400_000)),
            ("1m500ms", ms(60_500)),
            ("2d", ms(172_800_000)),
            ("0", ms(0)),
            ("0s", ms(0)),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "3", "s", "-1s", "1.5s", "1s1s", "1s1m", "1 s", "1S", "3s;", "٣s", "1w"] {
            assert_eq!(parse(text), Err(DurationError::Syntax), "{text}");
        }
        for text in ["366d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text}");
        }
    }
}
