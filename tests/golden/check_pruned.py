"""Holds pruned models, one for each kind of unit, to transformers and llama.cpp.

Each tiny model of data/tiny is cut by the policy `random`, which needs no text; what comes out is an HF directory. Then:

  transformers   largest relative error (numpy_llama.py's) of `espalier logits` from transformers' on that directory: 1e-4
  gguf           of `espalier logits` on its GGUF export from those on the directory: 1e-4
  llama_cpp      of llama.cpp's logits on the export, with a float32 cache, from Espalier's. Held to 1e-4 for Llama and
                 Qwen2; gpt-oss is cut and exported in f32 with `truncate` set, and held to it too (check_llama_cpp.py
                 says why)
  generated      how many ids llama.cpp continued with

Run: python3 tests/golden/check_pruned.py --espalier target/release/espalier --policy target/components/random.wasm \\
         --bindings DIR --libraries DIR
     --bindings and --libraries are llama_cpp_reference.py's. One JSON line for each cut; exit status 1 when one fails.
Needs: that build, torch 2.15.0, transformers 5.24.0, safetensors, typing_extensions.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import check_llama_cpp
import check_random
import check_transformers
import llama_cpp_reference
import numpy_llama
import safetensors.numpy

DATA = pathlib.Path(__file__).parent / "data" / "tiny"
# What stays of each kind: of 6 heads in 2 groups, and so on.
CUTS = {
    "gpt-oss-mxfp4": ["head=4", "kv-group=1", "expert=6", "expert-channel=32", "layer=2", "head=4,expert=5,layer=2"],
    "gpt-oss-bf16": ["head=4", "expert=7", "expert-channel=20"],
    "gpt-oss-mxfp4-odd": ["head=6", "kv-group=2", "expert=5"],
    "llama-llama3-rope-bf16": ["head=4", "kv-group=1", "ffn-channel=32", "layer=1"],
    "llama-tied-f32": ["head=2", "ffn-channel=40"],
    "qwen2-bias-bf16": ["ffn-channel=32", "layer=1"],
}


def truncated(source, target):
    """A copy of a gpt-oss directory with YaRN as llama.cpp has it; other directories as they are."""
    config = json.loads((source / "config.json").read_text())
    if config["model_type"] != "gpt_oss":
        return source
    shutil.copytree(source, target)
    (config.get("rope_parameters") or config["rope_scaling"])["truncate"] = True
    (target / "config.json").write_text(json.dumps(config))
    return target


def check(name, cut, arguments, bindings, folder):
    source = truncated(DATA / name, folder / "source")
    kinds = ",".join(part.split("=")[0] for part in cut.split(","))
    pruned, file, tokens = folder / "pruned", folder / "pruned.gguf", folder / "tokens.json"
    common = ["--policy", arguments.policy, "--units", kinds, "--keep-count", cut, "--ffn-channel-multiple", "1"]
    check_random.espalier(arguments.espalier, "prune", "--model", source, "--out", pruned, *common)
    export = ["export", "--model", pruned, "--format", "gguf", "--dtype", "f32", "--out", file]
    check_random.espalier(arguments.espalier, *export)
    ids = safetensors.numpy.load_file(DATA / f"{name}.logits.safetensors")["tokens"].tolist()
    tokens.write_text(json.dumps(ids))
    ours = check_random.logits(arguments.espalier, pruned, tokens, folder)
    from_gguf = check_random.logits(arguments.espalier, file, tokens, folder)
    reference = check_transformers.logits(pruned, ids)
    peer = check_llama_cpp.LlamaCpp(bindings, file, 512)
    theirs = peer.logits(ids)
    generated = len(peer.greedy(16))
    peer.close()

    def error(a, b):
        return numpy_llama.compare(a, b)["max_relative_error"]

    return {
        "transformers": error(reference, ours),
        "gguf": error(ours, from_gguf),
        "llama_cpp": error(ours, theirs),
        "generated": generated,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("espalier", "policy", "bindings", "libraries"):
        parser.add_argument(f"--{option}", type=pathlib.Path, required=True)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    bindings = llama_cpp_reference.load_bindings(arguments.bindings.resolve(), arguments.libraries.resolve())
    bindings.llama_backend_init()
    all_hold = True
    for name, cuts in CUTS.items():
        for cut in cuts:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    figures = check(name, cut, arguments, bindings, pathlib.Path(folder))
                except RuntimeError as error:
                    figures = {"error": str(error)}
            worst = max(figures.get(kind, 1.0) for kind in ("transformers", "gguf", "llama_cpp"))
            holds = worst <= arguments.tolerance
            all_hold &= holds
            print(json.dumps({"model": name, "keep": cut, **figures, "holds": holds}), flush=True)
    if not all_hold:
        sys.exit(1)


if __name__ == "__main__":
    main()
