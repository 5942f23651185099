#!/usr/bin/env python3
"""Holds the engine against PyTorch on an exported pair, and measures what quantization costs.

usage: parity.py --checkpoint tune/final.pt --tokenizer tokenizer.json --gguf FOLDER --bank bank.npz [--engine PROGRAM] [--n 12]

1. Unquantized: the engine's logits after a picture and a question against PyTorch's; the cosine must be at least 0.999.
2. Quantized: the same question to the 4-bit pair; and the loss on answers of new scenes with the weights of each pair in PyTorch.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from house import answerers, bpe, dialogue, gguf, scenes, sequences
from train_llava import embed, loss_of

COSINE = 0.999


def from_gguf(model, language_path, vision_path):
    """Puts the weights of a pair of files, dequantized, into the network."""
    language, vision = gguf.read(language_path)[1], gguf.read(vision_path)[1]
    t = lambda tensors, name: torch.from_numpy(tensors[name][0])
    state = {"language.embed.weight": t(language, "token_embd.weight"), "language.norm.weight": t(language, "output_norm.weight")}
    for i in range(model.language.config.n_layers):
        own, blk = f"language.blocks.{i}.", f"blk.{i}."
        for part in ("attn_norm", "ffn_norm"):
            state[f"{own}{part}.weight"] = t(language, f"{blk}{part}.weight")
        state[own + "qkv.weight"] = torch.cat([t(language, f"{blk}attn_{p}.weight") for p in "qkv"])
        state[own + "gate_up.weight"] = torch.cat([t(language, f"{blk}ffn_{p}.weight") for p in ("gate", "up")])
        state[own + "out.weight"], state[own + "down.weight"] = t(language, blk + "attn_output.weight"), t(language, blk + "ffn_down.weight")
    for part, i in (("first", 0), ("second", 2)):
        for kind in ("weight", "bias"):
            state[f"projector.{part}.{kind}"] = t(vision, f"mm.{i}.{kind}")
    state["vision.class_embd"], state["vision.position"] = t(vision, "v.class_embd"), t(vision, "v.position_embd.weight")
    state["vision.patch.weight"] = t(vision, "v.patch_embd.weight").flatten(1)
    for kind in ("weight", "bias"):
        state[f"vision.pre_ln.{kind}"] = t(vision, f"v.pre_ln.{kind}")
        for i in range(model.vision.config.n_layers):
            own, blk = f"vision.blocks.{i}.", f"v.blk.{i}."
            for norm in ("ln1", "ln2"):
                state[f"{own}{norm}.{kind}"] = t(vision, f"{blk}{norm}.{kind}")
            state[f"{own}qkv.{kind}"] = torch.cat([t(vision, f"{blk}attn_{p}.{kind}") for p in "qkv"])
            for name, part in (("out", "attn_out"), ("fc1", "ffn_up"), ("fc2", "ffn_down")):
                state[f"{own}{name}.{kind}"] = t(vision, f"{blk}{part}.{kind}")
    model.load_state_dict(state)


@torch.no_grad()
def logits_of(answerer, picture, question):
    """PyTorch's logits for the first word of an answer."""
    tokenizer, language = answerer.tokenizer, answerer.model.language
    ids = [bpe.BOS, bpe.USER] + [-1] * answerer.vision.n_patches + tokenizer.encode("\n") + tokenizer.encode(question) + [bpe.ASSISTANT]
    x = embed(language, torch.tensor([ids]), answerer.rows(picture))
    n = len(ids)
    hidden = language(x, torch.arange(n)[None], torch.ones(1, 1, n, n, dtype=torch.bool).tril())
    return language.logits(hidden[0, -1]).numpy(), ids


@torch.no_grad()
def answer_loss(answerer, bank, n=8):
    """Mean cross-entropy and accuracy of the answers' tokens on scenes never trained on."""
    losses = []
    for step in range(n):
        batch = sequences.batch(bank, answerer.tokenizer, answerer.vision, 777, step, 8, 288)
        rows = answerer.model.projector(answerer.model.vision(batch["patches"]))
        losses.append([float(v) for v in loss_of(answerer.model.language, batch, rows)])
    return np.mean(losses, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkpoint", "tokenizer", "gguf", "bank"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--engine")
    parser.add_argument("--n", type=int, default=12)
    a = parser.parse_args()
    bank = scenes.Bank(a.bank)
    answerer = answerers.Checkpoint(a.checkpoint, a.tokenizer)
    folder = Path(a.gguf)
    pair = lambda kind: (str(folder / f"house-{kind}.gguf"), str(folder / f"house-mmproj-{kind}.gguf"))
    failed = False
    if a.engine:
        for kind in ("f32", "q4_0"):
            engine = answerers.Engine(a.engine, *pair(kind))
            rng = np.random.default_rng(5)
            cosines, same = [], 0
            for _ in range(a.n):
                scene = scenes.sample(bank, rng)
                turn = dialogue.conversation(dialogue.View(bank, scene), rng)[0]
                picture = scenes.draw(bank, scene, answerer.vision.image_size)
                expected, ids = logits_of(answerer, picture, turn.question)
                out = engine.request(images=[engine.path(picture)], prompt=f"<|user|><image>\n{turn.question}<|assistant|>")
                if "error" in out:
                    sys.exit(out["error"])
                # The engine's tokens are these; its picture rows are null.
                if [-1 if t is None else t for t in out["tokens"]] != ids:
                    sys.exit(f"the engine tokenizes {turn.question!r} otherwise:\n{out['tokens']}\n{ids}")
                got = np.array(out["logits"])
                cosines.append(float(got @ expected / np.linalg.norm(got) / np.linalg.norm(expected)))
                same += int(got.argmax() == expected.argmax())
            engine.close()
            print(f"{kind}: cosine of the logits to PyTorch's: least {min(cosines):.6f}, mean {np.mean(cosines):.6f}; same first token {same}/{a.n}")
            failed |= kind == "f32" and min(cosines) < COSINE
    for kind in ("f32", "q4_0"):
        from_gguf(answerer.model, *pair(kind))
        answerer.kept = (None, None)
        loss, right = answer_loss(answerer, bank)
        print(f"{kind}: loss {loss:.4f}, tokens right {right:.2%} on answers of new scenes")
    if failed:
        sys.exit(f"the engine differs from PyTorch by more than a cosine of {COSINE} allows")


if __name__ == "__main__":
    main()
