#!/usr/bin/env python3
"""Espalier and llama.cpp in turn on one machine: `build` makes the peer, `run` measures and writes a report.

  bench/peers.py build [--cache DIR] [--without-amx]
      llama.cpp as the PyPI source package llama-cpp-python 0.3.36 vendors it, SHA-256 checked, built in Release for this
      processor into CACHE/peers. About half an hour on two cores; nothing is done twice. On processors with AMX its
      prefill was seen to crash when built by GCC 12: --without-amx leaves that path out, and the report says so.
  bench/peers.py run --model GGUF [--threads 2] [--repetitions 5] [--tests prefill,decode,decode-8] [--report NAME] [--cache DIR]
      A B A B …: each measurement is a process of its own with its own warm-up. The machine's limits (roof.c) are
      measured before, between and after. Writes bench/reports/NAME.json and NAME.md.

Method. On a shared machine single figures mean little: a claim of "faster than" is the median of the ratios of
neighbouring runs, and the report lists every run with the load that other processes put on the cores during it ("foreign",
in cores: all CPU time of the machine less the run's own, over the wall time). A run is *clean* up to 0.10 of a core.
Ratios above one mean that Espalier is faster.

Needs: Python 3.9 or newer with pip, a C compiler, CMake and make or ninja; target/release/espalier for `run`.
"""

import argparse
import hashlib
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
TARGETS = ["llama-bench", "llama-batched-bench", "llama-perplexity", "llama-quantize", "llama-completion", "llama-server"]
OPTIONS = ["CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON"] + [
    f"LLAMA_{part}=OFF" for part in ("CURL", "OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_WEBUI")
]
CLEAN_CORES = 0.10
# Test -> (the peer's program and arguments, arguments of `espalier bench`); decode-8 counts all eight sequences together.
TESTS = {
    "prefill": (["llama-bench", "-p", "512", "-n", "0", "-r", "1", "-o", "json"], ["prefill", "--tokens", "512"]),
    "decode": (["llama-bench", "-p", "0", "-n", "128", "-r", "1", "-o", "json"], ["decode", "--tokens", "128"]),
    "decode-8": (
        ["llama-batched-bench", "-c", "2048", "-npp", "1", "-ntg", "128", "-npl", "8", "--output-format", "jsonl"],
        ["decode", "--tokens", "128", "--sequences", "8"],
    ),
}


def default_cache():
    return ROOT / os.environ.get("ESPALIER_CACHE", ".espalier")


def binaries(cache):
    return cache / "peers" / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp" / "build" / "bin"


def build(arguments):
    peers = arguments.cache / "peers"
    peers.mkdir(parents=True, exist_ok=True)
    archive = peers / f"llama_cpp_python-{VERSION}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "--dest", str(peers)]
        subprocess.run([*pip, f"{PACKAGE}=={VERSION}"], check=True)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        archive.unlink()
        sys.exit(f"{archive.name} has SHA-256 {found}, expected {SHA256}; it was removed, run again to fetch it anew")
    source = binaries(arguments.cache).parent.parent
    if not source.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(peers, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    if not shutil.which("cmake"):
        sys.exit("cmake is not installed: `pip install cmake ninja` or the system's package manager has it")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = OPTIONS
    if arguments.without_amx:  # ggml compiles that path where the compiler defines this macro
        options = [*options, "CMAKE_C_FLAGS=-U__AMX_INT8__", "CMAKE_CXX_FLAGS=-U__AMX_INT8__"]
    configure = ["cmake", "-S", str(source), "-B", str(source / "build"), *generator, *(f"-D{option}" for option in options)]
    subprocess.run(configure, check=True)
    jobs = str(os.cpu_count())
    subprocess.run(["cmake", "--build", str(source / "build"), "--parallel", jobs, "--target", *TARGETS], check=True)
    print(binaries(arguments.cache))


def peer_version(cache):
    version = f"llama.cpp as vendored in {PACKAGE} {VERSION}"
    settings = (binaries(cache).parent / "CMakeCache.txt").read_text()
    without = "-U__AMX_INT8__" in settings or {"GGML_NATIVE:BOOL=OFF", "GGML_AMX_INT8:BOOL=OFF"} <= set(settings.split("\n"))
    return f"{version}, built without AMX" if without else version


def machine_cpu_seconds():
    """CPU time of all processes since boot, without idle and waiting; None where /proc is not to be had."""
    try:
        fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def measured(command):
    """The command's output and the foreign load during it."""
    before, own_before, wall_before = machine_cpu_seconds(), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    wall = time.monotonic() - wall_before
    own_after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    foreign = None
    if before is not None:
        own = own_after.ru_utime + own_after.ru_stime - own_before.ru_utime - own_before.ru_stime
        foreign = round(max(0.0, machine_cpu_seconds() - before - own) / wall, 2)
    return done.stdout, foreign


def llama_cpp(arguments, test):
    program, *options = TESTS[test][0]
    command = [binaries(arguments.cache) / program, "-m", arguments.model, "-t", arguments.threads, *options]
    output, foreign = measured(command)
    if program == "llama-bench":
        speed = json.loads(output)[0]["avg_ts"]
    else:
        speed = next(json.loads(line) for line in output.splitlines() if line.startswith("{"))["speed_tg"]
    return {"tokens_per_second": speed, "foreign_cores": foreign}


def espalier(arguments, test):
    command = [arguments.espalier, "bench", *TESTS[test][1], "--model", arguments.model, "--threads", arguments.threads]
    output, foreign = measured([*command, "--repetitions", 1, "--json"])
    return {"tokens_per_second": json.loads(output)["tokens_per_second"], "foreign_cores": foreign}


def roof(arguments):
    program = arguments.cache / "peers" / "roof"
    source = ROOT / "bench" / "roof.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O3", "-march=native", "-pthread", str(source), "-o", str(program)], check=True)
    output, foreign = measured([program, arguments.threads])
    return {**json.loads(output), "foreign_cores": foreign}


def host():
    info = {"system": f"{platform.system()} {platform.release()}", "machine": platform.machine(), "cores": os.cpu_count()}
    try:
        cpu = pathlib.Path("/proc/cpuinfo").read_text()
        info["processor"] = re.search(r"model name\s*: (.*)", cpu)[1]
        flags = re.search(r"flags\s*: (.*)", cpu)[1].split()
        wanted = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
        info["instruction_sets"] = [flag for flag in wanted if flag in flags]
        info["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, TypeError):
        pass
    return info


def summary(runs):
    speeds = [run["tokens_per_second"] for run in runs]
    clean = [run["tokens_per_second"] for run in runs if run["foreign_cores"] is not None and run["foreign_cores"] <= CLEAN_CORES]
    figures = {"median": statistics.median(speeds), "max": max(speeds), "clean": len(clean)}
    return {**figures, "clean_median": statistics.median(clean) if clean else None}


def measure(arguments, test):
    ours, theirs = [], []
    for repetition in range(arguments.repetitions):
        theirs.append(llama_cpp(arguments, test))
        ours.append(espalier(arguments, test))
        shown = [f"{run['tokens_per_second']:8.1f} ({run['foreign_cores']})" for run in (ours[-1], theirs[-1])]
        print(f"{test} {repetition + 1}/{arguments.repetitions}: espalier {shown[0]}, llama.cpp {shown[1]}", file=sys.stderr)
    ratios = [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(ours, theirs)]
    return {
        "espalier": {"runs": ours, **summary(ours)},
        "llama_cpp": {"runs": theirs, **summary(theirs)},
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
    }


def markdown(report):
    machine = report["host"]
    lines = [
        f"# Espalier and llama.cpp: {report['model']['name']}",
        "",
        f"Made by `bench/peers.py run`, {report['date']}. {machine.get('processor', machine['machine'])}, {machine['cores']} cores"
        f" ({', '.join(machine.get('instruction_sets', []))}), {machine.get('memory_gib', '?')} GiB, {machine['system']}."
        f" {report['threads']} threads, {report['repetitions']} runs each, in turn. Model: {report['model']['bytes'] / 1e6:.1f} MB."
        f" Peer: {report['peer']}.",
        "",
        "| test | Espalier tok/s: median / max | llama.cpp tok/s: median / max | median of paired ratios | lowest | clean runs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for test, result in report["tests"].items():
        ours, theirs = result["espalier"], result["llama_cpp"]
        lines.append(
            f"| {test} | {ours['median']:.1f} / {ours['max']:.1f} | {theirs['median']:.1f} / {theirs['max']:.1f}"
            f" | **{result['median_ratio']:.2f}** | {result['lowest_ratio']:.2f} | {ours['clean']} and {theirs['clean']} of {report['repetitions']} |"
        )
    lines += ["", "Every run, tok/s (cores' worth of other processes meanwhile):", ""]
    for test, result in report["tests"].items():
        for name in ("espalier", "llama_cpp"):
            runs = ", ".join(f"{run['tokens_per_second']:.1f} ({run['foreign_cores']})" for run in result[name]["runs"])
            lines.append(f"- {test}, {name.replace('_', '.')}: {runs}")
    lines += ["", "Limits of the machine (`roof.c`), before, between and after the tests:", ""]
    lines += ["| read 92 MiB, GB/s | read 2 GiB, GB/s | float32 FMA, GFLOP/s | int8, GOP/s | foreign |", "| --- | --- | --- | --- | --- |"]
    for limit in report["roof"]:
        small, large = limit["read_gb_s"].values()
        lines.append(f"| {small} | {large} | {limit['fma_gflop_s']} | {limit['int8_gop_s']} ({limit['int8_kind']}) | {limit['foreign_cores']} |")
    return "\n".join(lines) + "\n"


def run(arguments):
    for program in (arguments.espalier, binaries(arguments.cache) / "llama-bench"):
        if not program.exists():
            sys.exit(f"there is no {program}: run `cargo build --release` and `bench/peers.py build` first")
    model = arguments.model
    report = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "host": host(),
        "model": {"name": model.name, "bytes": model.stat().st_size, "sha256": hashlib.sha256(model.read_bytes()).hexdigest()},
        "peer": peer_version(arguments.cache),
        "threads": arguments.threads,
        "repetitions": arguments.repetitions,
        "roof": [roof(arguments)],
        "tests": {},
    }
    for test in arguments.tests.split(","):
        if test not in TESTS:
            sys.exit(f"test {test!r} is not known, expected {' or '.join(TESTS)}")
        report["tests"][test] = measure(arguments, test)
        report["roof"].append(roof(arguments))
    out = ROOT / "bench" / "reports" / arguments.report
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    out.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, action in (("build", build), ("run", run)):
        command = commands.add_parser(name)
        command.set_defaults(action=action)
        command.add_argument("--cache", type=pathlib.Path, default=default_cache())
        if action is build:
            command.add_argument("--without-amx", action="store_true")
        else:
            command.add_argument("--model", type=pathlib.Path, required=True)
            command.add_argument("--espalier", type=pathlib.Path, default=ROOT / "target" / "release" / "espalier")
            command.add_argument("--threads", type=int, default=2)
            command.add_argument("--repetitions", type=int, default=5)
            command.add_argument("--tests", default=",".join(TESTS))
            command.add_argument("--report", default="llama-cpp")
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.resolve()
    arguments.action(arguments)


if __name__ == "__main__":
    main()
