//! Products against sums in f64, and their independence of batch, threads and instruction set.

use espalier_kernels::{
    Bytes, Cpu, InstructionSet, Matrix, Precision, Product, SplitMxfp4, WeightFormat, join_mxfp4,
};

use crate::{half_offsets, noise, random_blocks};

fn devices() -> Vec<Cpu> {
    [
        (1, InstructionSet::Portable),
        (3, InstructionSet::Avx2),
        (2, InstructionSet::Avx512),
        (2, InstructionSet::Avx512Vnni),
    ]
    .map(|(threads, set)| Cpu::with_instruction_set(threads, set).unwrap())
    .to_vec()
}

fn matrix(format: WeightFormat, rows: usize, columns: usize, seed: u64) -> Matrix {
    let bytes = (0..rows).flat_map(|row| random_blocks(format, columns, seed + row as u64)).collect();
    Matrix::new(format, rows, columns, Bytes::from_vec(bytes)).unwrap()
}

fn product(cpu: &Cpu, weights: &Matrix, input: &[f32], precision: Precision) -> Vec<f32> {
    let mut output = vec![f32::NAN; input.len() / weights.columns() * weights.rows()];
    let input = cpu.activations(input, weights.columns(), precision).unwrap();
    cpu.matmul(weights, &input, &mut output).unwrap();
    output
}

/// The same as rows of a long text.
fn long_product(cpu: &Cpu, weights: &Matrix, input: &[f32], precision: Precision) -> Vec<f32> {
    let mut output = vec![f32::NAN; input.len() / weights.columns() * weights.rows()];
    let input = cpu.activations(input, weights.columns(), precision).unwrap();
    let product = Product { weights, input: &input, rows: 0..input.rows(), alone: 0, output: &mut output };
    cpu.multiply(&mut [product]).unwrap();
    output
}

/// The exact product and, for the tolerance, the sum of magnitudes.
fn reference(weights: &Matrix, input: &[f32]) -> Vec<(f64, f64)> {
    let values = weights.dequantize();
    let mut out = Vec::new();
    for row in input.chunks_exact(weights.columns()) {
        for weights in values.chunks_exact(weights.columns()) {
            let terms = row.iter().zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b));
            out.push(terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs())));
        }
    }
    out
}

fn shapes(format: WeightFormat) -> Vec<(usize, usize)> {
    let block = format.block_values();
    let mut shapes = vec![(1, block), (7, 3 * block.max(32)), (37, 1280), (64, 768)];
    if block == 1 {
        shapes.extend([(5, 1), (9, 31), (12, 513)]);
    }
    shapes
}

