#!/usr/bin/env python3
"""Writes a model pair in the shape of a published one with random weights, to measure what it costs.

  random_model.py SHAPE FORMAT VOCABULARY FOLDER     for example: random_model.py smolvlm-256m q8_0 models/smollm2-135m-q4_0.gguf /tmp

FORMAT is q8_0 or q4_0 and holds for the language model; the vision file is Q8_0, as most are published (patch convolution and vectors are
floats). VOCABULARY is any GGUF file with a tokenizer; its own entries stand first, then the family's special tokens, then filler. The shapes
are those of the checkpoints' configurations. Weights are uniform in a block with one scale each, of the size that keeps activations in
bounds; the answers mean nothing. Needs numpy."""

import struct
import sys

import numpy as np

# Language model: architecture, layers, width, feed-forward width, heads, key-value heads, head's width, vocabulary, tied, rotary base.
# Tower: width, layers, heads, feed-forward width, picture's side, patch, merge; then the projector.
SHAPES = {
    "smolvlm-256m": (("llama", 30, 576, 1536, 9, 3, 64, 49280, False, 1e5), (768, 12, 12, 3072, 512, 16, 4), "idefics3"),
    "smolvlm-500m": (("llama", 32, 960, 2560, 15, 5, 64, 49280, False, 1e5), (768, 12, 12, 3072, 512, 16, 4), "idefics3"),
    "lfm2.5-vl-450m": (("lfm2", 16, 1024, 4608, 16, 8, 64, 65536, True, 1e6), (768, 12, 12, 3072, 256, 16, 2), "lfm2"),
    "internvl3-1b": (("qwen2", 24, 896, 4864, 14, 2, 64, 151674, True, 1e6), (1024, 24, 16, 4096, 448, 14, 2), "internvl"),
    "qwen3-vl-2b": (("qwen3vl", 28, 2048, 6144, 16, 8, 128, 151936, True, 5e6), (1024, 24, 16, 4096, 768, 16, 2), "qwen3vl_merger"),
}
SPECIAL = {
    "idefics3": ["<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>"]
    + [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)],
    "lfm2": ["<|image_start|>", "<|image_end|>", "<image>", "<|img_thumbnail|>"]
    + [f"<|img_row_{r}_col_{c}|>" for r in range(1, 11) for c in range(1, 11)],
    "internvl": ["<img>", "</img>", "<IMG_CONTEXT>"],
    "qwen3vl_merger": ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"],
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Attention layers of LFM2; the others are short convolutions.
LFM2_ATTENTION = {2, 5, 8, 10, 12, 14}
DEEPSTACK = (5, 11, 17)

U32, F32, BOOL, STR, ARR = 4, 6, 7, 8, 9
FORMATS = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q8_0": (8, 32, 34)}  # type, weights in a block, bytes of a block


