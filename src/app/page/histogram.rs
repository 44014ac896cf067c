//! A histogram as it was at some moment, and what Prometheus's `histogram_quantile` would say of it.

/// Buckets, their observations and the sum of these.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Upper bounds, rising, each with the observations up to it. The last bucket, without a bound, is not here.
    pub buckets: Vec<(f64, u64)>,
    /// All observations.
    pub count: u64,
    /// What they add up to.
    pub sum: f64,
}

/// What part of the observations is no larger than what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantile {
    /// About this.
    About(f64),
    /// More than this, the largest bound.
    Above(f64),
}

impl Histogram {
    /// What came since it was as in `before`; all of it, if it has begun anew since.
    pub fn since(&self, before: &Self) -> Self {
        let same = self.buckets.len() == before.buckets.len();
        if !same || self.count < before.count {
            return self.clone();
        }
        let buckets = self.buckets.iter().zip(&before.buckets);
        Self {
            buckets: buckets.map(|(now, then)| (now.0, now.1.saturating_sub(then.1))).collect(),
            count: self.count - before.count,
            sum: (self.sum - before.sum).max(0.0),
        }
    }

    /// The value that a part `q` (above 0, up to 1) of the observations does not exceed, as if those of a bucket were spread evenly between its bounds;
    /// `None` without observations.
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^52 are not reached")]
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        if self.count == 0 {
            return None;
        }
        let rank = q * self.count as f64;
        let (mut lower, mut below) = (0.0, 0);
        for &(upper, up_to) in &self.buckets {
            if up_to as f64 >= rank {
                let part = (rank - below as f64) / (up_to - below) as f64;
                return Some(Quantile::About(lower + (upper - lower) * part));
            }
            (lower, below) = (upper, up_to);
        }
        Some(Quantile::Above(lower))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram<const N: usize>(buckets: [(f64, u64); N], count: u64) -> Histogram {
        Histogram { buckets: buckets.into(), count, sum: 0.0 }
    }

    /// Quantiles in millionths.
    fn about<const N: usize>(histogram: &Histogram, quantiles: [f64; N]) -> [String; N] {
        quantiles.map(|q| match histogram.quantile(q) {
            Some(Quantile::About(value)) => format!("{value:.6}"),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        // What `promtool test rules` finds for histogram_quantile.
        let some = histogram([(0.1, 1), (0.5, 3), (1.0, 9), (10.0, 10)], 10);
        let expected = ["0.050000", "0.100000", "0.300000", "0.666667", "1.000000", "9.100000"];
        assert_eq!(about(&some, [0.05, 0.1, 0.2, 0.5, 0.9, 0.99]), expected);
        // An empty bucket in between is skipped.
        assert_eq!(about(&histogram([(1.0, 2), (2.0, 2), (4.0, 4)], 4), [0.75]), ["3.000000"]);
    }

    #[test]
    fn what_exceeds_the_largest_bound_is_only_known_to_exceed_it() {
        let some = histogram([(0.1, 1), (600.0, 2)], 4);
        assert_eq!(about(&some, [0.25, 0.99]), ["0.100000", "Some(Above(600.0))"]);
    }

    #[test]
    fn without_observations_there_is_no_quantile() {
        assert_eq!(histogram([(0.1, 0), (1.0, 0)], 0).quantile(0.5), None);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn what_came_since_is_the_difference_unless_it_has_begun_anew() {
        let (then, now) = (histogram([(0.1, 1), (1.0, 2)], 3), histogram([(0.1, 1), (1.0, 6)], 8));
        assert_eq!(now.since(&then), histogram([(0.1, 0), (1.0, 4)], 5));
        assert_eq!(then.since(&now), then);
        assert_eq!(now.since(&Histogram::default()), now);
    }
}
