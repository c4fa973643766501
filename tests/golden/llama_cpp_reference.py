"""Makes the golden files of SmolLM2-135M-Instruct (Q4_1) with llama.cpp, and measures how far it is from float32.

From: the same GGUF, text and ids as smollm2_reference.py (run that first). Writes to --out:

  smollm2-llama-cpp.safetensors   the first 512 tokens in one batch, one thread, KV cache f16 (its default):
      tokens [512] i32, top_ids [512,64] u16, top_log_probs [512,64] f32 (nats, largest first; normalised over the
      whole vocabulary)
  smollm2-llama-cpp.json          llama-perplexity's own figure for the text's first four chunks of 512 (the tokens of
      smollm2-perplexity.json), its command and version; mean KL of transformers' float32 distribution from llama.cpp's
      over the whole vocabulary, and of the coarse one below

KL over whole vocabularies needs 100 MB of logits. The golden therefore has the 64 largest of llama.cpp's; the *coarse*
KL treats all other ids as one outcome. It is never above the true one; both figures here say how near it is.

Also checks that llama.cpp's tokenizer gives the ids of smollm2-tokens.json.

Run: python3 tests/golden/llama_cpp_reference.py --bindings DIR --libraries DIR --model GGUF \\
         --text tests/golden/data/sotu-test.txt --out tests/golden/data
     --bindings is the folder `llama_cpp` of the PyPI source package llama-cpp-python 0.3.36 and --libraries the
     build/bin folder of the llama.cpp that it vendors; bench/peers builds both.
Needs: that build, torch 2.15.0, transformers 5.24.0, gguf 0.19.0, safetensors, typing_extensions.
"""

import argparse
import ctypes
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import safetensors.numpy
import torch

import gguf_llama

POSITIONS = 512
KEPT = 64
THREADS = 1


def load_bindings(folder, libraries):
    """llama_cpp.llama_cpp alone: the package's __init__ wants packages that have nothing to do with the C interface."""
    os.environ["LLAMA_CPP_LIB_PATH"] = str(libraries)
    package = types.ModuleType("llama_cpp")
    package.__path__ = [str(folder)]
    sys.modules["llama_cpp"] = package
    return importlib.import_module("llama_cpp.llama_cpp")


class LlamaCpp:
    def __init__(self, bindings, path):
        self.c = bindings
        self.c.llama_backend_init()
        self.model = self.c.llama_model_load_from_file(str(path).encode(), self.c.llama_model_default_params())
        self.vocabulary = self.c.llama_model_get_vocab(self.model)
        parameters = self.c.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = POSITIONS
        parameters.n_threads = parameters.n_threads_batch = THREADS
        self.context = self.c.llama_init_from_model(self.model, parameters)

    def tokenize(self, text):
        raw = text.encode()
        ids = (self.c.llama_token * (len(raw) + 2))()  # with BOS and EOS, if each byte is a token
        count = self.c.llama_tokenize(self.vocabulary, raw, len(raw), ids, len(ids), True, True)
        return list(ids[:count])

    def logits(self, tokens):
        """[T, vocab] float32, all positions in one batch."""
        batch = self.c.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = 1
        status = self.c.llama_decode(self.context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}, expected 0")
        size = self.c.llama_vocab_n_tokens(self.vocabulary)
        pointer = ctypes.cast(self.c.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (len(tokens), size)).copy()


def log_softmax(logits):
    return torch.from_numpy(logits).double().log_softmax(-1).numpy()


def mean_kl(reference, other):
    """Mean over positions of sum p (ln p - ln q), in nats, over the whole vocabulary."""
    return float((np.exp(reference) * (reference - other)).sum(-1).mean())


def coarse(log_probs, ids):
    """Log-probabilities of the given ids and of all the rest together."""
    kept = np.take_along_axis(log_probs, ids, -1)
    rest = np.log(np.maximum(1.0 - np.exp(kept).sum(-1, keepdims=True), 1e-12))
    return np.concatenate([kept, rest], -1)


def perplexity(libraries, model, text):
    options = ["-c", "512", "-b", "512", "--chunks", "4", "-t", str(THREADS)]
    command = ["llama-perplexity", "-m", model, "-f", text, *options]
    done = subprocess.run([libraries / command[0], *map(str, command[1:])], capture_output=True, text=True, check=True)
    found = re.search(r"Final estimate: PPL = ([0-9.]+) \+/- ([0-9.]+)", done.stdout + done.stderr)
    return {"perplexity": float(found[1]), "stderr": float(found[2]), "command": " ".join([command[0], *options])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bindings", "libraries", "model", "text", "out"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    tokens = json.loads((arguments.out / "smollm2-tokens.json").read_text())["ids"]
    peer = LlamaCpp(load_bindings(arguments.bindings.resolve(), arguments.libraries.resolve()), arguments.model)
    if peer.tokenize(arguments.text.read_text(encoding="utf-8")) != tokens:
        raise ValueError("llama.cpp's ids of the text differ from smollm2-tokens.json")

    tokens = tokens[:POSITIONS]
    theirs = log_softmax(peer.logits(tokens))
    ids = np.argsort(-theirs, axis=-1, kind="stable")[:, :KEPT]
    golden = {
        "tokens": np.array(tokens, dtype=np.int32),
        "top_ids": ids.astype(np.uint16),
        "top_log_probs": np.take_along_axis(theirs, ids, -1).astype(np.float32),
    }
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in golden.items()}, arguments.out / "smollm2-llama-cpp.safetensors")

    model, _, _ = gguf_llama.load(arguments.model)
    with torch.no_grad():
        reference = log_softmax(model(torch.tensor([tokens])).logits[0].numpy())
    figures = {
        "version": "llama.cpp as vendored in llama-cpp-python 0.3.36",
        "perplexity": perplexity(arguments.libraries, arguments.model, arguments.text),
        "positions": POSITIONS,
        "mean_kl_transformers_to_llama_cpp": mean_kl(reference, theirs),
        "mean_kl_llama_cpp_to_transformers": mean_kl(theirs, reference),
        "coarse_mean_kl_llama_cpp_to_transformers": mean_kl(coarse(theirs, ids), coarse(reference, ids)),
        "same_argmax": float(np.mean(theirs.argmax(-1) == reference.argmax(-1))),
    }
    (arguments.out / "smollm2-llama-cpp.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
