#!/usr/bin/env python3
"""Writes a trained house model as the pair of GGUF files that the engine loads.

usage: export.py --checkpoint tune/final.pt --tokenizer tokenizer.json --out FOLDER [--kinds q4_0,f32]

Names and metadata are those of llama.cpp's converter. In 4 bits (q4_0) all matrices of the tower, the projector and the decoder are
Q4_0; the embedding table, which is the output too, is Q8_0; what is no matrix stays in floats.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from house import bpe, gguf
from house.scenes import MEAN, STD

NAME = "llava-web house model"
LICENCE = "CC-BY-4.0"


def _common(writer, architecture, kind_name, size_label, kind):
    put = writer.put
    put("general.architecture", gguf.STRING, architecture)
    put("general.type", gguf.STRING, kind_name)
    put("general.name", gguf.STRING, NAME)
    put("general.size_label", gguf.STRING, size_label)
    put("general.license", gguf.STRING, LICENCE.lower())
    put("general.quantization_version", gguf.U32, 2)
    put("general.file_type", gguf.U32, gguf.FILE_TYPES[kind])


def matrices(kind, width):
    """The type of a matrix with rows of this width; blocks must fill them."""
    return kind if kind in (gguf.F32, gguf.F16) or width % gguf.BLOCK == 0 else gguf.F16


def language_file(path, state, config, tokenizer, kind):
    """The decoder's file."""
    c = config
    w = gguf.Writer()
    head = c["n_embd"] // c["n_heads"]
    n = sum(v.numel() for k, v in state.items() if k.startswith("language."))
    _common(w, "llama", "model", f"{n / 1e6:.1f}M", kind)
    for key, kind_of, value in [
        ("block_count", gguf.U32, c["n_layers"]), ("context_length", gguf.U32, c["n_ctx"]), ("embedding_length", gguf.U32, c["n_embd"]),
        ("feed_forward_length", gguf.U32, c["n_ff"]), ("attention.head_count", gguf.U32, c["n_heads"]), ("attention.head_count_kv", gguf.U32, c["n_kv_heads"]),
        ("rope.freq_base", gguf.FLOAT, c["rope_base"]), ("attention.layer_norm_rms_epsilon", gguf.FLOAT, c["eps"]), ("vocab_size", gguf.U32, c["n_vocab"]),
        ("rope.dimension_count", gguf.U32, head),
    ]:  # fmt: skip
        w.put(f"llama.{key}", kind_of, value)
    special = len(bpe.SPECIAL)
    types = [3 if i < special else (5 if p.startswith("<|unused") else 1) for i, p in enumerate(tokenizer.pieces)]
    w.put("tokenizer.ggml.model", gguf.STRING, "gpt2")
    w.put("tokenizer.ggml.pre", gguf.STRING, "gpt-2")
    w.put("tokenizer.ggml.tokens", (gguf.ARRAY, gguf.STRING), tokenizer.pieces)
    w.put("tokenizer.ggml.token_type", (gguf.ARRAY, gguf.I32), types)
    w.put("tokenizer.ggml.merges", (gguf.ARRAY, gguf.STRING), [" ".join(m) for m in tokenizer.merges])
    w.put("tokenizer.ggml.bos_token_id", gguf.U32, bpe.BOS)
    w.put("tokenizer.ggml.eos_token_id", gguf.U32, bpe.END)
    w.put("tokenizer.ggml.padding_token_id", gguf.U32, bpe.BOS)
    w.put("tokenizer.ggml.add_bos_token", gguf.BOOL, True)
    w.put("tokenizer.ggml.add_eos_token", gguf.BOOL, False)
    w.put("tokenizer.chat_template", gguf.STRING, Path(__file__).with_name("house").joinpath("template.jinja").read_text())
    get = lambda name: state["language." + name].float().cpu().numpy()
    matrix = lambda name, x: w.tensor(name, x, matrices(kind, x.shape[-1]))
    w.tensor("token_embd.weight", get("embed.weight"), gguf.Q8_0 if kind == gguf.Q4_0 else kind)
    w.tensor("output_norm.weight", get("norm.weight"), gguf.F32)
    d, kv, ff = c["n_embd"], c["n_kv_heads"] * head, c["n_ff"]
    for i in range(c["n_layers"]):
        own, to = f"blocks.{i}.", f"blk.{i}."
        w.tensor(to + "attn_norm.weight", get(own + "attn_norm.weight"), gguf.F32)
        w.tensor(to + "ffn_norm.weight", get(own + "ffn_norm.weight"), gguf.F32)
        qkv, gate_up = get(own + "qkv.weight"), get(own + "gate_up.weight")
        matrix(to + "attn_q.weight", qkv[:d])
        matrix(to + "attn_k.weight", qkv[d : d + kv])
        matrix(to + "attn_v.weight", qkv[d + kv :])
        matrix(to + "attn_output.weight", get(own + "out.weight"))
        matrix(to + "ffn_gate.weight", gate_up[:ff])
        matrix(to + "ffn_up.weight", gate_up[ff:])
        matrix(to + "ffn_down.weight", get(own + "down.weight"))
    return w.write(path)


