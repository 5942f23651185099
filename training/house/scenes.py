"""Scenes: pictures drawn from sprites, with everything that is known about them.

A scene is a list of objects (class, colour, box) on a background. Which objects may stand together, and which may be painted in
which colour, is split by a hash, so that some combinations are seen in evaluation alone.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from . import classes as class_table
from . import colours

SIDE = 128
"""Pixels along a side of what the vision tower takes."""
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
BORDER = tuple(int(m * 255) for m in (0.48145466, 0.4578275, 0.40821073))
"""What a picture that is not square is padded with, as LLaVA-1.5 does."""


@dataclass
class Thing:
    """An object in a scene. Positions are in units of the canvas, 0 … 1, y downwards."""

    kind: int
    """Index of the class."""
    colour: str | None
    """What a person would call its colour; None where no one name fits."""
    painted: bool
    x: float
    y: float
    size: float
    """Longer side of the sprite."""
    sprite: int
    turn: float
    mirrored: bool
    rgb: tuple = ()


@dataclass
class Scene:
    """Objects and what is behind them."""

    things: list
    background: str | None
    """Name of the background's colour; None where it has two."""
    texture: str
    """plain, gradient, stripes, checks, dots or noise."""
    width: int = SIDE
    height: int = SIDE
    seed: int = 0
    extra: dict = field(default_factory=dict)


def held_out_pair(a, b):
    """Whether these two classes never stand together in training."""
    low, high = min(a, b), max(a, b)
    return low != high and zlib.crc32(f"pair {low} {high}".encode()) % 20 == 0


def held_out_paint(kind, colour):
    """Whether this class is never painted in this colour in training."""
    return zlib.crc32(f"paint {kind} {colour}".encode()) % 20 == 0


class Bank:
    """The sprites."""

    def __init__(self, path):
        data = np.load(path)
        self.pixels = data["pixels"]
        self.which = data["which"].astype(int)
        self.style = data["style"].astype(int)
        self.colour = data["colour"].astype(int)
        self.styles = [str(s) for s in data["styles"]]
        self.names = [str(n) for n in data["names"]]
        self.classes = class_table.load()
        if self.names != [c.name for c in self.classes]:
            raise ValueError(f"{path} was made of other classes; make it anew with sprites.py")
        trained = {str(s) for s in data["trained"]} | {"shape"}
        self.trained_styles = [i for i, s in enumerate(self.styles) if s in trained]
        visible = self.pixels[..., 3:] > 128
        self.mean = (self.pixels[..., :3] * visible).sum((1, 2), dtype=np.float32) / np.maximum(visible.sum((1, 2)), 1) / 255
        self._by = {}
        for i, (kind, style) in enumerate(zip(self.which, self.style)):
            self._by.setdefault((kind, style), []).append(i)
        self.shape_style = self.styles.index("shape")
        self.emoji = [i for i, c in enumerate(self.classes) if c.section != "shape"]
        self.shapes = [i for i, c in enumerate(self.classes) if c.section == "shape"]

    def sprites(self, kind, styles):
        """Sprites of a class in these styles, grouped by style."""
        return [self._by[kind, s] for s in styles if (kind, s) in self._by]


COUNTS = (0.27, 0.21, 0.2, 0.16, 0.16)
"""How often a scene has 1 … 5 objects."""
PAINTED = 0.33
"""The share of objects that are painted in one colour."""


def sample(bank, rng, *, style=None, combinations="train", n=None, counts=COUNTS, painted=PAINTED):
    """Draws a scene. `style`: one style of the bank instead of those trained on; `combinations`: `train` keeps to the objects and
    paints that training may show, `held-out` puts at least one pair that it may not."""
    styles = bank.trained_styles if style is None else [bank.styles.index(style), bank.shape_style]
    while True:
        count = n or int(rng.choice([1, 2, 3, 4, 5], p=counts))
        kinds = _kinds(bank, rng, count, styles, combinations)
        if kinds is None:
            continue
        background, texture, behind = _background(rng)
        scene = Scene([], background, texture, seed=int(rng.integers(1 << 31)), extra={"behind": behind})
        if rng.random() < 0.15:
            short = int(SIDE * rng.uniform(0.6, 0.95))
            if rng.random() < 0.5:
                scene.height = short
            else:
                scene.width = short
        if not _place(bank, rng, scene, kinds, styles, combinations, behind, painted):
            continue
        return scene


