"""Makes golden scores of the policies taylor and fisher: the gradient of the loss by a factor of each head and channel.

Two of the tiny models of data/tiny are loaded by transformers in float32 with eager attention. In front of each output and
each (dense) down projection stands a gate of ones, one per head or channel, and PyTorch differentiates each sequence's mean
negative log-likelihood by the gates. data/unit-gradients.json holds, per model,

  tokens                        two sequences of 40
  taylor, fisher                for "head" and, in a dense model, "ffn-channel", the scores by layer

Run: python3 tests/golden/unit_gradients.py --out tests/golden/data/unit-gradients.json
Needs: torch 2.15.0, transformers 5.24.0.
"""

import argparse
import json
import pathlib

import torch
from training_reference import MODELS, cross_entropy, load


def gated(module, width, units):
    """A gate of ones, one per unit, on the input of `module`."""
    gate = torch.ones(units, requires_grad=True)
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * gate.repeat_interleave(width // units),))
    return gate


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    torch.manual_seed(11)
    golden = []
    for name in MODELS:
        model = load(name)
        gates = {"head": [], "ffn-channel": []}
        for layer in model.model.layers:
            output = layer.self_attn.o_proj
            gates["head"].append(gated(output, output.in_features, model.config.num_attention_heads))
            if hasattr(layer.mlp, "down_proj"):
                down = layer.mlp.down_proj
                gates["ffn-channel"].append(gated(down, down.in_features, down.in_features))
        tokens = torch.randint(3, model.config.vocab_size, (2, 40))
        found = {unit: [[] for _ in of_unit] for unit, of_unit in gates.items() if of_unit}
        for sequence in tokens:
            loss = cross_entropy(model, sequence[None])
            for unit, of_unit in found.items():
                for seen, gradient in zip(of_unit, torch.autograd.grad(loss, gates[unit], retain_graph=True)):
                    seen.append(gradient.double())
        entry = {"name": name, "tokens": tokens.tolist(), "taylor": {}, "fisher": {}}
        for unit, of_unit in found.items():
            stacked = [torch.stack(seen) for seen in of_unit]
            entry["taylor"][unit] = [seen.abs().mean(0).tolist() for seen in stacked]
            entry["fisher"][unit] = [(seen.square().mean(0) / 2).tolist() for seen in stacked]
        golden.append(entry)
    out.write_text(json.dumps({"models": golden}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
