//! ggml's tensor names and HF's.

/// Names outside the layers.
const OUTSIDE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Names inside a layer, without the ending `.weight` or `.bias`.
const INSIDE: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
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
    let (stem, ending) = rest.rsplit_once('.').filter(|&(_, ending)| matches!(ending, "weight" | "bias"))?;
    let &(_, hf) = INSIDE.iter().find(|&&(known, _)| known == stem)?;
    Some(format!("model.layers.{layer}.{hf}.{ending}"))
}

/// ggml's name; `None` for a name that isn't one of HF's.
pub(super) fn ggml_name(hf: &str) -> Option<String> {
    if let Some(&(ggml, _)) = OUTSIDE.iter().find(|&&(_, known)| known == hf) {
        return Some(ggml.to_owned());
    }
    let (layer, rest) = hf.strip_prefix("model.layers.")?.split_once('.')?;
    let (stem, ending) = rest.rsplit_once('.')?;
    let &(ggml, _) = INSIDE.iter().find(|&&(_, known)| known == stem)?;
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
