"""From scenes and conversations to what the decoder is trained on.

One row of a batch is one picture with several conversations about it. They stand one after another but each sees only the picture
and itself, at the positions it would have alone: the picture is paid for once.

    <|endoftext|> <|user|> [picture] "\\n" question <|assistant|> answer <|end|> <|user|> question …
"""

import numpy as np
import torch

from . import dialogue, drills, scenes
from .bpe import ASSISTANT, BOS, END, SYSTEM, USER
from .colours import COLOURS

IGNORED = -100
# What training draws, harder than evaluation: painted objects and crowds are seen worst. Of the evaluation's 100 single objects 56 of 57 in their own
# colours were named right without this and 35 of 43 painted ones; now 56 and 42.
HARDER = {"counts": (0.15, 0.18, 0.2, 0.23, 0.24), "painted": 0.5}
SYSTEMS = ["You are a helpful assistant.", "Answer the questions about the picture.", "You look at pictures and answer briefly.",
           "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the human's questions."]


def turns_to_ids(tokenizer, turns, rng=None, picture=True):
    """Ids of a conversation after its prefix, and which of them are answers. `rng` varies how questions are typed."""
    ids, answers = [], []
    for i, turn in enumerate(turns):
        question = dialogue.as_people_write(turn.question, rng) if rng is not None else turn.question
        before = [USER] if i or not picture else []
        asked = before + tokenizer.encode("\n" if picture and i == 0 else "") + tokenizer.encode(question) + [ASSISTANT]
        answered = tokenizer.encode(turn.answer) + [END]
        ids += asked + answered
        answers += [False] * len(asked) + [True] * len(answered)
    return ids, answers


def drill_to_ids(tokenizer, question, pieces):
    """The same of a drill."""
    ids = tokenizer.encode("\n") + tokenizer.encode(question) + [ASSISTANT]
    answers = [False] * len(ids)
    for text, learned in pieces:
        said = tokenizer.encode(text)
        ids += said
        answers += [learned] * len(said)
    return ids + [END], answers + [False]


def row(tokenizer, bank, scene, rng, n_patches, n_tokens, conversations=None, drilled=0.0, shares=drills.FIRST_SHARES):
    """One row: arrays of `n_tokens`. Rows of the picture hold the id −1. `drilled`: the share of
    conversations in whose place a drill stands, `shares`: of each kind of drill among these.

    `ids`, `targets` (the id that follows, where it is part of an answer), `positions`, `owner` (conversation; −1 for the shared
    prefix, −2 where nothing stands), `alone` (true where the conversation has no picture)."""
    view = dialogue.View(bank, scene)
    system = tokenizer.encode(SYSTEMS[int(rng.integers(len(SYSTEMS)))]) if rng.random() < 0.03 else None
    prefix = [BOS] + ([SYSTEM] + system if system else []) + [USER] + [-1] * n_patches
    ids, targets = list(prefix), [IGNORED] * len(prefix)
    positions, owner, alone = list(range(len(prefix))), [-1] * len(prefix), [False] * len(prefix)
    given = iter(conversations or ())
    number = tries = 0
    while True:
        written = next(given, None)
        without = written is None and rng.random() < 0.05
        if written is None and not without and rng.random() < drilled:
            said, answers = drill_to_ids(tokenizer, *drills.drill(view, rng, shares))
        else:
            turns = written or (dialogue.small_talk(rng, bank.classes) if without else dialogue.conversation(view, rng))
            said, answers = turns_to_ids(tokenizer, turns, rng, picture=not without)
        if without:
            said, answers = [BOS] + said, [False] + answers
        if len(ids) + len(said) > n_tokens:
            tries += 1
            if n_tokens - len(ids) > 40 and tries < 20:
                continue
            break
        first = 0 if without else len(prefix)
        ids += said
        targets += [said[i + 1] if i + 1 < len(said) and answers[i + 1] else IGNORED for i in range(len(said))]
        positions += range(first, first + len(said))
        owner += [number] * len(said)
        alone += [without] * len(said)
        number += 1
    pad = n_tokens - len(ids)
    return (ids + [BOS] * pad, targets + [IGNORED] * pad, positions + [0] * pad, owner + [-2] * pad, alone + [False] * pad)