#[test]
fn every_format_multiplies_exactly() {
    for format in WeightFormat::ALL {
        for (rows, columns) in shapes(format) {
            let weights = matrix(format, rows, columns, 5);
            for n in [1, 2, 3, 4, 5, 9] {
                let input = noise(n * columns, 11);
                let expected = reference(&weights, &input);
                for cpu in devices() {
                    for (found, (sum, size)) in
                        product(&cpu, &weights, &input, Precision::Exact).iter().zip(&expected)
                    {
                        let difference = (f64::from(*found) - sum).abs();
                        assert!(
                            difference <= size * 1e-6,
                            "{format} {rows}x{columns}, {n} rows: {found}, {sum}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn exact_results_do_not_depend_on_batch_threads_or_instructions() {
    for format in WeightFormat::ALL {
        let weights = matrix(format, 45, 1536, 3);
        let input = noise(13 * 1536, 7);
        let alone: Vec<f32> = input
            .chunks_exact(1536)
            .flat_map(|row| {
                product(
                    &Cpu::with_instruction_set(1, InstructionSet::Portable).unwrap(),
                    &weights,
                    row,
                    Precision::Exact,
                )
            })
            .collect();
        for cpu in devices() {
            for n in [1, 2, 3, 4, 5, 8, 13] {
                let rows = &input[..n * 1536];
                assert_eq!(
                    product(&cpu, &weights, rows, Precision::Exact),
                    alone[..n * 45],
                    "{format} {cpu:?} {n}"
                );
            }
        }
    }
}

#[test]
fn fast_results_are_near_and_do_not_depend_on_batch_threads_or_instructions() {
    for format in WeightFormat::ALL {
        for (rows, columns) in [(45, 1280), (16, 256), (1, 512), (33, 768)] {
            let weights = matrix(format, rows, columns, 3);
            devices()[0].pack(&weights);
            let packable = format.block_values() > 1;
            assert_eq!(weights.packed_bytes() > 0, packable);
            let input = noise(19 * columns, 7);
            let expected = reference(&weights, &input);
            for (precision, tolerance) in [(Precision::Fast, 4e-3), (Precision::Wide, 2e-5)] {
                let alone: Vec<f32> = input
                    .chunks_exact(columns)
                    .flat_map(|row| product(&devices()[0], &weights, row, precision))
                    .collect();
                for (found, (sum, size)) in alone.iter().zip(&expected) {
                    let difference = (f64::from(*found) - sum).abs();
                    assert!(difference <= size * tolerance, "{format}: {found} instead of {sum} of {size}");
                }
                for cpu in devices() {
                    for n in [1, 2, 3, 7, 8, 9, 19] {
                        let found = product(&cpu, &weights, &input[..n * columns], precision);
                        assert_eq!(found, alone[..n * rows], "{format} {cpu:?} {n} {precision:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn tiles_are_near_and_do_not_depend_on_other_rows_or_threads() {
    let cpu = Cpu::new(2).unwrap();
    if cpu.instruction_set() < InstructionSet::Amx {
        return;
    }
    for format in WeightFormat::ALL {
        for (rows, columns) in [(45, 1280), (16, 256), (1, 512), (150, 768)] {
            let weights = matrix(format, rows, columns, 3);
            let input = noise(600 * columns, 7);
            let expected = reference(&weights, &input[..70 * columns]);
            for (precision, tolerance) in [(Precision::Fast, 4e-3), (Precision::Wide, 2e-5)] {
                let whole = long_product(&cpu, &weights, &input, precision);
                for (found, (sum, size)) in whole.iter().zip(&expected) {
                    let difference = (f64::from(*found) - sum).abs();
                    assert!(difference <= size * tolerance, "{format}: {found} instead of {sum} of {size}");
                }
                let alone = Cpu::new(1).unwrap();
                for n in [1, 2, 15, 17, 33, 70] {
                    let found = long_product(&alone, &weights, &input[..n * columns], precision);
                    assert_eq!(found, whole[..n * rows], "{format} {n} {precision:?}");
                }
                let activations = cpu.activations(&input, columns, precision).unwrap();
                let mut output = vec![f32::NAN; 21 * rows];
                let product = Product {
                    weights: &weights,
                    input: &activations,
                    rows: 579..600,
                    alone: 0,
                    output: &mut output,
                };
                cpu.multiply(&mut [product]).unwrap();
                assert_eq!(output, whole[579 * rows..], "{format} {precision:?}");
            }
        }
    }
}

#[test]
fn the_extremes_of_codes_do_not_overflow() {
    // Largest codes against largest activations of one sign: what 16-bit sums would lose first.
    for format in WeightFormat::ALL.into_iter().filter(|format| format.block_values() > 1) {
        for byte in [0x77, 0xff, 0x80, 0x7f] {
            let columns = format.block_values().max(64);
            let mut bytes = vec![byte; format.row_bytes(columns).unwrap()];
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                for offset in half_offsets(format) {
                    // 2^-4
                    block[*offset..offset + 2].copy_from_slice(&[0, 0x2c]);
                }
                if format == WeightFormat::Mxfp4 {
                    block[0] = 123;
                }
            }
            let weights = Matrix::new(format, 1, columns, Bytes::from_vec(bytes)).unwrap();
            let input = vec![1.0; columns];
            let (expected, size) = reference(&weights, &input)[0];
            for cpu in devices() {
                for precision in [Precision::Fast, Precision::Wide] {
                    let found = product(&cpu, &weights, &input, precision)[0];
                    assert!(
                        (f64::from(found) - expected).abs() <= size * 1e-6,
                        "{format} {byte:#x} {cpu:?} {precision:?}: {found}, {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn several_products_share_one_input() {
    let (first, second) = (matrix(WeightFormat::Q4_1, 96, 64, 1), matrix(WeightFormat::F32, 33, 64, 2));
    let input = noise(3 * 64, 9);
    let cpu = Cpu::new(2).unwrap();
    let (mut a, mut b) = (vec![0.0; 3 * 96], vec![0.0; 3 * 33]);
    let activations = cpu.activations(&input, 64, Precision::Exact).unwrap();
    let one = Product { weights: &first, input: &activations, rows: 0..3, alone: 0, output: &mut a };
    let other = Product { weights: &second, input: &activations, rows: 0..3, alone: 0, output: &mut b };
    cpu.multiply(&mut [one, other]).unwrap();
    assert_eq!(a, product(&cpu, &first, &input, Precision::Exact));
    assert_eq!(b, product(&cpu, &second, &input, Precision::Exact));
}

#[test]
fn unaligned_weights_multiply_too() {
    let values = noise(8 * 48, 3);
    let mut bytes = vec![0];
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let shifted = Bytes::from_vec(bytes).slice(1..1 + values.len() * 4).unwrap();
    let weights = Matrix::new(WeightFormat::F32, 8, 48, shifted).unwrap();
    let input = noise(6 * 48, 4);
    let cpu = Cpu::new(2).unwrap();
    let aligned = Matrix::from_f32(8, 48, &values).unwrap();
    assert_eq!(
        product(&cpu, &weights, &input, Precision::Exact),
        product(&cpu, &aligned, &input, Precision::Exact)
    );
}

#[test]
fn shapes_that_disagree_are_refused() {
    let cpu = Cpu::new(1).unwrap();
    let weights = matrix(WeightFormat::F32, 4, 8, 0);
    assert!(cpu.activations(&[0.0; 9], 8, Precision::Exact).is_err());
    assert!(cpu.activations(&[], 0, Precision::Exact).is_err());
    let input = [0.0; 16];
    let activations = cpu.activations(&input, 8, Precision::Exact).unwrap();
    assert!(cpu.matmul(&weights, &activations, &mut [0.0; 7]).is_err());
    assert!(cpu.matmul(&matrix(WeightFormat::F32, 4, 9, 0), &activations, &mut [0.0; 8]).is_err());
    let none = cpu.activations(&[], 8, Precision::Exact).unwrap();
    cpu.matmul(&weights, &none, &mut []).unwrap();
}

#[test]
fn products_take_rows_of_their_input() {
    let (weights, input) = (matrix(WeightFormat::Mxfp4, 50, 96, 1), noise(20 * 96, 9));
    let cpu = Cpu::new(2).unwrap();
    for precision in [Precision::Exact, Precision::Wide, Precision::Fast] {
        let activations = cpu.activations(&input, 96, precision).unwrap();
        let (short, long) =
            (product(&cpu, &weights, &input, precision), long_product(&cpu, &weights, &input, precision));
        for rows in [0..0, 0..20, 3..4, 5..8, 7..20] {
            let mut output = vec![f32::NAN; rows.len() * 50];
            let border = rows.end.min(rows.start + 2) * 50;
            let expected = [&short[rows.start * 50..border], &long[border..rows.end * 50]].concat();
            let product =
                Product { weights: &weights, input: &activations, rows, alone: 2, output: &mut output };
            cpu.multiply(&mut [product]).unwrap();
            assert_eq!(output, expected, "{precision:?}");
        }
        let mut output = [0.0; 50];
        let product =
            Product { weights: &weights, input: &activations, rows: 20..21, alone: 0, output: &mut output };
        assert!(cpu.multiply(&mut [product]).is_err());
    }
}

#[test]
fn split_mxfp4_multiplies_as_joined_mxfp4_does() {
    let (rows, columns) = (37, 160);
    let blocks: Vec<u8> = (0..2 * rows * columns / 2).map(|i| (i * 73 + i / 7) as u8).collect();
    let scales: Vec<u8> = (0..2 * rows * columns / 32).map(|i| 121 + (i % 7) as u8).collect();
    let input = noise(9 * columns, 4);
    let cpu = Cpu::new(2).unwrap();
    for first in [0, 1] {
        let split = SplitMxfp4::new(
            Bytes::from_vec(blocks.clone()),
            Bytes::from_vec(scales.clone()),
            columns,
            first,
            2,
        );
        let split = Matrix::from_split_mxfp4(split.unwrap()).unwrap();
        let mut joined = Vec::new();
        for row in (first..2 * rows).step_by(2) {
            let (block, scale) = (columns / 2, columns / 32);
            join_mxfp4(
                &blocks[row * block..(row + 1) * block],
                &scales[row * scale..(row + 1) * scale],
                &mut joined,
            );
        }
        let joined = Matrix::new(WeightFormat::Mxfp4, rows, columns, Bytes::from_vec(joined)).unwrap();
        for (count, precision) in
            [(1, Precision::Exact), (3, Precision::Exact), (9, Precision::Exact), (9, Precision::Fast)]
        {
            let input = &input[..count * columns];
            let (found, expected) =
                (product(&cpu, &split, input, precision), product(&cpu, &joined, input, precision));
            assert_eq!(found, expected, "{count} {precision:?}");
        }
    }
}
