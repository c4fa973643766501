"""Espalier and llama.cpp in turn on one machine: `build` makes the peer, `run` measures and writes reports.

  bench/peers build [--cache DIR] [--without-amx]
      llama.cpp as the PyPI source package llama-cpp-python 0.3.36 vendors it, SHA-256 checked, built in Release for this
      processor into CACHE/peers. About half an hour on two cores; nothing is done twice. On processors with AMX its
      prefill was seen to crash when built by GCC 12: that path is then left out, and the reports say so.
  bench/peers run --model GGUF [--parts throughput,foreign,serve,gpt-oss-20b] [--formats …] [--tests …] [--repetitions 5]
      The SmolLM2 file is Q4_1; Q4_0 and Q8_0 are made of it. Each part, and each format, renews its section of a report
      and leaves the others. gpt-oss-20b writes 40 GB of random weights at first, of which 26 GB stay.

Method. A B A B …: each measurement is a process of its own with its own warm-up. On a shared machine single figures mean
little: a claim of "faster than" is the median of the ratios of neighbouring runs, and the reports list every run with the
load that other processes put on the cores during it ("foreign", in cores: all CPU time of the machine less the run's own,
over the wall time). A run is *clean* up to 0.10 of a core. The machine's limits (roof.c) are measured beside them.

Needs: Python 3.9 or newer with pip and venv, a C and C++ compiler; target/release/espalier for `run`.
"""

import argparse
import os
import pathlib

import gpt_oss
import llama_cpp
import report
import serving
import throughput

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PARTS = ("throughput", "foreign", "serve", "gpt-oss-20b")


def one_of(known):
    """A parser of comma-separated names."""

    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"found {name!r}, expected some of {','.join(known)}")
        return names

    return parse


def run(arguments):
    if not arguments.espalier.exists():
        raise SystemExit(f"there is no {arguments.espalier}: run `cargo build --release` first")
    for part in arguments.parts:
        if part == "throughput":
            for kind in arguments.formats:
                text = report.renew(arguments, "llama-cpp", kind, throughput.measure(arguments, kind))
        elif part == "foreign":
            text = report.renew(arguments, "llama-cpp", part, throughput.measure_with_foreign_load(arguments))
        elif part == "serve":
            text = report.renew(arguments, "serve", part, serving.measure(arguments))
        else:
            text = report.renew(arguments, "gpt-oss-20b-llama-cpp", part, gpt_oss.measure(arguments))
        print(text)


def main():
    parser = argparse.ArgumentParser(prog="bench/peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    cache = ROOT / os.environ.get("ESPALIER_CACHE", ".espalier")
    build = commands.add_parser("build")
    build.set_defaults(action=lambda arguments: llama_cpp.build(arguments.cache, arguments.without_amx))
    build.add_argument("--without-amx", action="store_true")
    measure = commands.add_parser("run")
    measure.set_defaults(action=run)
    measure.add_argument("--model", type=pathlib.Path, required=True)
    measure.add_argument("--espalier", type=pathlib.Path, default=ROOT / "target" / "release" / "espalier")
    measure.add_argument("--threads", type=int, default=2)
    measure.add_argument("--repetitions", type=int, default=5)
    measure.add_argument("--parts", type=one_of(PARTS), default=PARTS)
    measure.add_argument("--formats", type=one_of(throughput.FORMATS), default=throughput.FORMATS)
    measure.add_argument("--tests", type=one_of(throughput.TESTS), default=throughput.TESTS)
    for command in (build, measure):
        command.add_argument("--cache", type=pathlib.Path, default=cache)
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.resolve()
    arguments.action(arguments)


if __name__ == "__main__":
    main()
