"""Makes fuzz/seeds/: one or two small valid inputs per target, from which the fuzzer starts.

Run: python3 fuzz/make_seeds.py
Needs: gguf 0.19.0, tokenizers, safetensors, numpy, wasmtime.
"""

import json
import pathlib

import gguf
import numpy as np
import safetensors.numpy
import tokenizers
import wasmtime

SEEDS = pathlib.Path(__file__).parent / "seeds"
GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "data"
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}{{ bos_token }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# `TEXTS` of targets/harmony_parser.rs: a text is written as the byte of twice its place.
ANSWERS = {
    "answer": [1, 11, 3, 21, 4, 0, 9, 1, 13, 3, 23, 5],
    "call": [1, 12, 14, 18, 2, 16, 3, 20, 6],
    "malformed": [21, 22, 4, 1, 10, 19, 21, 3, 8, 1, 7],
    "tags": [24, 19, 21, 25, 19, 21, 26, 20, 27],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "array", "items": {"$ref": "#/$defs/b"}, "maxItems": 3},
        "c": {"type": "number", "minimum": 0, "maximum": 1.5},
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"b": {"allOf": [{"type": "string", "pattern": "^[a-z]+$"}, {"maxLength": 8}]}},
}
CONSTRAINTS = {
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}},
    "regex": {"guided_regex": "(a|b)*c{2,5}[^d-f]?"},
    "choice": {"guided_choice": ["yes", "no", 'perhaps "so"']},
    "grammar": {"structured_outputs": {"grammar": 'start: "(" start ")" | WORD\nWORD: /[a-z]+/ & /.{2,4}/\n%ignore / /'}},
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
COMPONENTS = {
    "empty": "(component)",
    "imports": """(component
        (import "espalier:kernels/telemetry@0.1.0" (instance
            (export "level" (type (sub resource)))
            (export "log" (func (param "message" string))))))""",
    "exports": """(component
        (core module $m
            (memory (export "memory") 1)
            (func (export "describe") (result i32) i32.const 16)
            (func (export "route") (param i32) (result i32) local.get 0))
        (core instance $i (instantiate $m))
        (func $describe (result string) (canon lift (core func $i "describe") (memory (core memory $i "memory"))))
        (func $route (param "request" u32) (result u32) (canon lift (core func $i "route")))
        (instance (export "espalier:policy/routing@0.1.0") (export "describe" (func $describe)) (export "route" (func $route))))""",
}
# What the host counts before it compiles: a few of each part.
FUNCTIONS = "(type (func)) (import \"a\" \"f\" (func)) (func) (func (drop (i32.const 1))) (func (unreachable))"
COMPONENTS |= {
    "modules": "(component " + f"(core module {FUNCTIONS})" * 3 + ")",
    "nested": "(component " * 4 + f"(core module {FUNCTIONS})" + ")" * 4,
    "items": "(component " + "(type (list u8)) (type (tuple u8 u8))" * 8
    + "".join(f'(import "a:b/i{n}" (instance))(export "a:b/e{n}" (instance {n}))' for n in range(4)) + ")",
}
MERGES = [("Ġ", "t"), ("e", "x"), ("Ġt", "ex")]


def folder(target):
    path = SEEDS / target
    path.mkdir(parents=True, exist_ok=True)
    return path


def byte_level_vocabulary():
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    return [*SPECIAL, *letters, *("".join(pair) for pair in MERGES)]


def tiny_gguf(path):
    tokens = byte_level_vocabulary()
    hidden, heads, kv_heads, ffn = 32, 4, 2, 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    random = np.random.default_rng(1)

    def add(name, *shape, kind=gguf.GGMLQuantizationType.Q4_0):
        values = random.standard_normal(shape, dtype=np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), hidden, kind=gguf.GGMLQuantizationType.Q8_0)
    add("output_norm.weight", hidden, kind=gguf.GGMLQuantizationType.F32)
    add("blk.0.attn_norm.weight", hidden, kind=gguf.GGMLQuantizationType.F32)
    add("blk.0.ffn_norm.weight", hidden, kind=gguf.GGMLQuantizationType.F32)
    add("blk.0.attn_q.weight", hidden, hidden)
    add("blk.0.attn_k.weight", kv_heads * hidden // heads, hidden)
    add("blk.0.attn_v.weight", kv_heads * hidden // heads, hidden, kind=gguf.GGMLQuantizationType.Q4_1)
    add("blk.0.attn_output.weight", hidden, hidden, kind=gguf.GGMLQuantizationType.Q5_0)
    add("blk.0.ffn_gate.weight", ffn, hidden, kind=gguf.GGMLQuantizationType.F16)
    add("blk.0.ffn_up.weight", ffn, hidden, kind=gguf.GGMLQuantizationType.BF16)
    add("blk.0.ffn_down.weight", hidden, ffn, kind=gguf.GGMLQuantizationType.Q5_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def smallest_gguf(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("words", ["a", "b"])
    writer.add_tensor("t", np.ones((2, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level_tokenizer():
    tokens = byte_level_vocabulary()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({token: id for id, token in enumerate(tokens)}, MERGES))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def main():
    tiny_gguf(folder("gguf_checkpoint") / "tiny.gguf")
    smallest_gguf(folder("gguf_parse") / "smallest.gguf")
    tensors = {"a": np.zeros((2, 3), np.float32), "b": np.ones(5, np.float16)}
    safetensors.numpy.save_file(tensors, folder("safetensors_parse") / "two.safetensors", metadata={"format": "pt"})
    for name in ("llama-llama3-rope-bf16", "qwen2-bias-bf16"):
        (folder("config_json") / f"{name}.json").write_text((GOLDEN / "tiny" / name / "config.json").read_text())
    (folder("tokenizer_json") / "byte-level.json").write_text(byte_level_tokenizer().to_str())
    (folder("chat_template") / "chatml.jinja").write_text(TEMPLATE)
    for name, text in COMPONENTS.items():
        (folder("component") / f"{name}.wasm").write_bytes(bytes(wasmtime.wat2wasm(text)))
    for name, places in ANSWERS.items():
        (folder("harmony_parser") / name).write_bytes(bytes(2 * place for place in places) + b"\xc0\x40\x0d\x03")
    sampling = {"max_tokens": 8, "temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["\n"], "stream": True}
    completion = {"model": "smollm2@75", "prompt": "Once", **sampling, "stream_options": {"include_usage": True}}
    chat = {"model": "smollm2", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], **sampling}
    (folder("http_request") / "completion.json").write_text(json.dumps(completion))
    (folder("http_request") / "chat.json").write_text(json.dumps(chat))
    for name, constraint in CONSTRAINTS.items():
        (folder("constraint") / f"{name}.json").write_text(json.dumps(constraint) + "\n")


if __name__ == "__main__":
    main()
