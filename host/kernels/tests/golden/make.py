"""Makes formats.bin: blocks of every weight format with their values according to the `gguf` Python package.

Usage: python make.py   (needs numpy and gguf 0.19)

Records, little-endian: u8 length and name, u32 length and bytes of blocks, u32 count and f32 values. A record named
`NAME` holds random blocks and their dequantised values; `NAME quantized` holds values and their quantised blocks.
"""

import struct
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

FORMATS = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K MXFP4".split()
QUANTIZED = "F16 BF16 Q8_0 Q4_0 Q4_1 MXFP4".split()
# Offsets of the half-precision scales inside a block, which must be finite.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

random = np.random.default_rng(7)


def record(name: str, blocks: np.ndarray, values: np.ndarray) -> bytes:
    values = values.astype("<f4").ravel()
    head = struct.pack("<B", len(name)) + name.encode()
    return head + struct.pack("<I", blocks.size) + blocks.tobytes() + struct.pack("<I", values.size) + values.tobytes()


def random_blocks(name: str) -> np.ndarray:
    if name in ("F32", "F16", "BF16"):
        values = random.standard_normal(40).astype(np.float32)
        return quants.quantize(values, Type[name]).view(np.uint8).reshape(1, -1)
    size = quants.GGML_QUANT_SIZES[Type[name]][1]
    blocks = random.integers(0, 256, (3, size), dtype=np.uint8)
    for offset in HALVES.get(name, []):
        scales = random.standard_normal(3).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(3, 2)
    if name == "MXFP4":
        blocks[:, 0] = [0, 120, 135]
    return blocks


out = b""
for name in FORMATS:
    blocks = random_blocks(name)
    values = quants.dequantize(blocks.view(np.float32) if name == "F32" else blocks, Type[name])
    out += record(name.lower(), blocks, values)
for name in QUANTIZED:
    values = random.standard_normal(96).astype(np.float32)
    blocks = quants.quantize(values, Type[name]).view(np.uint8)
    out += record(name.lower() + " quantized", blocks, values)
Path(__file__).with_name("formats.bin").write_bytes(out)
