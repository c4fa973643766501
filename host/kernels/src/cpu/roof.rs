//! What the machine can do at most: bytes read from memory and arithmetic in registers, measured on the pool's threads.
//!
//! Kernels are judged by their share of these. Each limit is the fastest of several runs, since other processes and
//! virtual machines on the same processor only ever take away.

use std::hint::black_box;
use std::time::Instant;

use super::instruction_set::{InstructionSet, versions};
use super::lanes::{self, LANES, Lanes};
use super::{Cpu, scatter::Scatter};
use crate::arena::Arena;

/// Limits of a [`Cpu`], all threads together.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Roof {
    /// Bytes read in a second from more memory than the caches hold.
    pub read_bytes: f64,
    /// f32 operations in a second; a fused multiply-add counts as two.
    pub float_operations: f64,
    /// The same for products of bytes that are summed in 32 bits, where an instruction does that (VNNI).
    pub byte_operations: Option<f64>,
    /// The same for products of tiles of bf16 that are summed in f32, where there are tiles (AMX).
    pub tile_operations: Option<f64>,
}

/// Bytes that are read for the bandwidth, in huge pages where weights are.
const READ_BYTES: usize = 1 << 30;
/// Bytes in one piece of work.
const PIECE_BYTES: usize = 1 << 18;
/// Steps of a measurement of arithmetic, about a millisecond.
const ROUNDS: usize = 200_000;
const REPETITIONS: usize = 7;
/// Words that are added side by side.
const WORDS: usize = 64;
/// Independent chains that hide the latency of a multiply-add; as many wide sums as half of the registers hold.
const CHAINS: usize = 16;
/// Registers are fewer without AVX-512, and a sum of [`LANES`] takes two or more of them.
const NARROW_CHAINS: usize = 6;

versions! {
    fn add_words(words: &[[u64; WORDS]], sums: &mut [u64; WORDS]) = add;
}

impl Cpu {
    /// Measures the limits. Takes 1 GiB of memory and about a second.
    pub fn roof(&self) -> Roof {
        Roof {
            read_bytes: self.read_bytes(),
            float_operations: self.float_operations(),
            byte_operations: self.byte_operations(),
            tile_operations: self.tile_operations(),
        }
    }

    /// Operations in a second when each thread calls `work` once, which does `each` of them in every round.
    fn operations(&self, each: usize, work: &(dyn Fn() + Sync)) -> f64 {
        let threads = self.threads();
        let seconds = fastest(|| self.parallel(threads, &|_| work()));
        (threads * ROUNDS * each) as f64 / seconds
    }

    fn read_bytes(&self) -> f64 {
        let memory = Arena::default().bytes(READ_BYTES, |bytes| bytes.fill(1));
        let pieces: Vec<&[u8]> = memory.as_slice().chunks(PIECE_BYTES).collect();
        let mut found = vec![0u64; pieces.len()];
        let set = self.instruction_set();
        let seconds = fastest(|| {
            let found = Scatter::new(&mut found);
            self.parallel(pieces.len(), &|index| {
                let mut sums = [0; WORDS];
                add_words(set, words(pieces.get(index).copied().unwrap_or_default()), &mut sums);
                // SAFETY: each piece has its own element.
                unsafe { found.part(index, 1) }.fill(sums.iter().fold(0, |sum, word| sum ^ word));
            });
        });
        black_box(found);
        READ_BYTES as f64 / seconds
    }

