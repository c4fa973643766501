"""Prefill and decode of SmolLM2 in three formats, and decode beside a foreign process."""

import hashlib
import json
import statistics
import time

import llama_cpp
import machine
import pairs

# The published file is Q4_1; the others are made of it, for speed alone: their quality is not looked at.
FORMATS = ("Q4_1", "Q4_0", "Q8_0")
DECODE_TOKENS = "128"
# Test -> (the peer's program and arguments, arguments of `espalier bench`); decode-8 counts all eight sequences together.
TESTS = {
    "prefill": (["llama-bench", "-p", "512", "-n", "0", "-r", "1", "-o", "json"], ["prefill", "--tokens", "512"]),
    "decode": (
        ["llama-bench", "-p", "0", "-n", DECODE_TOKENS, "-r", "1", "-o", "json"],
        ["decode", "--tokens", DECODE_TOKENS],
    ),
    "decode-8": (
        ["llama-batched-bench", "-c", "2048", "-npp", "1", "-ntg", DECODE_TOKENS, "-npl", "8", "--output-format", "jsonl"],
        ["decode", "--tokens", DECODE_TOKENS, "--sequences", "8"],
    ),
}


def model_in(arguments, kind):
    if kind == "Q4_1":
        return arguments.model
    name = arguments.model.name.replace("Q4_1", kind)
    return llama_cpp.quantized(arguments.cache, arguments.model, kind, arguments.cache / "peers" / name)


def tokens_per_second(arguments, name, model, test):
    theirs, ours = TESTS[test]
    if name == "espalier":
        command = [arguments.espalier, "bench", *ours, "--model", model, "--threads", arguments.threads]
        run = machine.watched([*command, "--repetitions", 1, "--json"])
        speed = json.loads(run.output)["tokens_per_second"]
    else:
        program, *options = theirs
        command = [llama_cpp.program(arguments.cache, program), "-m", model, "-t", arguments.threads, *options]
        run = machine.watched(command)
        if program == "llama-bench":
            speed = json.loads(run.output)[0]["avg_ts"]
        else:
            speed = next(json.loads(line) for line in run.output.splitlines() if line.startswith("{"))["speed_tg"]
    return {"tokens_per_second": speed, "foreign_cores": run.foreign_cores}


def measure(arguments, kind):
    """One format's section of the report."""
    model = model_in(arguments, kind)
    section = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "model": {"name": model.name, "bytes": model.stat().st_size, "sha256": hashlib.sha256(model.read_bytes()).hexdigest()},
        "repetitions": arguments.repetitions,
        "roof": [machine.roof(arguments.cache, arguments.threads)],
        "tests": {},
    }
    for test in arguments.tests:
        run = lambda name, test=test: tokens_per_second(arguments, name, model, test)
        compared = pairs.in_turn(f"{kind} {test}", arguments.repetitions, run)
        section["tests"][test] = compared["tokens_per_second"]
    section["roof"].append(machine.roof(arguments.cache, arguments.threads))
    return section


def measure_with_foreign_load(arguments):
    """How much of its decode speed each program keeps beside one CPU-bound process, in turn with quiet runs."""
    runs = {name: {"quiet": [], "loaded": []} for name in pairs.NAMES}
    for _ in range(arguments.repetitions):
        for name in reversed(pairs.NAMES):
            runs[name]["quiet"].append(tokens_per_second(arguments, name, arguments.model, "decode"))
        with machine.foreign_process():
            for name in reversed(pairs.NAMES):
                runs[name]["loaded"].append(tokens_per_second(arguments, name, arguments.model, "decode"))
    section = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "repetitions": arguments.repetitions}
    for name, own in runs.items():
        speed = {state: [run["tokens_per_second"] for run in own[state]] for state in own}
        kept = [loaded / quiet for quiet, loaded in zip(speed["quiet"], speed["loaded"])]
        section[name] = {**own, "kept": kept, "median_kept": statistics.median(kept)}
        for state in own:
            section[name][f"{state}_median"] = statistics.median(speed[state])
    return section


def markdown(sections):
    """Of the formats that were measured."""
    lines = []
    for kind, section in sections.items():
        model = section["model"]
        compared = [(test, result, 1) for test, result in section["tests"].items()]
        lines += ["", f"## {kind}: {model['name']}, {model['bytes'] / 1e6:.1f} MB", ""]
        lines += [f"{section['date']}, {section['repetitions']} runs each.", ""]
        lines += pairs.table(compared, "tokens/s")
        lines += ["", "Every run (cores' worth of other processes meanwhile):", "", *pairs.every_run(compared)]
        lines += ["", "Limits of the machine (`roof.c`), before and after:", ""]
        lines += ["| read 92 MiB, GB/s | read 2 GiB, GB/s | float32 FMA, GFLOP/s | int8, GOP/s | foreign |", "| --- | --- | --- | --- | --- |"]
        for limit in section["roof"]:
            small, large = limit["read_gb_s"].values()
            lines.append(f"| {small} | {large} | {limit['fma_gflop_s']} | {limit['int8_gop_s']} ({limit['int8_kind']}) | {limit['foreign_cores']} |")
    return lines


def markdown_with_foreign_load(section):
    lines = ["", "## Beside a foreign process", ""]
    lines += [
        f"{section['date']}: decode of {DECODE_TOKENS} tokens, Q4_1, alone and beside one process that computes without end; the share is the"
        f" median of {section['repetitions']} pairs.",
        "",
        "| program | alone, tokens/s | beside it, tokens/s | share kept | every share |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, shown in pairs.NAMES.items():
        own = section[name]
        every = ", ".join(f"{share:.0%}" for share in own["kept"])
        lines.append(
            f"| {shown} | {pairs.number(own['quiet_median'])} | {pairs.number(own['loaded_median'])} | **{own['median_kept']:.0%}** | {every} |"
        )
    return lines
