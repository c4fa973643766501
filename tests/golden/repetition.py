"""How varied the answers of `data/text-metrics/{en,zh}.jsonl` are, by the definitions and with Python's own strings and sets.

Writes `data/text-metrics/repetition.json`: distinct-1, 2 and 3 (different n-grams over all units, Li et al., NAACL 2016), the
mean share of repeated 4-grams (seq-rep-4, Welleck et al., ICLR 2020) and its standard error. English units are what
`str.split` gives, Chinese ones are all characters but white space.

    python3 tests/golden/repetition.py
"""

import json
import pathlib
import statistics

DATA = pathlib.Path(__file__).parent / "data" / "text-metrics"


def grams(units, order):
    return list(zip(*(units[first:] for first in range(order))))


def figures(answers):
    length = sum(len(units) for units in answers)
    found = {}
    for order in (1, 2, 3):
        different = set()
        for units in answers:
            different.update(grams(units, order))
        found[f"distinct-{order}"] = len(different) / length
    shares = [1 - len(set(grams(units, 4))) / len(grams(units, 4)) for units in answers if len(units) >= 4]
    found["repetition.4-grams"] = statistics.fmean(shares)
    found["standard-error"] = statistics.pstdev(shares) / (len(shares) - 1) ** 0.5
    return found


def main():
    cuts = {"en": str.split, "zh": lambda text: [character for character in text if not character.isspace()]}
    document = {}
    for language, cut in cuts.items():
        # Not `splitlines`, which also ends lines at separators inside the texts.
        lines = (DATA / f"{language}.jsonl").read_text(encoding="utf-8").split("\n")
        document[language] = figures([cut(json.loads(line)["candidate"]) for line in lines if line])
    (DATA / "repetition.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


main()
