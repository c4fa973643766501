"""Holds `espalier logits` to transformers on random gpt-oss models that are in no golden file.

For each seed tiny_gpt_oss.py draws a shape and writes it in bf16, f32 and MXFP4; Espalier runs the directory and, unless
--no-gguf is given, its own GGUF export of it; transformers runs the directory in float32. One JSON line for each
comparison: the shape's sizes, how many positions were compared, the largest relative error (numpy_llama.py's) and the
share of equal argmax.

Where the last expert chosen and the first not chosen are nearer to each other than float32 can tell, either choice is
right, and the logits differ by as much as the experts do. Such positions are left out; so are all later ones if that
happens before the last layer, because they attend to it.

Run: python3 tests/golden/check_random.py --espalier target/release/espalier [--first 100] [--seeds 10] [--tolerance 1e-4]
     Exit status 1 when one of them is beyond the tolerance. A directory that fails stays in --keep, if that is given.
Needs: torch 2.15.0, transformers 5.24.0, safetensors.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch

import check_transformers
import numpy_llama
import tiny_gpt_oss
import tiny_models

TIE = 2e-5  # between router logits of size 1 to 10: a few units of their last place, times the layers before


def espalier(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"espalier {arguments[0]} exited with {done.returncode}: {done.stderr.strip()}")


def logits(program, model, tokens, folder):
    out = folder / "logits.safetensors"
    espalier(program, "logits", "--model", model, "--tokens", tokens, "--out", out)
    return numpy_llama.Safetensors(out).array("logits").copy()


def undecided(gaps):
    """Which positions to leave out, from [layers, T] distances between the last chosen and the next router logit."""
    ties = gaps < TIE
    before_last = ties[:-1].any(axis=0)
    return ties[-1] | np.logical_or.accumulate(before_last)


def reference_logits(directory, ids):
    """transformers' logits, and which positions to leave out."""
    model, gaps = check_transformers.load(directory), []

    def watch(router, _, output):
        ordered = output[0].detach().sort(dim=-1, descending=True).values
        gaps.append((ordered[:, router.top_k - 1] - ordered[:, router.top_k]).numpy())

    for layer in model.model.layers:
        layer.mlp.router.register_forward_hook(watch)
    return check_transformers.logits(directory, ids, model), undecided(np.stack(gaps))


def compare(program, seed, storage, folder, with_gguf):
    """Yields the container that Espalier read, and the figures."""
    shape = tiny_gpt_oss.random_shape(seed, truncate=False)
    generator = torch.Generator().manual_seed(seed)
    directory = folder / f"{seed}-{storage}"
    tiny_gpt_oss.write(directory, storage, shape, generator)
    ids = torch.randint(3, tiny_gpt_oss.COMMON["vocab_size"], (tiny_models.TOKENS,), generator=generator).tolist()
    tokens = folder / "tokens.json"
    tokens.write_text(json.dumps(ids))
    reference, left_out = reference_logits(directory, ids)

    def figures(model):
        return numpy_llama.compare(reference[~left_out], logits(program, model, tokens, folder)[~left_out])

    yield "hf", figures(directory)
    if with_gguf:
        file = folder / f"{seed}-{storage}.gguf"
        espalier(program, "export", "--model", directory, "--format", "gguf", "--out", file)
        yield "gguf", figures(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", type=pathlib.Path, required=True)
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--no-gguf", action="store_true")
    parser.add_argument("--keep", type=pathlib.Path)
    arguments = parser.parse_args()
    worst = 0.0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        shape = tiny_gpt_oss.random_shape(seed, truncate=False)
        sizes = {key: value for key, value in shape.items() if isinstance(value, int)}
        for storage in tiny_gpt_oss.STORAGES:
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                for container, figures in compare(arguments.espalier, seed, storage, folder, not arguments.no_gguf):
                    error = figures["max_relative_error"]
                    worst = max(worst, error)
                    print(json.dumps({"seed": seed, "storage": storage, "container": container, **figures, **sizes}), flush=True)
                    if arguments.keep and error > arguments.tolerance:
                        shutil.copytree(folder, arguments.keep / f"{seed}-{storage}", dirs_exist_ok=True)
    print(json.dumps({"worst": worst, "tolerance": arguments.tolerance}))
    if worst > arguments.tolerance:
        sys.exit(1)


if __name__ == "__main__":
    main()
