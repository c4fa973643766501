//! How near the kernels come to what the machine can do: `cargo run --release -p espalier-kernels --example floors`.
//!
//! Arguments: threads (default 2), formats (default `q4_1,q4_0,q8_0,mxfp4,q4_k,q6_k,f16,bf16,f32`), instruction set
//! (`portable`, `avx2`, `avx512`; default the best). Every figure but the mean is the best of several repetitions, so
//! that a busy machine shows less; compare figures of one run only. The decode floor is bytes over the read bandwidth, the prefill
//! floor operations over the peak of f32 multiply-adds, both measured first.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints its measurements")]

use std::hint::black_box;
use std::time::Instant;

use espalier_kernels::{
    AttentionShape, Bytes, CacheFormat, CacheLayer, CacheSize, Cpu, InstructionSet, KeyValueStore, Matrix,
    Precision, Product, SequenceSpan, WeightFormat, quantize,
};

/// (rows, columns) of one layer of SmolLM2-135M; products of one input share a group.
const LAYER: [&[(usize, usize)]; 4] =
    [&[(576, 576), (192, 576), (192, 576)], &[(576, 576)], &[(1536, 576), (1536, 576)], &[(576, 1536)]];
const LAYERS: usize = 30;

/// Seconds of the fastest of `repetitions` runs.
fn best(repetitions: usize, mut run: impl FnMut()) -> f64 {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..repetitions).map(|_| time(&mut run)).fold(f64::INFINITY, f64::min)
}

/// Mean seconds of as many runs as fit a second: what a caller gets beside other processes.
fn mean(mut run: impl FnMut()) -> f64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < 1.0 {
        run();
        count += 1;
    }
    start.elapsed().as_secs_f64() / f64::from(count)
}

/// Bytes that the pool reads per second from 512 MiB.
fn bandwidth(cpu: &Cpu) -> f64 {
    let words = vec![1u64; 64 << 20];
    let pieces: Vec<&[u64]> = words.chunks(16 << 10).collect();
    let seconds = best(5, || {
        cpu.parallel(pieces.len(), &|piece| {
            let mut sums = [0u64; 16];
            for chunk in pieces[piece].as_chunks::<16>().0 {
                sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum ^= word);
            }
            black_box(sums);
        });
    });
    (words.len() * 8) as f64 / seconds
}

/// Multiply-adds per second (counted as two operations) of the product kernel on data in the first-level cache.
fn peak(cpu: &Cpu) -> f64 {
    let (rows, columns, n) = (8, 512, 4);
    let weights = Matrix::from_f32(rows, columns, &vec![1.0; rows * columns]).unwrap();
    let input = vec![1.0; n * columns];
    let alone = Cpu::with_instruction_set(1, cpu.instruction_set()).unwrap();
    let rounds = 2000;
    let seconds = best(9, || {
        cpu.parallel(cpu.threads(), &|_| {
            let mut output = vec![0.0; n * rows];
            let input = alone.activations(&input, columns, Precision::Exact).unwrap();
            for _ in 0..rounds {
                alone.matmul(&weights, &input, &mut output).unwrap();
            }
            black_box(output);
        });
    });
    (2 * rounds * rows * columns * n * cpu.threads()) as f64 / seconds
}

fn weights(format: WeightFormat, rows: usize, columns: usize) -> Matrix {
    let length = format.row_bytes(columns).unwrap() * rows;
    let mut bytes = Vec::with_capacity(length);
    if quantize(format, &vec![0.5; columns], &mut bytes).is_err() {
        // A pattern whose scales are ordinary halves.
        bytes = vec![0x24; format.row_bytes(columns).unwrap()];
    }
    Matrix::new(format, rows, columns, Bytes::from_vec(bytes.repeat(rows))).unwrap()
}

struct Network {
    groups: Vec<Vec<Matrix>>,
}

impl Network {
    fn new(cpu: &Cpu, format: WeightFormat) -> Self {
        let mut groups = Vec::new();
        for _ in 0..LAYERS {
            for group in LAYER {
                // K-quants need multiples of 256 columns: round up, as a model of that width would have.
                let round = |columns: usize| columns.next_multiple_of(format.block_values().max(64));
                let matrix = |(rows, columns): &(usize, usize)| {
                    let matrix = weights(format, *rows, round(*columns));
                    cpu.pack(&matrix);
                    matrix
                };
                groups.push(group.iter().map(matrix).collect());
            }
        }
        Self { groups }
    }

    fn bytes(&self) -> usize {
        self.groups.iter().flatten().map(|matrix| matrix.byte_len()).sum()
    }

    fn values(&self) -> usize {
        self.groups.iter().flatten().map(|matrix| matrix.rows() * matrix.columns()).sum()
    }

