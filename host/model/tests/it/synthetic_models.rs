//! A synthetic model is a complete model directory.

use espalier_kernels::WeightFormat;
use espalier_model::{ChatMessage, ChatTemplate, Checkpoint, Inspection, SynthShape, TextStream, synthesize};

fn checkpoint(shape: &SynthShape, seed: u64) -> (tempfile::TempDir, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    synthesize(shape, &path, seed).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    (directory, checkpoint)
}

#[test]
fn opens_with_the_shape_asked_for() {
    let shape = SynthShape::default()
        .with("model_type", "qwen2")
        .with("hidden_size", 96)
        .with("num_attention_heads", 6)
        .with("num_key_value_heads", 2)
        .with("head_dim", 32)
        .with("num_hidden_layers", 3)
        .with("tie_word_embeddings", true)
        .with("torch_dtype", "bfloat16");
    let (_directory, checkpoint) = checkpoint(&shape, 1);
    let spec = checkpoint.spec();
    assert_eq!(
        (spec.layers.len(), spec.layers[2].heads, spec.layers[2].kv_heads, spec.head_dim),
        (3, 6, 2, 32)
    );
    assert!(spec.layers[0].attention_bias && spec.tie_word_embeddings);
    let query = checkpoint.tensor("model.layers.1.self_attn.q_proj.weight").unwrap();
    assert_eq!((query.format, query.shape.as_slice()), (WeightFormat::Bf16, [192, 96].as_slice()));
    assert!(checkpoint.tensor("lm_head.weight").is_err());
}

#[test]
fn weights_have_the_intended_scale_and_depend_on_the_seed_alone() {
    let (_first_directory, first) = checkpoint(&SynthShape::default(), 7);
    let (_again_directory, again) = checkpoint(&SynthShape::default(), 7);
    let (_other_directory, other) = checkpoint(&SynthShape::default(), 8);
    let name = "model.layers.0.mlp.up_proj.weight";
    let values = first.tensor(name).unwrap().to_f32().unwrap();
    assert_eq!(values, again.tensor(name).unwrap().to_f32().unwrap());
    assert_ne!(values, other.tensor(name).unwrap().to_f32().unwrap());
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / values.len() as f32;
    assert!(mean.abs() < 0.01 && (variance * 64.0 - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
}

#[test]
fn its_tokenizer_is_total_over_text_and_ids() {
    let (_directory, checkpoint) = checkpoint(&SynthShape::default(), 1);
    let tokenizer = checkpoint.tokenizer().unwrap();
    let text = "Größe: 12 €\n\t👩‍🚀 <|eos|>";
    let ids = tokenizer.encode(text, true).unwrap();
    assert_eq!((ids[0], *ids.last().unwrap()), (256, 257), "BOS is added, the special token parsed");
    assert_eq!(tokenizer.decode(&ids[1..], false), text);
    assert_eq!(tokenizer.decode(&ids, true), text.trim_end_matches("<|eos|>"));
    let literal = tokenizer.encode(text, false).unwrap();
    assert_eq!(literal.len(), text.len(), "without special tokens each byte is a token");
    assert_eq!(tokenizer.encode("<|bos|>a", true).unwrap(), [256, 97], "BOS in the text isn't doubled");
    assert!(tokenizer.is_special(257) && !tokenizer.is_special(97));
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.vocab_size()),
        (Some(256), [257, 259].as_slice(), 320)
    );
    assert_eq!(tokenizer.token_bytes(319), Some(b" w319".as_slice()));
    assert_eq!(tokenizer.token_bytes(320), None);
}

#[test]
fn streamed_text_equals_decoded_text_for_any_ids() {
    let (_directory, checkpoint) = checkpoint(&SynthShape::default(), 1);
    let tokenizer = checkpoint.tokenizer().unwrap();
    let whole: Vec<u32> = "a👩‍🚀é".bytes().map(u32::from).collect();
    let broken = [0xf0, 0x9f, 97, 0xe2, 0x82, 256, 0xac, 0xff, 300, 0xc3];
    let mut random = 12_345_u32;
    let noise: Vec<u32> = (0..4000)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 16 & 0x1ff
        })
        .collect();
    for ids in [whole.as_slice(), &broken, &noise] {
        for skip_special in [false, true] {
            let mut stream = TextStream::new(&tokenizer, skip_special);
            let mut text = String::new();
            for &id in ids {
                let piece = stream.push(id);
                text.push_str(&piece);
            }
            text.push_str(&stream.flush());
            assert_eq!(text, tokenizer.decode(ids, skip_special));
        }
    }
    let mut stream = TextStream::new(&tokenizer, true);
    let pieces: Vec<String> = "é".bytes().map(|byte| stream.push(byte.into())).collect();
    assert_eq!(pieces, ["", "é"], "half a character is held back");
}

#[test]
fn its_chat_template_renders() {
    let (_directory, checkpoint) = checkpoint(&SynthShape::default(), 1);
    let template = ChatTemplate::new(checkpoint.chat_template().unwrap(), "<|bos|>", "<|eos|>").unwrap();
    let messages = [ChatMessage { role: "user".into(), content: "Hello".into() }];
    let text = template.render(&messages, true).unwrap();
    assert_eq!(text, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn its_inspection_adds_up() {
    let (_directory, checkpoint) = checkpoint(&SynthShape::default().with("torch_dtype", "float16"), 1);
    let inspection = Inspection::new(&checkpoint);
    let parameters = inspection.parameters;
    // 320 x 64 twice; per layer: norms 2 x 64, q and o 64 x 64, k and v 32 x 64, three times 128 x 64.
    assert_eq!((parameters.embedding, parameters.head), (20_480, 20_480));
    assert_eq!((parameters.attention, parameters.feed_forward), (4 * 12_288, 4 * 24_576));
    assert_eq!(parameters.norms, 4 * 128 + 64);
    assert_eq!(parameters.total, checkpoint.spec().parameters());
    assert_eq!(inspection.bytes.total, 2 * parameters.total);
    let text = inspection.to_string();
    assert!(text.contains("feed-forward") && text.contains("98,304"), "{text}");
    assert_eq!(serde_json::to_value(&inspection).unwrap()["parameters"]["total"], parameters.total);
}

#[test]
fn a_vocabulary_that_is_too_small_is_refused() {
    let error = SynthShape::default().with("vocab_size", 100).spec().unwrap_err().to_string();
    assert!(error.contains("vocab_size") && error.contains("100") && error.contains("260"), "{error}");
}
