//! The values of a tensor in another format, and how far they moved.

use espalier_kernels::{WeightFormat, dequantize, quantize};

use super::report::SquaredError;
use crate::error::ModelError;

/// Values converted at once: a multiple of every block, and small enough for a core's cache.
const CHUNK: usize = 1 << 15;

/// The values of `bytes`, whole blocks of `from`, in `to`, and the error that this made; `first` is the first one's index
/// in the tensor. All cores take part; beside the result there is memory for a few chunks only.
///
/// # Errors
/// By the tensor's name: a length that isn't whole blocks of `to`, a format that nothing is quantised to, a value beyond
/// f16's 65504, or one in a block that isn't finite.
pub(crate) fn requantize(
    name: &str,
    from: WeightFormat,
    bytes: &[u8],
    to: WeightFormat,
    first: usize,
) -> Result<(Vec<u8>, SquaredError), ModelError> {
    let (from_chunk, to_chunk) = (from.row_bytes(CHUNK)?, to.row_bytes(CHUNK)?);
    let values = bytes.len() / from.block_bytes() * from.block_values();
    let mut out = vec![0; to.row_bytes(values)?];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunks = values.div_ceil(CHUNK).div_ceil(threads).max(1);
    let sums = std::thread::scope(|scope| {
        let mut first = first;
        let mut running = Vec::with_capacity(threads);
        for (source, target) in bytes.chunks(chunks * from_chunk).zip(out.chunks_mut(chunks * to_chunk)) {
            let stripe = Stripe { name, from, to, first };
            running.push(scope.spawn(move || stripe.convert(source, target)));
            first += chunks * CHUNK;
        }
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect::<Result<Vec<SquaredError>, ModelError>>()
    })?;
    Ok((out, sums.into_iter().sum()))
}

/// What one thread converts.
#[derive(Clone, Copy)]
struct Stripe<'a> {
    name: &'a str,
    from: WeightFormat,
    to: WeightFormat,
    /// Index of its first value in the tensor.
    first: usize,
}

impl Stripe<'_> {
    fn convert(self, source: &[u8], target: &mut [u8]) -> Result<SquaredError, ModelError> {
        let mut before = vec![0.0; CHUNK];
        let mut after = vec![0.0; CHUNK];
        let mut written = Vec::new();
        let mut sum = SquaredError::default();
        let sources = source.chunks(self.from.row_bytes(CHUNK)?);
        for (place, (source, target)) in sources.zip(target.chunks_mut(self.to.row_bytes(CHUNK)?)).enumerate()
        {
            let values = source.len() / self.from.block_bytes() * self.from.block_values();
            before.resize(values, 0.0);
            after.resize(values, 0.0);
            dequantize(self.from, source, &mut before)?;
            self.check(self.first + place * CHUNK, &before)?;
            written.clear();
            quantize(self.to, &before, &mut written)?;
            dequantize(self.to, &written, &mut after)?;
            sum.add(&before, &after);
            target.copy_from_slice(&written);
        }
        Ok(sum)
    }

    /// Refuses what the format would turn into something else.
    fn check(self, first: usize, values: &[f32]) -> Result<(), ModelError> {
        if self.to.block_values() > 1
            && let Some((place, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite())
        {
            return Err(ModelError::NotFinite { name: self.name.to_owned(), index: first + place, value });
        }
        let largest = half::f16::MAX.to_f32();
        if self.to == WeightFormat::F16
            && let Some(value) = values.iter().find(|value| value.is_finite() && value.abs() > largest)
        {
            let what = format!("f16 for tensor {}: the value", self.name);
            return Err(ModelError::unsupported(what, value, format!("up to {largest}; bf16 has the range")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn stripes_and_chunks_give_the_bytes_of_the_whole() {
        let values: Vec<f32> =
            (0..5 * CHUNK + 96).map(|index| ((index * 7919) % 1013) as f32 / 311.0 - 1.5).collect();
        for to in [WeightFormat::Q8_0, WeightFormat::Mxfp4, WeightFormat::Bf16] {
            let (bytes, error) = requantize("t", WeightFormat::F32, &f32_bytes(&values), to, 0).unwrap();
            let mut whole = Vec::new();
            quantize(to, &values, &mut whole).unwrap();
            assert_eq!(bytes, whole);
            let mut back = vec![0.0; values.len()];
            dequantize(to, &whole, &mut back).unwrap();
            let mut expected = SquaredError::default();
            expected.add(&values, &back);
            assert!((error.relative_rms() / expected.relative_rms() - 1.0).abs() < 1e-9);
            let (again, error) = requantize("t", to, &bytes, to, 0).unwrap();
            assert_eq!((again, error.relative_rms()), (bytes, 0.0), "{to} reproduces itself");
        }
    }

    #[test]
    fn what_would_be_lost_is_refused_by_name_and_place() {
        let mut values = vec![1.0; 2 * CHUNK];
        values[CHUNK + 5] = f32::NAN;
        let error =
            requantize("t", WeightFormat::F32, &f32_bytes(&values), WeightFormat::Q8_0, 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("tensor t holds NaN at index {}, expected finite values", CHUNK + 15)
        );
        assert!(requantize("t", WeightFormat::F32, &f32_bytes(&values), WeightFormat::Bf16, 0).is_ok());
        values[CHUNK + 5] = 70_000.0;
        let error =
            requantize("t", WeightFormat::F32, &f32_bytes(&values), WeightFormat::F16, 0).unwrap_err();
        assert!(error.to_string().contains("tensor t") && error.to_string().contains("70000"), "{error}");
        let error =
            requantize("t", WeightFormat::F32, &f32_bytes(&[0.0; 256]), WeightFormat::Q6K, 0).unwrap_err();
        assert!(error.to_string().contains("q6_k"), "{error}");
    }
}
