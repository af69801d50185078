//! The text form of a wait: `0`, or a whole number with the unit `ms`, `s` or `m`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de};

/// The longest wait.
const MAX_WAIT: Duration = Duration::from_mins(10);
/// What a wait is, as error messages name it.
pub(crate) const VALUES: &str = "\"0\", or a whole number with the unit ms, s or m, of at most \
                                 10 minutes: \"500ms\", \"10s\", \"2m\"";
/// The texts that [`parse`] accepts, for the CRD.
#[cfg(feature = "schema")]
pub(crate) const PATTERN: &str = "^(0(ms|s|m)?|([1-9][0-9]{0,4}|[1-5][0-9]{5}|600000)ms|\
                                  ([1-9][0-9]?|[1-5][0-9]{2}|600)s|([1-9]|10)m)$";

/// Parses a wait. None if the text is not one, or if it is longer than ten minutes.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    let number: u32 = digits.parse().ok()?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "" if number == 0 => Duration::ZERO,
        _ => return None,
    };
    unit.checked_mul(number).filter(|wait| *wait <= MAX_WAIT)
}

/// Returns the wait as text, in the largest unit of which it is a whole number. Less than a
/// millisecond is left out.
pub(crate) fn text(wait: Duration) -> String {
    match wait.as_millis() {
        0 => "0".to_owned(),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// Writes a wait as text.
pub(crate) fn serialize<S: Serializer>(wait: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&text(*wait))
}

/// Reads a wait from text.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).ok_or_else(|| {
        de::Error::custom(format_args!(
            "the wait {text:?} is not possible: it is {VALUES}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wait_is_zero_or_a_number_with_a_unit_of_at_most_ten_minutes() {
        for (given, millis, written) in [
            ("0", 0, "0"),
            ("0s", 0, "0"),
            ("1ms", 1, "1ms"),
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("10000ms", 10_000, "10s"),
            ("90s", 90_000, "90s"),
            ("120s", 120_000, "2m"),
            ("10m", 600_000, "10m"),
            ("600s", 600_000, "10m"),
            ("600000ms", 600_000, "10m"),
        ] {
            let wait = parse(given).unwrap();
            assert_eq!(wait, Duration::from_millis(millis), "{given}");
            assert_eq!(text(wait), written, "{given}");
        }
        for refused in [
            "",
            "s",
            "10",
            "-1s",
            "+1s",
            "1.5s",
            "1h",
            "10 s",
            " 10s",
            "10S",
            "010s",
            "00",
            "601s",
            "600001ms",
            "11m",
            "99999999999999999999s",
            "4294967295m",
            "1s1ms",
            "١s",
        ] {
            assert_eq!(parse(refused), None, "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn every_wait_is_read_as_it_was_written(millis in 0_u64..=600_000) {
            let wait = Duration::from_millis(millis);
            prop_assert_eq!(parse(&text(wait)), Some(wait));
        }

        #[test]
        fn any_text_is_refused_or_within_the_bounds(given in "[0-9]{0,8}(ms|s|m|h)?|.{0,12}") {
            if let Some(wait) = parse(&given) {
                prop_assert!(wait <= MAX_WAIT);
            }
        }
    }
}
