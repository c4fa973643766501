//! How many tokens are guessed for a sequence: more while guesses are right, fewer and then none for a while when not.

/// Tokens of the first guess.
const FIRST: usize = 4;
/// Steps without a guess after even a single guessed token was wrong.
const REST: usize = 8;

/// The length of one sequence's next guess.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    longest: usize,
    length: usize,
    resting: usize,
}

impl Pace {
    /// Never more than `longest` tokens.
    pub(crate) fn new(longest: usize) -> Self {
        Self { longest, length: FIRST.min(longest), resting: 0 }
    }

    /// How many tokens to guess in the next step.
    pub(crate) fn length(&self) -> usize {
        if self.resting > 0 { 0 } else { self.length }
    }

    /// Takes the outcome of a step in which `guessed` tokens were guessed and the first `right` of them were right.
    pub(crate) fn settle(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            self.resting = self.resting.saturating_sub(1);
        } else if right == guessed {
            self.length = (2 * self.length).min(self.longest);
        } else if right > 0 {
            self.length = right + 1;
        } else if self.length > 1 {
            self.length /= 2;
        } else {
            self.resting = REST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_guesses_make_the_next_longer_up_to_the_limit() {
        let mut pace = Pace::new(10);
        let mut lengths = Vec::new();
        for _ in 0..3 {
            lengths.push(pace.length());
            pace.settle(pace.length(), pace.length());
        }
        assert_eq!((lengths, pace.length()), (vec![4, 8, 10], 10));
        pace.settle(10, 6);
        assert_eq!(pace.length(), 7);
    }

    #[test]
    fn wrong_guesses_end_in_a_rest() {
        let mut pace = Pace::new(8);
        for _ in 0..3 {
            assert!(pace.length() > 0);
            pace.settle(pace.length(), 0);
        }
        for _ in 0..REST {
            assert_eq!(pace.length(), 0);
            pace.settle(0, 0);
        }
        assert_eq!(pace.length(), 1);
    }

    #[test]
    fn a_limit_below_the_first_length_holds() {
        assert_eq!(Pace::new(0).length(), 0);
        assert_eq!(Pace::new(1).length(), 1);
    }
}
