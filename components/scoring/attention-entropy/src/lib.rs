//! Attention entropy with query-key variance: a head whose attention is always sharp on the same few keys and whose scores
//! hardly vary does the same for every text, and goes first.
//!
//! For a token that sees n keys (all before it and itself, at most a window of them; a sink is one more), H is the entropy
//! `-Σ p ln p` of its attention, the sink's share included, and H / ln n is between 0 and 1 whatever n. Over all tokens of
//! all sequences, a head has the mean of H / ln n (tokens that see one key say nothing and are left out) and the variance of
//! its scores `q·k / √d` before the softmax, over all pairs of a token and a key that it sees. Both are standardised
//! among the heads of the layer, and the score is the larger one:
//!
//! ```text
//! s_h = max( z(mean H̃)_h , z(var q·k)_h )
//! ```
//!
//! so that a head goes when both are low, which is the rule of the project's brief: of a sum, one that is very low would be
//! enough. The normalisation by ln n and the pooled variance (law of total variance from each token's mean and variance)
//! make it independent of the length of the text. The score of a key/value group is the sum over its heads.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, LayerShape, ModelShape, Probe, ScoredUnit, Sums, Tensor, Traces, Unit,
    by_group, identity, standardised, values,
};

struct AttentionEntropy;

const PROBES: [Probe; 3] = [Probe::AttentionEntropy, Probe::ScoreMean, Probe::ScoreVariance];

impl Guest for AttentionEntropy {
    type Job = Pass;

    fn describe() -> Description {
        Description {
            identity: identity!(),
            units: vec![ScoredUnit::seeing(Unit::Head, &PROBES), ScoredUnit::seeing(Unit::KvGroup, &PROBES)],
        }
    }
}

/// One pass over the calibration text. Sums are by head.
struct Pass {
    shape: ModelShape,
    /// Of normalised entropies, by tokens.
    entropy: Sums,
    /// Of scores, by pairs of a token and a key.
    scores: Sums,
    /// Of squares of scores, likewise.
    squares: Sums,
}

impl GuestJob for Pass {
    fn begin(shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self {
            shape,
            entropy: Sums::default(),
            scores: Sums::default(),
            squares: Sums::default(),
        }))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        let tokens = traces.tokens();
        let shape = self.shape.layers.get(layer as usize).ok_or("a layer that the model does not have")?;
        let keys: Vec<f32> = (0..tokens).map(|token| visible_keys(shape, token) as f32).collect();
        let sink = if shape.attention_sinks { 1.0 } else { 0.0 };
        let per_ln = |keys: &f32| if keys + sink > 1.0 { 1.0 / (keys + sink).ln() } else { 0.0 };
        let factors: Vec<f32> = keys.iter().map(per_ln).collect();
        let counted = factors.iter().filter(|factor| **factor > 0.0).count();
        let factors = Tensor::from_values(&[tokens], &factors)?;
        let entropy = traces.values(Probe::AttentionEntropy)?.scale_rows(&factors)?.sum();
        self.entropy.add(layer, &values(&entropy)?, counted as f64);

        let pairs: f64 = keys.iter().map(|keys| f64::from(*keys)).sum();
        let keys = Tensor::from_values(&[tokens], &keys)?;
        let mean = traces.values(Probe::ScoreMean)?;
        let squares = traces.values(Probe::ScoreVariance)?.add(&mean.multiply(&mean)?)?;
        self.scores.add(layer, &values(&mean.scale_rows(&keys)?.sum())?, pairs);
        self.squares.add(layer, &values(&squares.scale_rows(&keys)?.sum())?, pairs);
        Ok(())
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let entropy = self.entropy.of(layer)?.mean();
        let means = self.scores.of(layer)?.mean();
        let squares = self.squares.of(layer)?.mean();
        let variance: Vec<f64> =
            squares.iter().zip(&means).map(|(square, mean)| square - mean * mean).collect();
        let heads: Vec<f64> = standardised(&entropy)
            .into_iter()
            .zip(standardised(&variance))
            .map(|(entropy, variance)| entropy.max(variance))
            .collect();
        Ok(if unit == Unit::KvGroup { by_group(&heads, &self.shape, layer) } else { heads })
    }
}

/// How many keys the token at this position sees.
fn visible_keys(layer: &LayerShape, position: u32) -> u32 {
    let before = position.saturating_add(1);
    layer.sliding_window.map_or(before, |window| before.min(window))
}

espalier_scoring_policy::export!(AttentionEntropy);
