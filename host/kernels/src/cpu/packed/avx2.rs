//! The packed product with AVX2: the 16 rows in two halves of eight, one after the other.
//!
//! `vpmaddubsw` multiplies unsigned codes by signed activations and adds pairs in 16 bits. Codes of up to 4 bits leave
//! room to add all eight steps of a block before widening; MXFP4's, up to 28 with their offset, to add four. Octets are
//! taken as signed numbers with their sign moved to the activation, since 2 · 255 · 127 would not fit.

use std::arch::x86_64::*;

use super::{BLOCK, Cells, GROUP, Layout, SUPER_SCALE_BYTES};
use crate::dequantize::MXFP4_DOUBLED;

/// Activation rows whose sums stay in registers beside a cell's codes.
const ROWS: usize = 4;

pub(super) fn multiply(cells: &Cells, out: &mut [[f32; GROUP]]) {
    // SAFETY: the caller is on an AVX2 path and has checked the activation rows.
    unsafe {
        match cells.layout {
            Layout::Nibbles => by_rows::<{ Layout::Nibbles as u8 }>(cells, out),
            Layout::NibblesMinimum => by_rows::<{ Layout::NibblesMinimum as u8 }>(cells, out),
            Layout::Octets => by_rows::<{ Layout::Octets as u8 }>(cells, out),
            Layout::Microscaling => by_rows::<{ Layout::Microscaling as u8 }>(cells, out),
            Layout::NibblesSuper => by_rows::<{ Layout::NibblesSuper as u8 }>(cells, out),
        }
    }
}

unsafe fn by_rows<const LAYOUT: u8>(cells: &Cells, out: &mut [[f32; GROUP]]) {
    for (part, out) in out.chunks_mut(ROWS).enumerate() {
        let first = cells.first + part * ROWS;
        for half in 0..2 {
            // SAFETY: passed on from `multiply`; each arm names the length of `out`.
            unsafe {
                match out.len() {
                    4 => tile::<LAYOUT, 4>(cells, first, half, out),
                    3 => tile::<LAYOUT, 3>(cells, first, half, out),
                    2 => tile::<LAYOUT, 2>(cells, first, half, out),
                    _ => tile::<LAYOUT, 1>(cells, first, half, out),
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const LAYOUT: u8, const N: usize>(
    cells: &Cells,
    first: usize,
    half: usize,
    out: &mut [[f32; GROUP]],
) {
    let activations = cells.activations;
    let (columns, blocks) = (activations.columns, activations.columns / BLOCK);
    let codes = activations.codes[first * columns..].as_ptr().cast::<i32>();
    let scales = activations.scales[first * blocks..].as_ptr();
    let scaled_sums = activations.scaled_sums[first * blocks..].as_ptr();
    let negated_sums = activations.negated_sums[first * blocks..].as_ptr();
    debug_assert!(cells.codes.len() >= blocks * cells.layout.code_bytes());
    // SAFETY: `blocks` cells of codes and scales were laid out for this matrix; N activation rows of `columns` codes and
    // `blocks` scales and sums follow `first`; `out` has N elements of 16 values.
    unsafe {
        let mut totals = [_mm256_setzero_ps(); N];
        for block in 0..blocks {
            let cell = cells.codes.as_ptr().add(block * cells.layout.code_bytes() + half * 32);
            let weights = unpack::<LAYOUT>(cell);
            let (scale, minimum) = scale_and_minimum::<LAYOUT>(cells.scales.as_ptr(), block, half);
            for (n, total) in totals.iter_mut().enumerate() {
                let at = n * blocks + block;
                let mut dot = dot::<LAYOUT>(&weights, codes.add((n * columns + block * BLOCK) / 4));
                // Adding −o·Σx turns unsigned codes into signed ones.
                if LAYOUT == Layout::Nibbles as u8 {
                    dot = _mm256_add_epi32(
                        dot,
                        _mm256_slli_epi32::<3>(_mm256_set1_epi32(*negated_sums.add(at))),
                    );
                } else if LAYOUT == Layout::Microscaling as u8 {
                    dot = _mm256_add_epi32(
                        dot,
                        _mm256_slli_epi32::<4>(_mm256_set1_epi32(*negated_sums.add(at))),
                    );
                }
                let factor = _mm256_mul_ps(scale, _mm256_set1_ps(*scales.add(at)));
                *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), factor, *total);
                if LAYOUT == Layout::NibblesMinimum as u8 || LAYOUT == Layout::NibblesSuper as u8 {
                    *total = _mm256_fmadd_ps(minimum, _mm256_set1_ps(*scaled_sums.add(at)), *total);
                }
            }
        }
        for (out, total) in out.iter_mut().zip(totals) {
            _mm256_storeu_ps(out.as_mut_ptr().add(half * 8), total);
        }
    }
}

/// The 8 registers of codes of half a cell; octets come out signed, all others unsigned.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack<const LAYOUT: u8>(cell: *const u8) -> [__m256i; 8] {
    // SAFETY: the caller passes one half (every other 32 bytes) of a whole cell.
    unsafe {
        let load = |index: usize| _mm256_loadu_si256(cell.add(index * 64).cast());
        if LAYOUT == Layout::Octets as u8 {
            let signed = |index: usize| _mm256_xor_si256(load(index), _mm256_set1_epi8(-128));
            return [0, 1, 2, 3, 4, 5, 6, 7].map(signed);
        }
        let mask = _mm256_set1_epi8(15);
        let low = |index: usize| _mm256_and_si256(load(index), mask);
        let high = |index: usize| _mm256_and_si256(_mm256_srli_epi16::<4>(load(index)), mask);
        let nibbles = [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)];
        if LAYOUT != Layout::Microscaling as u8 {
            return nibbles;
        }
        let doubled = _mm_add_epi8(_mm_loadu_si128(MXFP4_DOUBLED.as_ptr().cast()), _mm_set1_epi8(16));
        let table = _mm256_broadcastsi128_si256(doubled);
        nibbles.map(|codes| _mm256_shuffle_epi8(table, codes))
    }
}

/// `Σ code·x` over a block, for eight rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<const LAYOUT: u8>(weights: &[__m256i; 8], activations: *const i32) -> __m256i {
    // SAFETY: the caller passes the 32 codes of a block of activations.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let four = |index: usize| _mm256_set1_epi32(activations.add(index).read_unaligned());
        if LAYOUT == Layout::Octets as u8 {
            let mut total = _mm256_setzero_si256();
            for (index, signed) in weights.iter().enumerate() {
                let moved = _mm256_sign_epi8(four(index), *signed);
                let products = _mm256_maddubs_epi16(_mm256_abs_epi8(*signed), moved);
                total = _mm256_add_epi32(total, _mm256_madd_epi16(products, ones));
            }
            return total;
        }
        let product = |index: usize| _mm256_maddubs_epi16(weights[index], four(index));
        let quad = |index: usize| {
            let first = _mm256_add_epi16(product(index), product(index + 1));
            _mm256_add_epi16(first, _mm256_add_epi16(product(index + 2), product(index + 3)))
        };
        if LAYOUT == Layout::Microscaling as u8 {
            let (first, second) = (_mm256_madd_epi16(quad(0), ones), _mm256_madd_epi16(quad(4), ones));
            return _mm256_add_epi32(first, second);
        }
        _mm256_madd_epi16(_mm256_add_epi16(quad(0), quad(4)), ones)
    }
}