class Writer:
    """A GGUF file, version 3."""

    def __init__(self, seed=7):
        self.keys, self.tensors, self.random = [], [], np.random.default_rng(seed)

    def key(self, name, kind, value, inner=None):
        self.keys.append((name, kind, value, inner))

    def u32(self, **keys):
        for name, value in keys.items():
            self.key(name.replace("__", "."), U32, value)

    def matrix(self, name, n_in, n_out, form, dims=None):
        kind, block, n_bytes = FORMATS[form]
        if n_in % block:
            return self.matrix(name, n_in, n_out, "f16", dims)
        n, std = n_in * n_out // block, 1 / np.sqrt(n_in)
        if form == "f32" or form == "f16":
            data = (self.random.standard_normal(n, dtype=np.float32) * std).astype(np.float32 if form == "f32" else np.float16).tobytes()
        else:
            blocks = np.frombuffer(self.random.bytes(n * n_bytes), dtype=np.uint8).reshape(n, n_bytes).copy()
            scale = np.full(n, std / (73.9 if form == "q8_0" else 4.61), dtype=np.float16)
            blocks[:, :2] = scale.view(np.uint8).reshape(n, 2)
            data = blocks.tobytes()
        self.tensors.append((name, dims or [n_in, n_out], kind, data))

    def vector(self, name, n, mean=0.0, dims=None):
        data = (mean + 0.02 * self.random.standard_normal(n, dtype=np.float32)).astype(np.float32)
        self.tensors.append((name, dims or [n], 0, data.tobytes()))

    def norm(self, name, n, bias=True):
        self.vector(name + ".weight", n, 1.0)
        if bias:
            self.vector(name + ".bias", n)

    def linear(self, name, n_in, n_out, form, bias=True):
        self.matrix(name + ".weight", n_in, n_out, form)
        if bias:
            self.vector(name + ".bias", n_out)

    def write(self, path):
        text = lambda s: struct.pack("<Q", len(s.encode())) + s.encode()
        scalar = lambda kind, v: text(v) if kind == STR else struct.pack({U32: "<I", 5: "<i", F32: "<f", BOOL: "<?"}[kind], v)
        with open(path, "wb") as out:
            out.write(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys)))
            for name, kind, value, inner in self.keys:
                out.write(text(name) + struct.pack("<I", kind))
                if kind == ARR:
                    out.write(struct.pack("<IQ", inner, len(value)) + b"".join(scalar(inner, v) for v in value))
                else:
                    out.write(scalar(kind, value))
            at = 0
            for name, dims, kind, data in self.tensors:
                out.write(text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, at))
                at += -(-len(data) // 32) * 32
            out.write(b"\0" * (-out.tell() % 32))
            for *_, data in self.tensors:
                out.write(data + b"\0" * (-len(data) % 32))


def tokenizer(path):
    """The entries of a file's metadata that begin with `tokenizer.`, as (name, kind, value, inner kind)."""
    data = open(path, "rb").read(1 << 25)
    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    at = 24

    def text():
        nonlocal at
        (n,) = struct.unpack_from("<Q", data, at)
        at += 8 + n
        return data[at - n : at].decode()

    def value(kind):
        nonlocal at
        if kind == STR:
            return text()
        (v,) = struct.unpack_from("<" + sizes[kind], data, at)
        at += struct.calcsize("<" + sizes[kind])
        return v

    found = {}
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        name = text()
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        if kind == ARR:
            inner, n = struct.unpack_from("<IQ", data, at)
            at += 12
            found[name] = (kind, [value(inner) for _ in range(n)], inner)
        else:
            found[name] = (kind, value(kind), None)
    return {name: entry for name, entry in found.items() if name.startswith("tokenizer.")}


def language_model(shape, projector, form, vocabulary, path):
    arch, layers, width, ff, heads, kv_heads, head, vocab, tied, base = shape
    w = Writer()
    w.key("general.architecture", STR, arch)
    w.key("general.name", STR, f"random {path.rsplit('/', 1)[-1]}")
    w.u32(**{f"{arch}__{k}": v for k, v in {
        "block_count": layers, "context_length": 8192, "embedding_length": width, "feed_forward_length": ff, "attention__head_count": heads,
    }.items()})
    w.key(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5)
    w.key(f"{arch}.rope.freq_base", F32, base)
    is_conv = lambda i: arch == "lfm2" and i not in LFM2_ATTENTION
    if arch == "lfm2":
        w.key("lfm2.attention.head_count_kv", ARR, [0 if is_conv(i) else kv_heads for i in range(layers)], 5)
        w.u32(lfm2__shortconv__l_cache=3, lfm2__vocab_size=vocab)
    else:
        w.u32(**{f"{arch}__attention__head_count_kv": kv_heads})
    if arch == "qwen3vl":
        w.u32(qwen3vl__attention__key_length=head, qwen3vl__attention__value_length=head, qwen3vl__n_deepstack_layers=len(DEEPSTACK))
        w.key("qwen3vl.rope.dimension_sections", ARR, [24, 20, 20, 0], 5)
    for name, (kind, value, inner) in tokenizer(vocabulary).items():
        if name == "tokenizer.chat_template":
            continue
        if name in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type"):
            n = len(value)
            special = SPECIAL[projector]
            of_tokens = name.endswith("tokens")
            value = value + (special if of_tokens else [3] * len(special))
            value += [f"<filler_{i}>" if of_tokens else 5 for i in range(len(value), vocab)]
            assert n <= vocab
        w.key(name, kind, value, inner)
    w.key("tokenizer.chat_template", STR, TEMPLATE)
    w.matrix("token_embd.weight", width, vocab, "q8_0" if tied else form)
    if not tied:
        w.matrix("output.weight", width, vocab, "q8_0")
    w.norm("token_embd_norm" if arch == "lfm2" else "output_norm", width, False)
    for i in range(layers):
        p = f"blk.{i}."
        w.norm(p + "attn_norm", width, False)
        w.norm(p + "ffn_norm", width, False)
        if is_conv(i):
            w.matrix(p + "shortconv.in_proj.weight", width, 3 * width, form)
            w.vector(p + "shortconv.conv.weight", 3 * width, 0.3, [3, width])
            w.matrix(p + "shortconv.out_proj.weight", width, width, form)
        else:
            for part, n in (("q", heads * head), ("k", kv_heads * head), ("v", kv_heads * head)):
                w.linear(p + "attn_" + part, width, n, form, bias=arch == "qwen2")
            w.matrix(p + "attn_output.weight", heads * head, width, form)
            if arch in ("lfm2", "qwen3vl"):
                w.norm(p + "attn_q_norm", head, False)
                w.norm(p + "attn_k_norm", head, False)
        w.matrix(p + "ffn_gate.weight", width, ff, form)
        w.matrix(p + "ffn_up.weight", width, ff, form)
        w.matrix(p + "ffn_down.weight", ff, width, form)
    w.write(path)


def vision(shape, projector, out_width, path):
    width, layers, heads, ff, side, patch, merge = shape
    form = "q8_0"
    w = Writer()
    w.key("general.architecture", STR, "clip")
    w.key("general.type", STR, "mmproj")
    w.key("clip.has_vision_encoder", BOOL, True)
    w.key("clip.projector_type", STR, projector)
    w.key("clip.use_gelu", BOOL, True)
    w.u32(**{f"clip__vision__{k}": v for k, v in {
        "image_size": side, "patch_size": patch, "embedding_length": width, "feed_forward_length": ff, "projection_dim": out_width,
        "block_count": layers, "attention__head_count": heads,
    }.items()})
    w.key("clip.vision.attention.layer_norm_epsilon", F32, 1e-6)
    means = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if projector == "internvl" else ([0.5] * 3, [0.5] * 3)
    w.key("clip.vision.image_mean", ARR, means[0], F32)
    w.key("clip.vision.image_std", ARR, means[1], F32)
    w.u32(**{"clip__vision__spatial_merge_size" if projector == "qwen3vl_merger" else "clip__vision__projector__scale_factor": merge})
    if projector == "idefics3":
        w.u32(clip__vision__preproc_image_size=4 * side)
    kernel = [patch, patch, 3, width]
    w.matrix("v.patch_embd.weight", patch * patch * 3, width, "f16", kernel)
    has_class = projector == "internvl"
    if projector == "qwen3vl_merger":
        w.matrix("v.patch_embd.weight.1", patch * patch * 3, width, "f16", kernel)
    if has_class:
        w.vector("v.class_embd", width)
    w.vector("v.patch_embd.bias", width)
    n = (side // patch) ** 2 + has_class
    w.vector("v.position_embd.weight", n * width, 0.0, [width, n])
    if not has_class:
        w.norm("v.post_ln", width)
    for i in range(layers):
        p = f"v.blk.{i}."
        w.norm(p + "ln1", width)
        w.norm(p + "ln2", width)
        if projector == "qwen3vl_merger":
            w.linear(p + "attn_qkv", width, 3 * width, form)
        else:
            for part in "qkv":
                w.linear(p + "attn_" + part, width, width, form)
        w.linear(p + "attn_out", width, width, form)
        w.linear(p + "ffn_up", width, ff, form)
        w.linear(p + "ffn_down", ff, width, form)
        if has_class:
            w.vector(p + "ls1.weight", width, 0.1)
            w.vector(p + "ls2.weight", width, 0.1)
    joined = merge * merge * width
    if projector == "idefics3":
        w.matrix("mm.model.fc.weight", joined, out_width, form)
    elif projector == "lfm2":
        w.norm("mm.input_norm", joined)
        w.linear("mm.1", joined, 2560, form)
        w.linear("mm.2", 2560, out_width, form)
    elif projector == "internvl":
        w.norm("mm.model.mlp.0", joined)
        w.linear("mm.model.mlp.1", joined, out_width, form)
        w.linear("mm.model.mlp.3", out_width, out_width, form)
    else:
        w.linear("mm.0", joined, joined, form)
        w.linear("mm.2", joined, out_width, form)
        w.key("clip.vision.is_deepstack_layers", ARR, [i in DEEPSTACK for i in range(layers)], BOOL)
        for i in DEEPSTACK:
            w.norm(f"v.deepstack.{i}.norm", joined)
            w.linear(f"v.deepstack.{i}.fc1", joined, joined, form)
            w.linear(f"v.deepstack.{i}.fc2", joined, out_width, form)
    w.write(path)


def main():
    if len(sys.argv) != 5 or sys.argv[1] not in SHAPES or sys.argv[2] not in ("q8_0", "q4_0"):
        sys.exit(__doc__)
    name, form, vocabulary, folder = sys.argv[1:]
    language, tower, projector = SHAPES[name]
    language_model(language, projector, form, vocabulary, f"{folder}/{name}-{form}.gguf")
    vision(tower, projector, language[2], f"{folder}/mmproj-{name}-q8_0.gguf")


main()