def _kinds(bank, rng, count, styles, combinations):
    """Classes of a scene's objects; some come several times."""
    pool = bank.shapes if rng.random() < 0.06 else bank.emoji
    distinct = count
    if count > 1 and rng.random() < 0.4:
        distinct = int(rng.integers(1, count))
    chosen = []
    tries = 0
    while len(chosen) < distinct:
        tries += 1
        if tries > 200:
            return None
        shape = pool is bank.shapes or rng.random() < 0.09
        kind = int(rng.choice(bank.shapes if shape else bank.emoji))
        if kind in chosen or not bank.sprites(kind, styles):
            continue
        if combinations == "train" and any(held_out_pair(kind, other) for other in chosen):
            continue
        if combinations == "held-out" and len(chosen) == 1 and not held_out_pair(kind, chosen[0]):
            tries -= 0.9
            continue
        chosen.append(kind)
    repeats = [int(rng.choice(chosen)) for _ in range(count - distinct)]
    kinds = chosen + repeats
    rng.shuffle(kinds)
    return kinds


def _background(rng):
    """Colour name, texture, and the RGB colours of a background."""
    name = colours.COLOURS[rng.integers(len(colours.COLOURS))]
    if rng.random() < 0.3:
        name = "white"
    texture = str(rng.choice(["plain", "gradient", "stripes", "checks", "dots", "noise"], p=[0.5, 0.16, 0.09, 0.08, 0.08, 0.09]))
    first = colours.paint(name, rng)
    second = colours.paint(name, rng)
    if texture == "gradient" and rng.random() < 0.4:
        other = colours.COLOURS[rng.integers(len(colours.COLOURS))]
        second = colours.paint(other, rng)
        name = name if other == name else None
    elif texture != "plain":
        # A second shade that still has the name.
        second = np.clip(first + rng.uniform(-0.1, 0.1), 0, 1) if name not in ("white", "black") else np.clip(
            first + (-1 if name == "white" else 1) * rng.uniform(0.03, 0.09), 0, 1)
    return name, texture, (first, second)


def _colour_of(bank, rng, kind, styles, behind, painted, combinations):
    """A sprite, its paint and the name of its colour, which is not the background's."""
    for _ in range(60):
        group = bank.sprites(kind, styles)
        group = group[rng.integers(len(group))]
        sprite = int(group[rng.integers(len(group))])
        shape = bank.classes[kind].section == "shape"
        if shape or rng.random() < painted:
            name = colours.COLOURS[rng.integers(len(colours.COLOURS))]
            if combinations == "train" and held_out_paint(kind, name):
                continue
            rgb = colours.paint(name, rng)
            mean = rgb
        else:
            natural_name = bank.colour[sprite]
            name, rgb = (None if natural_name < 0 else colours.COLOURS[natural_name]), None
            mean = bank.mean[sprite]
        if min(np.abs(mean - b).sum() for b in behind) > 0.45:
            return sprite, name, rgb
    return None


SIZES = {1: (0.38, 0.85), 2: (0.33, 0.54), 3: (0.30, 0.44), 4: (0.28, 0.39), 5: (0.27, 0.36)}


def _place(bank, rng, scene, kinds, styles, combinations, behind, painted):
    """Puts the objects where they overlap little."""
    width, height = scene.width / SIDE, scene.height / SIDE
    overlap_allowed = 0.25 if rng.random() < 0.2 else 0.06
    # Several of a class mostly look alike.
    looks = {}
    alike = rng.random() < 0.6
    for kind in kinds:
        look = looks.get(kind) if alike else None
        if look is None:
            look = _colour_of(bank, rng, kind, styles, behind, painted, combinations)
            if look is None:
                return False
            looks[kind] = look
        sprite, name, rgb = look
        for _ in range(60):
            size = rng.uniform(*SIZES[len(kinds)]) * min(width, height) ** 0.7
            x = rng.uniform(size / 2, width - size / 2) if width > size else width / 2
            y = rng.uniform(size / 2, height - size / 2) if height > size else height / 2
            if all(_overlap((x, y, size), (t.x, t.y, t.size)) <= overlap_allowed for t in scene.things):
                break
        else:
            return False
        section = bank.classes[kind].section
        turn = rng.uniform(-20, 20) if rng.random() < 0.5 else 0.0
        if section == "shape" and bank.classes[kind].name not in ("circle", "arrow", "heart"):
            turn = rng.uniform(-12, 12)
        scene.things.append(Thing(kind, name, rgb is not None, x, y, size, sprite, float(turn), bool(rng.random() < 0.5),
                                  tuple(rgb) if rgb is not None else ()))
    # Sizes are those on the whole square; offsets of a picture that is not square are added when drawn.
    return True


