"""An independent forward pass of Llama and Qwen2 from a Hugging Face directory, in NumPy alone and in float64.

Why: a freshly pruned directory has to be held to something in CI, where torch is too heavy. This file reads config.json
and the safetensors itself and shares no code with Espalier or transformers; check_transformers.py holds it to transformers.

Run: python3 tests/golden/numpy_llama.py --model DIR --tokens IDS.json --compare LOGITS.safetensors [--tolerance 1e-4]
     IDS.json is a JSON array of ids, LOGITS.safetensors what `espalier logits` wrote for them ("logits", [T, vocab], f32).
     Prints one JSON object with the largest relative error and the share of equal argmax; exit status 1 above the
     tolerance. Relative error at a position = max |a - b| / max |a|, a being this file's logits.
Needs: numpy.
"""

import argparse
import json
import math
import pathlib
import sys

import numpy as np

BLOCK = 2048  # rows of the vocabulary per product, so that the float64 copy of a large head stays small


class Safetensors:
    """One safetensors file, memory-mapped: 8 bytes of header length, a JSON header, the bytes."""

    def __init__(self, path):
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        length = int.from_bytes(self.data[:8].tobytes(), "little")
        self.header = json.loads(self.data[8 : 8 + length].tobytes())
        self.header.pop("__metadata__", None)
        self.base = 8 + length

    def array(self, name):
        entry = self.header[name]
        start, end = entry["data_offsets"]
        raw = self.data[self.base + start : self.base + end]
        kind = entry["dtype"]
        if kind == "BF16":  # the upper half of a float32
            values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = raw.view({"F32": np.float32, "F16": np.float16, "F64": np.float64}[kind])
        return values.reshape(entry["shape"])


class Directory:
    """The tensors of a directory, in one file or in shards."""

    def __init__(self, path):
        self.files = [Safetensors(file) for file in sorted(path.glob("model*.safetensors"))]
        self.where = {name: file for file in self.files for name in file.header}

    def __contains__(self, name):
        return name in self.where

    def __call__(self, name):
        return self.where[name].array(name)


def inverse_frequencies(config, head_dim):
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10_000.0
    frequencies = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return frequencies
    if kind == "linear":
        return frequencies / rope["factor"]
    if kind != "llama3":
        raise ValueError(f"rope type is {kind!r}, expected default, linear or llama3")
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return frequencies * (smooth + (1.0 - smooth) / factor)


def rms_norm(rows, weight, epsilon):
    return rows / np.sqrt(np.mean(rows * rows, axis=-1, keepdims=True) + epsilon) * weight.astype(np.float64)


def linear(rows, weight, bias=None):
    out = np.concatenate([rows @ weight[at : at + BLOCK].astype(np.float64).T for at in range(0, len(weight), BLOCK)], axis=-1)
    return out if bias is None else out + bias.astype(np.float64)


def rotate(heads, cos, sin):
    first, second = np.split(heads, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attention(rows, tensors, prefix, head_dim, cos, sin):
    """Causal grouped-query attention; the head counts are read from the tensors, so layers may differ."""
    count = len(rows)

    def project(name):
        bias = f"{prefix}.{name}.bias"
        out = linear(rows, tensors(f"{prefix}.{name}.weight"), tensors(bias) if bias in tensors else None)
        return out.reshape(count, -1, head_dim).swapaxes(0, 1)

    queries, keys, values = rotate(project("q_proj"), cos, sin), rotate(project("k_proj"), cos, sin), project("v_proj")
    group = len(queries) // len(keys)
    future = np.triu(np.ones((count, count), dtype=bool), 1)
    heads = []
    for head, query in enumerate(queries):
        scores = query @ keys[head // group].T / math.sqrt(head_dim)
        scores[future] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        heads.append(weights / weights.sum(axis=-1, keepdims=True) @ values[head // group])
    return linear(np.concatenate(heads, axis=-1), tensors(f"{prefix}.o_proj.weight"))


def logits(directory, tokens):
    """[T, vocab] in float64."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    tensors = Directory(directory)
    epsilon = config["rms_norm_eps"]
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    angles = np.outer(np.arange(len(tokens), dtype=np.float64), inverse_frequencies(config, head_dim))
    cos, sin = np.cos(angles), np.sin(angles)

    rows = tensors("model.embed_tokens.weight")[tokens].astype(np.float64)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        normed = rms_norm(rows, tensors(f"{prefix}.input_layernorm.weight"), epsilon)
        rows = rows + attention(normed, tensors, f"{prefix}.self_attn", head_dim, cos, sin)
        normed = rms_norm(rows, tensors(f"{prefix}.post_attention_layernorm.weight"), epsilon)
        gate = linear(normed, tensors(f"{prefix}.mlp.gate_proj.weight"))
        up = linear(normed, tensors(f"{prefix}.mlp.up_proj.weight"))
        rows = rows + linear(gate / (1.0 + np.exp(-gate)) * up, tensors(f"{prefix}.mlp.down_proj.weight"))
    rows = rms_norm(rows, tensors("model.norm.weight"), epsilon)
    head = "model.embed_tokens.weight" if config.get("tie_word_embeddings", False) else "lm_head.weight"
    return linear(rows, tensors(head))


def compare(reference, found):
    """The two figures of the comparison."""
    if reference.shape != found.shape:
        raise ValueError(f"logits have shape {found.shape}, expected {reference.shape}")
    error = np.abs(reference - found).max(axis=-1) / np.abs(reference).max(axis=-1)
    same = float(np.mean(reference.argmax(axis=-1) == found.argmax(axis=-1)))
    return {"positions": len(reference), "max_relative_error": float(error.max()), "same_argmax": same}


def report(reference, found, tolerance):
    """Prints the figures; exits with status 1 when they do not hold."""
    figures = compare(reference, found)
    holds = figures["max_relative_error"] <= tolerance and figures["same_argmax"] >= 0.99
    print(json.dumps({**figures, "tolerance": tolerance, "holds": holds}))
    if not holds:
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=pathlib.Path, required=True)
    parser.add_argument("--compare", type=pathlib.Path, required=True)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    tokens = json.loads(arguments.tokens.read_text())
    report(logits(arguments.model, tokens), Safetensors(arguments.compare).array("logits"), arguments.tolerance)


if __name__ == "__main__":
    main()
