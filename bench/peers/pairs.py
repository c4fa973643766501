"""Two programs in turn, A B A B: on a shared machine only neighbouring runs compare.

A claim of "faster than" is the median of the ratios of neighbouring runs. Ratios above one mean that Espalier is better,
whether the figure is a speed (more is better) or a time or a size (less is better).
"""

import sys
from statistics import median

from machine import CLEAN_CORES

NAMES = {"espalier": "espalier", "llama_cpp": "llama.cpp"}


def in_turn(title, repetitions, measure, less_is_better=()):
    """Pairs of runs. `measure(name)` gives a dict of figures and, as `foreign_cores`, the load from elsewhere.

    Returns figure -> comparison.
    """
    runs = {name: [] for name in NAMES}
    for repetition in range(repetitions):
        for name in reversed(NAMES):
            runs[name].append(measure(name))
            print(f"{title} {repetition + 1}/{repetitions} {NAMES[name]}: {shown(runs[name][-1])}", file=sys.stderr)
    figures = [figure for figure in runs["espalier"][0] if figure != "foreign_cores"]
    return {figure: compare(runs, figure, figure in less_is_better) for figure in figures}


def shown(run):
    return ", ".join(f"{figure} {value:.4g}" for figure, value in run.items() if value is not None)


def compare(runs, figure, less_is_better):
    sides = {}
    for name, own in runs.items():
        values = [run[figure] for run in own]
        clean = [run[figure] for run in own if run["foreign_cores"] is not None and run["foreign_cores"] <= CLEAN_CORES]
        sides[name] = {
            "runs": [{"value": run[figure], "foreign_cores": run["foreign_cores"]} for run in own],
            "median": median(values),
            "best": min(values) if less_is_better else max(values),
            "clean": len(clean),
        }
    pairs = zip(*(runs[name] for name in NAMES))
    ratios = [b[figure] / a[figure] if less_is_better else a[figure] / b[figure] for a, b in pairs if a[figure] and b[figure]]
    middle, lowest = (median(ratios), min(ratios)) if ratios else (None, None)
    return {**sides, "ratios": ratios, "median_ratio": middle, "lowest_ratio": lowest}


def table(comparisons, what):
    """Markdown: one line a comparison. `comparisons` is a list of (label, comparison, scale of the figures)."""
    lines = [
        f"| {what} | Espalier: median / best | llama.cpp: median / best | median of paired ratios | lowest | clean runs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for label, comparison, scale in comparisons:
        ours, theirs = comparison["espalier"], comparison["llama_cpp"]
        cells = [f"{number(side['median'] * scale)} / {number(side['best'] * scale)}" for side in (ours, theirs)]
        clean = f"{ours['clean']} and {theirs['clean']} of {len(ours['runs'])}"
        ratio, lowest = comparison["median_ratio"], comparison["lowest_ratio"]
        verdict = "| n/a | n/a" if ratio is None else f"| **{ratio:.2f}** | {lowest:.2f}"
        lines.append(f"| {label} | {cells[0]} | {cells[1]} {verdict} | {clean} |")
    return lines


def every_run(comparisons):
    """Markdown: the single runs of a list as `table` has it."""
    lines = []
    for label, comparison, scale in comparisons:
        for name in NAMES:
            runs = ", ".join(f"{number(run['value'] * scale)} ({run['foreign_cores']})" for run in comparison[name]["runs"])
            lines.append(f"- {label}, {NAMES[name]}: {runs}")
    return lines


def number(value):
    """Three digits or more."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.3g}"
