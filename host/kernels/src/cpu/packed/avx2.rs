//! The packed product with AVX2: the 16 rows in two registers of eight.
//!
//! `vpmaddubsw` multiplies unsigned codes by signed activations and adds pairs in 16 bits. Codes of up to 4 bits leave
//! room to add all eight steps of a block before widening; MXFP4's, up to 28 with their offset, to add four. Octets are
//! taken as signed numbers with their sign moved to the activation, since 2 · 255 · 127 would not fit.

use std::arch::x86_64::*;

use super::{BLOCK, Cells, GROUP, Layout, scale_and_minimum};
use crate::dequantize::MXFP4_DOUBLED;

pub(super) fn multiply(cells: &Cells, out: &mut [[f32; GROUP]]) {
    // SAFETY: the caller is on an AVX2 path and has checked the activation rows.
    unsafe {
        match cells.layout {
            Layout::Octets => by_rows::<0>(cells, out),
            Layout::Microscaling => by_rows::<1>(cells, out),
            Layout::Nibbles | Layout::NibblesMinimum | Layout::NibblesSuper => by_rows::<2>(cells, out),
        }
    }
}

/// Kinds of codes.
const OCTETS: u8 = 0;
const MICROSCALING: u8 = 1;

unsafe fn by_rows<const KIND: u8>(cells: &Cells, out: &mut [[f32; GROUP]]) {
    for (pair, out) in out.chunks_mut(2).enumerate() {
        // SAFETY: passed on from `multiply`; each arm names the length of `out`.
        unsafe {
            match out.len() {
                2 => tile::<KIND, 2>(cells, cells.first + 2 * pair, out),
                _ => tile::<KIND, 1>(cells, cells.first + 2 * pair, out),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const KIND: u8, const N: usize>(cells: &Cells, first: usize, out: &mut [[f32; GROUP]]) {
    let activations = cells.activations;
    let (columns, blocks) = (activations.columns, activations.columns / BLOCK);
    let codes = activations.codes[first * columns..].as_ptr().cast::<i32>();
    let scales = activations.scales[first * blocks..].as_ptr();
    let scaled_sums = activations.scaled_sums[first * blocks..].as_ptr();
    let negated_sums = activations.negated_sums[first * blocks..].as_ptr();
    let offset_bits = cells.layout.offset_bits();
    debug_assert!(cells.codes.len() >= blocks * cells.layout.code_bytes());
    // SAFETY: `blocks` cells of codes and scales were laid out for this matrix; N activation rows of `columns` codes and
    // `blocks` scales and sums follow `first`; `out` has N elements of 16 values.
    unsafe {
        let mut totals = [[_mm256_setzero_ps(); 2]; N];
        for block in 0..blocks {
            let cell = cells.codes.as_ptr().add(block * cells.layout.code_bytes());
            let (mut scale, mut minimum) = ([0.0f32; GROUP], [0.0f32; GROUP]);
            factors(cells, block, &mut scale, &mut minimum);
            for half in 0..2 {
                let weights = unpack::<KIND>(cell.add(half * 32));
                let scale = _mm256_loadu_ps(scale.as_ptr().add(half * 8));
                let minimum = _mm256_loadu_ps(minimum.as_ptr().add(half * 8));
                for (n, totals) in totals.iter_mut().enumerate() {
                    let at = n * blocks + block;
                    let mut dot = dot::<KIND>(&weights, codes.add((n * columns + block * BLOCK) / 4));
                    if KIND != OCTETS
                        && let Some(bits) = offset_bits
                    {
                        dot = _mm256_add_epi32(dot, _mm256_set1_epi32(*negated_sums.add(at) << bits));
                    }
                    let factor = _mm256_mul_ps(scale, _mm256_set1_ps(*scales.add(at)));
                    totals[half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), factor, totals[half]);
                    if offset_bits.is_none() {
                        let sum = _mm256_set1_ps(*scaled_sums.add(at));
                        totals[half] = _mm256_fmadd_ps(minimum, sum, totals[half]);
                    }
                }
            }
        }
        for (out, totals) in out.iter_mut().zip(totals) {
            _mm256_storeu_ps(out.as_mut_ptr(), totals[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), totals[1]);
        }
    }
}

/// The 8 registers of codes of half a cell.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack<const KIND: u8>(cell: *const u8) -> [__m256i; 8] {
    // SAFETY: the caller passes one half (every other 32 bytes) of a whole cell.
    unsafe {
        let load = |index: usize| _mm256_loadu_si256(cell.add(index * 64).cast());
        if KIND == OCTETS {
            return [load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)];
        }
        let mask = _mm256_set1_epi8(15);
        let low = |index: usize| _mm256_and_si256(load(index), mask);
        let high = |index: usize| _mm256_and_si256(_mm256_srli_epi16::<4>(load(index)), mask);
        let nibbles = [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)];
        if KIND != MICROSCALING {
            return nibbles;
        }
        let doubled = _mm_add_epi8(_mm_loadu_si128(MXFP4_DOUBLED.as_ptr().cast()), _mm_set1_epi8(16));
        let table = _mm256_broadcastsi128_si256(doubled);
        nibbles.map(|codes| _mm256_shuffle_epi8(table, codes))
    }
}

/// `Σ u·x` over a block for eight rows, and for octets `Σ (u − 128)·x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<const KIND: u8>(weights: &[__m256i; 8], activations: *const i32) -> __m256i {
    // SAFETY: the caller passes the 32 codes of a block of activations.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let four = |index: usize| _mm256_set1_epi32(activations.add(index).read_unaligned());
        if KIND == OCTETS {
            let mut total = _mm256_setzero_si256();
            for (index, weights) in weights.iter().enumerate() {
                let signed = _mm256_xor_si256(*weights, _mm256_set1_epi8(-128));
                let moved = _mm256_sign_epi8(four(index), signed);
                let products = _mm256_maddubs_epi16(_mm256_abs_epi8(signed), moved);
                total = _mm256_add_epi32(total, _mm256_madd_epi16(products, ones));
            }
            return total;
        }
        let product = |index: usize| _mm256_maddubs_epi16(weights[index], four(index));
        let quad = |index: usize| {
            let first = _mm256_add_epi16(product(index), product(index + 1));
            _mm256_add_epi16(first, _mm256_add_epi16(product(index + 2), product(index + 3)))
        };
        if KIND == MICROSCALING {
            let (first, second) = (_mm256_madd_epi16(quad(0), ones), _mm256_madd_epi16(quad(4), ones));
            return _mm256_add_epi32(first, second);
        }
        _mm256_madd_epi16(_mm256_add_epi16(quad(0), quad(4)), ones)
    }
}

/// The scales and minima of the 16 rows in a block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn factors(cells: &Cells, block: usize, scale: &mut [f32; GROUP], minimum: &mut [f32; GROUP]) {
    for (row, (scale, minimum)) in scale.iter_mut().zip(minimum).enumerate() {
        (*scale, *minimum) = scale_and_minimum(cells.layout, cells.scales, block, row);
    }
}
