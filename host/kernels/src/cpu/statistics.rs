//! What attention can tell about each row's scores while it folds them: entropy, moments and the sink's share.

/// How one query head attended from one position.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct RowStatistics {
    /// Entropy of the attention distribution in nats; a sink counts as one more place to attend to.
    pub entropy: f32,
    /// Mean of the scaled products of the query with the keys that it sees.
    pub score_mean: f32,
    /// Their population variance.
    pub score_variance: f32,
    /// The share of attention that the sink takes; 0 without one.
    pub sink_mass: f32,
}

/// Follows the running softmax of a row. `()` does so without learning anything, and without costing anything.
pub(super) trait Observer: Copy {
    /// Before the first key.
    const EMPTY: Self;

    /// Whether it looks at scores.
    const OBSERVES: bool;

    /// Takes a step's scores, `-∞` where a key is not seen, and their weights `e^(score − now)`, when the largest score
    /// went from `before` to `now`.
    fn observe(&mut self, scores: &[f32], weights: &[f32], before: f32, now: f32);

    /// What was learned, given the largest score and the sink's.
    fn finish(&self, maximum: f32, sink: Option<f32>) -> RowStatistics;
}

impl Observer for () {
    const EMPTY: Self = ();
    const OBSERVES: bool = false;

    #[inline(always)]
    fn observe(&mut self, _: &[f32], _: &[f32], _: f32, _: f32) {}

    #[inline(always)]
    fn finish(&self, _: f32, _: Option<f32>) -> RowStatistics {
        RowStatistics::default()
    }
}

/// Sums over the keys that a row has seen, with m the largest score so far.
///
/// With `p = e^(s − m) / Z` the entropy is `−Σ p·ln p = ln Z − Σ p·(s − m)`. When m grows to m′, each term
/// `e^(s − m)·(s − m)` becomes `e^(m − m′)·(e^(s − m)·(s − m) + (m − m′)·e^(s − m))`. Moments are joined step by step
/// (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
#[derive(Copy, Clone)]
pub(super) struct ScoreSums {
    /// `Z = Σ e^(s − m)`.
    mass: f64,
    /// `Σ e^(s − m)·(s − m)`.
    weighted: f64,
    count: f64,
    mean: f64,
    /// `Σ (s − mean)²`.
    squares: f64,
}

impl ScoreSums {
    /// Moves the sums from a largest score of `before` to one of `now`.
    fn rescale(&mut self, before: f64, now: f64) {
        if self.mass > 0.0 {
            let factor = (before - now).exp();
            self.weighted = factor * (self.weighted + (before - now) * self.mass);
            self.mass *= factor;
        }
    }
}

impl Observer for ScoreSums {
    const EMPTY: Self = Self { mass: 0.0, weighted: 0.0, count: 0.0, mean: 0.0, squares: 0.0 };
    const OBSERVES: bool = true;

    fn observe(&mut self, scores: &[f32], weights: &[f32], before: f32, now: f32) {
        if before < now {
            self.rescale(f64::from(before), f64::from(now));
        }
        let seen = || scores.iter().zip(weights).filter(|(score, _)| **score != f32::NEG_INFINITY);
        let (mut count, mut sum) = (0.0, 0.0);
        for (score, weight) in seen() {
            let (score, weight) = (f64::from(*score), f64::from(*weight));
            count += 1.0;
            sum += score;
            self.mass += weight;
            self.weighted += weight * (score - f64::from(now));
        }
        if count == 0.0 {
            return;
        }
        let mean = sum / count;
        let squares: f64 = seen().map(|(score, _)| (f64::from(*score) - mean).powi(2)).sum();
        let (difference, total) = (mean - self.mean, self.count + count);
        self.squares += squares + difference * difference * self.count * count / total;
        self.mean += difference * count / total;
        self.count = total;
    }

    fn finish(&self, maximum: f32, sink: Option<f32>) -> RowStatistics {
        let (mut sums, mut sink_weight) = (*self, 0.0);
        if let Some(sink) = sink.map(f64::from) {
            let (before, now) = (f64::from(maximum), f64::from(maximum).max(sink));
            sums.rescale(before, now);
            sink_weight = (sink - now).exp();
            sums.mass += sink_weight;
            sums.weighted += sink_weight * (sink - now);
        }
        let entropy = sums.mass.ln() - sums.weighted / sums.mass;
        RowStatistics {
            // Rounding must not leave a certain choice below zero.
            entropy: if entropy < 0.0 { 0.0 } else { entropy as f32 },
            score_mean: sums.mean as f32,
            score_variance: (sums.squares / sums.count) as f32,
            sink_mass: (sink_weight / sums.mass) as f32,
        }
    }
}
