"""A GGUF writer and reader, and the block formats that the export uses. Needs numpy alone.

File: magic, version 3, counts, metadata, tensor infos, then the tensors, each aligned to 32 bytes
(ggml's docs/gguf.md). Dimensions are written innermost first.
"""

import struct

import numpy as np

ALIGNMENT = 32
F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8
TYPE_NAMES = {F32: "F32", F16: "F16", Q4_0: "Q4_0", Q8_0: "Q8_0"}
# general.file_type, as llama.cpp numbers them.
FILE_TYPES = {F32: 0, F16: 1, Q4_0: 2, Q8_0: 7}
U32, I32, FLOAT, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
BLOCK = 32


def quantize_q4_0(x):
    """`x [..., n]` to bytes `[..., n/32 · 18]`. ggml takes the scale that the largest value fits; here the one of some scales about
    it that leaves the least squared error."""
    blocks = np.asarray(x, np.float32).reshape(-1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[:, None], -1)
    best, error = np.zeros((len(blocks), 1), np.float16), np.full(len(blocks), np.inf, np.float32)
    codes = np.full(blocks.shape, 8, np.uint8)
    for factor in np.linspace(-9.5, -6.0, 29):
        for sign in (1, -1):
            d = (sign * largest / np.float32(factor)).astype(np.float16)
            scale = d.astype(np.float32)
            with np.errstate(divide="ignore", invalid="ignore"):
                q = np.where(scale == 0, 8, np.clip(np.round(blocks / scale) + 8, 0, 15))
            off = ((q - 8) * scale - blocks) ** 2
            e = off.sum(-1)
            better = e < error
            error = np.where(better, e, error)
            best[better] = d[better]
            codes[better] = q[better].astype(np.uint8)
    packed = codes[:, :16] | (codes[:, 16:] << 4)
    return np.concatenate([best.view(np.uint8), packed], -1).reshape(*x.shape[:-1], -1)


def dequantize_q4_0(data):
    """The inverse, as the format defines it."""
    blocks = np.ascontiguousarray(data).reshape(-1, 18)
    d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    q = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], -1).astype(np.float32) - 8
    return (q * d).reshape(*data.shape[:-1], -1)


def quantize_q8_0(x):
    """`x [..., n]` to bytes `[..., n/32 · 34]`."""
    blocks = np.asarray(x, np.float32).reshape(-1, BLOCK)
    d = (np.abs(blocks).max(-1, keepdims=True) / 127).astype(np.float16)
    scale = d.astype(np.float32)
    q = np.where(scale == 0, 0, np.round(blocks / np.where(scale == 0, 1, scale))).clip(-127, 127).astype(np.int8)
    return np.concatenate([d.view(np.uint8), q.view(np.uint8)], -1).reshape(*x.shape[:-1], -1)


def dequantize_q8_0(data):
    """The inverse."""
    blocks = np.ascontiguousarray(data).reshape(-1, 34)
    d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return (blocks[:, 2:].copy().view(np.int8) * d).reshape(*data.shape[:-1], -1)


def encode(x, kind):
    """An array as bytes of a type."""
    x = np.ascontiguousarray(x, np.float32)
    if kind == F32:
        return x.tobytes()
    if kind == F16:
        return x.astype(np.float16).tobytes()
    return {Q4_0: quantize_q4_0, Q8_0: quantize_q8_0}[kind](x).tobytes()


def decode(data, shape, kind):
    """Bytes of a type as an array of `shape` (outermost first)."""
    data = np.frombuffer(data, np.uint8)
    if kind == F32:
        return data.view(np.float32).reshape(shape).copy()
    if kind == F16:
        return data.view(np.float16).reshape(shape).astype(np.float32)
    return {Q4_0: dequantize_q4_0, Q8_0: dequantize_q8_0}[kind](data).reshape(shape)


def n_bytes(shape, kind):
    """Bytes of an array."""
    n = int(np.prod(shape))
    return {F32: 4 * n, F16: 2 * n, Q4_0: n // 32 * 18, Q8_0: n // 32 * 34}[kind]


def _string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    if kind == STRING:
        return _string(value)
    return struct.pack({U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?"}[kind], value)


class Writer:
    """Collects metadata and tensors, then writes the file."""

    def __init__(self):
        self.metadata, self.tensors = [], []

    def put(self, key, kind, value):
        """A value; `kind` is one of the module's constants, or (ARRAY, kind of its elements)."""
        if isinstance(kind, tuple):
            body = struct.pack("<IIQ", ARRAY, kind[1], len(value)) + b"".join(_value(kind[1], v) for v in value)
        else:
            body = struct.pack("<I", kind) + _value(kind, value)
        self.metadata.append(_string(key) + body)

    def tensor(self, name, array, kind):
        """A tensor; the array's shape is outermost first."""
        self.tensors.append((name, array.shape, kind, encode(array, kind)))

    def write(self, path):
        """Writes the file and returns its size."""
        out = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata)), *self.metadata]
        offset = 0
        for name, shape, kind, data in self.tensors:
            out.append(_string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, offset))
            offset += -(-len(data) // ALIGNMENT) * ALIGNMENT
        head = b"".join(out)
        body = [head, bytes(-len(head) % ALIGNMENT)]
        for *_, data in self.tensors:
            body += [data, bytes(-len(data) % ALIGNMENT)]
        blob = b"".join(body)
        with open(path, "wb") as file:
            file.write(blob)
        return len(blob)


def read(path):
    """The metadata, and tensors by name as (array, type)."""
    with open(path, "rb") as file:
        data = file.read()
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n : at].decode("utf-8")

    def value(kind):
        if kind == STRING:
            return text()
        if kind == ARRAY:
            inner, n = take("I"), take("Q")
            return [value(inner) for _ in range(n)]
        return take({U32: "I", I32: "i", FLOAT: "f", BOOL: "?"}[kind])

    if data[:4] != b"GGUF":
        raise ValueError(f"{path} is no GGUF file")
    at = 4
    _, n_tensors, n_metadata = take("IQQ")
    metadata = {}
    for _ in range(n_metadata):
        key = text()
        metadata[key] = value(take("I"))
    infos = []
    for _ in range(n_tensors):
        name = text()
        shape = tuple(reversed([take("Q") for _ in range(take("I"))]))
        infos.append((name, shape, *take("IQ")))
    start = at + -at % ALIGNMENT
    return metadata, {name: (decode(data[start + offset : start + offset + n_bytes(shape, kind)], shape, kind), kind) for name, shape, kind, offset in infos}