def vision_file(path, state, vision, language, kind):
    """The tower's and the projector's file (mmproj)."""
    v = vision
    w = gguf.Writer()
    n = sum(x.numel() for k, x in state.items() if not k.startswith("language."))
    _common(w, "clip", "mmproj", f"{n / 1e6:.1f}M", kind)
    w.put("clip.has_vision_encoder", gguf.BOOL, True)
    w.put("clip.projector_type", gguf.STRING, "mlp")
    w.put("clip.vision.projection_dim", gguf.U32, language["n_embd"])
    for key, value in [("image_size", v["image_size"]), ("patch_size", v["patch_size"]), ("embedding_length", v["n_embd"]), ("feed_forward_length", v["n_ff"]),
                       ("block_count", v["n_layers"]), ("attention.head_count", v["n_heads"])]:  # fmt: skip
        w.put(f"clip.vision.{key}", gguf.U32, value)
    w.put("clip.vision.image_mean", (gguf.ARRAY, gguf.FLOAT), [float(x) for x in MEAN])
    w.put("clip.vision.image_std", (gguf.ARRAY, gguf.FLOAT), [float(x) for x in STD])
    w.put("clip.vision.attention.layer_norm_epsilon", gguf.FLOAT, v["eps"])
    w.put("clip.use_gelu", gguf.BOOL, False)
    # All blocks that are in the file are run: the last one of CLIP's training was left out.
    w.put("clip.vision.feature_layer", (gguf.ARRAY, gguf.I32), [v["n_layers"]])
    get = lambda name: state[name].float().cpu().numpy()
    matrix = lambda name, x: w.tensor(name, x, matrices(kind, x.shape[-1]))
    for i, part in ((0, "first"), (2, "second")):
        w.tensor(f"mm.{i}.bias", get(f"projector.{part}.bias"), gguf.F32)
        matrix(f"mm.{i}.weight", get(f"projector.{part}.weight"))
    p, d = v["patch_size"], v["n_embd"]
    w.tensor("v.class_embd", get("vision.class_embd"), gguf.F32)
    w.tensor("v.patch_embd.weight", get("vision.patch.weight").reshape(d, 3, p, p), gguf.F32 if kind == gguf.F32 else gguf.F16)
    w.tensor("v.position_embd.weight", get("vision.position"), gguf.F32)
    for i in range(v["n_layers"]):
        own, to = f"vision.blocks.{i}.", f"v.blk.{i}."
        for norm in ("ln1", "ln2"):
            for part in ("weight", "bias"):
                w.tensor(f"{to}{norm}.{part}", get(f"{own}{norm}.{part}"), gguf.F32)
        for j, part in enumerate(("attn_q", "attn_k", "attn_v")):
            matrix(f"{to}{part}.weight", get(own + "qkv.weight")[j * d : (j + 1) * d])
            w.tensor(f"{to}{part}.bias", get(own + "qkv.bias")[j * d : (j + 1) * d], gguf.F32)
        for part, name in (("attn_out", "out"), ("ffn_up", "fc1"), ("ffn_down", "fc2")):
            matrix(f"{to}{part}.weight", get(f"{own}{name}.weight"))
            w.tensor(f"{to}{part}.bias", get(f"{own}{name}.bias"), gguf.F32)
    for part in ("weight", "bias"):
        w.tensor(f"v.pre_ln.{part}", get(f"vision.pre_ln.{part}"), gguf.F32)
    return w.write(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--kinds", default="q4_0")
    a = parser.parse_args()
    checkpoint = torch.load(a.checkpoint, map_location="cpu", weights_only=True)
    tokenizer = bpe.Tokenizer.load(a.tokenizer)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in a.kinds.split(","):
        kind = {"f32": gguf.F32, "f16": gguf.F16, "q8_0": gguf.Q8_0, "q4_0": gguf.Q4_0}[name]
        sizes = (language_file(out / f"house-{name}.gguf", checkpoint["model"], checkpoint["language"], tokenizer, kind),
                 vision_file(out / f"house-mmproj-{name}.gguf", checkpoint["model"], checkpoint["vision"], checkpoint["language"], kind))
        print(f"{name}: {sizes[0] / 1e6:.2f} MB and {sizes[1] / 1e6:.2f} MB, after {checkpoint['step']} steps")


if __name__ == "__main__":
    main()