/// As [`super::scale_and_minimum`], for half of the rows; the minimum is meaningful only for layouts that have one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scale_and_minimum<const LAYOUT: u8>(
    scales: *const u8,
    block: usize,
    half: usize,
) -> (__m256, __m256) {
    // SAFETY: the caller passes the scales of a group that has this block.
    unsafe {
        let halves = |offset: usize| _mm256_cvtph_ps(_mm_loadu_si128(scales.add(offset + half * 16).cast()));
        let octets =
            |offset: usize| _mm256_cvtepu8_epi32(_mm_loadl_epi64(scales.add(offset + half * 8).cast()));
        let none = _mm256_setzero_ps();
        if LAYOUT == Layout::Nibbles as u8 || LAYOUT == Layout::Octets as u8 {
            (halves(block * 32), none)
        } else if LAYOUT == Layout::NibblesMinimum as u8 {
            (halves(block * 64), halves(block * 64 + 32))
        } else if LAYOUT == Layout::Microscaling as u8 {
            // 2^(e − 128): subnormal for e < 2.
            let exponents = octets(block * 16);
            let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(exponents, _mm256_set1_epi32(1)));
            let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), exponents);
            let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), exponents);
            (_mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, small)), none)
        } else {
            let start = block / 8 * SUPER_SCALE_BYTES;
            let factors = start + 64 + block % 8 * 32;
            let d = _mm256_mul_ps(halves(start), _mm256_cvtepi32_ps(octets(factors)));
            let m = _mm256_mul_ps(halves(start + 32), _mm256_cvtepi32_ps(octets(factors + 16)));
            (d, _mm256_sub_ps(none, m))
        }
    }
}
