"""Checks that transformers loads the tokenizer files that Espalier writes for gpt-oss and agrees with tiktoken's ids.

Run: python3 o200k_harmony_transformers.py DIRECTORY, made by `espalier synth --shape` (or `espalier export`) for a
gpt-oss with a vocabulary of 201088.
Needs: transformers.
"""

import json
import pathlib
import sys

import transformers

tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
cases = json.loads((pathlib.Path(__file__).parent / "o200k-harmony-ids.json").read_text())
for case in cases:
    found = tokenizer.encode(case["text"], add_special_tokens=True)
    assert found == case["special"], (case["text"], found, case["special"])
    assert tokenizer.decode(found) == case["text"], case["text"]
assert tokenizer.eos_token_id == 200002 and tokenizer.pad_token_id == 199999
print(f"{len(cases)} texts agree")
