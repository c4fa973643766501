"""Holds what `espalier export` writes for llama.cpp to llama.cpp, and its logits to transformers'.

For each --directory (an HF directory of Llama, Qwen2 or gpt-oss) Espalier exports a GGUF file; llama.cpp loads it, runs
300 seeded tokens with a float32 cache and generates greedily. One JSON line per directory:

  llama_cpp_transformers   largest relative error (numpy_llama.py's) of llama.cpp's logits from transformers' on the directory
  llama_cpp_espalier       of llama.cpp's from `espalier logits` on the GGUF file
  same_argmax, kl          of llama.cpp and Espalier: the share of equal choices, and the mean KL in nats
  generated                ids that llama.cpp continued with
  tokenizer, completion    where the directory has a tokenizer.json: whether llama.cpp's ids of hard texts are the
                           tokenizers library's and the chat template came over, and what llama-completion printed

What must hold: 1e-4 with --dtype f32 for Llama and Qwen2. For gpt-oss llama.cpp rounds YaRN's ramp outward whatever the
configuration says, and multiplies MXFP4 with activations in int8: it is held to 1e-4 with --dtype f32 and --truncate,
which sets `truncate` to true in a copy of the directory; other figures are only reported.

Run: python3 tests/golden/check_llama_cpp.py --espalier target/release/espalier --bindings DIR --libraries DIR \\
         --directory DIR… [--dtype f32] [--truncate] [--tolerance 1e-4]
     --bindings and --libraries are llama_cpp_reference.py's. Exit status 1 when something that must hold doesn't.
Needs: that build, torch 2.15.0, transformers 5.24.0, safetensors, typing_extensions.
"""

import argparse
import ctypes
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import tokenizers

import check_random
import check_transformers
import llama_cpp_reference
import numpy_llama

TOKENS = 300
GENERATED = 16
F32 = 0  # GGML_TYPE_F32
TEXTS = [
    "Hello, world! 1 12 123 1234 12345",
    "I'm, DON'T, we'll CamelCase snake_case path/to/file.txt\n\n  x\t\ty \n",
    "Grüße, naïve, Привет, 日本語のテキスト, 👩‍👩‍👧‍👦 e\u0301",
    "def f(x):\r\n    return {'a': [1, 2.5]}  # $100 €50\n",
    "<|im_start|>user\nHi<|im_end|>\n",
]


class LlamaCpp(llama_cpp_reference.LlamaCpp):
    """One GGUF file with a float32 cache and plain attention."""

    def __init__(self, bindings, path, context):
        self.c = bindings
        self.model = self.c.llama_model_load_from_file(str(path).encode(), self.c.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp doesn't load {path}")
        self.vocabulary = self.c.llama_model_get_vocab(self.model)
        parameters = self.c.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
        parameters.n_threads = parameters.n_threads_batch = 2
        parameters.type_k = parameters.type_v = F32
        parameters.flash_attn_type = 0
        self.context = self.c.llama_init_from_model(self.model, parameters)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context for {path}")

    def greedy(self, count):
        """Continues what the cache holds; the last logits are those of the batch before."""
        size = self.c.llama_vocab_n_tokens(self.vocabulary)
        ids = []
        for _ in range(count):
            pointer = ctypes.cast(self.c.llama_get_logits_ith(self.context, -1), ctypes.POINTER(ctypes.c_float))
            ids.append(int(np.ctypeslib.as_array(pointer, (size,)).argmax()))
            batch = self.c.llama_batch_get_one((self.c.llama_token * 1)(ids[-1]), 1)
            if self.c.llama_decode(self.context, batch) != 0:
                raise RuntimeError("llama_decode failed while generating")
        return ids

    def chat_template(self):
        template = self.c.llama_model_chat_template(self.model, None)
        return template.decode() if template else None

    def close(self):
        self.c.llama_free(self.context)
        self.c.llama_model_free(self.model)


def mean_kl(a, b):
    return llama_cpp_reference.mean_kl(llama_cpp_reference.log_softmax(a), llama_cpp_reference.log_softmax(b))


def template_of(directory):
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    config = directory / "tokenizer_config.json"
    return json.loads(config.read_text()).get("chat_template") if config.is_file() else None


def check_tokenizer(directory, peer, libraries, file):
    reference = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    same = all(reference.encode(text).ids == peer.tokenize(text) for text in TEXTS)
    command = [libraries / "llama-completion", "-m", file, "-p", "Hello", "-n", "8", "-no-cnv", "--temp", "0", "-t", "2"]
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"llama-completion exited with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    template = peer.chat_template() == template_of(directory)
    return {"tokenizer": same and template, "completion": done.stdout.decode(errors="replace").strip()[:80]}


def check(directory, arguments, bindings, folder):
    """The figures of one directory, and whether what must hold does."""
    config = json.loads((directory / "config.json").read_text())
    gpt_oss = config["model_type"] == "gpt_oss"
    if gpt_oss and arguments.truncate:
        directory = pathlib.Path(shutil.copytree(directory, folder / "truncated"))
        (config.get("rope_parameters") or config["rope_scaling"])["truncate"] = True
        (directory / "config.json").write_text(json.dumps(config))
    file = folder / "model.gguf"
    dtype = ["--dtype", arguments.dtype] if arguments.dtype else []
    check_random.espalier(arguments.espalier, "export", "--model", directory, "--format", "gguf", "--out", file, *dtype)
    ids = np.random.default_rng(7).integers(3, config["vocab_size"], TOKENS).tolist()
    tokens = folder / "tokens.json"
    tokens.write_text(json.dumps(ids))
    peer = LlamaCpp(bindings, file, 512)
    theirs = peer.logits(ids)
    ours = check_random.logits(arguments.espalier, file, tokens, folder)
    reference = check_transformers.logits(directory, ids)
    from_reference, from_ours = numpy_llama.compare(reference, theirs), numpy_llama.compare(ours, theirs)
    figures = {
        "llama_cpp_transformers": from_reference["max_relative_error"],
        "llama_cpp_espalier": from_ours["max_relative_error"],
        "same_argmax": from_ours["same_argmax"],
        "kl": mean_kl(ours, theirs),
        "generated": peer.greedy(GENERATED),
    }
    if (directory / "tokenizer.json").is_file():
        figures |= check_tokenizer(directory, peer, arguments.libraries, file)
    peer.close()
    must_agree = arguments.dtype == "f32" and (arguments.truncate or not gpt_oss)
    holds = figures.get("tokenizer", True)
    if must_agree:
        holds &= max(figures["llama_cpp_transformers"], figures["llama_cpp_espalier"]) <= arguments.tolerance
    return figures, holds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("espalier", "bindings", "libraries"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--directory", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--dtype")
    parser.add_argument("--truncate", action="store_true")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    bindings = llama_cpp_reference.load_bindings(arguments.bindings.resolve(), arguments.libraries.resolve())
    bindings.llama_backend_init()
    all_hold = True
    for directory in arguments.directory:
        with tempfile.TemporaryDirectory() as folder:
            figures, holds = check(directory, arguments, bindings, pathlib.Path(folder))
        print(json.dumps({"directory": directory.name, "dtype": arguments.dtype, **figures, "holds": holds}), flush=True)
        all_hold &= holds
    if not all_hold:
        sys.exit(1)


if __name__ == "__main__":
    main()
