//! The operations of a CUDA device, real or simulated, against sums in f64 and the processor's kernels.
//!
//! Left out where nobody says that there is one (`ESPALIER_TEST_CUDA`), as `cargo xtask test` does.

use espalier_kernels::{
    AttentionShape, Bytes, CacheFormat, CacheLayer, CacheSize, Cpu, Cuda, CudaActivation, CudaAttention,
    CudaBuffer, CudaInput, CudaProduct, CudaRouting, CudaStep, KeyValueStore, Matrix, Precision, ProductRows,
    RowStatistics, SequenceSpan, WeightFormat,
};

use crate::{noise, random_blocks};

/// The largest share of a row's magnitude that sums in f32 and activations in bf16 may be off.
const EXACT: f64 = 2e-6;
const ROUNDED: f64 = 4e-3;

fn devices() -> Option<(Cpu, Cuda)> {
    std::env::var_os("ESPALIER_TEST_CUDA").map(|_| (Cpu::new(2).unwrap(), Cuda::open(0).unwrap()))
}

fn matrix(format: WeightFormat, rows: usize, columns: usize, seed: u64) -> Matrix {
    let bytes = (0..rows).flat_map(|row| random_blocks(format, columns, seed + row as u64)).collect();
    Matrix::new(format, rows, columns, Bytes::from_vec(bytes)).unwrap()
}

/// Rows of poison, so that what is not written is seen.
fn poison(cuda: &Cuda, length: usize) -> CudaBuffer<f32> {
    cuda.upload(&vec![f32::NAN; length]).unwrap()
}

/// `weights · input + bias` in f64, and the sum of magnitudes for the tolerance.
fn reference(weights: &[f32], input: &[f32], bias: &[f32]) -> Vec<(f64, f64)> {
    let columns = weights.len() / bias.len();
    let rows = input.chunks_exact(columns);
    rows.flat_map(|row| {
        weights.chunks_exact(columns).zip(bias).map(|(weights, bias)| {
            let terms = row.iter().zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b));
            let start = (f64::from(*bias), f64::from(bias.abs()));
            terms.fold(start, |(sum, size), term| (sum + term, size + term.abs()))
        })
    })
    .collect()
}

fn multiply(
    cuda: &Cuda,
    products: &mut [CudaProduct<'_>],
    input: &[f32],
    rows: ProductRows,
    precision: Precision,
    accumulate: bool,
) {
    let (input, mut room) = (cuda.upload(input).unwrap(), cuda.zeros(0).unwrap());
    cuda.multiply(products, CudaInput::Plain(&input), rows, accumulate, precision, &mut room).unwrap();
}

fn assert_near(found: &[f32], expected: &[(f64, f64)], share: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, (sum, size))) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - sum).abs();
        assert!(error <= share * size + 1e-30, "{what}: value {index} is {found}, expected {sum} of {size}");
    }
}

fn shapes(format: WeightFormat) -> Vec<(usize, usize)> {
    let block = format.block_values();
    let mut shapes = vec![(1, block), (9, 3 * block.max(32)), (133, 1280)];
    if block == 1 {
        shapes.extend([(5, 1), (9, 31), (12, 513)]);
    }
    shapes
}

