"""The classes the house model knows: names, plurals, what they are, how large they are in the world."""

import re
from dataclasses import dataclass
from pathlib import Path

SHAPES = ["circle", "square", "triangle", "rectangle", "oval", "diamond", "pentagon", "hexagon", "heart", "cross", "arrow"]

# A section of classes.txt to the words that are true of its members.
KINDS = {
    "land-animal": ("animal",),
    "bird": ("animal", "bird"),
    "sea-animal": ("animal", "sea animal"),
    "insect": ("animal", "insect"),
    "plant": ("plant",),
    "fruit": ("food", "fruit"),
    "vegetable": ("food", "vegetable"),
    "food": ("food",),
    "drink": ("drink",),
    "building": ("place",),
    "land-vehicle": ("vehicle",),
    "water-vehicle": ("vehicle", "boat"),
    "air-vehicle": ("vehicle", "aircraft"),
    "sky": (),
    "toy": ("toy",),
    "sport": ("sports item",),
    "clothing": ("piece of clothing",),
    "instrument": ("musical instrument",),
    "device": ("device",),
    "tool": ("tool",),
    "household": ("household item",),
    "stationery": (),
    "monument": (),
    "shape": ("shape",),
}
# Members of a section that are not quite what it says.
NOT = {
    "tool": {"bomb", "bow and arrow", "shield", "syringe", "pill", "anchor", "hourglass", "crystal ball", "magic wand",
             "umbrella", "candle", "key", "padlock", "fishing pole", "gear", "screw", "toolbox"},
    "piece of clothing": {"ring", "lipstick", "handbag", "backpack"},
    "household item": {"gift", "fire extinguisher", "shopping cart", "mailbox"},
    "place": {"tent", "volcano"},
    "toy": {"balloon"},
    "aircraft": {"satellite", "parachute"},
    "vehicle": {"satellite", "parachute"},
    "sports item": {"trophy", "medal"},
    "device": {"battery", "floppy disk"},
    "animal": {"seashell"},
    "sea animal": {"seashell"},
}  # fmt: skip
KIND_PLURALS = {
    "animal": "animals", "bird": "birds", "sea animal": "sea animals", "insect": "insects", "plant": "plants",
    "food": "foods", "fruit": "fruits", "vegetable": "vegetables", "drink": "drinks", "place": "places",
    "vehicle": "vehicles", "boat": "boats", "aircraft": "aircraft", "toy": "toys", "sports item": "sports items",
    "piece of clothing": "pieces of clothing", "musical instrument": "musical instruments", "device": "devices",
    "tool": "tools", "household item": "household items", "shape": "shapes",
}  # fmt: skip


@dataclass(frozen=True)
class Class:
    """A class of objects."""

    name: str
    """Short name: french fries."""
    one: str
    """What is counted: box of french fries."""
    many: str
    """Its plural: boxes of french fries."""
    section: str
    kinds: tuple
    size: int
    """1 fits into a hand … 5 like a house; 0 for shapes, which have no size in the world."""
    icons: tuple


def article(phrase):
    """The phrase with its indefinite article."""
    if phrase.startswith(("uni", "ukulele", "one ")):
        return "a " + phrase
    return ("an " if phrase[0] in "aeiou" or phrase.startswith(("hourglass", "x-ray")) else "a ") + phrase


def plural(noun):
    """The regular English plural."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def load(path=Path(__file__).with_name("classes.txt")):
    """All classes, shapes last."""
    classes = []
    section, size = "", 0
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section, size = line[1:-1].split()
            continue
        spec, _, icons = line.partition(":")
        parts = dict(re.findall(r"([=~@])([^=~@]+)", spec))
        name = re.match(r"[^=~@]+", spec).group()
        one = parts.get("=", name)
        kinds = tuple(kind for kind in KINDS[section] if name not in NOT.get(kind, ()))
        classes.append(Class(name, one, parts.get("~", plural(one)), section, kinds, int(parts.get("@", size)),
                             tuple(icons.split()) or (name.replace(" ", "-"),)))
    for shape in SHAPES:
        classes.append(Class(shape, shape, plural(shape), "shape", ("shape",), 0, ()))
    return classes
