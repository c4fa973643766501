//! ggml's tensor names and HF's.

use crate::spec::Architecture;

/// Names outside the layers.
const OUTSIDE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// gpt-oss's sinks, which have an ending in ggml alone.
const SINKS: (&str, &str) = ("attn_sinks.weight", "self_attn.sinks");

/// Names inside a layer, without the ending `.weight` or `.bias`.
const INSIDE: [(&str, &str); 14] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    // gpt-oss's name of the norm before its experts.
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_gate_inp", "mlp.router"),
    ("ffn_gate_exps", "mlp.experts.gate_proj"),
    ("ffn_up_exps", "mlp.experts.up_proj"),
    ("ffn_down_exps", "mlp.experts.down_proj"),
];

/// `blk.3.attn_q.weight` is layer 3's `attn_q.weight`.
pub(super) fn in_layer(ggml: &str) -> Option<(usize, &str)> {
    let (layer, rest) = ggml.strip_prefix("blk.")?.split_once('.')?;
    // Only the canonical spelling, so that two names never mean one tensor.
    let number: usize = layer.parse().ok()?;
    (number.to_string() == layer).then_some((number, rest))
}

/// HF's name; `None` for a tensor that no supported architecture has.
pub(super) fn hf_name(ggml: &str) -> Option<String> {
    if let Some(&(_, hf)) = OUTSIDE.iter().find(|&&(known, _)| known == ggml) {
        return Some(hf.to_owned());
    }
    let (layer, rest) = in_layer(ggml)?;
    if rest == SINKS.0 {
        return Some(format!("model.layers.{layer}.{}", SINKS.1));
    }
    let (stem, ending) = rest.rsplit_once('.').filter(|&(_, ending)| matches!(ending, "weight" | "bias"))?;
    let &(_, hf) = INSIDE.iter().find(|&&(known, _)| known == stem)?;
    Some(format!("model.layers.{layer}.{hf}.{ending}"))
}

/// ggml's name in this architecture; `None` for a name that isn't one of HF's.
pub(super) fn ggml_name(hf: &str, architecture: Architecture) -> Option<String> {
    if let Some(&(ggml, _)) = OUTSIDE.iter().find(|&&(_, known)| known == hf) {
        return Some(ggml.to_owned());
    }
    let (layer, rest) = hf.strip_prefix("model.layers.")?.split_once('.')?;
    if rest == SINKS.1 {
        return Some(format!("blk.{layer}.{}", SINKS.0));
    }
    let (stem, ending) = rest.rsplit_once('.')?;
    let other_norm = if architecture == Architecture::GptOss { "ffn_norm" } else { "post_attention_norm" };
    let &(ggml, _) = INSIDE.iter().find(|&&(ggml, known)| known == stem && ggml != other_norm)?;
    Some(format!("blk.{layer}.{ggml}.{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_and_unknown_ones_do_not() {
        assert_eq!(hf_name("token_embd.weight").as_deref(), Some("model.embed_tokens.weight"));
        assert_eq!(
            hf_name("blk.12.ffn_down.weight").as_deref(),
            Some("model.layers.12.mlp.down_proj.weight")
        );
        assert_eq!(hf_name("blk.0.attn_q.bias").as_deref(), Some("model.layers.0.self_attn.q_proj.bias"));
        for unknown in
            ["blk.00.attn_q.bias", "blk.1.attn_q", "blk.1.attn_qkv.weight", "blk.x.attn_q.weight", ""]
        {
            assert_eq!(hf_name(unknown), None, "{unknown}");
        }
    }
}
