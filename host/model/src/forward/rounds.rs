//! The order in which a pass's tokens meet the windowed layers' caches.
//!
//! A windowed layer keeps few blocks for each sequence and uses them in turn, so a long run of tokens is taken in
//! chunks: keys and values of a chunk are written, its queries attend, then the next chunk may overwrite what has left
//! the window. Runs of several sequences share a round.

use espalier_kernels::SequenceSpan;

/// Tokens of one sequence in a round.
pub(crate) const WINDOW_CHUNK: usize = 64;

/// Consecutive rows of a batch whose keys are written together before their queries attend.
pub(super) struct Round<'a> {
    pub(super) spans: Vec<SequenceSpan<'a>>,
    /// First row of the batch, and how many.
    pub(super) first_row: usize,
    pub(super) rows: usize,
}

/// All spans at once, for layers that keep every token.
pub(super) fn whole<'a>(spans: &[SequenceSpan<'a>]) -> Vec<Round<'a>> {
    let rows = spans.iter().map(|span| span.queries).sum();
    vec![Round { spans: spans.to_vec(), first_row: 0, rows }]
}

/// Rounds of at most [`WINDOW_CHUNK`] tokens of each sequence.
pub(super) fn windowed<'a>(spans: &[SequenceSpan<'a>]) -> Vec<Round<'a>> {
    let mut rounds: Vec<Round<'a>> = Vec::new();
    let mut row = 0;
    for span in spans {
        for start in (0..span.queries).step_by(WINDOW_CHUNK) {
            let queries = WINDOW_CHUNK.min(span.queries - start);
            let part = SequenceSpan { first_position: span.first_position + start, queries, ..*span };
            match rounds.last_mut().filter(|_| start == 0) {
                Some(round) => {
                    round.spans.push(part);
                    round.rows += queries;
                }
                None => rounds.push(Round { spans: vec![part], first_row: row, rows: queries }),
            }
            row += queries;
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_one_sequence_are_in_rounds_of_their_own() {
        let span = |first_position, queries| SequenceSpan {
            blocks: &[],
            window_blocks: &[],
            first_position,
            queries,
        };
        let spans = [span(9, 1), span(4, 150), span(0, 64), span(7, 1)];
        let rounds = windowed(&spans);
        let found: Vec<_> = rounds
            .iter()
            .map(|round| {
                let spans = round.spans.iter().map(|span| (span.first_position, span.queries));
                (round.first_row, round.rows, spans.collect::<Vec<_>>())
            })
            .collect();
        let expected = [
            (0, 65, vec![(9, 1), (4, 64)]),
            (65, 64, vec![(68, 64)]),
            (129, 87, vec![(132, 22), (0, 64), (7, 1)]),
        ];
        assert_eq!(found, expected);
        assert_eq!(whole(&spans).iter().map(|round| round.rows).collect::<Vec<_>>(), [216]);
    }
}
