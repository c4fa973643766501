"""Writes o200k-harmony-ids.json: texts and the ids that tiktoken gives them, special tokens as text and as tokens.

Run: python3 o200k_harmony_golden.py O200K_BASE_TIKTOKEN > o200k-harmony-ids.json
Needs: tiktoken. The argument is OpenAI's o200k_base.tiktoken (SHA-256 446a9538…), as the tiktoken-rs crate bundles it.
"""

import hashlib
import json
import pathlib
import random
import sys

import tiktoken
import tiktoken.load
import tiktoken_ext.openai_public as public

RANKS = pathlib.Path(sys.argv[1])
assert hashlib.sha256(RANKS.read_bytes()).hexdigest().startswith("446a9538")

TEXTS = [
    "",
    "Hello, world!",
    "Hello world's It's I'll WE'LL don'T",
    "The capital of France is Paris.",
    "  two spaces, then\ttab\n\n\nthree lines   \n  indented\r\nwindows\r\n\r\n",
    " " * 17 + "x" + " " * 200,
    "\n" * 9 + "\t" * 5 + " \n \n",
    "fn main() {\n    println!(\"{:?}\", x[0]..=y); // comment\n}\n",
    "SELECT * FROM t WHERE a<>b AND c>=1e-10;--",
    "1234567890 12 345 6.7e8 0x1F ١٢٣ ४५६",
    "中文分词测试：这个模型能不能正确地切分中文？",
    "日本語のテキスト、カタカナとひらがな。한국어 텍스트도 있습니다.",
    "漢字かな交じり文 & English mixed 混合文本123",
    "Привет, как дела? Γειά σου Κόσμε. שלום עולם مرحبا بالعالم",
    "नमस्ते दुनिया สวัสดีชาวโลก xin chào thế giới",
    "🌳✂️👩‍👩‍👧‍👦🏳️‍🌈🇩🇪 emoji 💖💖 ok",
    "e\u0301 \u00e9 a\u030a \u2126 \ufb01 zero\u200bwidth nb\u00a0space \u3000 wide",
    "\ufeffbyte order mark, \u2028 line separator \u0085 next line",
    "\u0000\u0001\u001f\u007f controls",
    "CamelCaseWordsAndHTTPServer XMLHttpRequest iPhone",
    "https://example.com/a/b?c=d&e=%20#f //path///to////file",
    "_underscore__double___triple ---- ==== **** ....",
    "<|start|>user<|message|>What is 2 + 2?<|end|><|start|>assistant",
    "<|start|>assistant<|channel|>analysis<|message|>Simple.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>",
    "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{\"a\": 1}<|call|>",
    "<|endoftext|><|startoftext|><|reserved_200000|><|reserved_201087|> <|not_a_token|> <|end",
    "a<|end|>b",
    "don't stop<|return|>\n",
]


def encoding():
    """o200k_harmony as OpenAI defines it, with the ranks from the file instead of the network."""
    public.load_tiktoken_bpe = lambda *_, **__: tiktoken.load.load_tiktoken_bpe(str(RANKS))
    return tiktoken.Encoding(**public.o200k_harmony())


def random_texts(count):
    source = random.Random(7)
    alphabet = "aAbZé ß中文🌳💖 \n\t\r'’.,;:!?/\\-_(){}[]<>|0123456789٣ऄกЖ\u0301\u200d\u00a0"
    for _ in range(count):
        yield "".join(source.choice(alphabet) for _ in range(source.randrange(1, 60)))


def main():
    tokens = encoding()
    cases = [
        {
            "text": text,
            "ordinary": tokens.encode_ordinary(text),
            "special": tokens.encode(text, allowed_special="all"),
        }
        for text in [*TEXTS, *random_texts(24)]
    ]
    print("[\n" + ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases) + "\n]")


if __name__ == "__main__":
    main()
