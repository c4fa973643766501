//! SmolLM2's distribution against llama.cpp's on the same file. llama.cpp computes with int8 activations, so this is a
//! check against a gross difference (tokenizer, RoPE, permutation), not the measure of precision.

use espalier_golden::distance::{coarse_kl, log_sum_exp};
use espalier_golden::{data, tensors::Tensors};
use espalier_kernels::Precision;

use crate::loaded;

#[test]
fn both_paths_are_near_llama_cpp() {
    let golden = Tensors::read(&data().join("smollm2-llama-cpp.safetensors")).unwrap();
    let tokens = golden.ids("tokens").unwrap();
    let (ids, log_probs) = (golden.ids("top_ids").unwrap(), golden.floats("top_log_probs").unwrap());
    let kept = ids.len() / tokens.len();
    let loaded = loaded::smollm2();
    let vocabulary = loaded.1.spec().vocab_size;

    for precision in [Precision::Exact, Precision::Fast] {
        let logits = loaded::logits(&loaded.1, &tokens, precision);
        let mut sum = 0.0;
        for (position, row) in logits.chunks_exact(vocabulary).enumerate() {
            let norm = log_sum_exp(row);
            let ours: Vec<f64> =
                ids[position * kept..][..kept].iter().map(|id| f64::from(row[*id as usize]) - norm).collect();
            let theirs: Vec<f64> =
                log_probs[position * kept..][..kept].iter().map(|log| f64::from(*log)).collect();
            sum += coarse_kl(&theirs, &ours);
        }
        let mean = sum / tokens.len() as f64;
        println!("{precision:?}: mean coarse KL of llama.cpp from Espalier {mean:.2e}");
        assert!(mean <= 5e-3, "{precision:?}: mean KL {mean}, limit 5e-3");
    }
}
