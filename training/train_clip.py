#!/usr/bin/env python3
"""Trains the CLIP of the house model: contrastive, whole pictures with captions and regions with names and colours.

usage: train_clip.py --bank bank.npz --run FOLDER [--steps N] [--batch N] [--device cuda] [--size small|large]

Goes on where FOLDER/last.pt stands. The region term (as in RegionCLIP, arXiv 2112.09106) holds the pooled features of an object
against the text encoder's vectors of all names and of all colours. It acts on the very features that LLaVA takes.
"""

import argparse
import time
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F

from house import captions, colours, runs, scenes
from house.model import Clip, TextConfig, VisionConfig

SIZES = {
    "small": VisionConfig(),
    "large": VisionConfig(image_size=160, patch_size=16, n_embd=256, n_ff=1024, n_heads=8, n_layers=10),
}


def make_batch(bank, words, text, vision, seed, step, n, style=None, combinations="train", easy=0.0, kept=None, single=0.0):
    """A batch that follows from the seed and the step alone. `easy`: the share of scenes with one or two objects in their own colours;
    `kept`: patches of each picture that the tower sees, those with objects first (as in FLIP, arXiv 2212.00794); `single`: the share of
    objects of which one patch alone must tell name and colour, for that is what a decoder reads."""
    rng = np.random.default_rng([seed, step])

    def sample():
        is_easy = rng.random() < easy
        n_things, painted = (int(rng.integers(1, 3)), 0.0) if is_easy else (None, scenes.PAINTED)
        return scenes.sample(bank, rng, style=style, combinations=combinations, n=n_things, painted=painted)

    drawn = [sample() for _ in range(n)]
    pictures = np.stack([scenes.disturb(scenes.draw(bank, s, vision.image_size, rng), rng) for s in drawn])
    weights = [scenes.region_weights(s, vision.patch_size, vision.image_size) for s in drawn]
    ids, lengths = words.encode([captions.caption(bank, s, rng) for s in drawn], text.n_ctx)
    things = [t for s in drawn for t in s.things]
    patches = scenes.patches(scenes.normalise(pictures), vision.patch_size)
    places = np.tile(np.arange(vision.n_patches), (n, 1))
    if kept:
        rank = np.stack([w.max(0) > 0 for w in weights]) + rng.random(places.shape)
        places = np.sort(np.argsort(-rank, 1)[:, :kept], 1)
        patches = np.take_along_axis(patches, places[..., None], 1)
        weights = [w[:, p] for w, p in zip(weights, places)]
        weights = [w / np.maximum(w.sum(1, keepdims=True), 1e-6) for w in weights]
    for regions in weights if single else ():
        for i in np.flatnonzero((rng.random(len(regions)) < single) & (regions.sum(1) > 0.5)):
            chosen = rng.choice(len(regions[i]), p=regions[i].astype(np.float64) / regions[i].sum(dtype=np.float64))
            regions[i] = np.arange(len(regions[i])) == chosen
    return {
        "patches": torch.from_numpy(patches),
        "places": torch.from_numpy(places),
        "ids": torch.tensor(ids),
        "lengths": torch.tensor(lengths),
        "weights": torch.from_numpy(np.concatenate(weights)),
        "owner": torch.tensor([i for i, s in enumerate(drawn) for _ in s.things]),
        "kind": torch.tensor([t.kind for t in things]),
        "colour": torch.tensor([-100 if t.colour is None else colours.COLOURS.index(t.colour) for t in things]),
        "background": torch.tensor([-100 if s.background is None else colours.COLOURS.index(s.background) for s in drawn]),
    }


