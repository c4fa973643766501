"""Makes tiny random gpt-oss directories with transformers, and their logits.

What they are for: all that gpt-oss has and Llama has not, at sizes that fit nothing evenly. Attention sinks, a window of
16 on every other layer, YaRN with an untruncated ramp (and one that starts inside the text), biases on everything, 8
and 9 experts of which 4 are active, a clamp that is reached, heads whose width has nothing to do with the hidden size,
an untied head; experts stored in bf16, f32 and MXFP4, and the configuration in the released and the newer spelling.

MXFP4 is quantised by this file's own code and written as blocks and scales; the truth is what transformers' own
dequantisation makes of these bytes, in float32 with eager attention and its plain loop over experts.

Per case: as tiny_models.py says, in the same folder.

Run: python3 tests/golden/tiny_gpt_oss.py --out tests/golden/data/tiny
     python3 tests/golden/tiny_gpt_oss.py --out DIR --random SEED [--truncate]
     The second makes one model of a drawn shape in each way of storing, and DIR/NAME.tokens.json for `espalier logits`;
     check_random.py does that for many seeds and compares. --truncate rounds YaRN's ramp outward as llama.cpp does.
Needs: torch 2.15.0, transformers 5.24.0, safetensors.
"""

import argparse
import json
import pathlib
import random

import numpy as np
import safetensors.torch
import torch
import transformers

import tiny_models

COMMON = {
    "vocab_size": 131,
    "num_experts_per_tok": 4,
    "sliding_window": 16,
    "max_position_embeddings": 131_072,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 150_000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 4096,
    "truncate": False,
}
# A ramp that begins before the first dimension, and a text longer than the original context.
SHORT_YARN = {**YARN, "rope_theta": 10_000.0, "factor": 8.0, "beta_fast": 16.0, "original_max_position_embeddings": 64}
CASES = {
    "gpt-oss-bf16": (
        "bf16",
        {
            "hidden_size": 40,
            "intermediate_size": 27,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 14,
            "num_local_experts": 9,
            "rope_parameters": YARN,
        },
    ),
    "gpt-oss-f32": (
        "f32",
        {
            "hidden_size": 36,
            "intermediate_size": 25,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "num_local_experts": 8,
            "swiglu_alpha": 1.5,
            "swiglu_limit": 5.0,
            "rope_parameters": SHORT_YARN,
        },
    ),
    "gpt-oss-mxfp4": (
        "mxfp4",
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_local_experts": 8,
            "rope_parameters": YARN,
        },
    ),
    "gpt-oss-mxfp4-odd": (
        "mxfp4",
        {
            "hidden_size": 96,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 10,
            "num_local_experts": 9,
            "rope_parameters": YARN,
        },
    ),
}
# Whose config.json is spelled as the released one is.
OLDER_SPELLING = {"gpt-oss-mxfp4"}
STORAGES = ("bf16", "f32", "mxfp4")
CODES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
UNCONVERTED = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]


