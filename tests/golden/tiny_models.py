"""Makes tiny random Llama and Qwen2 directories with transformers, and their logits.

What they are for: structure that SmolLM2 does not have. GQA with three query heads per group, odd FFN and vocabulary
sizes, an FFN that is no multiple of any block, tied and untied heads, a head_dim that is not hidden / heads, Llama 3's
rope scaling with its bend inside the text (in the config's older spelling, which the released files have), q/k/v
biases, weights stored in f32, f16 and bf16. tiny_gpt_oss.py does the same for gpt-oss.

Per case: NAME/config.json and NAME/model.safetensors, and NAME.logits.safetensors with
  tokens [300] i32, positions [P] i32, logits [P, vocab] f32 (transformers, f32, eager attention, the stored weights)
The pass is causal, so the positions cover prompts of 1, 17, 64 and 300 tokens at once.

Run: python3 tests/golden/tiny_models.py --out tests/golden/data/tiny [--seed N]
     Another seed, into another folder, checks that nothing was fitted to the committed files.
Needs: torch 2.15.0, transformers 5.24.0, safetensors.
"""

import argparse
import json
import pathlib

import numpy as np
import safetensors.numpy
import torch
import transformers

import check_transformers

TOKENS = 300
POSITIONS = sorted({*range(17), 63, *range(24, TOKENS, 12), TOKENS - 1})
SHAPE = {
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 61,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attn_implementation": "eager",
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
QWEN2_ROPE = {"rope_type": "default", "rope_theta": 1_000_000.0}
CASES = {
    "llama-tied-f32": (transformers.LlamaConfig, torch.float32, {"tie_word_embeddings": True, "rope_parameters": PLAIN_ROPE}),
    "llama-llama3-rope-bf16": (transformers.LlamaConfig, torch.bfloat16, {"tie_word_embeddings": False, "rope_parameters": LLAMA3_ROPE}),
    "llama-wide-heads-f16": (
        transformers.LlamaConfig,
        torch.float16,
        {"tie_word_embeddings": False, "head_dim": 16, "rope_parameters": PLAIN_ROPE},
    ),
    "qwen2-bias-bf16": (
        transformers.Qwen2Config,
        torch.bfloat16,
        {"tie_word_embeddings": True, "rope_parameters": QWEN2_ROPE},
    ),
    "llama-llama3-rope-tied-bf16": (
        transformers.LlamaConfig,
        torch.bfloat16,
        {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE},
    ),
    "qwen2-untied-bf16": (transformers.Qwen2Config, torch.bfloat16, {"tie_word_embeddings": False, "rope_parameters": QWEN2_ROPE}),
}


def randomize(model, generator):
    """Weights large enough that attention is peaked and every part moves the logits; norms round one."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            parameter.data = 0.5 * noise
        elif "embed" in name:
            parameter.data = noise
        else:
            parameter.data = 1.5 * noise / parameter.shape[-1] ** 0.5


def use_older_spelling(path):
    """rope_theta beside rope_scaling, and torch_dtype: what transformers wrote before its version 5."""
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = scaling
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make(name, seed, out):
    config_type, dtype, overrides = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config_type(**SHAPE, **overrides))
    randomize(model, generator)
    model.tie_weights()
    model = model.to(dtype)
    directory = out / name
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    if overrides["rope_parameters"] is LLAMA3_ROPE:
        use_older_spelling(directory / "config.json")
    write_golden(out, name, generator)


def write_golden(out, name, generator):
    """Draws tokens and writes transformers' logits of them for the directory out / name."""
    directory = out / name
    tokens = torch.randint(3, SHAPE["vocab_size"], (TOKENS,), generator=generator)
    # Loaded anew: casting the model back would keep buffers (RoPE's frequencies) rounded to the stored type.
    logits = check_transformers.logits(directory, tokens.tolist())[POSITIONS]
    golden = {"tokens": tokens.numpy().astype(np.int32), "positions": np.array(POSITIONS, dtype=np.int32), "logits": logits}
    golden_path = out / f"{name}.logits.safetensors"
    safetensors.numpy.save_file({key: np.ascontiguousarray(value) for key, value in golden.items()}, golden_path)
    size = golden_path.stat().st_size + sum(path.stat().st_size for path in directory.iterdir())
    print(json.dumps({"name": name, "bytes": size, "max_abs_logit": round(float(np.abs(logits).max()), 3)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    for index, name in enumerate(CASES):
        make(name, arguments.seed + index, arguments.out)


if __name__ == "__main__":
    main()
