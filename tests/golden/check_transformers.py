"""Holds `espalier logits` to Hugging Face transformers on a directory, in float32 with eager attention.

Run: espalier logits --model DIR --tokens IDS.json --out LOGITS.safetensors
     python3 tests/golden/check_transformers.py --model DIR --tokens IDS.json --compare LOGITS.safetensors [--tolerance 1e-4]
     The output and the exit status are numpy_llama.py's. Without --compare, NumPy's logits are held to transformers'.
Needs: torch 2.15.0, transformers 5.24.0, numpy.
"""

import argparse
import json
import pathlib

import torch
import transformers

import numpy_llama


def load(directory):
    """The model in float32, whatever type the weights are stored in; MXFP4 as transformers dequantises it."""
    options = {"dtype": torch.float32, "attn_implementation": "eager", "output_loading_info": True}
    config = transformers.AutoConfig.from_pretrained(directory)
    if config.model_type == "gpt_oss":
        options["experts_implementation"] = "eager"
    if getattr(config, "quantization_config", None):
        options["quantization_config"] = transformers.Mxfp4Config(dequantize=True)
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(directory, **options)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading.get(problem):
            raise ValueError(f"{directory}: transformers reports {problem}: {sorted(map(str, loading[problem]))}")
    return model.eval()


@torch.no_grad()
def logits(directory, tokens, model=None):
    """[T, vocab] in float32."""
    model = model or load(directory)
    return model(torch.tensor([tokens])).logits[0].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=pathlib.Path, required=True)
    parser.add_argument("--compare", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    tokens = json.loads(arguments.tokens.read_text())
    if arguments.compare:
        found = numpy_llama.Safetensors(arguments.compare).array("logits")
    else:
        found = numpy_llama.logits(arguments.model, tokens)
    numpy_llama.report(logits(arguments.model, tokens), found, arguments.tolerance)


if __name__ == "__main__":
    main()
