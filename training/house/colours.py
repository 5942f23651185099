"""Colour names: what to paint with, and what a picture's colours are called."""

import numpy as np

# Name → (hue range in degrees, saturation range, value range) to paint with.
PAINT = {
    "red": ((-8, 8), (0.80, 1.0), (0.72, 0.95)),
    "orange": ((24, 34), (0.88, 1.0), (0.92, 1.0)),
    "yellow": ((50, 57), (0.75, 1.0), (0.92, 1.0)),
    "green": ((95, 145), (0.60, 1.0), (0.45, 0.78)),
    "turquoise": ((172, 182), (0.60, 1.0), (0.68, 0.88)),
    "blue": ((212, 232), (0.75, 1.0), (0.65, 0.95)),
    "purple": ((268, 284), (0.60, 0.95), (0.50, 0.75)),
    "pink": ((318, 340), (0.38, 0.58), (0.95, 1.0)),
    "brown": ((18, 28), (0.62, 0.85), (0.34, 0.50)),
    "black": ((0, 360), (0.0, 0.12), (0.03, 0.14)),
    "white": ((0, 360), (0.0, 0.02), (0.96, 1.0)),
    "gray": ((0, 360), (0.0, 0.05), (0.45, 0.62)),
}
COLOURS = list(PAINT)


def hsv_to_rgb(h, s, v):
    """Hue in degrees, the rest 0 … 1; gives floats 0 … 1."""
    k = (np.array([5.0, 3.0, 1.0]) + h / 60.0) % 6
    return v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)


def paint(name, rng):
    """A shade of the colour, RGB in 0 … 1."""
    hue, saturation, value = PAINT[name]
    return hsv_to_rgb(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))


def classify(rgb):
    """The index into COLOURS of each pixel of `rgb [..., 3]` (0 … 255), −1 where no name is certain."""
    c = np.asarray(rgb, np.float32) / 255.0
    high, low = c.max(-1), c.min(-1)
    delta = high - low
    safe = np.where(delta == 0, 1, delta)
    r, g, b = c[..., 0], c[..., 1], c[..., 2]
    hue = np.where(high == r, ((g - b) / safe) % 6, np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60
    saturation = np.where(high > 0, delta / np.where(high == 0, 1, high), 0)
    out = np.full(high.shape, -1, np.int8)

    def put(mask, name):
        out[mask & (out < 0)] = COLOURS.index(name)

    put(high < 0.22, "black")
    gray = (saturation < 0.12) | ((saturation < 0.2) & (high < 0.4))
    put(gray & (high > 0.9), "white")
    put(gray & (high > 0.3) & (high < 0.82), "gray")
    chroma = saturation > 0.25
    warm = (hue >= 10) & (hue < 45)
    put(chroma & warm & (high < 0.66), "brown")
    put(chroma & ((hue < 10) | (hue >= 350)) & (high > 0.45) & (saturation > 0.6), "red")
    put(chroma & (hue >= 18) & (hue < 42) & (high > 0.85) & (saturation > 0.7), "orange")
    put(chroma & (hue >= 44) & (hue < 64) & (high > 0.75) & (saturation > 0.45), "yellow")
    put(chroma & (hue >= 75) & (hue < 160) & (saturation > 0.35), "green")
    put(chroma & (hue >= 168) & (hue < 188) & (saturation > 0.4) & (high > 0.5), "turquoise")
    put(chroma & (hue >= 200) & (hue < 245) & (saturation > 0.45), "blue")
    put(chroma & (hue >= 258) & (hue < 295) & (saturation > 0.3), "purple")
    put((saturation > 0.18) & (hue >= 310) & (hue < 352) & (high > 0.8) & (saturation < 0.7), "pink")
    return out


def dominant(rgba, share=0.62):
    """The name of the colour that most of an opaque picture has, or None."""
    pixels = rgba[rgba[..., 3] > 200][:, :3]
    if len(pixels) < 50:
        return None
    names = classify(pixels)
    counts = np.bincount(names[names >= 0], minlength=len(COLOURS))
    best = int(counts.argmax())
    return COLOURS[best] if counts[best] >= share * len(pixels) else None
