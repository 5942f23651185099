#!/usr/bin/env python3
"""Writes the codebooks of src/quant/load_only and the golden blocks of tests/golden/quants/load_only.safetensors.

Each format has NAME.raw, random valid blocks in which every entry of its codebook occurs (every scale of the 4-bit floats, every byte of the
ternary ones), and NAME.deq, what the package gguf makes of them in 32-bit floats.

usage: load_only_quants.py      needs the packages gguf (0.19.0 made the files) and numpy
"""
import json
import struct
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize, quants

ROOT = Path(__file__).resolve().parents[2]
CODEBOOKS = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]


def at(byte, bit, n):
    """The places of `n` bits from one on, the lowest first."""
    return [8 * byte + bit + i for i in range(n)]


# Of each format with a codebook: its entries, the indices in a block, and the bits of index k.
INDICES = {
    "IQ2_XXS": (256, 32, lambda k: at(2 + 8 * (k // 4) + k % 4, 0, 8)),
    "IQ2_XS": (512, 32, lambda k: at(2 + 2 * k, 0, 9)),
    "IQ2_S": (1024, 32, lambda k: at(2 + k, 0, 8) + at(66 + k // 4, 2 * (k % 4), 2)),
    "IQ3_XXS": (256, 64, lambda k: at(2 + k, 0, 8)),
    "IQ3_S": (512, 64, lambda k: at(2 + k, 0, 8) + at(66 + k // 8, k % 8, 1)),
    "IQ1_S": (2048, 32, lambda k: at(2 + k, 0, 8) + at(34 + 2 * (k // 4), 3 * (k % 4), 3)),
    "IQ1_M": (2048, 32, lambda k: at(k, 0, 8) + at(32 + k // 2, 4 * (k % 2), 3)),
}
# Blocks of the others.
N_BLOCKS = {"IQ4_XS": 16, "TQ1_0": 16, "TQ2_0": 8, "MXFP4": 253, "NVFP4": 64}


def is_finite(values):
    return bool(np.isfinite(values).all())


def decode(kind, block):
    with np.errstate(all="ignore"):
        return dequantize(block.reshape(1, -1), kind).reshape(-1)


def block(name, number, order, random):
    kind = GGMLQuantizationType[name]
    while True:
        data = random.integers(0, 256, GGML_QUANT_SIZES[kind][1], dtype=np.uint8)
        if name in INDICES:
            entries, n, bits = INDICES[name]
            for k in range(n):
                index = int(order[(number * n + k) % entries])
                for i, place in enumerate(bits(k)):
                    byte, bit = divmod(place, 8)
                    data[byte] = data[byte] & ~np.uint8(1 << bit) | np.uint8((index >> i & 1) << bit)
        elif name == "MXFP4":
            # The last three exponents are beyond 32-bit floats for some elements.
            data[0] = number
        elif name == "NVFP4":
            data[:4] = range(4 * number, 4 * number + 4)
        elif name == "TQ1_0":
            data[:32] = (32 * number + np.arange(32)) % 256
            data[32:48] = (16 * number + np.arange(16)) % 256
        if is_finite(decode(kind, data)):
            return data


def save(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        kind = {"uint8": "U8", "float32": "F32"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    random = np.random.default_rng(1)
    for name in CODEBOOKS:
        packed = bytes.fromhex(getattr(quants, name).grid_hex.decode())
        (ROOT / "src/quant/load_only" / f"{name.lower()}.grid").write_bytes(packed)
    tensors = {}
    for name in [*INDICES, *N_BLOCKS]:
        entries, n, _ = INDICES.get(name, (0, 1, None))
        count = N_BLOCKS.get(name) or entries // n
        order = random.permutation(entries)
        raw = np.stack([block(name, number, order, random) for number in range(count)])
        tensors[f"{name}.raw"] = raw
        tensors[f"{name}.deq"] = np.stack([decode(GGMLQuantizationType[name], data) for data in raw])
    save(ROOT / "tests/golden/quants/load_only.safetensors", tensors)


main()
