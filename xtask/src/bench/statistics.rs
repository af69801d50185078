//! Evaluation of samples: quartiles, and ratios to another subject's samples of the same rounds.

use serde::{Deserialize, Serialize};

/// The distribution of samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Summary {
    /// The number of samples.
    pub(super) count: usize,
    /// The lower quartile.
    pub(super) low: f64,
    /// The median.
    pub(super) median: f64,
    /// The upper quartile.
    pub(super) high: f64,
    /// The 99th percentile.
    pub(super) worst: f64,
}

impl Summary {
    /// Summarizes `samples`; `None` without any.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| quantile(&sorted, share);
        Some(Self {
            count: sorted.len(),
            low: at(0.25)?,
            median: at(0.5)?,
            high: at(0.75)?,
            worst: at(0.99)?,
        })
    }
}

/// Divides each sample by the other subject's of the same round. If the lists differ in length, the
/// common part counts.
pub(super) fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter()
        .zip(to)
        .filter(|(_, to)| **to > 0.0)
        .map(|(of, to)| of / to)
        .collect()
}

/// Returns the value below which this share of sorted samples lies, interpolated between two of
/// them.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    // Lists of samples are short: their lengths are exact as floating point.
    let place = share * f64::from(u32::try_from(last).ok()?);
    let mut below = 0;
    let mut start = 0.0;
    while below < last && start + 1.0 <= place {
        below += 1;
        start += 1.0;
    }
    let (here, next) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(here + (next - here) * (place - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9
    }

    #[test]
    fn quartiles_are_interpolated_between_samples() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert!(
            close(summary.low, 1.75) && close(summary.median, 2.5) && close(summary.high, 3.25),
            "{summary:?}"
        );
        assert_eq!(summary.count, 4);
    }

    #[test]
    fn single_sample_is_all_of_its_quartiles() {
        let summary = Summary::of(&[7.0]).unwrap();
        assert!(
            [summary.low, summary.median, summary.high, summary.worst]
                .iter()
                .all(|value| close(*value, 7.0)),
            "{summary:?}"
        );
    }

    #[test]
    fn no_samples_have_no_summary() {
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn outlier_moves_the_worst_and_not_the_median() {
        let mut samples = vec![10.0; 99];
        samples.push(1000.0);
        let summary = Summary::of(&samples).unwrap();
        assert!(
            close(summary.median, 10.0) && summary.worst > 10.0,
            "{summary:?}"
        );
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // A machine that slows down as a whole changes no ratio.
        assert_eq!(ratios(&[1.0, 2.0, 4.0], &[2.0, 4.0, 8.0]), [0.5, 0.5, 0.5]);
    }

    #[test]
    fn incomplete_and_zero_rounds_are_left_out() {
        assert_eq!(ratios(&[1.0, 2.0, 3.0], &[0.0, 1.0]), [2.0]);
    }
}
