"""Loads a Llama GGUF file into Hugging Face transformers, in float32, without either project's own GGUF loader.

The weights are dequantised by the `gguf` package, llama.cpp's permutation of the q and k rows is undone, and the
result is a LlamaForCausalLM with eager attention: the reference that Espalier's float32 path is held to.
The tokenizer is rebuilt from the file's metadata with the `tokenizers` package.

Used by smollm2_reference.py; no command of its own. Needs: torch, transformers, gguf, tokenizers.
"""

import gguf
import numpy as np
import tokenizers
import torch
import transformers

# Hugging Face name of each GGUF tensor; "{}" is the layer.
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_TENSORS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}


def hugging_face_name(name):
    if name in TOP_TENSORS:
        return TOP_TENSORS[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{LAYER_TENSORS[part]}.{kind}"


def undo_permutation(rows, heads):
    """llama.cpp interleaves the two halves of each q and k head; transformers keeps the halves apart."""
    head_dim = rows.shape[0] // heads
    return rows.reshape(heads, head_dim // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def load(path):
    """The model in float32, its tokenizer and the file's metadata as a dict."""
    reader = gguf.GGUFReader(path)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    heads = metadata["llama.attention.head_count"]
    kv_heads = metadata["llama.attention.head_count_kv"]

    weights = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape([int(extent) for extent in reversed(tensor.shape)])
        if ".attn_q." in tensor.name:
            values = undo_permutation(values, heads)
        elif ".attn_k." in tensor.name:
            values = undo_permutation(values, kv_heads)
        weights[hugging_face_name(tensor.name)] = torch.from_numpy(np.ascontiguousarray(values))
    tied = "lm_head.weight" not in weights
    if tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]

    config = transformers.LlamaConfig(
        vocab_size=weights["model.embed_tokens.weight"].shape[0],
        hidden_size=metadata["llama.embedding_length"],
        intermediate_size=metadata["llama.feed_forward_length"],
        num_hidden_layers=metadata["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=metadata["llama.context_length"],
        rms_norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": metadata["llama.rope.freq_base"]},
        tie_word_embeddings=tied,
        bos_token_id=metadata["tokenizer.ggml.bos_token_id"],
        eos_token_id=metadata["tokenizer.ggml.eos_token_id"],
        attn_implementation="eager",
        dtype=torch.float32,
    )
    model = transformers.LlamaForCausalLM(config).to(torch.float32).eval()
    model.load_state_dict(weights, strict=True)
    return model, load_tokenizer(metadata), metadata


def load_tokenizer(metadata):
    """Byte-level BPE with SmolLM2's pre-tokenizer: single digits, then GPT-2's pattern."""
    if metadata["tokenizer.ggml.pre"] != "smollm":
        raise ValueError(f"tokenizer.ggml.pre is {metadata['tokenizer.ggml.pre']!r}, expected 'smollm'")
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({token: id for id, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Digits(individual_digits=True), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = [tokens[id] for id, kind in enumerate(metadata["tokenizer.ggml.token_type"]) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer
