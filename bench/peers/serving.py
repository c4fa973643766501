"""Both servers over HTTP, in turn, under the load of `espalier bench serve`."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import llama_cpp
import machine
import pairs

STREAMS = 8  # sequences that either server decodes together
CONTEXT = 1024  # of each
# Clients -> requests of all of them, so that a load lasts some seconds.
LOADS = {1: 8, 4: 16, 8: 32, 32: 64}
PROMPT_TOKENS, MAX_TOKENS = 128, 64
# Many prompts with one beginning, as a long system prompt makes them.
SHARED = {"streams": 4, "requests": 50, "prompt_tokens": 420, "shared_tokens": 400, "max_tokens": 16}
FIGURES = {
    "tokens_per_second": "throughput, tokens/s",
    "first_p50": "first token p50, ms",
    "first_p99": "first token p99, ms",
    "inter_p50": "between tokens p50, ms",
    "inter_p99": "between tokens p99, ms",
}
LATENCIES = [figure for figure in FIGURES if figure != "tokens_per_second"]
# The metric in which each server counts the prompt tokens that it computed.
COMPUTED = {"espalier": "espalier_prompt_tokens_total", "llama_cpp": "llamacpp:prompt_tokens_total"}


@contextlib.contextmanager
def server(arguments, name):
    """A server that is ready; yields its address and its process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        if name == "espalier":
            command = [arguments.espalier, "serve", "--model", f"smollm2={arguments.model}", "--state-dir", folder]
            command += ["--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{free_port()}"]
            command += ["--threads", arguments.threads, "--max-sequences", STREAMS, "--max-model-len", CONTEXT]
            ready = f"{url}/ready"
        else:
            command = [llama_cpp.program(arguments.cache, "llama-server"), "-m", arguments.model, "--port", port]
            command += ["-t", arguments.threads, "-np", STREAMS, "-c", STREAMS * CONTEXT, "--metrics"]
            ready = f"{url}/health"
        with open(f"{folder}/log", "w+") as log:
            process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            try:
                wait_until_ready(process, ready, log)
                yield url, process.pid
            finally:
                process.terminate()
                process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_ready(process, url, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    log.seek(0)
    sys.exit(f"{url} is not ready: {log.read()[-500:]}")


def load(arguments, serving, seed, streams, requests, prompt_tokens=PROMPT_TOKENS, shared_tokens=0, max_tokens=MAX_TOKENS):
    """The figures of one run of the load generator, and the prompt tokens that it sent."""
    url, process = serving
    command = [arguments.espalier, "bench", "serve", "--url", url, "--model", "smollm2", "--ignore-eos", "--json"]
    command += ["--streams", streams, "--requests", requests, "--seed", seed, "--max-tokens", max_tokens]
    command += ["--prompt-tokens", prompt_tokens, "--shared-tokens", shared_tokens]
    run = machine.watched(command, process)
    found = json.loads(run.output)
    first, inter = found["time_to_first_token"], found["inter_token_latency"]
    figures = {
        "tokens_per_second": found["tokens_per_second"],
        "first_p50": first["p50"],
        "first_p99": first["p99"],
        "inter_p50": inter["p50"],
        "inter_p99": inter["p99"],
        "foreign_cores": run.foreign_cores,
    }
    return figures, found["prompt_tokens"]


def computed_prompt_tokens(url, name):
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    values = re.findall(rf"^{COMPUTED[name]}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.MULTILINE)
    return sum(map(float, values))


def measure(arguments):
    """The report: every load on both servers in turn, and the load with a shared beginning."""
    runs = {streams: {name: [] for name in pairs.NAMES} for streams in LOADS}
    shared = {name: [] for name in pairs.NAMES}
    for repetition in range(arguments.repetitions):
        for name in reversed(pairs.NAMES):
            with server(arguments, name) as serving:
                for streams, requests in LOADS.items():
                    found, _ = load(arguments, serving, seed(repetition, streams), streams, requests)
                    runs[streams][name].append(found)
                    title = f"serve {repetition + 1}/{arguments.repetitions} {streams} clients"
                    print(f"{title} {pairs.NAMES[name]}: {pairs.shown(found)}", file=sys.stderr)
                shared[name].append(with_shared_beginning(arguments, serving, name, seed(repetition, 0)))
    compared = {
        streams: {figure: pairs.compare(own, figure, figure in LATENCIES) for figure in FIGURES} for streams, own in runs.items()
    }
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "repetitions": arguments.repetitions,
        "loads": {str(streams): {"requests": LOADS[streams], "figures": found} for streams, found in compared.items()},
        "shared_beginning": {"load": SHARED, "runs": shared},
    }


def with_shared_beginning(arguments, serving, name, seed):
    url, _ = serving
    before = computed_prompt_tokens(url, name)
    found, sent = load(arguments, serving, seed, **SHARED)
    computed = computed_prompt_tokens(url, name) - before
    # The generator does not count the request that warms up; the server does.
    return {**found, "computed_share": computed / (sent * (1 + 1 / SHARED["requests"]))}


def seed(repetition, streams):
    """Other prompts for every load."""
    return repetition * 1000 + streams


def markdown(section):
    lines = [
        "",
        f"{section['date']}: SmolLM2 Q4_1, `espalier serve --max-sequences {STREAMS}` and `llama-server -np {STREAMS}`, both with a context of"
        f" {CONTEXT} for each sequence. The load is `espalier bench serve` on the same cores: prompts of {PROMPT_TOKENS} tokens that all"
        f" differ, {MAX_TOKENS} tokens each, every client sends its next request when it has its answer. {section['repetitions']} runs of each"
        " server, in turn, a fresh process each.",
    ]
    for streams, found in section["loads"].items():
        plural = "client" if streams == "1" else "clients"
        compared = [(label, found["figures"][figure], 1) for figure, label in FIGURES.items()]
        lines += ["", f"## {streams} {plural}, {found['requests']} requests", "", *pairs.table(compared, "figure")]
    return lines + markdown_of_shared_beginning(section["shared_beginning"])


def markdown_of_shared_beginning(section):
    sent = section["load"]
    lines = ["", "## A shared beginning", ""]
    lines += [
        f"{sent['requests']} requests of {sent['streams']} clients, prompts of {sent['prompt_tokens']} tokens of which the first"
        f" {sent['shared_tokens']} are the same, {sent['max_tokens']} tokens each. Computed is the share of the prompts' tokens that the"
        " server's own metrics count as computed, not taken from its cache. Medians.",
        "",
        "| program | prompt tokens computed | " + " | ".join(FIGURES.values()) + " |",
        "| --- " * (len(FIGURES) + 2) + "|",
    ]
    for name, shown in pairs.NAMES.items():
        runs = section["runs"][name]
        cells = [pairs.number(pairs.median(run[figure] for run in runs)) for figure in FIGURES]
        computed = pairs.median(run["computed_share"] for run in runs)
        lines.append(f"| {shown} | {computed:.0%} | " + " | ".join(cells) + " |")
    return lines
