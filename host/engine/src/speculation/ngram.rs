//! Guesses from the sequence itself: where its last tokens stood before, what followed then may follow again.
//!
//! Prompt look-up decoding (Saxena 2023, "Prompt Lookup Decoding"): it needs no second model and is right where a text
//! quotes, edits or lists what it has seen.

/// Tokens at the end of the sequence that must have stood together before. One alone says too little of what follows.
const SHORTEST: usize = 2;
/// A longer match is not looked for: eight tokens already single out a place.
const LONGEST: usize = 8;

/// `count` tokens as they followed the longest earlier occurrence of the end of `tokens`, the latest of equally long ones;
/// none where the last two tokens have not stood together before. What followed may run into the end of `tokens`; then
/// it goes on with the guess itself.
pub(crate) fn propose(tokens: &[u32], count: usize) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    let (mut continuation, mut longest) = (tokens.len(), SHORTEST - 1);
    for end in (SHORTEST..tokens.len()).rev() {
        let matched = shared_end(&tokens[..end], tokens);
        if matched > longest {
            (continuation, longest) = (end, matched);
            if matched == LONGEST {
                break;
            }
        }
    }
    let period = &tokens[continuation..];
    period.iter().copied().cycle().take(count).collect()
}

/// How many last tokens are the same in both, up to [`LONGEST`].
fn shared_end(earlier: &[u32], tokens: &[u32]) -> usize {
    earlier.iter().rev().zip(tokens.iter().rev()).take(LONGEST).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_same_tokens_is_guessed() {
        assert_eq!(propose(&[1, 2, 3, 4, 5, 1, 2], 2), [3, 4]);
        assert_eq!(propose(&[1, 2, 3, 4, 5, 1, 2], 7), [3, 4, 5, 1, 2, 3, 4]);
    }

    #[test]
    fn one_token_alone_is_no_match() {
        assert_eq!(propose(&[1, 2, 3, 9, 2], 3), [0u32; 0]);
        assert_eq!(propose(&[7], 3), [0u32; 0]);
        assert_eq!(propose(&[], 3), [0u32; 0]);
        assert_eq!(propose(&[7, 7], 3), [0u32; 0]);
    }

    #[test]
    fn the_longest_match_wins_and_then_the_latest() {
        // [2, 3] stands three times; the middle one is preceded by 1 as the end is.
        assert_eq!(propose(&[9, 2, 3, 4, 1, 2, 3, 5, 8, 2, 3, 6, 1, 2, 3], 1), [5]);
        assert_eq!(propose(&[9, 2, 3, 4, 8, 2, 3, 6, 1, 2, 3], 1), [6]);
    }

    #[test]
    fn a_repetition_goes_on() {
        assert_eq!(propose(&[5, 5, 5, 5], 3), [5, 5, 5]);
        assert_eq!(propose(&[1, 2, 1, 2, 1, 2], 3), [1, 2, 1]);
    }
}