#[test]
fn every_format_multiplies_few_and_many_rows() {
    let Some((cpu, cuda)) = devices() else { return };
    for format in WeightFormat::ALL {
        for (outputs, columns) in shapes(format) {
            let weights = matrix(format, outputs, columns, 5);
            let (values, bias) = (weights.dequantize(), noise(outputs, 3));
            let on_device = cuda.matrix(&cpu, &[&weights]).unwrap();
            let bias_on_device = cuda.upload(&bias).unwrap();
            for (all, decoding, precision) in [
                (1, 1, Precision::Fast),
                (2, 2, Precision::Fast),
                (3, 3, Precision::Exact),
                (11, 11, Precision::Fast),
                (5, 2, Precision::Exact),
                (70, 0, Precision::Fast),
                (35, 0, Precision::Exact),
            ] {
                let input = noise(all * columns, 11);
                let mut output = poison(&cuda, all * outputs);
                let product =
                    CudaProduct { weights: &on_device, bias: Some(&bias_on_device), output: &mut output };
                let rows = ProductRows { all, decoding };
                multiply(&cuda, &mut [product], &input, rows, precision, false);
                let found = cuda.download(&output, all * outputs).unwrap();
                let share = if precision == Precision::Exact || all == decoding { EXACT } else { ROUNDED };
                let what =
                    format!("{format} {outputs}×{columns}, {decoding} of {all} rows decode, {precision:?}");
                assert_near(&found, &reference(&values, &input, &bias), share, &what);
            }
        }
    }
}

#[test]
fn a_row_that_decodes_gets_the_same_bits_in_any_company() {
    let Some((cpu, cuda)) = devices() else { return };
    let weights = cuda.matrix(&cpu, &[&matrix(WeightFormat::Mxfp4, 70, 1440, 5)]).unwrap();
    let input = noise(11 * 1440, 7);
    let first_row = |rows: usize| {
        let mut output = poison(&cuda, rows * 70);
        let product = CudaProduct { weights: &weights, bias: None, output: &mut output };
        let (input, rows) = (&input[..rows * 1440], ProductRows { all: rows, decoding: rows });
        multiply(&cuda, &mut [product], input, rows, Precision::Fast, false);
        cuda.download(&output, 70).unwrap()
    };
    let alone = first_row(1);
    for rows in [2, 3, 4, 7, 8, 11] {
        assert_eq!(first_row(rows), alone, "{rows} rows");
    }
}

#[test]
fn products_are_added_where_that_is_asked_for() {
    let Some((cpu, cuda)) = devices() else { return };
    let weights = matrix(WeightFormat::Bf16, 40, 96, 5);
    let on_device = cuda.matrix(&cpu, &[&weights]).unwrap();
    for (all, decoding, precision) in
        [(3, 3, Precision::Exact), (40, 0, Precision::Exact), (66, 0, Precision::Fast)]
    {
        let (input, before) = (noise(all * 96, 1), noise(all * 40, 2));
        let mut output = cuda.upload(&before).unwrap();
        let product = CudaProduct { weights: &on_device, bias: None, output: &mut output };
        multiply(&cuda, &mut [product], &input, ProductRows { all, decoding }, precision, true);
        let mut expected = reference(&weights.dequantize(), &input, &[0.0; 40]);
        for ((sum, size), before) in expected.iter_mut().zip(&before) {
            *sum += f64::from(*before);
            *size += f64::from(before.abs());
        }
        let share = if precision == Precision::Exact { EXACT } else { ROUNDED };
        assert_near(&cuda.download(&output, all * 40).unwrap(), &expected, share, &format!("{all} rows"));
    }
}