    fn float_operations(&self) -> f64 {
        let set = self.instruction_set();
        self.operations(2 * LANES * chains(set), &|| {
            black_box(float_chains(set));
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn byte_operations(&self) -> Option<f64> {
        (self.instruction_set() >= InstructionSet::Avx512Vnni).then(|| {
            self.operations(2 * 64 * CHAINS, &|| {
                // SAFETY: VNNI was detected.
                unsafe { byte_chains() };
            })
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn tile_operations(&self) -> Option<f64> {
        use super::amx::{PEAK_OPERATIONS, peak_rounds};
        let tiles = self.instruction_set() >= InstructionSet::Amx;
        tiles.then(|| self.operations(PEAK_OPERATIONS, &|| peak_rounds(ROUNDS)))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn byte_operations(&self) -> Option<f64> {
        None
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn tile_operations(&self) -> Option<f64> {
        None
    }
}

/// Seconds of the fastest run.
fn fastest(mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// The words of memory that starts on a cache line.
fn words(bytes: &[u8]) -> &[[u64; WORDS]] {
    // SAFETY: every pattern of bits is a number.
    unsafe { bytes.align_to() }.1
}

#[inline(always)]
fn add(words: &[[u64; WORDS]], sums: &mut [u64; WORDS]) {
    for words in words {
        sums.iter_mut().zip(words).for_each(|(sum, word)| *sum ^= word);
    }
}

/// How many chains [`float_chains`] runs.
fn chains(set: InstructionSet) -> usize {
    if set >= InstructionSet::Avx512 { CHAINS } else { NARROW_CHAINS }
}

/// The sum of chains of fused multiply-adds, side by side. By hand, because the compiler keeps no array of so many sums in
/// registers.
fn float_chains(set: InstructionSet) -> Lanes {
    let (factor, term) = (black_box(0.5), black_box(1.0));
    match set {
        // SAFETY: an `InstructionSet` above `Portable` only comes from detection on this machine.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 | InstructionSet::Avx512Vnni | InstructionSet::Amx => unsafe {
            chains_avx512(factor, term)
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { chains_avx2(factor, term) },
        _ => {
            let mut sums = [[0.0; LANES]; NARROW_CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = lanes::multiply_add(sum, &[factor; LANES], &[term; LANES]);
                }
            }
            sums.iter().fold([0.0; LANES], |total, sum| lanes::add(&total, sum))
        }
    }
}

/// # Safety
/// The processor has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn chains_avx512(factor: f32, term: f32) -> Lanes {
    use std::arch::x86_64::*;
    let (factor, term) = (_mm512_set1_ps(factor), _mm512_set1_ps(term));
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, term);
        }
    }
    let total = sums.iter().fold(_mm512_setzero_ps(), |total, sum| _mm512_add_ps(total, *sum));
    let mut found = [0.0; LANES];
    // SAFETY: the array has the register's size.
    unsafe { _mm512_storeu_ps(found.as_mut_ptr(), total) };
    found
}

/// # Safety
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn chains_avx2(factor: f32, term: f32) -> Lanes {
    use std::arch::x86_64::*;
    let (factor, term) = (_mm256_set1_ps(factor), _mm256_set1_ps(term));
    let mut sums = [[_mm256_setzero_ps(); 2]; NARROW_CHAINS];
    for _ in 0..ROUNDS {
        for sum in sums.as_flattened_mut() {
            *sum = _mm256_fmadd_ps(*sum, factor, term);
        }
    }
    let mut found = [0.0; LANES];
    for (half, found) in found.chunks_exact_mut(LANES / 2).enumerate() {
        let total = sums.iter().fold(_mm256_setzero_ps(), |total, sum| _mm256_add_ps(total, sum[half]));
        // SAFETY: half of the array has the register's size.
        unsafe { _mm256_storeu_ps(found.as_mut_ptr(), total) };
    }
    found
}

/// Chains of products of bytes, summed by fours.
///
/// # Safety
/// The processor has AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn byte_chains() {
    use std::arch::x86_64::*;
    let (a, b) = (black_box(_mm512_set1_epi8(1)), black_box(_mm512_set1_epi8(3)));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    black_box(sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_add_up() {
        // x = x / 2 + 1 tends to 2.
        for set in [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512] {
            let set = set.min(InstructionSet::detect());
            assert_eq!(float_chains(set), [2.0 * chains(set) as f32; LANES]);
        }
    }
}
