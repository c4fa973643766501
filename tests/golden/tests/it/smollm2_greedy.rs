//! Greedy continuations of five prompts, token by token through the KV cache.

use espalier_golden::distance::argmax;
use espalier_golden::smollm2::{Greedy, read_json};
use espalier_kernels::{CacheFormat, Precision};
use espalier_model::{ForwardBatch, LogitRows, Model, SequenceSize};

use crate::loaded;

const REQUIRED: usize = 32;
const BLOCK_TOKENS: usize = 16;

fn greedy(model: &Model, prompt: &[u32], count: usize) -> Vec<u32> {
    let size =
        SequenceSize { tokens: prompt.len() + count, step_tokens: prompt.len(), block_tokens: BLOCK_TOKENS };
    let (mut cache, blocks) = model.cache_for_one(size, CacheFormat::F32).unwrap();
    let (mut step, mut position, mut ids) = (prompt.to_vec(), 0, Vec::new());
    while ids.len() < count {
        let span = blocks.span(position, step.len()).unwrap();
        let batch = ForwardBatch { tokens: &step, spans: &[span], decoding: 0, logits_for: LogitRows::Last };
        let logits = model.forward(&batch, &mut cache, Precision::Exact, None).unwrap();
        position += step.len();
        step = vec![argmax(&logits) as u32];
        ids.extend_from_slice(&step);
    }
    ids
}

#[test]
fn five_prompts_continue_like_the_reference() {
    let golden: Greedy = read_json("smollm2-greedy.json").unwrap();
    assert_eq!(golden.prompts.len(), 5);
    let loaded = loaded::smollm2();
    for case in golden.prompts {
        let found = greedy(&loaded.1, &case.prompt_ids, case.ids.len());
        let same = found.iter().zip(&case.ids).take_while(|(a, b)| a == b).count();
        println!("{}: {same} of {} tokens", case.name, case.ids.len());
        assert!(
            same >= REQUIRED,
            "{}: diverges at token {same}, where the reference's margin is {}",
            case.name,
            case.margins[same]
        );
    }
}