#[test]
fn norms_and_activations_are_done_where_the_input_is_read() {
    let Some((cpu, cuda)) = devices() else { return };
    let (columns, epsilon) = (1440, 1e-5);
    let matrices = [100, 17, 300].map(|rows| matrix(WeightFormat::Q4_0, rows, columns, 3));
    let on_device = matrices.each_ref().map(|matrix| cuda.matrix(&cpu, &[matrix]).unwrap());
    let weight: Vec<f32> = noise(columns, 9).iter().map(|value| 1.0 + value / 2.0).collect();
    let weight_on_device = cuda.upload(&weight).unwrap();
    for (all, decoding) in [(1, 1), (7, 7), (70, 2)] {
        let (first, second) = (noise(all * columns, 1), noise(all * columns, 2));
        let rows = ProductRows { all, decoding };
        let normed: Vec<f32> = first
            .chunks_exact(columns)
            .flat_map(|row| {
                let square: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
                let factor = 1.0 / (square / columns as f64 + f64::from(epsilon)).sqrt();
                row.iter()
                    .zip(&weight)
                    .map(move |(value, weight)| (f64::from(*value) * factor) as f32 * weight)
            })
            .collect();
        let sigmoid = |value: f32| 1.0 / (1.0 + (-f64::from(value)).exp());
        let silu: Vec<f32> = first
            .iter()
            .zip(&second)
            .map(|(gate, up)| (f64::from(*gate) * sigmoid(*gate) * f64::from(*up)) as f32)
            .collect();
        let (alpha, limit) = (1.702, 0.7);
        let clamped: Vec<f32> = first
            .iter()
            .zip(&second)
            .map(|(gate, up)| {
                let (gate, up) = (gate.min(limit), up.clamp(-limit, limit));
                (f64::from(gate) * sigmoid(alpha * gate) * f64::from(up + 1.0)) as f32
            })
            .collect();
        let up = cuda.upload(&second).unwrap();
        let activations = [CudaActivation::Silu, CudaActivation::ClampedSwiglu { alpha, limit }];
        for (kind, expected) in [&normed, &silu, &clamped].into_iter().enumerate() {
            let mut values = cuda.upload(&first).unwrap();
            let mut prepared = poison(&cuda, all * columns);
            let norm = (&weight_on_device, epsilon);
            let input = if kind == 0 {
                cuda.rms_norm(&values, norm, None, rows.prompts(), &mut prepared).unwrap();
                CudaInput::Normed { hidden: &values, norm, normed: &prepared }
            } else {
                let activation = activations[kind - 1];
                cuda.activate(&mut values, &up, activation, decoding * columns..all * columns).unwrap();
                CudaInput::Gated { gate: &values, up: &up, activation }
            };
            let mut outputs = matrices.each_ref().map(|matrix| poison(&cuda, all * matrix.rows()));
            let mut products: Vec<CudaProduct> = on_device
                .iter()
                .zip(&mut outputs)
                .map(|(weights, output)| CudaProduct { weights, bias: None, output })
                .collect();
            let mut room = cuda.zeros(0).unwrap();
            cuda.multiply(&mut products, input, rows, false, Precision::Exact, &mut room).unwrap();
            for (matrix, output) in matrices.iter().zip(&outputs) {
                let found = cuda.download(output, all * matrix.rows()).unwrap();
                let sums = reference(&matrix.dequantize(), expected, &vec![0.0; matrix.rows()]);
                assert_near(&found, &sums, EXACT, &format!("kind {kind}, {decoding} of {all} rows decode"));
            }
        }
    }
}

