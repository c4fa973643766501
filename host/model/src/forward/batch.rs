//! What one forward pass is asked to do: tokens of several sequences back to back, and whose logits are wanted.

use espalier_kernels::SequenceSpan;

use crate::error::ModelError;

/// The input of one forward pass.
pub struct ForwardBatch<'a> {
    /// Token ids of all spans, back to back.
    pub tokens: &'a [u32],
    /// Which cache blocks and positions each run of tokens belongs to.
    pub spans: &'a [SequenceSpan<'a>],
    /// How many of the tokens, the first, go on with texts: on the fast path they are computed in arithmetic for few rows,
    /// the others in that for long texts. On the exact path it makes no difference.
    pub decoding: usize,
    /// The rows whose logits are returned.
    pub logits_for: LogitRows<'a>,
}

/// Selects rows of a batch.
#[derive(Copy, Clone, Debug)]
pub enum LogitRows<'a> {
    /// No logits: a prompt chunk that is not its last one.
    None,
    /// The last token of each span.
    Last,
    /// Every token.
    All,
    /// These rows of the batch, in this order.
    Rows(&'a [usize]),
}

impl ForwardBatch<'_> {
    /// The selected rows, after the batch was checked against the model's limits.
    ///
    /// # Errors
    /// Spans that do not add up to the tokens, a token id outside the vocabulary, a row outside the batch.
    pub(crate) fn rows(&self, vocab_size: usize) -> Result<Vec<usize>, ModelError> {
        let spanned: usize = self.spans.iter().map(|span| span.queries).sum();
        if spanned != self.tokens.len() {
            return Err(ModelError::argument("tokens in spans", spanned, self.tokens.len().to_string()));
        }
        if let Some(&token) = self.tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(ModelError::argument(
                "token id",
                token,
                format!("less than the vocabulary size {vocab_size}"),
            ));
        }
        match self.logits_for {
            LogitRows::None => Ok(Vec::new()),
            LogitRows::All => Ok((0..self.tokens.len()).collect()),
            LogitRows::Last => {
                let mut end = 0;
                Ok(self
                    .spans
                    .iter()
                    .filter(|span| span.queries > 0)
                    .map(|span| {
                        end += span.queries;
                        end - 1
                    })
                    .collect())
            }
            LogitRows::Rows(rows) => match rows.iter().find(|&&row| row >= self.tokens.len()) {
                Some(&row) => Err(ModelError::argument(
                    "logit row",
                    row,
                    format!("less than {} rows", self.tokens.len()),
                )),
                None => Ok(rows.to_vec()),
            },
        }
    }

    /// The position of every token in its sequence.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.spans.iter().flat_map(|span| span.first_position..span.first_position + span.queries)
    }
}
