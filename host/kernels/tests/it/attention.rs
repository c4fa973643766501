//! Paged attention against plain softmax attention in f64, and its independence of batch and chunking.

use espalier_kernels::{
    AttentionShape, CacheFormat, CacheLayer, CacheSize, Cpu, InstructionSet, KeyValueStore, RowStatistics,
    SequenceSpan,
};

use crate::noise;

struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    block_tokens: usize,
    tokens: usize,
    window: Option<usize>,
    sinks: Option<Vec<f32>>,
    format: CacheFormat,
}

impl Case {
    fn shape(&self) -> AttentionShape<'_> {
        AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            sliding_window: self.window,
            sinks: self.sinks.as_deref(),
        }
    }

    fn queries(&self) -> Vec<f32> {
        noise(self.tokens * self.heads * self.head_dim, 1).iter().map(|value| value * 3.0).collect()
    }

    fn keys_and_values(&self) -> (Vec<f32>, Vec<f32>) {
        let length = self.tokens * self.kv_heads * self.head_dim;
        (noise(length, 2).iter().map(|value| value * 3.0).collect(), noise(length, 3))
    }

    /// A store whose blocks for the sequence are scattered, and their numbers. Unused places hold what is no number.
    fn store(&self) -> (KeyValueStore, Vec<u32>) {
        self.store_until(self.tokens)
    }

    /// The same, with the first `tokens` tokens only.
    fn store_until(&self, tokens: usize) -> (KeyValueStore, Vec<u32>) {
        let used = self.tokens.div_ceil(self.block_tokens);
        let layer = |kv_heads, head_dim| CacheLayer { kv_heads, head_dim, windowed: false };
        let layers = [layer(1, 32), layer(self.kv_heads, self.head_dim)];
        let Self { block_tokens, format, .. } = *self;
        let size = CacheSize { blocks: used * 2 + 1, window_blocks: 0, block_tokens, format };
        let mut store = KeyValueStore::new(&layers, size).unwrap();
        let row = self.kv_heads * self.head_dim;
        let garbage = vec![f32::NAN; self.block_tokens * row];
        for block in 0..store.size().blocks as u32 {
            store.write(1, block, 0, &garbage, &garbage).unwrap();
        }
        let blocks: Vec<u32> = (0..used as u32).map(|index| 2 * (used as u32 - index)).collect();
        let (keys, values) = self.keys_and_values();
        for token in 0..tokens {
            let place = (blocks[token / self.block_tokens], token % self.block_tokens);
            let range = token * row..(token + 1) * row;
            store.write(1, place.0, place.1, &keys[range.clone()], &values[range]).unwrap();
        }
        (store, blocks)
    }

    fn run(&self, cpu: &Cpu, spans: &[(usize, usize)]) -> Vec<f32> {
        let (store, blocks) = self.store();
        self.run_in(cpu, &store, &blocks, spans)
    }

    /// Attention of the queries `first..first + count` for each span.
    fn run_in(&self, cpu: &Cpu, store: &KeyValueStore, blocks: &[u32], spans: &[(usize, usize)]) -> Vec<f32> {
        let (queries, row) = (self.queries(), self.heads * self.head_dim);
        let mut output = Vec::new();
        for (first, count) in spans {
            let mut part = vec![f32::NAN; count * row];
            let span = SequenceSpan { blocks, window_blocks: &[], first_position: *first, queries: *count };
            let queries = &queries[first * row..(first + count) * row];
            cpu.attention(&self.shape(), queries, &[span], store, 1, &mut part).unwrap();
            output.extend(part);
        }
        output
    }

    /// The scores of every query head at every token against the keys that it sees, in f64.
    fn scores(&self) -> Vec<Vec<f64>> {
        let (queries, (keys, _)) = (self.queries(), self.keys_and_values());
        let (d, group) = (self.head_dim, self.heads / self.kv_heads);
        let mut scores = Vec::new();
        for (index, query) in queries.chunks_exact(d).enumerate() {
            let (token, head) = (index / self.heads, index % self.heads);
            let first = self.window.map_or(0, |window| (token + 1).saturating_sub(window));
            let dot = |key: usize| {
                let key = &keys[(key * self.kv_heads + head / group) * d..][..d];
                let terms = query.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b));
                terms.sum::<f64>() / (d as f64).sqrt()
            };
            scores.push((first..=token).map(dot).collect());
        }
        scores
    }

    fn sink(&self, head: usize) -> Option<f64> {
        self.sinks.as_ref().map(|sinks| f64::from(sinks[head]))
    }

    fn naive(&self) -> Vec<f64> {
        let (_, values) = self.keys_and_values();
        let (d, group) = (self.head_dim, self.heads / self.kv_heads);
        let mut output = Vec::new();
        for (index, scores) in self.scores().into_iter().enumerate() {
            let (token, head) = (index / self.heads, index % self.heads);
            let (first, sink) = (token + 1 - scores.len(), self.sink(head));
            let maximum = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - maximum).exp()).collect();
            let total = weights.iter().sum::<f64>() + sink.map_or(0.0, |sink| (sink - maximum).exp());
            for component in 0..d {
                let value =
                    |key: usize| f64::from(values[(key * self.kv_heads + head / group) * d + component]);
                let terms = weights.iter().zip(first..).map(|(weight, key)| weight * value(key));
                output.push(terms.sum::<f64>() / total);
            }
        }
        output
    }
}