/// The largest logits, the lower expert of equals, ascending, with the softmax over them.
fn choose(logits: &[f32], active: usize) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(active);
    let largest = f64::from(logits[order[0]]);
    order.sort_unstable();
    let weights: Vec<f64> = order.iter().map(|&expert| (f64::from(logits[expert]) - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    order.into_iter().zip(weights).map(|(expert, weight)| (expert, weight / sum)).collect()
}

#[test]
fn experts_are_chosen_multiplied_and_mixed() {
    let Some((cpu, cuda)) = devices() else { return };
    for (experts, active, tokens, decoding, precision) in [
        (8, 2, 1, 1, Precision::Fast),
        (9, 4, 5, 2, Precision::Exact),
        (32, 4, 150, 3, Precision::Fast),
        (40, 1, 70, 0, Precision::Exact),
        (3, 3, 20, 0, Precision::Fast),
    ] {
        let (width, ffn) = (64, 96);
        let mut logits = noise(tokens * experts, 21);
        // Ties, and experts without tokens.
        logits.iter_mut().for_each(|logit| *logit = (*logit * 8.0).round() / 4.0);
        logits
            .chunks_exact_mut(experts)
            .for_each(|row| row[experts - 1] = if active < experts { -50.0 } else { 0.0 });
        let matrices: Vec<Matrix> =
            (0..experts as u64).map(|seed| matrix(WeightFormat::Mxfp4, ffn, width, 100 * seed)).collect();
        let weights = cuda.matrix(&cpu, &matrices.iter().collect::<Vec<_>>()).unwrap();
        let (bias, input) = (noise(experts * ffn, 4), noise(tokens * width, 5));
        let mut choice = cuda.experts().unwrap();
        let routing = CudaRouting { tokens, decoding, experts, active, precision };
        cuda.choose_experts(&cuda.upload(&logits).unwrap(), routing, &mut choice).unwrap();
        let (chosen, shares) = cuda.chosen_experts(&choice).unwrap();
        let expected: Vec<_> = logits.chunks_exact(experts).flat_map(|row| choose(row, active)).collect();
        for (index, (expert, share)) in expected.iter().enumerate() {
            assert_eq!(chosen[index] as usize, *expert, "pair {index} of {experts} experts");
            assert!((f64::from(shares[index]) - share).abs() < 1e-6);
        }
        let mut output = poison(&cuda, tokens * active * ffn);
        let (bias_on_device, values) = (cuda.upload(&bias).unwrap(), cuda.upload(&input).unwrap());
        let product = CudaProduct { weights: &weights, bias: Some(&bias_on_device), output: &mut output };
        let (input_of_pairs, mut room) = (CudaInput::Plain(&values), cuda.zeros(0).unwrap());
        cuda.multiply_by_experts(&mut [product], input_of_pairs, &choice, active, precision, &mut room)
            .unwrap();
        let found = cuda.download(&output, tokens * active * ffn).unwrap();
        if decoding < tokens {
            let product = CudaProduct { weights: &weights, bias: Some(&bias_on_device), output: &mut output };
            let other = if precision == Precision::Exact { Precision::Fast } else { Precision::Exact };
            let refused =
                cuda.multiply_by_experts(&mut [product], input_of_pairs, &choice, active, other, &mut room);
            assert!(refused.is_err(), "pairs were grouped for {precision:?}");
        }
        for (pair, (expert, _)) in expected.iter().enumerate() {
            let row = &input[pair / active * width..][..width];
            let sums = reference(&matrices[*expert].dequantize(), row, &bias[expert * ffn..][..ffn]);
            let share =
                if precision == Precision::Exact || pair < decoding * active { EXACT } else { ROUNDED };
            assert_near(
                &found[pair * ffn..][..ffn],
                &sums,
                share,
                &format!("pair {pair} of {experts} experts"),
            );
        }
        let before = noise(tokens * ffn, 6);
        let mut hidden = cuda.upload(&before).unwrap();
        cuda.add_mixture(&mut hidden, &output, &choice, ffn).unwrap();
        let mixed = cuda.download(&hidden, tokens * ffn).unwrap();
        for (index, mixed) in mixed.iter().enumerate() {
            let (token, column) = (index / ffn, index % ffn);
            let terms = (0..active).map(|slot| (token * active + slot, expected[token * active + slot].1));
            let sum: f64 = terms.map(|(pair, share)| share * f64::from(found[pair * ffn + column])).sum();
            assert!((f64::from(*mixed) - f64::from(before[index]) - sum).abs() < 1e-4, "token {token}");
        }
    }
}

/// One attention layer in both memories.
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    sinks: bool,
    format: CacheFormat,
    /// First position and queries of each sequence.
    spans: Vec<(usize, usize)>,
}

const BLOCK_TOKENS: usize = 16;

impl Case {
    fn size(&self) -> CacheSize {
        CacheSize { blocks: 64 * 3, window_blocks: 64 * 3, block_tokens: BLOCK_TOKENS, format: self.format }
    }

    /// Each sequence's blocks, in no particular order.
    fn tables(&self) -> Vec<Vec<u32>> {
        (0..self.spans.len() as u32)
            .map(|span| (0..64).map(|block| block * 37 % 64 * 3 + span).collect())
            .collect()
    }