def randomize(model, generator):
    """Experts that reach the clamp, a router without near ties, sinks that take a visible share."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("sinks"):
            scaled = 1.0 + noise
        elif "norm" in name:
            scaled = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            scaled = 0.5 * noise
        elif "embed" in name:
            scaled = 3.0 * noise
        elif name.endswith("gate_up_proj"):
            scaled = 3.5 * noise / parameter.shape[1] ** 0.5
        elif name.endswith("down_proj"):
            scaled = 0.3 * noise / parameter.shape[1] ** 0.5
        else:
            scaled = 1.5 * noise / parameter.shape[-1] ** 0.5
        parameter.data = scaled


def quantize_mxfp4(rows):
    """[..., columns] f32 as blocks [..., columns / 32, 16] and scales [..., columns / 32], both u8.

    Byte j of a block holds values 2j (low half) and 2j + 1; value = code * 2^(scale - 127). The scale brings the block's
    largest value into the largest code's binade, [4, 8); codes are the nearest, ties to the even one.
    """
    values = rows.reshape(*rows.shape[:-1], -1, 32)
    _, exponent = np.frexp(np.abs(values).max(axis=-1))
    exponent = exponent - 1 - 2
    scaled = np.ldexp(np.abs(values), -exponent[..., None])
    middles = (CODES[1:] + CODES[:-1]) / 2
    # Beyond the middle between two codes comes the upper one; on it, the even one.
    above = scaled[..., None] > middles
    tie_to_upper = (scaled[..., None] == middles) & (np.arange(1, 8) % 2 == 0)
    codes = (above | tie_to_upper).sum(-1)
    codes = codes.astype(np.uint8) | np.where((values < 0) & (codes > 0), 8, 0).astype(np.uint8)
    blocks = codes[..., 0::2] | codes[..., 1::2] << 4
    return blocks, (exponent + 127).astype(np.uint8)


def pack_experts(directory):
    """Replaces the experts' bf16 matrices [E, contracted, rows] by blocks and scales over the contracted side."""
    path = directory / "model.safetensors"
    packed = {}
    for name, tensor in safetensors.torch.load_file(path).items():
        if name.endswith(("gate_up_proj", "down_proj")):
            blocks, scales = quantize_mxfp4(tensor.float().numpy().swapaxes(1, 2))
            packed[f"{name}_blocks"] = torch.from_numpy(np.ascontiguousarray(blocks))
            packed[f"{name}_scales"] = torch.from_numpy(np.ascontiguousarray(scales))
        else:
            packed[name] = tensor
    safetensors.torch.save_file(packed, path, metadata={"format": "pt"})
    configure(directory, {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": UNCONVERTED}})


def configure(directory, changes):
    """Sets fields of config.json, or removes them where the value is None."""
    path = directory / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    config = {key: value for key, value in config.items() if key not in changes or value is not None}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write(directory, storage, shape, generator, older_spelling=False):
    """A model directory without logits."""
    config = transformers.GptOssConfig(**COMMON, **shape)
    model = transformers.AutoModelForCausalLM.from_config(config)
    randomize(model, generator)
    model.to(torch.float32 if storage == "f32" else torch.bfloat16).save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    if storage == "mxfp4":
        pack_experts(directory)
    if older_spelling:
        tiny_models.use_older_spelling(directory / "config.json")
        released = {"experts_per_token": 4, "initial_context_length": 4096, "hidden_act": "silu"}
        configure(directory, {**released, "swiglu_alpha": None})


def random_shape(seed, truncate):
    """Sizes that MXFP4 can store too; everything else is drawn freely."""
    draw = random.Random(seed)
    kv_heads = draw.choice([1, 2, 3, 5])
    rope = {
        **YARN,
        "factor": draw.choice([4.0, 32.0, 40.0]),
        "rope_theta": draw.choice([10_000.0, 150_000.0]),
        "original_max_position_embeddings": draw.choice([64, 256, 4096]),
        "truncate": truncate,
    }
    return {
        "hidden_size": 32 * draw.randint(1, 4),
        "intermediate_size": 32 * draw.randint(1, 4),
        "num_hidden_layers": draw.randint(1, 6),
        "num_attention_heads": kv_heads * draw.randint(1, 5),
        "num_key_value_heads": kv_heads,
        "head_dim": 2 * draw.randint(3, 17),
        "num_local_experts": draw.randint(5, 33),
        "rope_parameters": rope,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=40)
    parser.add_argument("--random", type=int, metavar="SEED")
    parser.add_argument("--truncate", action="store_true")
    arguments = parser.parse_args()
    if arguments.random is None:
        for index, (name, (storage, shape)) in enumerate(CASES.items()):
            generator = torch.Generator().manual_seed(arguments.seed + index)
            write(arguments.out / name, storage, shape, generator, name in OLDER_SPELLING)
            tiny_models.write_golden(arguments.out, name, generator)
        return
    shape = random_shape(arguments.random, arguments.truncate)
    for storage in STORAGES:
        name = f"gpt-oss-{arguments.random}-{storage}"
        generator = torch.Generator().manual_seed(arguments.random)
        write(arguments.out / name, storage, shape, generator)
        tokens = torch.randint(3, COMMON["vocab_size"], (tiny_models.TOKENS,), generator=generator)
        (arguments.out / f"{name}.tokens.json").write_text(json.dumps(tokens.tolist()))
    print(json.dumps({"seed": arguments.random, **shape}))


if __name__ == "__main__":
    main()
