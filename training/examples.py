#!/usr/bin/env python3
"""Draws the pictures that the page offers to click.

usage: examples.py OUT_FOLDER --icons node_modules/@iconify-json      needs resvg-py, pillow and numpy

Icons of Noto Emoji (Apache 2.0) and Fluent Emoji (MIT) only. Sizes and places are such as the house model was trained on.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import sprites
from house import scenes

SIDE = 512
# Name: background, then icon set, icon, centre x, centre y, size (fractions of the picture), paint.
PICTURES = {
    "pets": ((255, 255, 255), [("fluent-emoji", "dog-face", 0.27, 0.62, 0.42, None), ("noto", "cat-face", 0.74, 0.68, 0.40, None),
                               ("noto", "balloon", 0.60, 0.22, 0.34, (0.86, 0.12, 0.16))]),
    "fruit": ((38, 160, 72), [("noto", "red-apple", 0.20, 0.28, 0.32, None), ("noto", "red-apple", 0.55, 0.24, 0.32, None), ("noto", "red-apple", 0.33, 0.70, 0.32, None),
                                ("noto", "banana", 0.76, 0.70, 0.36, None)]),
    "travel": ((44, 96, 214), [("fluent-emoji-flat", "airplane", 0.30, 0.26, 0.38, (0.97, 0.97, 0.97)), ("noto", "bus", 0.72, 0.72, 0.42, (0.98, 0.86, 0.15)),
                               ("noto", "sun", 0.78, 0.22, 0.30, None)]),
}  # fmt: skip


def draw(icons, background, things):
    """One picture."""
    canvas = Image.new("RGB", (SIDE, SIDE), background)
    for package, name, x, y, size, paint in things:
        data = icons[package]
        entry = data["icons"][name]
        image = sprites.render(entry["body"], entry.get("width", data.get("width", 16)), entry.get("height", data.get("height", 16)))
        image = image.crop(image.getchannel("A").getbbox())
        n = round(size * SIDE)
        scale = n / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.LANCZOS)
        if paint:
            image = Image.fromarray(scenes.tint(np.asarray(image), paint))
        canvas.paste(image, (round(x * SIDE - image.width / 2), round(y * SIDE - image.height / 2)), image)
    return canvas


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--icons", required=True)
    a = parser.parse_args()
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    names = {package for _, things in PICTURES.values() for package, *_ in things}
    icons = {name: json.loads((Path(a.icons) / name / "icons.json").read_text()) for name in names}
    for name, (background, things) in PICTURES.items():
        path = out / f"{name}.png"
        draw(icons, background, things).quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