    /// The processor's output and statistics of the last queries, and the device's, after the whole texts were stored.
    fn run(&self, cpu: &Cpu, cuda: &Cuda) {
        let layers = [CacheLayer {
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            windowed: self.window.is_some(),
        }];
        let mut host = KeyValueStore::new(&layers, self.size()).unwrap();
        let mut device = cuda.key_value_store(&layers, self.size()).unwrap();
        let (tables, pairs) = (self.tables(), self.head_dim / 2);
        let sinks = noise(self.heads, 8);
        let sinks_on_device = cuda.upload(&sinks).unwrap();
        let attention = CudaAttention {
            layer: 0,
            heads: self.heads,
            scale: 0.3,
            sliding_window: self.window,
            sinks: self.sinks.then_some(&sinks_on_device),
        };
        let mut placement = cuda.placement().unwrap();
        // What comes before, then the queries that are looked at.
        for is_last in [false, true] {
            let spans: Vec<SequenceSpan> = tables
                .iter()
                .zip(&self.spans)
                .map(|(table, (first, queries))| {
                    let (first_position, queries) = if is_last { (*first, *queries) } else { (0, *first) };
                    SequenceSpan { blocks: table, window_blocks: table, first_position, queries }
                })
                .collect();
            let rows: usize = spans.iter().map(|span| span.queries).sum();
            let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
            let (mut queries, mut keys) = (noise(rows * width, 1), noise(rows * kv_width, 2));
            let values = noise(rows * kv_width, 3);
            let angles = noise(rows * pairs, 4);
            let (cosines, sines): (Vec<f32>, Vec<f32>) =
                angles.iter().map(|angle| ((angle * 3.0).cos(), (angle * 3.0).sin())).unzip();
            let (blocks, tokens) = ((self.size().blocks, self.size().window_blocks), vec![0; rows]);
            let step = CudaStep {
                tokens: &tokens,
                spans: &spans,
                block_tokens: BLOCK_TOKENS,
                blocks,
                cosines: &cosines,
                sines: &sines,
                vocabulary: 1,
            };
            cuda.place(&mut placement, &step).unwrap();
            let mut device_queries = cuda.upload(&queries).unwrap();
            let mut device_keys = cuda.upload(&keys).unwrap();
            let device_values = cuda.upload(&values).unwrap();
            cuda.rotate_and_store(
                &attention,
                &placement,
                &mut device_queries,
                &mut device_keys,
                &device_values,
                &mut device,
            )
            .unwrap();
            cpu.rope(&mut queries, self.heads, self.head_dim, &cosines, &sines);
            cpu.rope(&mut keys, self.kv_heads, self.head_dim, &cosines, &sines);
            let mut row = 0;
            for span in &spans {
                for position in span.first_position..span.first_position + span.queries {
                    let (block, part) =
                        (span.blocks[position / BLOCK_TOKENS], row * kv_width..(row + 1) * kv_width);
                    let place = position % BLOCK_TOKENS;
                    host.write(0, block, place, &keys[part.clone()], &values[part]).unwrap();
                    row += 1;
                }
            }
            if !is_last {
                continue;
            }
            let shape = AttentionShape {
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                scale: 0.3,
                sliding_window: self.window,
                sinks: self.sinks.then_some(sinks.as_slice()),
            };
            let mut expected = vec![0.0; rows * width];
            let mut statistics = vec![RowStatistics::default(); rows * self.heads];
            cpu.attention_with_statistics(&shape, &queries, &spans, &host, 0, &mut expected, &mut statistics)
                .unwrap();
            let mut output = poison(cuda, rows * width);
            let mut room = cuda.splits().unwrap();
            cuda.attend(&attention, &placement, &device_queries, &device, &mut room, &mut output).unwrap();
            let found = cuda.download(&output, rows * width).unwrap();
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    (found - expected).abs() < 2e-5,
                    "{self}: value {index} is {found}, expected {expected}"
                );
            }
            let found = cuda.attention_statistics(&attention, &placement, &device_queries, &device).unwrap();
            for (found, expected) in found.iter().zip(&statistics) {
                for (found, expected) in [
                    (found.entropy, expected.entropy),
                    (found.score_mean, expected.score_mean),
                    (found.score_variance, expected.score_variance),
                    (found.sink_mass, expected.sink_mass),
                ] {
                    assert!(
                        (found - expected).abs() < 2e-5 * (1.0 + expected.abs()),
                        "{self}: {found} {expected}"
                    );
                }
            }
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { heads, kv_heads, head_dim, window, sinks, format, spans } = self;
        write!(
            formatter,
            "{heads} heads on {kv_heads} of {head_dim}, window {window:?}, sinks {sinks}, {format}, {spans:?}"
        )
    }
}