def losses(clip, batch, labels):
    """The three losses and what they got right."""
    (name_ids, name_lengths), (colour_ids, colour_lengths) = labels
    picture, features = clip.encode_image(batch["patches"], batch["places"])
    caption = clip.encode_text(batch["ids"], batch["lengths"])
    scale = clip.logit_scale.clamp(max=4.6).exp()
    logits = scale[0] * picture @ caption.T
    here = torch.arange(len(logits), device=logits.device)
    whole = (F.cross_entropy(logits, here) + F.cross_entropy(logits.T, here)) / 2
    name, colour = clip.regions(features, batch["weights"], batch["owner"])
    names, shades = clip.encode_text(name_ids, name_lengths), clip.encode_text(colour_ids, colour_lengths)
    name_logits, colour_logits = scale[1] * name @ names.T, scale[2] * colour @ shades.T
    names_right = (name_logits.argmax(-1) == batch["kind"]).float().mean()
    known = batch["colour"] >= 0
    colours_right = (colour_logits.argmax(-1) == batch["colour"])[known].float().mean()
    return (whole, F.cross_entropy(name_logits, batch["kind"]), F.cross_entropy(colour_logits, batch["colour"]),
            (logits.argmax(-1) == here).float().mean(), names_right, colours_right)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--easy-steps", type=int, default=1500, help="steps over which the share of easy scenes goes from all to none")
    parser.add_argument("--kept", type=float, default=0.625, help="share of the patches that the tower sees, but for the last of the steps")
    parser.add_argument("--single", type=float, default=0.7, help="share of the objects of which one patch alone must tell name and colour")
    parser.add_argument("--whole-from", type=float, default=0.85, help="from which share of the steps on it sees them all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--save-minutes", type=float, default=4)
    a = parser.parse_args()
    threads = runs.Threads(a.threads)
    torch.manual_seed(a.seed)
    run = runs.Run(a.run, vars(a))
    if run.done():
        return
    bank = scenes.Bank(a.bank)
    words = captions.Words(bank)
    vision, text = SIZES[a.size], TextConfig(n_vocab=len(words.words))
    clip = Clip(vision, text).to(a.device)
    optimizer = runs.optimizer([clip], a.rate)
    if not a.no_compile:
        runs.compile_blocks(clip.vision.blocks)
    start = 0
    if state := run.load():
        clip.load_state_dict(state["clip"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    else:
        some = make_batch(bank, words, text, vision, a.seed + 2000, 0, 400)["patches"]
        clip.vision.whiten(some.flatten(0, 1).to(a.device))
    label = lambda texts: tuple(torch.tensor(t, device=a.device) for t in words.encode(texts, text.n_ctx))
    labels = label([f"a {c.one}" for c in bank.classes]), label([f"something {c}" for c in colours.COLOURS])
    few = round(a.kept * vision.n_patches)
    made = lambda step: make_batch(bank, words, text, vision, a.seed, step, a.batch, easy=max(0.0, 1 - step / max(1, a.easy_steps)),
                                   kept=few if step < a.whole_from * a.steps else None, single=a.single)
    state_of = lambda step: {"clip": clip.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                             "vision": asdict(vision), "text": asdict(text)}
    sums, counted, began = np.zeros(6), 0, time.monotonic()
    print(f"{sum(p.numel() for p in clip.vision.parameters()) / 1e6:.2f} M parameters in the tower, from step {start}")
    for step, batch in zip(range(start, a.steps), runs.batches(made, start, a.workers, a.device)):
        for group in optimizer.param_groups:
            group["lr"] = runs.learning_rate(step, a.steps, a.rate)
        with runs.autocast(a.device):
            *parts, whole_right, names_right, colours_right = losses(clip, batch, labels)
        loss = 0.5 * parts[0] + parts[1] + 0.5 * parts[2]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        sums += [float(v.detach()) for v in (*parts, whole_right, names_right, colours_right)]
        counted += 1
        if (step + 1) % 20 == 0:
            threads.adapt()
        if (step + 1) % 50 == 0:
            whole, name, colour, whole_right, names_right, colours_right = sums / counted
            run.log(step=step + 1, seconds=(time.monotonic() - began) / counted, whole=whole, name=name, colour=colour,
                    whole_right=whole_right, names_right=names_right, colours_right=colours_right)
            sums, counted, began = np.zeros(6), 0, time.monotonic()
        if run.stopping or time.monotonic() - run.saved_at > 60 * a.save_minutes:
            run.save(state_of(step + 1))
            run.draw("name", "names_right", "colours_right", "whole_right", title="CLIP")
        if run.stopping:
            return
    # The same on pictures never trained on: a new seed, held-out combinations, a style never seen.
    clip.eval()
    torch.compiler.set_stance("force_eager")
    for title, style, combinations in (("new scenes", None, "train"), ("held-out combinations", None, "held-out"), ("held-out style", "twemoji", "train"),
                                       ("second held-out style", "openmoji", "train")):
        right = np.zeros(3)
        for i in range(8):
            batch = make_batch(bank, words, text, vision, a.seed + 1000, i, 64, style, combinations)
            with torch.no_grad(), runs.autocast(a.device):
                right += [float(v) for v in losses(clip, {k: v.to(a.device) for k, v in batch.items()}, labels)[3:]]
        run.log(step=a.steps, test=title, **dict(zip(("test_whole", "test_names", "test_colours"), (right / 8).tolist())))
    run.save(state_of(a.steps), final=True)
    run.draw("name", "names_right", "colours_right", "whole_right", title="CLIP")


if __name__ == "__main__":
    main()