    fn run(&self, cpu: &Cpu, n: usize, precision: Precision) {
        let input = vec![0.25; n * 2048];
        let mut outputs: Vec<Vec<f32>> = (0..3).map(|_| vec![0.0; n * 1536]).collect();
        for group in &self.groups {
            let columns = group[0].columns();
            let activations = cpu.activations(&input[..n * columns], columns, precision).unwrap();
            let mut products: Vec<Product> = group
                .iter()
                .zip(&mut outputs)
                .map(|(weights, output)| {
                    let output = &mut output[..n * weights.rows()];
                    Product { weights, input: &activations, rows: 0..n, output }
                })
                .collect();
            cpu.multiply(&mut products).unwrap();
        }
        black_box(outputs);
    }
}

fn attention(cpu: &Cpu, tokens: usize, queries: usize, format: CacheFormat) -> f64 {
    let (heads, kv_heads, head_dim) = (9, 3, 64);
    let blocks: Vec<u32> = (0..tokens.div_ceil(32) as u32).collect();
    let size = CacheSize { blocks: blocks.len(), window_blocks: 0, block_tokens: 32, format };
    let store = KeyValueStore::new(&[CacheLayer { kv_heads, head_dim, windowed: false }], size).unwrap();
    let shape = AttentionShape { heads, kv_heads, head_dim, scale: 0.125, sliding_window: None, sinks: None };
    let input = vec![0.1; queries * heads * head_dim];
    let mut output = vec![0.0; input.len()];
    let span =
        SequenceSpan { blocks: &blocks, window_blocks: &[], first_position: tokens - queries, queries };
    best(20, || cpu.attention(&shape, &input, &[span], &store, 0, &mut output).unwrap())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument =
        |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.into());
    let threads = argument(0, "2").parse().unwrap();
    let formats = argument(1, "q4_1,q4_0,q8_0,mxfp4,q4_k,q6_k,f16,bf16,f32");
    let cpu = match argument(2, "").as_str() {
        "portable" => Cpu::with_instruction_set(threads, InstructionSet::Portable),
        "avx2" => Cpu::with_instruction_set(threads, InstructionSet::Avx2),
        "avx512" => Cpu::with_instruction_set(threads, InstructionSet::Avx512),
        _ => Cpu::new(threads),
    }
    .unwrap();
    let (bandwidth, peak) = (bandwidth(&cpu), peak(&cpu));
    println!("{cpu:?}: reads {:.1} GB/s, multiplies {:.0} GFLOP/s", bandwidth / 1e9, peak / 1e9);
    let dispatch = best(9, || {
        (0..1000).for_each(|_| {
            cpu.parallel(4, &|piece| {
                black_box(piece);
            })
        })
    });
    println!("dispatch of an empty job: {:.2} µs", dispatch * 1e3);
    println!(
        "| format | path | decode ms | mean | GB/s | of floor | 8 rows ms | prefill 256 ms | GFLOP/s | of peak |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut packed = Vec::new();
    for name in formats.split(',') {
        let Some(format) = WeightFormat::parse(name) else { continue };
        let network = Network::new(&cpu, format);
        let unpacked: Vec<Matrix> = network
            .groups
            .iter()
            .flatten()
            .map(|matrix| weights(format, matrix.rows(), matrix.columns()))
            .collect();
        let packing = best(1, || unpacked.iter().for_each(|matrix| cpu.pack(matrix)));
        packed.push(format!("{name} {:.0} ms", packing * 1e3));
        for precision in [Precision::Exact, Precision::Fast] {
            let decode = best(15, || network.run(&cpu, 1, precision));
            let mean_decode = mean(|| network.run(&cpu, 1, precision));
            let eight = best(7, || network.run(&cpu, 8, precision));
            let prefill = best(3, || network.run(&cpu, 256, precision));
            let (rate, flops) =
                (network.bytes() as f64 / decode, 2.0 * 256.0 * network.values() as f64 / prefill);
            println!(
                "| {name} | {precision:?} | {:.2} | {:.2} | {:.1} | {:.0} % | {:.2} | {:.0} | {:.0} | {:.0} % |",
                decode * 1e3,
                mean_decode * 1e3,
                rate / 1e9,
                100.0 * rate / bandwidth,
                eight * 1e3,
                prefill * 1e3,
                flops / 1e9,
                100.0 * flops / peak
            );
        }
    }
    println!("packing: {}", packed.join(", "));
    for (tokens, queries) in [(512, 1), (4096, 1), (512, 512)] {
        for format in CacheFormat::ALL {
            let seconds = attention(&cpu, tokens, queries, format);
            let keys = (0..queries).map(|query| tokens - query).sum::<usize>();
            let operations = (keys * 9 * 64 * 4) as f64;
            let bytes = format.bytes(tokens * 3 * 64 * 2) as f64;
            println!(
                "attention, {format}, {tokens} keys, {queries} queries: {:.0} µs, {:.1} GFLOP/s, {:.1} GB/s of cache",
                seconds * 1e6,
                operations / seconds / 1e9,
                bytes / seconds / 1e9
            );
        }
    }
}
