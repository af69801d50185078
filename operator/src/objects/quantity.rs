//! Comparison of resource quantities: several texts have the same value, and the API server
//! normalizes them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Whether two quantities have the same value.
pub fn same(one: &Quantity, other: &Quantity) -> bool {
    match (nanos(&one.0), nanos(&other.0)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Returns the value in billionths, the smallest unit; none if the text is not a valid quantity.
fn nanos(text: &str) -> Option<i128> {
    let end = text
        .find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, exponent) = scale(suffix)?;
    let scaled = digits.checked_mul(factor)?;
    let exponent = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    // Smaller values are rounded up, as in Kubernetes.
    let amount = if exponent < 0 {
        scaled.div_euclid(power) + i128::from(scaled.rem_euclid(power) != 0)
    } else {
        scaled.checked_mul(power)?
    };
    Some(if negative { -amount } else { amount })
}

/// Returns the factor and the power of ten of a suffix.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1024_i128.pow(power), 0));
    match suffix {
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "" => Some((1, 0)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            Some((
                1,
                exponent
                    .parse()
                    .ok()
                    .filter(|exponent| (-18..=18).contains(exponent))?,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn same_value_in_different_texts_is_equal() {
        for (one, other) in [
            ("10m", "0.01"),
            ("1", "1000m"),
            ("16Mi", "16384Ki"),
            ("1.5Gi", "1536Mi"),
            ("1k", "1e3"),
            ("+2", "2.0"),
            (".5", "500m"),
            ("0.1n", "1n"),
            ("1E", "1e18"),
            ("1Ei", "1024Pi"),
        ] {
            assert!(same(&quantity(one), &quantity(other)), "{one} and {other}");
        }
    }

    #[test]
    fn different_values_are_not_equal() {
        for (one, other) in [
            ("16Mi", "16M"),
            ("1", "-1"),
            ("1E", "1e17"),
            ("10m", "10"),
            ("nothing", "0"),
            ("", "0"),
        ] {
            assert!(!same(&quantity(one), &quantity(other)), "{one} and {other}");
        }
    }

    #[test]
    fn invalid_quantities_are_compared_as_text() {
        assert!(same(&quantity("many"), &quantity("many")));
        assert!(!same(&quantity("many"), &quantity("more")));
    }
}