fn cases(format: CacheFormat) -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = [(1, 1, 8), (9, 3, 64), (8, 2, 40), (6, 1, 33), (4, 2, 32), (5, 1, 96)];
    for (heads, kv_heads, head_dim) in shapes {
        if head_dim % format.head_multiple() != 0 {
            continue;
        }
        for block_tokens in [1, 5, 16, 24, 32] {
            for (window, sinks) in [(None, false), (Some(7), true), (Some(128), false), (None, true)] {
                let sinks = sinks.then(|| noise(heads, 9).iter().map(|value| value * 4.0).collect());
                let case =
                    Case { heads, kv_heads, head_dim, block_tokens, tokens: 77, window, sinks, format };
                cases.push(case);
            }
        }
    }
    cases
}

#[test]
fn paged_attention_is_softmax_attention() {
    let devices = [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512]
        .map(|set| Cpu::with_instruction_set(2, set).unwrap());
    for case in cases(CacheFormat::F32) {
        let expected = case.naive();
        for cpu in &devices {
            let found = case.run(cpu, &[(0, case.tokens)]);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (f64::from(*found) - expected).abs() < 3e-6,
                    "{found} instead of {expected} on {cpu:?}"
                );
            }
        }
    }
}

#[test]
fn formats_cost_what_their_rounding_costs() {
    let cpu = Cpu::new(2).unwrap();
    // A half is off by 2^-11 of itself, a code by half of a 127th of the largest in its group and that one's rounding.
    for (format, error, most) in
        [(CacheFormat::F16, 1.0 / 2048.0, 0.01), (CacheFormat::Q8_0, 0.5 / 127.0 + 1.0 / 2048.0, 0.04)]
    {
        for case in cases(format) {
            let found = case.run(&cpu, &[(0, case.tokens)]);
            let plain = Case { format: CacheFormat::F32, ..case };
            let expected = plain.run(&cpu, &[(0, plain.tokens)]);
            assert_ne!(found, expected, "nothing was rounded");
            // |query|, |key| < 3, so a score moves by at most 9·√d times the error, every weight by e^(twice that) in
            // proportion, and |value| < 1 by the error on top.
            let score = 9.0 * (plain.head_dim as f32).sqrt() * error;
            let bound = ((2.0 * score).exp() - 1.0) + error;
            let largest = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
            let largest = largest.fold(0.0, f32::max);
            assert!(
                largest <= bound.min(most),
                "{format}: off by {largest}, at most {bound} can come from rounding"
            );
        }
    }
}

#[test]
fn what_a_query_does_not_see_has_no_influence() {
    let cpu = Cpu::new(2).unwrap();
    for case in CacheFormat::ALL.into_iter().flat_map(cases) {
        // The queries before the last two tokens, beside those two, whose keys and values are no numbers.
        let expected = case.run(&cpu, &[(60, 15)]);
        let (store, blocks) = case.store_until(75);
        let found = case.run_in(&cpu, &store, &blocks, &[(60, 17)]);
        let seen = 15 * case.heads * case.head_dim;
        assert_eq!(found[..seen], expected);
        assert!(found[seen..].iter().all(|value| value.is_nan()));
    }
}