#[test]
fn attention_sees_what_it_should() {
    let Some((cpu, cuda)) = devices() else { return };
    let shapes = [(8, 2, 64), (4, 4, 32), (24, 2, 40), (3, 1, 10), (4, 2, 192)];
    for (index, (heads, kv_heads, head_dim)) in shapes.into_iter().enumerate() {
        for format in [CacheFormat::F32, CacheFormat::F16] {
            for (window, sinks) in [(None, false), (Some(24), true), (Some(700), false), (None, true)] {
                let spans = match index {
                    0 => vec![(0, 1), (600, 1), (130, 5)],
                    1 => vec![(0, 40), (15, 2)],
                    _ => vec![(23, 3), (511, 2)],
                };
                Case { heads, kv_heads, head_dim, window, sinks, format, spans }.run(&cpu, &cuda);
            }
        }
    }
}

#[test]
fn blocks_are_copied_and_what_is_not_there_is_refused() {
    let Some((cpu, cuda)) = devices() else { return };
    let layers = [CacheLayer { kv_heads: 1, head_dim: 8, windowed: false }];
    let size = CacheSize { blocks: 3, window_blocks: 0, block_tokens: 16, format: CacheFormat::F16 };
    let mut store = cuda.key_value_store(&layers, size).unwrap();
    assert_eq!(store.bytes(), 3 * 2 * 8 * 16 * 2);
    cuda.copy_block(&mut store, false, 0, 2).unwrap();
    assert!(cuda.copy_block(&mut store, false, 0, 3).unwrap_err().to_string().contains("limit is 3"));
    assert!(cuda.copy_block(&mut store, true, 0, 0).is_err());
    let q8_0 = CacheSize { format: CacheFormat::Q8_0, ..size };
    assert!(cuda.key_value_store(&layers, q8_0).is_err());

    let mut placement = cuda.placement().unwrap();
    let table = [0, 1, 7];
    let span = |queries| SequenceSpan { blocks: &table, window_blocks: &[], first_position: 0, queries };
    let angles = vec![0.0; 48 * 4];
    let place = |placement: &mut _, tokens: &[u32], queries| {
        let step = CudaStep {
            tokens,
            spans: &[span(queries)],
            block_tokens: 16,
            blocks: (3, 0),
            cosines: &angles[..queries * 4],
            sines: &angles[..queries * 4],
            vocabulary: 10,
        };
        cuda.place(placement, &step)
    };
    place(&mut placement, &[9; 32], 32).unwrap();
    for (tokens, queries) in [(vec![10; 2], 2), (vec![1; 3], 2), (vec![1; 40], 40), (vec![1; 49], 49)] {
        assert!(place(&mut placement, &tokens, queries.min(48)).is_err(), "{queries} queries");
    }
    let different = [matrix(WeightFormat::Bf16, 2, 32, 1), matrix(WeightFormat::Bf16, 3, 32, 1)];
    assert!(cuda.matrix(&cpu, &[&different[0], &different[1]]).is_err());
    assert!(cuda.matrix(&cpu, &[]).is_err());
}