def layout(bank, scene, patch, side):
    """What a perfect tower would say of each patch, `[n_patches, n_classes + n_colours + 1 + n_colours + 1]`: how much of it each class covers,
    in which colour (the last of them: no name), the background's colour, and how many objects have their middle here: what is counted and listed are
    these, for of two dogs side by side the patches say nothing but dog. (Without middles a decoder counted 80 % of perfect layouts right.)"""
    k = side // patch
    dx, dy = scenes.offset(scene)
    edges = np.arange(k + 1) / k
    n = len(bank.classes)
    out = np.zeros((k * k, n + len(COLOURS) + 1 + len(COLOURS) + 1), np.float32)
    if scene.background:
        out[:, n + len(COLOURS) + 1 + COLOURS.index(scene.background)] = 1
    for thing in scene.things:
        half = thing.size / 2
        along = lambda c: np.clip(np.minimum(edges[1:], c + half) - np.maximum(edges[:-1], c - half), 0, None) * k
        cover = np.outer(along(thing.y + dy), along(thing.x + dx)).reshape(-1)
        out[:, thing.kind] += cover
        out[:, n + (len(COLOURS) if thing.colour is None else COLOURS.index(thing.colour))] += cover
        # A middle near a border between patches is shared by both: that close, a tower cannot tell.
        near = lambda c: np.clip((0.65 - np.abs(c * k - np.arange(k) - 0.5)) / 0.3, 0, 1)
        out[:, -1] += np.outer(near(thing.y + dy), near(thing.x + dx)).reshape(-1)
    return out


def layout_words(bank, tokenizer):
    """The tokens of the words for each number of a layout, `[n_in, n]`, padded with −1."""
    colours = [tokenizer.encode(f" {c}") for c in COLOURS]
    ids = [tokenizer.encode(f" {c.one}") for c in bank.classes] + colours + [[]] + colours + [[]]
    longest = max(map(len, ids))
    return torch.tensor([i + [-1] * (longest - len(i)) for i in ids])


def batch(bank, tokenizer, vision, seed, step, n, n_tokens, oracle=False, written=None, share=0.0, pictures_only=False, easy=0.0, drilled=0.0,
          shares=drills.FIRST_SHARES, layouts=False):
    """A batch that follows from the seed and the step alone. `written`: conversations made elsewhere, of which `share` of the rows
    take one; `easy`: the share of scenes with one or two objects; `drilled`, `shares`: of drills, see `row`; `layouts`: what a
    perfect tower would say of the pictures, beside them."""
    rng = np.random.default_rng([seed, step])
    rows, pictures, perfect = [], [], []
    for _ in range(n):
        conversations = None
        if written and rng.random() < share:
            record = written[int(rng.integers(len(written)))]
            scene, conversations = scenes.sample(bank, np.random.default_rng(record["scene"])), record["conversations"]
        else:
            scene = scenes.sample(bank, rng, n=int(rng.integers(1, 3)) if rng.random() < easy else None, **HARDER)
        if pictures_only:
            # Stage 1: one caption or description for each picture, as LLaVA does it.
            view = dialogue.View(bank, scene)
            conversations = [[dialogue.short_caption(view, rng) if rng.random() < 0.6 else dialogue.name_all(view, rng)] for _ in range(4)]
        rows.append(row(tokenizer, bank, scene, rng, vision.n_patches, n_tokens, conversations, drilled, shares))
        if oracle or layouts:
            perfect.append(layout(bank, scene, vision.patch_size, vision.image_size))
        if not oracle:
            pictures.append(scenes.disturb(scenes.draw(bank, scene, vision.image_size, rng), rng))
    pictures = np.stack(perfect) if oracle else scenes.patches(scenes.normalise(np.stack(pictures)), vision.patch_size)
    ids, targets, positions, owner, alone = (torch.tensor(x) for x in zip(*rows))
    more = {"layouts": torch.from_numpy(np.stack(perfect))} if layouts else {}
    return {"patches": torch.from_numpy(pictures), "ids": ids, "targets": targets, "positions": positions, "owner": owner, "alone": alone, **more}


def pictures_and_layouts(bank, vision, seed, step, n):
    """A batch of pictures, and what a perfect tower would say of them."""
    rng = np.random.default_rng([seed, step])
    drawn = [scenes.sample(bank, rng, **HARDER) for _ in range(n)]
    pictures = np.stack([scenes.disturb(scenes.draw(bank, s, vision.image_size, rng), rng) for s in drawn])
    layouts = np.stack([layout(bank, s, vision.patch_size, vision.image_size) for s in drawn])
    return {"patches": torch.from_numpy(scenes.patches(scenes.normalise(pictures), vision.patch_size)), "layouts": torch.from_numpy(layouts)}


def mask(owner, alone):
    """Who may look at whom, `[b, 1, t, t]`: back in one's own conversation, and at the prefix unless the conversation has none."""
    t = owner.shape[1]
    back = torch.ones(t, t, dtype=torch.bool, device=owner.device).tril()
    own = owner[:, :, None] == owner[:, None, :]
    shared = (owner[:, None, :] == -1) & ~alone[:, :, None]
    return (back & (own | shared))[:, None]