#[test]
fn statistics_are_those_of_the_scores() {
    let devices = [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512]
        .map(|set| Cpu::with_instruction_set(2, set).unwrap());
    for case in cases(CacheFormat::F32) {
        let (store, blocks) = case.store();
        let span =
            SequenceSpan { blocks: &blocks, window_blocks: &[], first_position: 0, queries: case.tokens };
        let (queries, plain) = (case.queries(), case.run(&devices[0], &[(0, case.tokens)]));
        let scores = case.scores();
        for cpu in &devices {
            let mut found = vec![RowStatistics::default(); case.tokens * case.heads];
            let mut output = vec![0.0; queries.len()];
            let shape = case.shape();
            cpu.attention_with_statistics(&shape, &queries, &[span], &store, 1, &mut output, &mut found)
                .unwrap();
            assert_eq!(output, plain);
            for (index, (found, scores)) in found.iter().zip(&scores).enumerate() {
                let sink = case.sink(index % case.heads);
                let total: f64 = scores.iter().chain(&sink).map(|score| score.exp()).sum();
                let terms = scores.iter().chain(&sink).map(|score| score.exp() / total);
                let entropy = -terms.map(|share| share * share.ln()).sum::<f64>();
                let mean = scores.iter().sum::<f64>() / scores.len() as f64;
                let variance =
                    scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / scores.len() as f64;
                let expected = [entropy, mean, variance, sink.map_or(0.0, |sink| sink.exp() / total)];
                let found = [found.entropy, found.score_mean, found.score_variance, found.sink_mass];
                for (found, expected) in found.into_iter().zip(expected) {
                    let difference = (f64::from(found) - expected).abs();
                    assert!(
                        difference < 2e-5 * expected.abs().max(1.0),
                        "{found} instead of {expected}, {cpu:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_chunks_threads_or_instructions() {
    let portable = Cpu::with_instruction_set(1, InstructionSet::Portable).unwrap();
    let vector = Cpu::new(3).unwrap();
    for case in CacheFormat::ALL.into_iter().flat_map(cases) {
        let whole = case.run(&portable, &[(0, case.tokens)]);
        let single: Vec<(usize, usize)> = (0..case.tokens).map(|token| (token, 1)).collect();
        assert_eq!(case.run(&vector, &single), whole);
        assert_eq!(case.run(&vector, &[(0, 3), (3, 40), (43, 34)]), whole);
    }
}

#[test]
fn sequences_in_a_batch_do_not_meet() {
    for format in CacheFormat::ALL {
        batch_equals_alone(&cases(format)[9]);
    }
}

fn batch_equals_alone(case: &Case) {
    let (store, blocks) = case.store();
    let (queries, row) = (case.queries(), case.heads * case.head_dim);
    let cpu = Cpu::new(2).unwrap();
    let alone = case.run(&cpu, &[(10, 1), (0, 6), (76, 1)]);
    let spans = [(10, 1), (0, 6), (76, 1)].map(|(first_position, queries)| SequenceSpan {
        blocks: &blocks,
        window_blocks: &[],
        first_position,
        queries,
    });
    let batch = [&queries[10 * row..11 * row], &queries[..6 * row], &queries[76 * row..]].concat();
    let mut output = vec![0.0; batch.len()];
    cpu.attention(&case.shape(), &batch, &spans, &store, 1, &mut output).unwrap();
    assert_eq!(output, alone);
}

#[test]
fn bad_shapes_are_refused() {
    let case = &cases(CacheFormat::F16)[0];
    let (store, blocks) = case.store();
    let cpu = Cpu::new(1).unwrap();
    let (shape, queries) = (case.shape(), vec![0.0; 8]);
    let run = |shape: &AttentionShape, blocks: &[u32], first_position: usize, layer: usize| {
        let span = SequenceSpan { blocks, window_blocks: &[], first_position, queries: 1 };
        cpu.attention(shape, &queries, &[span], &store, layer, &mut [0.0; 8])
    };
    run(&shape, &blocks, 0, 1).unwrap();
    assert!(run(&shape, &blocks, 77, 1).is_err());
    assert!(run(&shape, &[9999], 0, 1).is_err());
    assert!(run(&shape, &blocks, usize::MAX, 1).is_err());
    assert!(run(&shape, &blocks, 0, 2).is_err());
    assert!(run(&AttentionShape { heads: 2, ..shape }, &blocks, 0, 1).is_err());
    assert!(run(&AttentionShape { kv_heads: 0, ..shape }, &blocks, 0, 1).is_err());
    assert!(run(&AttentionShape { head_dim: 4, ..shape }, &blocks, 0, 1).is_err());
    assert!(run(&AttentionShape { sliding_window: Some(0), ..shape }, &blocks, 0, 1).is_err());
    assert!(run(&AttentionShape { sinks: Some(&[]), ..shape }, &blocks, 0, 1).is_err());
}

#[test]
fn windowed_layers_need_their_window_only() {
    for format in CacheFormat::ALL {
        let mut cases = cases(format).into_iter();
        window_is_enough(&cases.find(|case| case.window == Some(7) && case.block_tokens == 5).unwrap());
    }
}

fn window_is_enough(case: &Case) {
    let (kept, blocks) = case.store();
    let d = case.head_dim;
    let layer = |windowed| CacheLayer { kv_heads: case.kv_heads, head_dim: d, windowed };
    let cpu = Cpu::new(2).unwrap();
    let (expected, queries, row) = (case.run(&cpu, &[(0, case.tokens)]), case.queries(), case.heads * d);
    // Enough blocks for the window and a query anywhere in a block, used in turn.
    let ring = (7 + case.block_tokens).div_ceil(case.block_tokens) + 1;
    let size =
        CacheSize { blocks: 0, window_blocks: ring, block_tokens: case.block_tokens, format: case.format };
    let mut store = KeyValueStore::new(&[layer(true)], size).unwrap();
    let window_blocks: Vec<u32> = (0..blocks.len()).map(|index| (index % ring) as u32).collect();
    for position in 0..case.tokens {
        let (index, offset) = (position / case.block_tokens, position % case.block_tokens);
        let (keys, values) = kept.read(1, blocks[index], offset).unwrap();
        store.write(0, window_blocks[index], offset, &keys, &values).unwrap();
        let window_blocks = &window_blocks[..=index];
        let span = SequenceSpan { blocks: &[], window_blocks, first_position: position, queries: 1 };
        let (mut output, range) = (vec![f32::NAN; row], position * row..(position + 1) * row);
        cpu.attention(&case.shape(), &queries[range.clone()], &[span], &store, 0, &mut output).unwrap();
        assert_eq!(output, expected[range], "{position}");
    }
}
