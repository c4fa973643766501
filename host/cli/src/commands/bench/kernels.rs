//! How near the kernels come to what the machine can do.
//!
//! The limits (bytes read from memory, arithmetic in registers) are measured first, in the same run. Decode is judged by
//! the bytes of the weights over the read bandwidth, prefill by its operations over the peak of the arithmetic that it
//! uses: tiles of bf16 where the processor has AMX; without it, bytes where the weights are packed and it has VNNI, f32
//! otherwise. A share above 100 % of the bandwidth means that the weights, which are SmolLM2's whole network there, lie
//! in a cache.

use std::hint::black_box;
use std::io::{Write, stdout};
use std::time::Instant;

use anyhow::Result;
use espalier_kernels::{
    AttentionShape, Bytes, CacheFormat, CacheLayer, CacheSize, Cpu, KeyValueStore, Matrix, Precision,
    Product, Roof, SequenceSpan, WeightFormat, quantize,
};
use serde::Serialize;

/// Options of `bench kernels`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Threads of the kernels; 0 takes every core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const FORMATS: [WeightFormat; 10] = [
    WeightFormat::Mxfp4,
    WeightFormat::Q8_0,
    WeightFormat::Q4_0,
    WeightFormat::Q4_1,
    WeightFormat::Q4K,
    WeightFormat::Q5K,
    WeightFormat::Q6K,
    WeightFormat::Bf16,
    WeightFormat::F16,
    WeightFormat::F32,
];
/// `(rows, columns)` of one layer of SmolLM2-135M; products of one input share a group.
const SMOLLM2: [&[(usize, usize)]; 4] =
    [&[(576, 576), (192, 576), (192, 576)], &[(576, 576)], &[(1536, 576), (1536, 576)], &[(576, 1536)]];
const SMOLLM2_LAYERS: usize = 30;
/// One token's experts in one layer of gpt-oss-20b: gate and up of four, then down of four.
const GPT_OSS: [&[(usize, usize)]; 2] = [&[(2880, 2880); 8], &[(2880, 2880); 4]];
/// Bytes of weights that no cache holds.
const MEMORY_BYTES: usize = 1 << 30;
const PREFILL_ROWS: usize = 512;
const REPETITIONS: usize = 7;
const BLOCK_TOKENS: usize = 32;

/// What was found.
#[derive(Serialize)]
struct Report {
    threads: usize,
    instruction_set: String,
    read_gigabytes_per_second: f64,
    float_gigaflops: f64,
    byte_gigaflops: Option<f64>,
    tile_gigaflops: Option<f64>,
    products: Vec<Products>,
    attention: Vec<Attention>,
}

/// The products of one format at one model's shapes.
#[derive(Serialize)]
struct Products {
    format: &'static str,
    shapes: &'static str,
    /// Of prefill.
    arithmetic: &'static str,
    weight_megabytes: f64,
    decode_milliseconds: f64,
    /// Of the read bandwidth.
    decode_share: f64,
    prefill_gigaflops: f64,
    /// Of the peak of the arithmetic.
    prefill_share: f64,
}

/// Attention of SmolLM2's heads.
#[derive(Serialize)]
struct Attention {
    format: &'static str,
    keys: usize,
    queries: usize,
    microseconds: f64,
    gigaflops: f64,
    /// Of the peak of f32.
    share: f64,
}

/// Runs `bench kernels`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let cpu = Cpu::new(args.threads)?;
    let roof = cpu.roof();
    let mut products = Vec::new();
    for format in FORMATS {
        products.push(measure(&cpu, roof, format, "SmolLM2", &SMOLLM2, |network| {
            network.layers == SMOLLM2_LAYERS
        })?);
        products.push(measure(&cpu, roof, format, "gpt-oss-20b", &GPT_OSS, |network| {
            network.bytes() >= MEMORY_BYTES
        })?);
    }
    let mut attention = Vec::new();
    for (keys, queries) in [(512, 1), (2048, 1), (512, 512)] {
        for format in CacheFormat::ALL {
            attention.push(attend(&cpu, roof, format, keys, queries)?);
        }
    }
    let report = Report {
        threads: cpu.threads(),
        instruction_set: cpu.instruction_set().to_string(),
        read_gigabytes_per_second: roof.read_bytes / 1e9,
        float_gigaflops: roof.float_operations / 1e9,
        byte_gigaflops: roof.byte_operations.map(|operations| operations / 1e9),
        tile_gigaflops: roof.tile_operations.map(|operations| operations / 1e9),
        products,
        attention,
    };
    print(&report, args.json)
}

