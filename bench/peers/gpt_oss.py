"""The shape of GPT-OSS 20B on random weights, one GGUF file for both programs: speed, start and memory."""

import json
import subprocess
import time

import llama_cpp
import machine
import pairs

PROMPT_TOKENS, DECODE_TOKENS = "128", "32"
PROMPT = "What does a gardener do in an orchard in winter?"
# Figure -> (label, factor to the unit of the label).
SPEEDS = {"prefill": (f"prefill of {PROMPT_TOKENS}, tokens/s", 1), "decode": (f"decode of {DECODE_TOKENS}, tokens/s", 1)}
COSTS = {
    "resident": ("resident at most, GB", 1e-9),
    "anonymous": ("of that its own, not the file's, GB", 1e-9),
    "start": ("start to first token, s", 1),
    "start_resident": ("resident at most by then, GB", 1e-9),
}


def model(arguments):
    """MXFP4 experts and Q8_0 elsewhere, as the file that llama.cpp's users have; made once, in some minutes."""
    out = arguments.cache / "peers" / "gpt-oss-20b-random.Q8_0.gguf"
    if out.exists():
        return out
    plain = out.with_name("gpt-oss-20b-random.BF16.gguf")
    if not plain.exists():
        # Where `cargo xtask bench gpt-oss-20b` has it too.
        random = arguments.cache / "gpt-oss-20b" / "original"
        if not random.exists():
            random.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([arguments.espalier, "synth", "--shape", "gpt-oss-20b", "--out", random], check=True)
        subprocess.run([arguments.espalier, "export", "--model", random, "--format", "gguf", "--out", plain], check=True)
    llama_cpp.quantized(arguments.cache, plain, "MXFP4_MOE", out)
    plain.unlink()
    return out


def measure(arguments):
    """The section of the report."""
    file = model(arguments)
    compared = pairs.in_turn(
        "gpt-oss-20b", arguments.repetitions, lambda name: run(arguments, name, file), less_is_better=COSTS
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "model": {"name": file.name, "bytes": file.stat().st_size},
        "repetitions": arguments.repetitions,
        "roof": machine.roof(arguments.cache, arguments.threads),
        "figures": compared,
    }


def run(arguments, name, file):
    """The file is in the page cache before each of both processes: one for the speeds, one for the start."""
    machine.read_into_page_cache(file)
    speeds = machine.watched(speed_command(arguments, name, file))
    prefill, decode = speeds_in(name, speeds.output)
    machine.read_into_page_cache(file)
    start = machine.watched(start_command(arguments, name, file))
    return {
        "prefill": prefill,
        "decode": decode,
        "resident": speeds.resident,
        "anonymous": speeds.anonymous,
        "start": start.seconds,
        "start_resident": start.resident,
        "foreign_cores": speeds.foreign_cores,
    }


def speed_command(arguments, name, file):
    if name == "espalier":
        options = ["--prompt-tokens", PROMPT_TOKENS, "--decode-tokens", DECODE_TOKENS, "--repetitions", 1, "--json"]
        return [arguments.espalier, "bench", "footprint", "--model", file, "--threads", arguments.threads, *options]
    program = llama_cpp.program(arguments.cache, "llama-bench")
    return [program, "-m", file, "-t", arguments.threads, "-p", PROMPT_TOKENS, "-n", DECODE_TOKENS, "-r", "1", "-o", "json"]


def speeds_in(name, output):
    found = json.loads(output)
    if name == "espalier":
        return found["prefill_tokens_per_second"], 1000 / found["decode_milliseconds_per_token"]
    return tuple(next(test["avg_ts"] for test in found if test[key]) for key in ("n_prompt", "n_gen"))


def start_command(arguments, name, file):
    if name == "espalier":
        options = ["--raw", "--prompt", PROMPT, "--max-tokens", 1]
        return [arguments.espalier, "generate", "--model", file, "--threads", arguments.threads, *options]
    program = llama_cpp.program(arguments.cache, "llama-completion")
    options = ["-p", PROMPT, "-n", "1", "-no-cnv", "--no-warmup", "-c", "4096", "--temp", "0"]
    return [program, "-m", file, "-t", arguments.threads, *options]


def markdown(section):
    model_file, figures = section["model"], section["figures"]
    lines = [
        "",
        f"{section['date']}: {model_file['name']}, {model_file['bytes'] / 1e9:.2f} GB (experts MXFP4, all else Q8_0), the same file for both,"
        f" {section['repetitions']} runs each. The speeds are of one process, and its memory is what it held at most in physical"
        f" memory, mapped file included. The start is a process of its own with the file in the page cache, from its launch to its"
        f" end after one token that follows a prompt of a dozen; llama.cpp's without its warm-up.",
        "",
    ]
    compared = [(label, figures[figure], scale) for figure, (label, scale) in {**SPEEDS, **COSTS}.items()]
    lines += [*pairs.table(compared, "figure"), "", "Every run (cores' worth of other processes meanwhile):", ""]
    lines += pairs.every_run(compared)
    large = list(section["roof"]["read_gb_s"].values())[-1]
    lines += ["", f"Reading memory: {large} GB/s (`roof.c`, 2 GiB, afterwards)."]
    return lines
