"""Loads what `espalier train` wrote with PEFT and with transformers, and compares.

The adapter on its base model and the model with the adapter merged must give the same logits. Prints the largest difference
relative to the largest logit, and how far the base model is from both; exits with 1 if the first is above 1e-4.

Run: python3 tests/golden/check_adapter.py --base DIR --run DIR
     --base is the model that the run's configuration names, in an HF directory in float32; --run is `--out` of the run, whose
     [output] says dtype = "f32".
Needs: torch 2.15.0, transformers 5.24.0, peft 0.21.2.
"""

import argparse
import sys

import peft
import torch
import transformers


def load(path):
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    config = transformers.AutoConfig.from_pretrained(path)
    if getattr(config, "num_local_experts", None):
        options["experts_implementation"] = "eager"
    return transformers.AutoModelForCausalLM.from_pretrained(path, **options).eval()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--run", required=True)
    arguments = parser.parse_args()
    tokens = torch.arange(3, 60).reshape(1, -1)
    with torch.no_grad():
        merged = load(f"{arguments.run}/model")(tokens).logits
        base = load(arguments.base)
        alone = base(tokens).logits
        adapted = peft.PeftModel.from_pretrained(base, f"{arguments.run}/adapter")
        loaded = adapted(tokens).logits
    scale = merged.abs().max()
    difference, change = (merged - loaded).abs().max() / scale, (merged - alone).abs().max() / scale
    print(f"adapter against merged model {difference:.2e}, base model against both {change:.2e}")
    sys.exit(not (difference <= 1e-4 < change))


if __name__ == "__main__":
    main()
