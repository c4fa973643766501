"""PyTorch's speed at what `espalier train` does: steps of LoRA, or of all weights, on the processor and in float32.

Prints tokens per second of each step but the first. The model is an HF directory that transformers loads; windows are random
tokens, as speed does not depend on them. Experts run in transformers' plain loop or its grouped product, whichever is faster.

Run: python3 bench/training_pytorch.py --model DIR --method lora|full --window-tokens 512 --batch-windows 1 --steps 6
Needs: torch 2.15.0, transformers 5.24.0, peft 0.21.2.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
import transformers


def measure(arguments, experts):
    options = {"experts_implementation": experts} if experts else {}
    attention = "eager" if experts else "sdpa"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=torch.float32, attn_implementation=attention, **options
    ).train()
    if arguments.method == "lora":
        import peft

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=names))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    shape = (arguments.batch_windows, arguments.window_tokens)
    speeds = []
    for _ in range(arguments.steps):
        tokens = torch.randint(3, model.config.vocab_size, shape)
        began = time.perf_counter()
        optimizer.zero_grad()
        logits = model(tokens, use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        speeds.append(tokens.numel() / (time.perf_counter() - began))
    return speeds[1:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--method", choices=["lora", "full"], required=True)
    parser.add_argument("--window-tokens", type=int, default=512)
    parser.add_argument("--batch-windows", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = transformers.AutoConfig.from_pretrained(arguments.model)
    kinds = ["eager", "grouped_mm"] if getattr(config, "num_local_experts", None) else [None]
    for experts in kinds:
        speeds = measure(arguments, experts)
        listed = " ".join(f"{speed:.1f}" for speed in speeds)
        print(f"{experts or arguments.method}: median {statistics.median(speeds):.1f} tokens/s ({listed})")


if __name__ == "__main__":
    main()
