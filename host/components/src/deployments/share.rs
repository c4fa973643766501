//! The share of a slot's calls that its canary gets, and who gets the next one.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::ComponentError;

/// 2^64 over the golden ratio: multiples of it, modulo 2^64, are spread as evenly as any sequence can be.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A share of calls: above 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct CallShare(f64);

impl CallShare {
    /// The share; an error where it is none.
    pub fn new(share: f64) -> Result<Self, ComponentError> {
        if share > 0.0 && share <= 1.0 {
            return Ok(Self(share));
        }
        let expected = "a share of the calls above 0 and at most 1";
        Err(ComponentError::InvalidName { kind: "weight", found: share.to_string(), expected })
    }

    /// As a number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl From<CallShare> for f64 {
    fn from(share: CallShare) -> Self {
        share.0
    }
}

impl TryFrom<f64> for CallShare {
    type Error = ComponentError;

    fn try_from(share: f64) -> Result<Self, ComponentError> {
        Self::new(share)
    }
}

/// Deals calls out. Among any calls in a row the canary's are its share, give or take a few.
#[derive(Debug, Default)]
pub(super) struct Dealer {
    dealt: AtomicU64,
}

impl Dealer {
    /// Whether the next call is the canary's.
    pub(super) fn is_canarys(&self, share: CallShare) -> bool {
        let place = self.dealt.fetch_add(STEP, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a place between 0 and 1")]
        let place = place as f64 / u64::MAX as f64;
        place < share.0 || share.0 >= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shares_are_taken() {
        for found in [0.0, -0.1, 1.01, f64::NAN, f64::INFINITY] {
            assert!(CallShare::new(found).is_err(), "{found}");
        }
        assert!(serde_json::from_str::<CallShare>("0").is_err());
        assert_eq!(CallShare::new(0.25).unwrap().get(), 0.25);
    }

    #[test]
    fn any_calls_in_a_row_are_dealt_in_proportion() {
        for share in [0.01, 0.1, 0.5, 0.9, 1.0] {
            let dealer = Dealer::default();
            let dealt: Vec<bool> =
                (0..2_000).map(|_| dealer.is_canarys(CallShare::new(share).unwrap())).collect();
            for window in dealt.windows(200) {
                let canarys = window.iter().filter(|canarys| **canarys).count() as f64;
                assert!((canarys - 200.0 * share).abs() <= 3.0, "{share}: {canarys} of 200");
            }
        }
    }
}
