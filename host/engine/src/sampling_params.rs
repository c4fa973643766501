//! How the next token is drawn, checked: what reaches the sampler is always meaningful.

use crate::error::EngineError;

/// How the next token is drawn. The order of the steps is vLLM's: bias, penalties, temperature, `min_p`, `top_k`,
/// `top_p`.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    temperature: f32,
    top_p: f32,
    top_k: usize,
    min_p: f32,
    seed: Option<u64>,
    penalties: Penalties,
    logit_bias: Vec<(u32, f32)>,
}

/// What makes tokens that were there before less probable. Formulas as in vLLM and HF transformers.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Penalties {
    /// Above 0, at most 2; 1 changes nothing. The logit of each token of the prompt or of the completion so far is
    /// divided by it where it is positive and multiplied by it otherwise.
    pub repetition: f32,
    /// From -2 to 2; subtracted once from the logit of each token of the completion so far.
    pub presence: f32,
    /// From -2 to 2; subtracted from a token's logit as often as it is in the completion so far.
    pub frequency: f32,
}

impl Penalties {
    /// Nothing is changed.
    pub const NONE: Self = Self { repetition: 1.0, presence: 0.0, frequency: 0.0 };
}

impl Default for Penalties {
    fn default() -> Self {
        Self::NONE
    }
}

impl SamplingParams {
    /// `temperature` 0 is greedy; `top_p` 1 keeps the whole distribution; without a seed one is drawn.
    ///
    /// # Errors
    /// `temperature` outside 0 to 2, `top_p` outside (0, 1].
    pub fn new(temperature: f32, top_p: f32, seed: Option<u64>) -> Result<Self, EngineError> {
        check("temperature", temperature, (0.0..=2.0).contains(&temperature), "a number from 0 to 2")?;
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "a number above 0 and at most 1")?;
        Ok(Self { temperature, top_p, seed, ..Self::greedy() })
    }

    /// Always the most probable token.
    pub const fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: None,
            penalties: Penalties::NONE,
            logit_bias: Vec::new(),
        }
    }

    /// Only the `top_k` most probable tokens; 0 keeps all.
    #[must_use]
    pub fn with_top_k(self, top_k: usize) -> Self {
        Self { top_k, ..self }
    }

    /// Only tokens that are at least `min_p` times as probable as the most probable one; 0 keeps all.
    ///
    /// # Errors
    /// A `min_p` outside 0 to 1.
    pub fn with_min_p(self, min_p: f32) -> Result<Self, EngineError> {
        check("min_p", min_p, (0.0..=1.0).contains(&min_p), "a number from 0 to 1")?;
        Ok(Self { min_p, ..self })
    }

    /// The same with `penalties`.
    ///
    /// # Errors
    /// A penalty outside its range.
    pub fn with_penalties(self, penalties: Penalties) -> Result<Self, EngineError> {
        let Penalties { repetition, presence, frequency } = penalties;
        let is_repetition = repetition > 0.0 && repetition <= 2.0;
        check("repetition_penalty", repetition, is_repetition, "a number above 0 and at most 2")?;
        for (field, penalty) in [("presence_penalty", presence), ("frequency_penalty", frequency)] {
            check(field, penalty, (-2.0..=2.0).contains(&penalty), "a number from -2 to 2")?;
        }
        Ok(Self { penalties, ..self })
    }

    /// The same with each pair's number added to its token's logit. Whether the tokens are in the vocabulary is checked
    /// when the request is submitted, since only the engine knows it.
    ///
    /// # Errors
    /// A bias outside -100 to 100.
    pub fn with_logit_bias(self, logit_bias: Vec<(u32, f32)>) -> Result<Self, EngineError> {
        for &(_, bias) in &logit_bias {
            check("logit_bias", bias, (-100.0..=100.0).contains(&bias), "numbers from -100 to 100")?;
        }
        Ok(Self { logit_bias, ..self })
    }

    /// The parameters of the choice at `index` among several for one prompt: its seed is as much greater.
    #[must_use]
    pub fn for_choice(&self, index: u64) -> Self {
        Self { seed: self.seed.map(|seed| seed.wrapping_add(index)), ..self.clone() }
    }

    /// The divisor of the logits; 0 means greedy.
    pub const fn temperature(&self) -> f32 {
        self.temperature
    }

    /// The probability mass that is kept.
    pub const fn top_p(&self) -> f32 {
        self.top_p
    }

    /// How many of the most probable tokens are kept; 0 means all.
    pub const fn top_k(&self) -> usize {
        self.top_k
    }

    /// The least share of the greatest probability that is kept.
    pub const fn min_p(&self) -> f32 {
        self.min_p
    }

    /// The seed, if the caller chose one.
    pub const fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// What tokens that were there before lose.
    pub const fn penalties(&self) -> Penalties {
        self.penalties
    }

    /// What is added to the logits of tokens.
    pub fn logit_bias(&self) -> &[(u32, f32)] {
        &self.logit_bias
    }
}

fn check(field: &'static str, found: f32, fits: bool, expected: &'static str) -> Result<(), EngineError> {
    if fits {
        return Ok(());
    }
    Err(EngineError::InvalidParameter { field, found: found.to_string(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(result: Result<SamplingParams, EngineError>) -> &'static str {
        match result {
            Err(EngineError::InvalidParameter { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_outside_its_range_is_named() {
        let greedy = SamplingParams::greedy;
        let none = Penalties::NONE;
        assert_eq!(field(SamplingParams::new(2.5, 1.0, None)), "temperature");
        assert_eq!(field(SamplingParams::new(f32::NAN, 1.0, None)), "temperature");
        assert_eq!(field(SamplingParams::new(1.0, 0.0, None)), "top_p");
        assert_eq!(field(greedy().with_min_p(1.5)), "min_p");
        assert_eq!(
            field(greedy().with_penalties(Penalties { repetition: 0.0, ..none })),
            "repetition_penalty"
        );
        assert_eq!(field(greedy().with_penalties(Penalties { presence: 2.5, ..none })), "presence_penalty");
        assert_eq!(
            field(greedy().with_penalties(Penalties { frequency: -2.5, ..none })),
            "frequency_penalty"
        );
        assert_eq!(field(greedy().with_logit_bias(vec![(3, 101.0)])), "logit_bias");
    }
}
