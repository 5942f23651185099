#!/usr/bin/env python3
"""Renders the sprite bank: every class in every drawing style, once, into one compressed file.

usage: sprites.py OUT.npz --icons node_modules/@iconify-json      needs resvg-py, pillow and numpy

The icon sets are npm packages; README.md says which, MODEL_CARD.md under what licences.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from house import classes, colours

SIDE = 96
# Drawing styles by icon set. The last two are never trained on.
TRAINED = ["noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "emojione", "fxemoji"]
HELD_OUT = ["twemoji", "openmoji"]


def fit(image):
    """Cuts off what is transparent and centres the rest on a square."""
    box = image.getchannel("A").point(lambda a: 255 if a > 12 else 0).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    # Resample with premultiplied alpha, or transparent black shows at the edges.
    array = np.asarray(square, np.float32)
    array[..., :3] *= array[..., 3:] / 255
    small = np.stack([np.asarray(Image.fromarray(array[..., c]).resize((SIDE, SIDE), Image.BOX)) for c in range(4)], -1)
    small[..., :3] /= np.maximum(small[..., 3:], 1) / 255
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)


def render(body, width, height):
    """An icon's SVG as a picture."""
    import resvg_py

    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
           f'viewBox="0 0 {width} {height}">{body}</svg>')
    png = resvg_py.svg_to_bytes(svg_string=svg, width=4 * SIDE, height=4 * SIDE)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def shape(name, filling):
    """A shape in grey, to be painted later: solid, shaded, outlined or hollow."""
    n = 4 * SIDE
    image = Image.new("RGBA", (n, n))
    draw = ImageDraw.Draw(image)
    ring = lambda k, r=0.5, turn=-90: [(n * (0.5 + r * np.cos(np.radians(turn + 360 * i / k))),
                                        n * (0.5 + r * np.sin(np.radians(turn + 360 * i / k)))) for i in range(k)]
    t = np.linspace(0, 2 * np.pi, 200)
    points = {
        "circle": ring(180), "square": [(0, 0), (n, 0), (n, n), (0, n)], "triangle": ring(3),
        "rectangle": [(0, 0.23 * n), (n, 0.23 * n), (n, 0.77 * n), (0, 0.77 * n)],
        "oval": [(x, n / 2 + 0.58 * (y - n / 2)) for x, y in ring(180)],
        "diamond": [(n / 2, 0), (0.82 * n, n / 2), (n / 2, n), (0.18 * n, n / 2)], "pentagon": ring(5), "hexagon": ring(6, turn=0),
        "heart": [(n / 2 + n / 34 * 16 * np.sin(a) ** 3,
                   n * 0.47 - n / 34 * (13 * np.cos(a) - 5 * np.cos(2 * a) - 2 * np.cos(3 * a) - np.cos(4 * a))) for a in t],
        "cross": [(n * x / 3, n * y / 3) for x, y in [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1)]],
        "arrow": [(0, 0.36 * n), (0.55 * n, 0.36 * n), (0.55 * n, 0.1 * n), (n, 0.5 * n), (0.55 * n, 0.9 * n), (0.55 * n, 0.64 * n), (0, 0.64 * n)],
    }[name]
    grey = (150, 150, 150, 255)
    if filling == "hollow":
        draw.line(points + points[:2], fill=grey, width=n // 7, joint="curve")
    else:
        draw.polygon(points, fill=grey)
        if filling == "outlined":
            draw.line(points + points[:2], fill=(70, 70, 70, 255), width=n // 20, joint="curve")
        if filling == "shaded":
            array = np.array(image)
            light = np.linspace(195, 105, n)[:, None, None]
            array[..., :3] = np.broadcast_to(light, array[..., :3].shape)
            image = Image.fromarray(array)
    return fit(image)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out")
    arguments.add_argument("--icons", required=True, help="the folder of the icon sets (node_modules/@iconify-json)")
    arguments.add_argument("--sheet", help="also draw all sprites into this PNG, to look at")
    a = arguments.parse_args()
    styles = TRAINED + HELD_OUT
    known = classes.load()
    pixels, which, style_of, counts = [], [], [], {}
    for style, package in enumerate(styles):
        icons = json.loads((Path(a.icons) / package / "icons.json").read_text())
        by_name = dict(icons["icons"])
        for alias, target in icons.get("aliases", {}).items():
            if target["parent"] in by_name and len(target) == 1:
                by_name.setdefault(alias, by_name[target["parent"]])
        if package == "fxemoji":
            by_name = {**{n.replace("-", ""): b for n, b in by_name.items()}}
        for index, kind in enumerate(known):
            for icon in kind.icons:
                entry = by_name.get(icon.replace("-", "") if package == "fxemoji" else icon)
                if entry is None:
                    continue
                width, height = entry.get("width", icons.get("width", 16)), entry.get("height", icons.get("height", 16))
                sprite = fit(render(entry["body"], width, height))
                if sprite is None:
                    continue
                pixels.append(sprite), which.append(index), style_of.append(style)
                counts.setdefault(index, set()).add(style)
    shapes = len(styles)
    for index, kind in enumerate(known):
        if kind.section == "shape":
            for filling in ("solid", "shaded", "outlined", "hollow"):
                pixels.append(shape(kind.name, filling)), which.append(index), style_of.append(shapes)
    for index, kind in enumerate(known):
        trained = [s for s in counts.get(index, ()) if s < len(TRAINED)]
        if kind.section != "shape" and len(trained) < 3:
            print(f"{kind.name}: only in {[styles[s] for s in counts.get(index, ())]}")
    pixels = np.stack(pixels)
    colour = np.array([-1 if (c := colours.dominant(s)) is None else colours.COLOURS.index(c) for s in pixels], np.int8)
    np.savez_compressed(a.out, pixels=pixels, which=np.array(which, np.int16), style=np.array(style_of, np.int8), colour=colour,
                        names=np.array([k.name for k in known]), styles=np.array([*styles, "shape"]), trained=np.array(TRAINED))
    print(f"{len(pixels)} sprites of {len(known)} classes in {len(styles)} styles; {np.mean(colour >= 0):.0%} have one main colour; "
          f"{Path(a.out).stat().st_size / 1e6:.1f} MB")
    if a.sheet:
        columns = 40
        sheet = Image.new("RGB", (columns * 48, (len(pixels) + columns - 1) // columns * 48), "white")
        for i, sprite in enumerate(pixels):
            image = Image.fromarray(sprite).resize((46, 46))
            sheet.paste(image, (i % columns * 48, i // columns * 48), image)
        sheet.save(a.sheet)


if __name__ == "__main__":
    main()
