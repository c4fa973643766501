//! The network computes what the serving path computes.

use espalier_model::Checkpoint;
use espalier_training::{Batch, Trainable};

use crate::models::{
    as_gguf, batch, exact_logits, gpt_oss, llama, network, quantized_gpt_oss, synthesized, uneven,
};

fn assert_like_the_serving_path(checkpoint: &Checkpoint) {
    let batch = batch(3, 41, checkpoint.spec().vocab_size as u32);
    let expected = exact_logits(checkpoint, &batch);
    let found = network(checkpoint, Trainable::Nothing).logits(&batch).unwrap();
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |scale, value| scale.max(value.abs()));
    let error = found.iter().zip(&expected).fold(0.0_f32, |error, (a, b)| error.max((a - b).abs()));
    assert!(scale > 0.1 && error <= 1e-4 * scale, "{error} of {scale}");
}

#[test]
fn of_a_llama_in_each_container() {
    let (directory, checkpoint) = synthesized(&llama());
    assert_like_the_serving_path(&checkpoint);
    assert_like_the_serving_path(&as_gguf(&checkpoint, directory.path()));
}

#[test]
fn of_a_qwen2_with_tied_embeddings() {
    let shape = llama().with("model_type", "qwen2").with("tie_word_embeddings", true);
    assert_like_the_serving_path(&synthesized(&shape).1);
}

#[test]
fn of_a_gpt_oss_in_each_format_of_its_experts() {
    assert_like_the_serving_path(&synthesized(&gpt_oss()).1);
    let (directory, checkpoint) = synthesized(&quantized_gpt_oss());
    assert_like_the_serving_path(&checkpoint);
    assert_like_the_serving_path(&as_gguf(&checkpoint, directory.path()));
}

#[test]
fn of_a_model_whose_layers_differ() {
    let directory = tempfile::tempdir().unwrap();
    assert_like_the_serving_path(&uneven(directory.path()));
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let (_directory, checkpoint) = synthesized(&llama());
    let network = network(&checkpoint, Trainable::Nothing);
    let outside = Batch::new(&[vec![1, 320]]).unwrap();
    let error = network.logits(&outside).unwrap_err().to_string();
    assert!(error.contains("vocabulary size 320"), "{error}");
    let error = network.logits(&batch(1, 3000, 300)).unwrap_err().to_string();
    assert!(error.contains("found 3000, expected at most 2048"), "{error}");
    let error = Batch::new(&[vec![1]]).unwrap_err().to_string();
    assert_eq!(error, "tokens of a sequence: found 1, expected at least 2");
}
