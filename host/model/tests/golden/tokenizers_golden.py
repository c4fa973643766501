"""Makes smollm2-ids.json and splits.json: see README.md.

Run: python3 tokenizers_golden.py --directory HF_DIR --bindings DIR --libraries DIR --model GGUF
     HF_DIR is made by `espalier export --model GGUF --format hf --out HF_DIR`; --bindings and --libraries are the
     folder `llama_cpp` of the PyPI source package llama-cpp-python 0.3.36 and its llama.cpp's build/bin.
"""

import argparse
import ctypes
import importlib
import json
import os
import pathlib
import sys
import types

import tokenizers
import transformers
from tokenizers import normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).parent

TEXTS = [
    "",
    " ",
    "   ",
    "\t\t",
    "\n",
    "\n\n\n",
    "\r\n\r\n",
    " \n \n\t x  \n",
    "Hello, world!",
    " leading and trailing  ",
    "The quick brown fox jumps over the lazy dog.",
    "I'm, you're, we've, he'll, she'd, it's, don't, I'M, DON'T",
    "1 12 123 1234 12345 3.14159 1,000,000 0x7f 1e-9 ½ ² ٣ 四",
    "CamelCase snake_case kebab-case SCREAMING_CASE path/to/file.txt",
    "def f(x):\n    if x > 0:\n        return x ** 2\n\n\treturn None  # comment\n",
    "{\"key\": [1, 2, {\"a\": null}], \"b\": \"\\u00e9\\n\"}",
    "Grüße aus Köln, naïve café, Ærøskøbing, Łódź, İstanbul, ß ẞ",
    "e\u0301 vs \u00e9; a\u0308o\u0308 vs \u00e4\u00f6; \u1e9b\u0323",
    "Привет, мир! Ελληνικά. עברית שלום. العربية مرحبا",
    "日本語のテキスト、漢字とかな。中文字符，標點符號！한국어 텍스트",
    "हिन्दी ไทย தமிழ் ខ្មែរ",
    "👋🏽 👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 ☕️ 😀😃😄",
    "a\u200bb\u200cc\u200dd\ufeffe\u00a0f\u2003g\u3000h\u2028i\u0085j",
    "\u0000\u0001\u001f\u007f\u0080\u009f",
    "\ufffd \ufffe \U0010ffff \ue000",
    "𝕳𝖊𝖑𝖑𝖔 𝒲ℴ𝓇𝓁𝒹 ｆｕｌｌ ｗｉｄｔｈ ﬁ ﬀ Ⅳ",
    "z̷̢̛a̸͝l̵g̴o̸ combining",
    "!!!???...---___***~~~```\"\"\"'''",
    "$100 €50 £3 ¥7 50% #tag @user a&b c|d <e> [f] (g) {h} \\i^j",
    "https://example.com/path?query=1&other=%20#fragment mail@example.org",
    "x" * 200,
    "ab" * 100 + " " * 50 + "cd",
    "word " * 20 + "\n" * 10,
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "before<|im_end|>after <|im_end|> <|endoftext|><|endoftext|>",
    "<|im_start <|im_end|> |im_end|> <|IM_END|>",
    "'s 't 're 'ſ 'S S'S ''s",
    "aaaaaaaaaaaaaaaaaaaaaaaa AAAAAAAAAAAA",
    "mixed123text456 7up 3D 2nd v1.2.3-rc.4",
    "end with space \n",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
])


def split(*expressions):
    steps = [pre_tokenizers.Split(tokenizers.Regex(expression), "isolated") for expression in expressions]
    return pre_tokenizers.Sequence(steps)


SPLITS = {
    "smollm": (None, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split(GPT2)])),
    "gpt-2": (None, split(GPT2)),
    "llama-bpe": (None, split(LLAMA3)),
    "qwen2": (normalizers.NFC(), split(QWEN2)),
    "gpt-4o": (None, split(O200K)),
    "default": (None, split(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
}


class LlamaCpp:
    def __init__(self, folder, libraries, model):
        os.environ["LLAMA_CPP_LIB_PATH"] = str(libraries)
        package = types.ModuleType("llama_cpp")
        package.__path__ = [str(folder)]
        sys.modules["llama_cpp"] = package
        self.c = importlib.import_module("llama_cpp.llama_cpp")
        self.c.llama_backend_init()
        parameters = self.c.llama_model_default_params()
        parameters.vocab_only = True
        self.model = self.c.llama_model_load_from_file(str(model).encode(), parameters)
        self.vocabulary = self.c.llama_model_get_vocab(self.model)

    def encode(self, text):
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        count = self.c.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), False, True)
        assert count >= 0, text
        return list(ids[:count])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["directory", "bindings", "libraries", "model"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    reference = transformers.AutoTokenizer.from_pretrained(arguments.directory)
    llama_cpp = LlamaCpp(arguments.bindings, arguments.libraries, arguments.model)
    cases = []
    for text in TEXTS:
        ids = reference.encode(text, add_special_tokens=False)
        other = llama_cpp.encode(text)
        if ids != other:
            print(f"llama.cpp differs on {text!r}:\n  {ids}\n  {other}", file=sys.stderr)
        cases.append({"text": text, "ids": ids, "llama_cpp_agrees": ids == other})
    (HERE / "smollm2-ids.json").write_text(json.dumps(cases, ensure_ascii=True, indent=0) + "\n")

    splits = {}
    for name, (normalizer, pre_tokenizer) in SPLITS.items():
        normalize = normalizer.normalize_str if normalizer else lambda text: text
        splits[name] = [[word for word, _ in pre_tokenizer.pre_tokenize_str(normalize(text))] for text in TEXTS]
    document = {"texts": TEXTS, "splits": splits}
    (HERE / "splits.json").write_text(json.dumps(document, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
