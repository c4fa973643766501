//! What the machine can do at most: bytes read from memory and arithmetic in registers, measured on the pool's threads.
//!
//! Kernels are judged by their share of these. Each limit is the fastest of several runs, since other processes and
//! virtual machines on the same processor only ever take away.

use std::hint::black_box;
use std::time::Instant;

use super::instruction_set::{InstructionSet, versions};
use super::lanes::{self, LANES, Lanes};
use super::{Cpu, scatter::Scatter};

/// Limits of a [`Cpu`], all threads together.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Roof {
    /// Bytes read in a second from more memory than the caches hold.
    pub read_bytes: f64,
    /// f32 operations in a second; a fused multiply-add counts as two.
    pub float_operations: f64,
    /// The same for products of bytes that are summed in 32 bits, where an instruction does that (VNNI).
    pub byte_operations: Option<f64>,
}

/// Words that are read for the bandwidth: 1 GiB.
const WORDS: usize = 1 << 27;
/// Words in one piece of work.
const PIECE_WORDS: usize = 1 << 15;
/// Steps of a measurement of arithmetic, about a millisecond.
const ROUNDS: usize = 200_000;
const REPETITIONS: usize = 7;
/// Independent chains that hide the latency of a multiply-add with 32 wide registers, and with 16 narrow ones.
const WIDE_CHAINS: usize = 16;
const NARROW_CHAINS: usize = 6;

versions! {
    fn float_chains(sums: &mut Lanes) = chains::<NARROW_CHAINS>, chains::<WIDE_CHAINS>;
}

impl Cpu {
    /// Measures the limits. Takes 1 GiB of memory and about a second.
    pub fn roof(&self) -> Roof {
        let chains =
            if self.instruction_set() >= InstructionSet::Avx512 { WIDE_CHAINS } else { NARROW_CHAINS };
        let set = self.instruction_set();
        let floats = self.operations(2 * LANES * chains, &|| {
            let mut sums = [0.0; LANES];
            float_chains(set, &mut sums);
            black_box(sums);
        });
        Roof {
            read_bytes: self.read_bytes(),
            float_operations: floats,
            byte_operations: self.byte_operations(),
        }
    }

    /// Operations in a second when each thread calls `work` once, which does `each` of them in every round.
    fn operations(&self, each: usize, work: &(dyn Fn() + Sync)) -> f64 {
        let threads = self.threads();
        let seconds = fastest(|| self.parallel(threads, &|_| work()));
        (threads * ROUNDS * each) as f64 / seconds
    }

    fn read_bytes(&self) -> f64 {
        let words = vec![1u64; WORDS];
        let pieces: Vec<&[u64]> = words.chunks(PIECE_WORDS).collect();
        let mut found = vec![0u64; pieces.len()];
        let seconds = fastest(|| {
            let found = Scatter::new(&mut found);
            self.parallel(pieces.len(), &|index| {
                let mut sums = [0u64; LANES];
                for chunk in pieces.get(index).copied().unwrap_or_default().as_chunks::<LANES>().0 {
                    sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum ^= word);
                }
                // SAFETY: each piece has its own element.
                unsafe { found.part(index, 1) }.fill(sums.iter().sum());
            });
        });
        black_box(found);
        size_of_val(words.as_slice()) as f64 / seconds
    }

    #[cfg(target_arch = "x86_64")]
    fn byte_operations(&self) -> Option<f64> {
        (self.instruction_set() == InstructionSet::Avx512Vnni).then(|| {
            self.operations(2 * 64 * WIDE_CHAINS, &|| {
                // SAFETY: VNNI was detected.
                unsafe { byte_chains() };
            })
        })
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn byte_operations(&self) -> Option<f64> {
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

/// `N` chains of fused multiply-adds, side by side.
#[inline(always)]
fn chains<const N: usize>(out: &mut Lanes) {
    let (factor, term) = (black_box([0.5; LANES]), black_box([1.0; LANES]));
    let mut sums = [[0.0; LANES]; N];
    for _ in 0..ROUNDS {
        for sums in &mut sums {
            *sums = lanes::multiply_add(sums, &factor, &term);
        }
    }
    for sums in &sums {
        *out = lanes::add(out, sums);
    }
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
    let mut sums = [_mm512_setzero_si512(); WIDE_CHAINS];
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
            let mut sums = [0.0; LANES];
            float_chains(set, &mut sums);
            let chains = if set >= InstructionSet::Avx512 { WIDE_CHAINS } else { NARROW_CHAINS };
            assert_eq!(sums, [2.0 * chains as f32; LANES]);
        }
    }
}
