//! The few statistics that the results need.

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The value that `share` (0 to 1) of the sorted values do not exceed; `None` of nothing.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).or(sorted.last()).copied()
}

/// The least and the largest value; `None` of nothing.
pub fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((least, largest)) => Some((least.min(value), largest.max(value))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0][..], Some(3.0)),
            (&[9.0, 1.0, 5.0][..], Some(5.0)),
            (&[4.0, 1.0, 2.0, 100.0][..], Some(3.0)),
        ] {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn a_quantile_is_a_value_that_occurred() {
        for (values, share, expected) in [
            (&[][..], 0.5, None),
            (&[3.0][..], 0.99, Some(3.0)),
            (&[1.0, 2.0, 3.0, 4.0][..], 0.5, Some(2.0)),
            (&[1.0, 2.0, 3.0, 4.0][..], 0.51, Some(3.0)),
            (&[1.0, 2.0, 3.0, 4.0][..], 0.0, Some(1.0)),
            (&[1.0, 2.0, 3.0, 4.0][..], 1.0, Some(4.0)),
        ] {
            assert_eq!(quantile(values, share), expected, "{values:?} {share}");
        }
    }

    #[test]
    fn the_range_spans_all() {
        assert_eq!(range([]), None);
        assert_eq!(range([2.0, -1.0, 7.5]), Some((-1.0, 7.5)));
    }
}