def _overlap(a, b):
    """Overlap of two squares as a share of the smaller one."""
    def along(i):
        return min(a[i] + a[2] / 2, b[i] + b[2] / 2) - max(a[i] - a[2] / 2, b[i] - b[2] / 2)
    w, h = along(0), along(1)
    return 0.0 if w <= 0 or h <= 0 else w * h / min(a[2], b[2]) ** 2


def tint(rgba, rgb):
    """The sprite in shades of one colour: its light and dark stay, its colours go."""
    pixels = rgba.astype(np.float32) / 255
    light = pixels[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
    visible = pixels[..., 3] > 0.5
    centre = np.median(light[visible]) if visible.any() else 0.5
    rgb = np.asarray(rgb, np.float32)
    delta = np.clip(light - centre, -0.45, 0.45)[..., None]
    # Towards black for what is darker than the middle, towards white for what is lighter; less where the colour is black or white.
    dark, bright = rgb * 0.35, rgb + (1 - rgb) * 0.55
    if rgb.max() < 0.2:
        bright = rgb + 0.16
    if rgb.min() > 0.9:
        dark = rgb * 0.80
    out = np.where(delta < 0, rgb + (dark - rgb) * (-delta / 0.45), rgb + (bright - rgb) * (delta / 0.45))
    return np.concatenate([np.clip(out, 0, 1) * 255, rgba[..., 3:]], -1).astype(np.uint8)


def restyle(rgba, rng):
    """A drawing as another artist may have made it: flatter, paler or stronger in colour, with an outline. It keeps its colours' names."""
    x = rgba[..., :3].astype(np.float32) / 255
    if rng.random() < 0.5:
        grey = (x @ np.array([0.3, 0.59, 0.11], np.float32))[..., None]
        x = np.clip(grey + (x - grey) * rng.uniform(0.7, 1.4), 0, 1)
    if rng.random() < 0.5:
        levels = int(rng.integers(3, 7))
        x = np.round(x * levels) / levels
    elif rng.random() < 0.6:
        # As sets do that are drawn in few flat colours, the held-out one among them.
        few = Image.fromarray((x * 255 + 0.5).astype(np.uint8)).filter(ImageFilter.ModeFilter(3)).quantize(int(rng.integers(4, 9)))
        x = np.asarray(few.convert("RGB"), np.float32) / 255
    if rng.random() < 0.4:
        inside = np.pad(rgba[..., 3] > 127, 1)
        covered = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        x[inside[1:-1, 1:-1] & ~covered] *= rng.uniform(0.1, 0.6)
    return np.concatenate([(x * 255 + 0.5).astype(np.uint8), rgba[..., 3:]], -1)


_FILTERS = (Image.BILINEAR, Image.BICUBIC, Image.LANCZOS, Image.BOX)


def draw(bank, scene, side=SIDE, rng=None):
    """The picture, uint8 `[side, side, 3]`, padded to a square as the engine does. `rng`, in training, varies how it is resampled and drawn."""
    varies = rng is not None
    rng = rng or np.random.default_rng(scene.seed)
    scale = side / SIDE
    width, height = round(scene.width * scale), round(scene.height * scale)
    canvas = Image.fromarray(_draw_background(scene, width, height))
    for thing in scene.things:
        n = max(4, round(thing.size * side))
        image = Image.fromarray(bank.pixels[thing.sprite]).resize((n, n), _FILTERS[rng.integers(4)])
        if varies and rng.random() < 0.7:
            image = Image.fromarray(restyle(np.asarray(image), rng))
            # Drawn wider or narrower, too, on the same square.
            longer, shorter = n, max(4, round(n * rng.uniform(0.75, 1)))
            image = image.resize((longer, shorter) if rng.random() < 0.5 else (shorter, longer), Image.BILINEAR)
        if thing.rgb:
            image = Image.fromarray(tint(np.asarray(image), thing.rgb))
        if thing.mirrored and bank.classes[thing.kind].name != "arrow":
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        if thing.turn:
            image = image.rotate(thing.turn, Image.BILINEAR, expand=True)
        canvas.paste(image, (round(thing.x * side - image.width / 2), round(thing.y * side - image.height / 2)), image)
    picture = np.asarray(canvas)
    if (width, height) == (side, side):
        return picture
    square = np.empty((side, side, 3), np.uint8)
    square[:] = BORDER
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def offset(scene):
    """What padding adds to the objects' positions, in units of the canvas."""
    return (SIDE - scene.width) / 2 / SIDE, (SIDE - scene.height) / 2 / SIDE


def _draw_background(scene, width, height):
    rng = np.random.default_rng(scene.seed)
    first, second = (np.asarray(c, np.float32) * 255 for c in scene.extra["behind"])
    if scene.texture == "plain":
        return np.tile((first + 0.5).clip(0, 255).astype(np.uint8), (height, width, 1))
    longest = max(width, height)
    x, y = np.arange(width, dtype=np.float32) / longest, np.arange(height, dtype=np.float32)[:, None] / longest
    angle = rng.uniform(0, 2 * np.pi)
    period = np.float32(rng.uniform(0.06, 0.2))
    if scene.texture in ("gradient", "stripes"):
        along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
        along -= along.min()
    if scene.texture == "gradient":
        mix = along / along.max()
    elif scene.texture == "stripes":
        mix = (along / period) % 1 < 0.5
    elif scene.texture == "checks":
        mix = ((x // period) + (y // period)) % 2 > 0
    elif scene.texture == "dots":
        mix = ((x % period) - period / 2) ** 2 + ((y % period) - period / 2) ** 2 < (0.3 * period) ** 2
    else:
        grain = rng.random((24, 24), np.float32)
        mix = np.asarray(Image.fromarray(grain).resize((width, height), Image.BICUBIC)).clip(0, 1)
    if mix.dtype == bool:
        pair = (np.stack([first, second]) + 0.5).clip(0, 255).astype(np.uint8)
        return pair[mix.astype(np.intp)]
    # 256 shades are as fine as the picture's bytes.
    shades = (first + (second - first) * (np.arange(256, dtype=np.float32) / 255)[:, None] + 0.5).clip(0, 255).astype(np.uint8)
    return shades[(mix * 255).astype(np.uint8)]


def disturb(picture, rng):
    """What cameras, screens and files do to a picture: brightness, contrast, blur, grain. Half of the pictures stay as they are."""
    if rng.random() < 0.5:
        return picture
    out = picture.astype(np.float32)
    if rng.random() < 0.6:
        out = (out - 128) * rng.uniform(0.85, 1.12) + 128 + rng.uniform(-12, 12)
    if rng.random() < 0.3:
        side = len(picture)
        small = int(side * rng.uniform(0.6, 0.95))
        image = Image.fromarray(np.clip(out, 0, 255).astype(np.uint8))
        out = np.asarray(image.resize((small, small), Image.BICUBIC).resize((side, side), Image.BICUBIC), np.float32)
    if rng.random() < 0.3:
        out = out + rng.normal(0, rng.uniform(1, 6), out.shape).astype(np.float32)
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def region_weights(scene, patch, side=SIDE):
    """How much of each patch an object's inner box covers, `[n_things, (side/patch)²]`, each row summing to 1."""
    k = side // patch
    dx, dy = offset(scene)
    rows = []
    for thing in scene.things:
        half = 0.42 * thing.size
        edges = np.arange(k + 1) / k

        def cover(centre):
            low, high = np.maximum(edges[:-1], centre - half), np.minimum(edges[1:], centre + half)
            return np.maximum(high - low, 0)

        weights = np.outer(cover(thing.y + dy), cover(thing.x + dx)).reshape(-1)
        rows.append(weights / max(weights.sum(), 1e-9))
    return np.array(rows, np.float32)


def normalise(pictures):
    """uint8 `[n, side, side, 3]` to what the tower takes, float32 of the same shape."""
    return (pictures.astype(np.float32) / 255 - MEAN) / STD


def patches(pictures, patch):
    """`[n, side, side, 3]` to `[n, (side/patch)², 3·patch²]`, column fastest, then row, then channel: a convolution's order."""
    n, side, _, _ = pictures.shape
    k = side // patch
    return pictures.reshape(n, k, patch, k, patch, 3).transpose(0, 1, 3, 5, 2, 4).reshape(n, k * k, 3 * patch * patch)
