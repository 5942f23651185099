"""Captions for the contrastive training, and the words of its text encoder."""

from . import classes as class_table
from . import colours

NUMBERS = ["no", "one", "two", "three", "four", "five"]


def phrase(bank, thing, with_colour=True):
    """An object as a noun phrase without an article."""
    one = bank.classes[thing.kind].one
    return f"{thing.colour} {one}" if with_colour and thing.colour else one


def joined(parts):
    """a, b and c"""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def caption(bank, scene, rng):
    """One line of what the picture shows."""
    groups = {}
    for thing in scene.things:
        groups.setdefault((thing.kind, thing.colour), []).append(thing)
    parts = []
    for (kind, colour), things in groups.items():
        c = bank.classes[kind]
        colour = f"{colour} " if colour else ""
        parts.append(class_table.article(colour + c.one) if len(things) == 1 else f"{NUMBERS[len(things)]} {colour}{c.many}")
    rng.shuffle(parts)
    text = joined(parts)
    if len(scene.things) > 1 and rng.random() < 0.5:
        i, j = rng.choice(len(scene.things), 2, replace=False)
        a, b = scene.things[i], scene.things[j]
        dx, dy = a.x - b.x, a.y - b.y
        where = ("left of" if dx < 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below")
        text += f", the {phrase(bank, a, False)} {where} the {phrase(bank, b, False)}"
    if scene.background and rng.random() < 0.7:
        text += f" on {scene.background}"
    return text


class Words:
    """The text encoder's vocabulary: whole words."""

    def __init__(self, bank):
        texts = NUMBERS + colours.COLOURS + [". , a an the and on left right above below of background something picture drawing"]
        texts += [f"{c.one} {c.many}" for c in bank.classes]
        self.words = ["<pad>"] + sorted({w for t in texts for w in t.replace(",", " ,").split()})
        self.ids = {w: i for i, w in enumerate(self.words)}

    def encode(self, texts, n_ctx):
        """Ids `[n, longest]` padded with 0, and lengths."""
        rows = [[self.ids[w] for w in t.replace(",", " ,").split()][:n_ctx] for t in texts]
        longest = max(map(len, rows))
        return [r + [0] * (longest - len(r)) for r in rows], [len(r) for r in rows]