/// Seconds of the fastest run, after one that warms up: other processes only ever take away.
fn fastest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for repetition in 0..=REPETITIONS {
        let begin = Instant::now();
        run()?;
        if repetition > 0 {
            best = best.min(begin.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

/// Matrices of one format, in groups that share their input.
struct Network {
    groups: Vec<Vec<Matrix>>,
    layers: usize,
}

impl Network {
    fn bytes(&self) -> usize {
        self.groups.iter().flatten().map(Matrix::byte_len).sum()
    }

    fn values(&self) -> usize {
        self.groups.iter().flatten().map(|matrix| matrix.rows() * matrix.columns()).sum()
    }

    fn add_layer(&mut self, format: WeightFormat, layer: &[&[(usize, usize)]]) -> Result<()> {
        for group in layer {
            // Formats of larger blocks need wider rows; a model of that width would have them.
            let width = |columns: usize| columns.next_multiple_of(format.block_values());
            let matrices = group.iter().map(|(rows, columns)| weights(format, *rows, width(*columns)));
            self.groups.push(matrices.collect::<Result<_>>()?);
        }
        self.layers += 1;
        Ok(())
    }

    /// Seconds of every product with `rows` rows of activations, as a pass that may round them does it.
    fn seconds(&self, cpu: &Cpu, rows: usize) -> Result<f64> {
        let matrices = || self.groups.iter().flatten();
        let widest = matrices().map(Matrix::columns).max().unwrap_or_default();
        let tallest = matrices().map(Matrix::rows).max().unwrap_or_default();
        let most = self.groups.iter().map(Vec::len).max().unwrap_or_default();
        let (values, mut outputs) = (vec![0.25; rows * widest], vec![vec![0.0; rows * tallest]; most]);
        fastest(|| {
            for group in &self.groups {
                let columns = group.first().map_or(1, Matrix::columns);
                let input = cpu.activations(&values[..rows * columns], columns, Precision::Fast)?;
                let products = group.iter().zip(&mut outputs).map(|(weights, output)| {
                    let output = &mut output[..rows * weights.rows()];
                    // One row is of a text that goes on, several are of a long one.
                    let alone = usize::from(rows == 1);
                    Product { weights, input: &input, rows: 0..rows, alone, output }
                });
                cpu.multiply(&mut products.collect::<Vec<_>>())?;
            }
            black_box(&outputs);
            Ok(())
        })
    }
}

fn weights(format: WeightFormat, rows: usize, columns: usize) -> Result<Matrix> {
    let mut row = Vec::new();
    let values: Vec<f32> = (0..columns).map(|column| (column % 17) as f32 / 16.0 - 0.5).collect();
    if quantize(format, &values, &mut row).is_err() {
        // A pattern whose scales are ordinary halves.
        row = vec![0x24; format.row_bytes(columns)?];
    }
    Ok(Matrix::new(format, rows, columns, Bytes::from_vec(row.repeat(rows)))?)
}

fn measure(
    cpu: &Cpu,
    roof: Roof,
    format: WeightFormat,
    shapes: &'static str,
    layer: &[&[(usize, usize)]],
    is_enough: impl Fn(&Network) -> bool,
) -> Result<Products> {
    let mut network = Network { groups: Vec::new(), layers: 0 };
    while !is_enough(&network) {
        network.add_layer(format, layer)?;
    }
    let decode = network.seconds(cpu, 1)?;
    // Prefill does not depend on where the weights come from; a few layers are enough.
    let part = Network { groups: network.groups.iter().take(8).cloned().collect(), layers: 0 };
    let prefill = part.seconds(cpu, PREFILL_ROWS)?;
    let operations = 2.0 * (PREFILL_ROWS * part.values()) as f64 / prefill;
    let is_plain = matches!(format, WeightFormat::Bf16 | WeightFormat::F16 | WeightFormat::F32);
    let (arithmetic, peak) = match (roof.tile_operations, roof.byte_operations.filter(|_| !is_plain)) {
        (Some(peak), _) => ("bf16", peak),
        (None, Some(peak)) => ("bytes", peak),
        (None, None) => ("f32", roof.float_operations),
    };
    Ok(Products {
        format: format.name(),
        shapes,
        arithmetic,
        weight_megabytes: network.bytes() as f64 / 1e6,
        decode_milliseconds: decode * 1e3,
        decode_share: network.bytes() as f64 / decode / roof.read_bytes,
        prefill_gigaflops: operations / 1e9,
        prefill_share: operations / peak,
    })
}

fn attend(cpu: &Cpu, roof: Roof, format: CacheFormat, keys: usize, queries: usize) -> Result<Attention> {
    let (heads, kv_heads, head_dim) = (9, 3, 64);
    let blocks: Vec<u32> = (0..keys.div_ceil(BLOCK_TOKENS) as u32).collect();
    let size = CacheSize { blocks: blocks.len(), window_blocks: 0, block_tokens: BLOCK_TOKENS, format };
    let mut store = KeyValueStore::new(&[CacheLayer { kv_heads, head_dim, windowed: false }], size)?;
    let row: Vec<f32> =
        (0..BLOCK_TOKENS * kv_heads * head_dim).map(|index| (index % 29) as f32 / 28.0 - 0.5).collect();
    for block in &blocks {
        store.write(0, *block, 0, &row, &row)?;
    }
    let shape = AttentionShape { heads, kv_heads, head_dim, scale: 0.125, sliding_window: None, sinks: None };
    let input = vec![0.1; queries * heads * head_dim];
    let mut output = vec![0.0; input.len()];
    let span = SequenceSpan { blocks: &blocks, window_blocks: &[], first_position: keys - queries, queries };
    let seconds = fastest(|| Ok(cpu.attention(&shape, &input, &[span], &store, 0, &mut output)?))?;
    // Two products of head_dim multiply-adds for each head, query and key that it sees.
    let seen: usize = (0..queries).map(|query| keys - query).sum();
    let rate = (seen * heads * head_dim * 4) as f64 / seconds;
    Ok(Attention {
        format: format.name(),
        keys,
        queries,
        microseconds: seconds * 1e6,
        gigaflops: rate / 1e9,
        share: rate / roof.float_operations,
    })
}

/// Prints JSON or Markdown.
fn print(report: &Report, json: bool) -> Result<()> {
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        return Ok(writeln!(out)?);
    }
    let more = |peak: Option<f64>, what: &str| {
        peak.map_or_else(String::new, |peak| format!(", {peak:.0} in {what}"))
    };
    let (bytes, tiles) = (more(report.byte_gigaflops, "bytes"), more(report.tile_gigaflops, "tiles of bf16"));
    writeln!(
        out,
        "{} threads, {}: {:.1} GB/s read, {:.0} GFLOP/s in f32{bytes}{tiles}. Best of {REPETITIONS} runs each.\n",
        report.threads, report.instruction_set, report.read_gigabytes_per_second, report.float_gigaflops,
    )?;
    writeln!(
        out,
        "| weights | shapes | MB | decode | of bandwidth | prefill ({PREFILL_ROWS}) in | rate | of peak |"
    )?;
    writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for row in &report.products {
        let Products { format, shapes, arithmetic, weight_megabytes, decode_milliseconds, .. } = row;
        writeln!(
            out,
            "| {format} | {shapes} | {weight_megabytes:.0} | {decode_milliseconds:.2} ms | {:.0} % | {arithmetic} | {:.0} GFLOP/s | {:.0} % |",
            row.decode_share * 100.0,
            row.prefill_gigaflops,
            row.prefill_share * 100.0,
        )?;
    }
    writeln!(
        out,
        "\n| cache | keys | queries | attention | rate | of peak |\n| --- | --- | --- | --- | --- | --- |"
    )?;
    for Attention { format, keys, queries, microseconds, gigaflops, share } in &report.attention {
        let percent = share * 100.0;
        writeln!(
            out,
            "| {format} | {keys} | {queries} | {microseconds:.0} µs | {gigaflops:.0} GFLOP/s | {percent:.0} % |"
        )?;
    }
    Ok(())
}
