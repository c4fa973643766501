//! SmolLM2's logits against transformers in float32 on the same weights, and the fast paths against the exact one.

use espalier_golden::distance::{argmax, kl_of_logits, log_sum_exp};
use espalier_golden::{data, tensors::Tensors};
use espalier_kernels::{CacheFormat, Cpu, InstructionSet, Precision};
use espalier_model::{ForwardBatch, LogitRows, Model, SequenceSize};

use crate::loaded;

#[test]
fn exact_path_has_transformers_logits_and_the_fast_path_its_distribution() {
    let golden = Tensors::read(&data().join("smollm2-logits.safetensors")).unwrap();
    let tokens = golden.ids("tokens").unwrap();
    let loaded = loaded::smollm2();
    let model = &loaded.1;
    let vocabulary = model.spec().vocab_size;
    let exact = loaded::logits(model, &tokens, Precision::Exact);
    assert_eq!(exact.len(), tokens.len() * vocabulary);

    let expected_argmax = golden.ids("argmax").unwrap();
    let (top_ids, top_logits) = (golden.ids("top_ids").unwrap(), golden.floats("top_logits").unwrap());
    let (fixed_ids, fixed_logits) =
        (golden.ids("fixed_ids").unwrap(), golden.floats("fixed_logits").unwrap());
    let (expected_sums, scales) = (golden.floats("log_sum_exp").unwrap(), golden.floats("max_abs").unwrap());
    let (tops, fixed) = (top_ids.len() / tokens.len(), fixed_ids.len());
    let mut same_argmax = 0;
    let mut largest_error = 0.0_f32;
    let mut largest_sum_error = 0.0_f64;
    for (position, row) in exact.chunks_exact(vocabulary).enumerate() {
        same_argmax += usize::from(argmax(row) == expected_argmax[position] as usize);
        let top = top_ids[position * tops..][..tops].iter().zip(&top_logits[position * tops..][..tops]);
        let spread = fixed_ids.iter().zip(&fixed_logits[position * fixed..][..fixed]);
        for (id, expected) in top.chain(spread) {
            largest_error = largest_error.max((row[*id as usize] - expected).abs() / scales[position]);
        }
        largest_sum_error =
            largest_sum_error.max((log_sum_exp(row) - f64::from(expected_sums[position])).abs());
    }
    println!(
        "exact: max relative error {largest_error:.2e}, log-sum-exp within {largest_sum_error:.2e}, same argmax {same_argmax}/{}",
        tokens.len()
    );
    assert!(largest_error <= 1e-4, "max relative logit error is {largest_error}, limit 1e-4");
    assert!(
        same_argmax * 100 >= tokens.len() * 99,
        "same argmax at {same_argmax} of {} positions",
        tokens.len()
    );
    // The 64 compared logits say little about the other 49 thousand; their sum does.
    assert!(largest_sum_error <= 1e-3, "log-sum-exp differs by {largest_sum_error}, limit 1e-3");

    // The arithmetic of processors without tiles, then that of prompts on those that have them.
    for (set, limit) in [(InstructionSet::Avx512Vnni, 2e-3), (InstructionSet::Amx, 2e-4)] {
        let cpu = Cpu::with_instruction_set(0, set).unwrap();
        if set == InstructionSet::Amx && cpu.instruction_set() < set {
            continue;
        }
        let model = Model::load(&loaded.0, cpu).unwrap();
        let fast = loaded::logits(&model, &tokens, Precision::Fast);
        let rows = || exact.chunks_exact(vocabulary).zip(fast.chunks_exact(vocabulary));
        let mean_kl =
            rows().map(|(exact, fast)| kl_of_logits(exact, fast)).sum::<f64>() / tokens.len() as f64;
        let same = rows().filter(|(exact, fast)| argmax(exact) == argmax(fast)).count();
        println!("fast, {set}: mean KL {mean_kl:.2e}, same argmax {same}/{}", tokens.len());
        assert!(mean_kl <= limit, "mean KL of the fast path with {set} is {mean_kl}, limit {limit}");
        assert!(
            same * 100 >= tokens.len() * 98,
            "the fast path with {set} has the same argmax at {same} of {} positions",
            tokens.len()
        );
    }
}

#[test]
fn narrow_caches_keep_the_distribution() {
    let golden = Tensors::read(&data().join("smollm2-logits.safetensors")).unwrap();
    let tokens = golden.ids("tokens").unwrap();
    let loaded = loaded::smollm2();
    let model = &loaded.1;
    let logits = |format| {
        let size = SequenceSize { tokens: tokens.len(), step_tokens: tokens.len(), block_tokens: 32 };
        let (mut cache, blocks) = model.cache_for_one(size, format).unwrap();
        let spans = [blocks.span(0, tokens.len()).unwrap()];
        let batch = ForwardBatch { tokens: &tokens, spans: &spans, decoding: 0, logits_for: LogitRows::All };
        model.forward(&batch, &mut cache, Precision::Exact, None).unwrap()
    };
    let (exact, vocabulary) = (logits(CacheFormat::F32), model.spec().vocab_size);
    for (format, limit) in [(CacheFormat::F16, 1e-6), (CacheFormat::Q8_0, 1e-3)] {
        let found = logits(format);
        let rows = exact.chunks_exact(vocabulary).zip(found.chunks_exact(vocabulary));
        let mean_kl =
            rows.map(|(exact, found)| kl_of_logits(exact, found)).sum::<f64>() / tokens.len() as f64;
        println!("cache in {format}: mean KL {mean_kl:.2e}");
        assert!(mean_kl <= limit, "mean KL with a cache in {format} is {mean_kl}, limit {limit}");
    }
}
