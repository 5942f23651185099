"""Instruction data from scenes, in the manner of LLaVA: conversation, detailed description, reasoning; and conversations without a picture.

Every answer follows from what is known of the scene. Where a question has no certain answer (two cars of one colour, an object
near the middle) it is not asked. A turn carries what a judge needs to mark an answer: its kind and the words that must and must
not be in it.
"""

import zlib
from dataclasses import dataclass, field

from . import classes as class_table
from .captions import NUMBERS, joined
from .colours import COLOURS
from .classes import KIND_PLURALS, article

SYNONYMS = {
    "bicycle": "bike", "airplane": "plane", "hamburger": "burger", "television": "TV", "phone": "cell phone", "hippopotamus": "hippo",
    "rhinoceros": "rhino", "couch": "sofa", "doughnut": "donut", "trash can": "garbage can", "gift": "present", "rabbit": "bunny",
    "motorcycle": "motorbike", "flying saucer": "UFO", "dinosaur": "T-Rex", "glasses": "spectacles", "sneaker": "running shoe",
    "chili pepper": "chili", "padlock": "lock", "telephone": "landline phone", "computer": "desktop computer", "fire truck": "fire engine",
    "tangerine": "orange", "drumstick": "chicken leg", "shirt": "T-shirt", "bee": "honeybee", "picture frame": "painting", "ship": "boat",
    "gas pump": "fuel pump", "thermometer": "fever thermometer", "jack-o-lantern": "pumpkin", "candy": "sweet", "french fries": "fries",
}  # fmt: skip


@dataclass
class Turn:
    """A question, its answer, and how to mark one."""

    question: str
    answer: str
    kind: str = "talk"
    must: tuple = ()
    """Each entry a tuple of words of which one must be said."""
    must_not: tuple = ()
    extra: dict = field(default_factory=dict)


def pick(rng, options):
    """One of the options; a lone string is itself."""
    return options if isinstance(options, str) else options[int(rng.integers(len(options)))]


def chance(rng, p):
    return rng.random() < p


def is_are(n):
    return "is" if n == 1 else "are"


def cap(text):
    return text[:1].upper() + text[1:]


class View:
    """A scene as its describer sees it."""

    def __init__(self, bank, scene):
        self.bank, self.scene = bank, scene
        self.groups = {}
        for thing in scene.things:
            self.groups.setdefault(thing.kind, []).append(thing)
        self.n = len(scene.things)
        self.classes = bank.classes

    def c(self, thing):
        return self.classes[thing.kind]

    def an(self, thing):
        """a red car"""
        colour = f"{thing.colour} " if thing.colour else ""
        return article(colour + self.c(thing).one)

    def the(self, thing):
        """the car, the red car; None where that would not say which one."""
        group = self.groups[thing.kind]
        if len(group) == 1:
            return f"the {self.c(thing).one}"
        if thing.colour and sum(t.colour == thing.colour for t in group) == 1 and all(t.colour for t in group):
            return f"the {thing.colour} {self.c(thing).one}"
        return None

    def in_order(self):
        """The groups from left to right, by the leftmost of each: the order in which things are listed."""
        return sorted(self.groups.values(), key=lambda group: min(t.x for t in group))

    def listed(self, rng=None, colours=True):
        """two cats and a red car"""
        parts = []
        for group in self.in_order():
            c = self.c(group[0])
            names = {t.colour for t in group}
            colour = f"{group[0].colour} " if colours and len(names) == 1 and group[0].colour else ""
            if len(group) == 1:
                parts.append(article(colour + c.one))
            else:
                parts.append(f"{NUMBERS[len(group)]} {colour}{c.many}")
        return joined(parts)

    def place(self, thing):
        """Where a thing is in the picture; None where it is between two places."""
        x, y = thing.x * 128 / self.scene.width, thing.y * 128 / self.scene.height

        def third(v, names):
            for low, high, name in ((0, 0.36, names[0]), (0.42, 0.58, names[1]), (0.64, 1, names[2])):
                if low <= v <= high:
                    return name
            return None

        across, down = third(x, ("left", "", "right")), third(y, ("top", "", "bottom"))
        if across is None or down is None:
            return None
        if across and down:
            return f"in the {down} {across} corner"
        if across:
            return f"on the {across}"
        if down:
            return f"at the {down}"
        return "in the middle"

    def relation(self, a, b):
        """Where a is from b: left, right, above, below; None where it is neither clearly."""
        dx, dy = a.x - b.x, a.y - b.y
        if abs(dx) > 0.12 and abs(dx) > 1.4 * abs(dy):
            return "left" if dx < 0 else "right"
        if abs(dy) > 0.12 and abs(dy) > 1.4 * abs(dx):
            return "above" if dy < 0 else "below"
        return None


WHERE = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def _called(rng, c):
    """A name a person may use for a class in a question."""
    if c.name in SYNONYMS and chance(rng, 0.2):
        return SYNONYMS[c.name]
    return c.one if chance(rng, 0.7) else c.name


def _any_of(rng, c, adjective=""):
    """Is there a car / are there any cars, and its verb."""
    called = _called(rng, c)
    plain = called in (c.one,) or called == SYNONYMS.get(c.name) and not called.endswith("s")
    if plain:
        if chance(rng, 0.25):
            return f"Are there any {adjective}{c.many}"
        return f"{pick(rng, ['Is there', 'Is there', 'Do you see', 'Can you see', 'Can you find'])} {article(adjective + called)}"
    if called.endswith("s"):
        return f"{pick(rng, ['Are there any', 'Do you see any', 'Can you see any'])} {adjective}{called}"
    if c.name == c.one:
        return f"Is there {article(adjective + called)}"
    return f"Is there any {adjective}{called}"


IN_PICTURE = ["", "", " in the picture", " in this picture", " in the image", " here", " in the scene"]


def absent_kind(view, rng):
    """A class that the picture lacks; half the time of the same sort as one that it has."""
    present = set(view.groups)
    for _ in range(50):
        if chance(rng, 0.5):
            section = view.c(view.scene.things[int(rng.integers(view.n))]).section
            pool = [i for i, c in enumerate(view.classes) if c.section == section]
        else:
            pool = range(len(view.classes))
        kind = int(pool[int(rng.integers(len(pool)))])
        if kind not in present:
            return kind
    return None


# --- questions about one thing -------------------------------------------------------------------------------------------------


def name_one(view, rng, t):
    q = pick(rng, ["What is this?", "What is in the picture?", "What do you see?", "What is shown here?", "What does this picture show?", "What object is this?",
                   "What is it?", "Can you tell me what this is?", "Which object is shown?", "What can you see in this image?", "Name the object.", "What's this?"])
    return Turn(q, f"This is {view.an(t)}.", "name", ((view.c(t).one, view.c(t).name),))


def name_all(view, rng):
    q = pick(rng, ["What is in the picture?", "What do you see?", "What can you see in this image?", "What is shown here?", "Which objects are in the picture?",
                   "Name the objects.", "List everything you see.", "What objects are there?", "Name all the objects in the picture.", "What are these?",
                   "What does this picture show?", "Can you list the objects in the image?", "What things are in this scene?", "What's in this picture?"])
    must = tuple((view.classes[k].one, view.classes[k].name, view.classes[k].many) for k in view.groups)
    return Turn(q, f"{pick(rng, ['I see', 'I see', 'The picture shows'])} {view.listed()}.", "names", must, extra={"n": view.n})


def colour_of(view, rng, t, it=False):
    the = "it" if it else view.the(t)
    plain = len(view.groups[t.kind]) == 1
    if the is None or not t.colour or not (plain or it):
        return None
    c = view.c(t)
    if it:
        q = pick(rng, ["What color is it?", "And what color is it?", "What colour is it?", "And its color?", "Which color does it have?", "And what colour is it?",
                       "What is its color?"])
        a, kind = f"It is {t.colour}.", "follow colour"
    else:
        called = f"the {_called(rng, c)}"
        q = pick(rng, [f"What color is {called}?", f"What colour is {called}?", f"What is the color of {called}?", f"Which color does {called} have?",
                       f"Tell me the color of {called}.", f"What color is {called} in the picture?"])
        a, kind = f"{cap(the)} is {t.colour}.", "colour"
    return Turn(q, a, kind, ((t.colour,),), tuple(x for x in COLOURS if x != t.colour))


def is_colour(view, rng, t, it=False):
    if not t.colour or len(view.groups[t.kind]) != 1:
        return None
    the = "it" if it else view.the(t)
    called = "it" if it else f"the {_called(rng, view.c(t))}"
    true = chance(rng, 0.5)
    colour = t.colour if true else pick(rng, [c for c in COLOURS if c != t.colour])
    q = pick(rng, [f"Is {called} {colour}?", f"Is {called} {colour}?", f"Is the color of {called} {colour}?" if not it else f"Is it {colour}?"])
    answer = f"Yes, {the} is {colour}." if true else f"No, {the} is {t.colour}."
    return Turn(q, answer, "yes/no colour", (("Yes",) if true else ("No",),))


def where_is(view, rng, t, it=False):
    the, place = ("it" if it else view.the(t)), view.place(t)
    if the is None or place is None:
        return None
    called = "it" if it else the
    q = pick(rng, [f"Where is {called}?", f"Where is {called} in the picture?", f"In which part of the picture is {called}?", f"Where do you see {called}?"])
    if it:
        q = pick(rng, ["Where is it?", "And where is it?", "Where in the picture is it?"])
    return Turn(q, f"{cap(the)} is {place}.", "follow where" if it else "place", ((place,),))


# --- counting ------------------------------------------------------------------------------------------------------------------


def count_all(view, rng):
    q = pick(rng, ["How many objects are there?", "How many things are in the picture?", "How many objects are in the picture?", "Count the objects.",
                   "How many objects do you see?", "How many items are shown?", "What is the number of objects in this image?", "How many things can you see?"])
    noun = "object" if view.n == 1 else "objects"
    return Turn(q, f"There {is_are(view.n)} {NUMBERS[view.n]} {noun} in the picture.", "count", ((NUMBERS[view.n],),),
                tuple(w for w in NUMBERS[1:] if w != NUMBERS[view.n]))


def count_kind(view, rng):
    if chance(rng, 0.15):
        kind = absent_kind(view, rng)
        if kind is None:
            return None
        n = 0
    else:
        many = [k for k, g in view.groups.items() if len(g) > 1]
        pool = many if many and chance(rng, 0.8) else list(view.groups)
        kind = int(pool[int(rng.integers(len(pool)))])
        n = len(view.groups[kind])
    c = view.classes[kind]
    q = pick(rng, [f"How many {c.many} are there?", f"How many {c.many} do you see?", f"How many {c.many} are in the picture?", f"Count the {c.many}.",
                   f"How many {c.many} can you see?", f"What is the number of {c.many}?"])
    noun = c.one if n == 1 else c.many
    return Turn(q, f"There {is_are(n)} {NUMBERS[n]} {noun} in the picture.", "count kind", ((NUMBERS[n],),), tuple(w for w in NUMBERS if w != NUMBERS[n]))


def count_sort(view, rng):
    sort = pick(rng, list(KIND_PLURALS))
    if chance(rng, 0.7):
        sorts = [k for t in view.scene.things for k in view.c(t).kinds]
        if sorts:
            sort = pick(rng, sorts)
    members = [t for t in view.scene.things if sort in view.c(t).kinds]
    n = len(members)
    plural = KIND_PLURALS[sort]
    q = pick(rng, [f"How many {plural} are there?", f"How many {plural} do you see?", f"How many {plural} are in the picture?", f"Count the {plural}."])
    noun = sort if n == 1 else plural
    return Turn(q, f"There {is_are(n)} {NUMBERS[n]} {noun} in the picture.", "count sort", ((NUMBERS[n],),), tuple(w for w in NUMBERS if w != NUMBERS[n]))


# --- yes and no ----------------------------------------------------------------------------------------------------------------


def presence(view, rng, follow=False):
    """Is there a dog? Both answers equally often; half of the wrong ones are near."""
    true = chance(rng, 0.5)
    if true:
        kind = int(pick(rng, list(view.groups)))
        group = view.groups[kind]
        c, n = view.classes[kind], len(group)
        what = article(c.one) if n == 1 else f"{NUMBERS[n]} {c.many}"
        answer = f"Yes, there {is_are(n)} {what} in the picture."
    else:
        kind = absent_kind(view, rng)
        if kind is None:
            return None
        c = view.classes[kind]
        answer = f"No, there is no {c.one} in the picture."
    q = _any_of(rng, c) + pick(rng, IN_PICTURE) + "?"
    if follow:
        q = "And is there" + q[8:] if q.startswith("Is there") else q
    return Turn(q, answer, "presence", (("Yes",) if true else ("No",),), extra={"yes": true})


def presence_painted(view, rng):
    """Is there a red car? The no is of another colour, or of another thing."""
    t = pick(rng, view.scene.things)
    if not t.colour or len(view.groups[t.kind]) > 1:
        return None
    c = view.c(t)
    true = chance(rng, 0.5)
    if true:
        return Turn(_any_of(rng, c, t.colour + " ") + pick(rng, IN_PICTURE) + "?", f"Yes, there is {view.an(t)} in the picture.", "presence painted", (("Yes",),))
    colour = pick(rng, [x for x in COLOURS if x != t.colour])
    return Turn(_any_of(rng, c, colour + " ") + pick(rng, IN_PICTURE) + "?", f"No, the {c.one} in the picture is {t.colour}.", "presence painted", (("No",),))


def presence_sort(view, rng):
    """Are there any animals? Is there something to eat?"""
    sort = pick(rng, list(KIND_PLURALS))
    if chance(rng, 0.5):
        sorts = [k for t in view.scene.things for k in view.c(t).kinds]
        sort = pick(rng, sorts) if sorts else sort
    members = [k for k in view.groups if sort in view.classes[k].kinds]
    q = f"{pick(rng, ['Is there', 'Do you see', 'Can you see'])} {article(sort)}" if chance(rng, 0.5) else f"Are there any {KIND_PLURALS[sort]}"
    if sort == "food" and chance(rng, 0.5):
        q = "Is there anything to eat"
    q += pick(rng, IN_PICTURE) + "?"
    if not members:
        return Turn(q, f"No, there is no {sort} in the picture.", "presence sort", (("No",),))
    c = view.classes[members[0]]
    n = len(view.groups[members[0]])
    what = article(c.one) if n == 1 else f"{NUMBERS[n]} {c.many}"
    return Turn(q, f"Yes, there {is_are(n)} {what} in the picture.", "presence sort", (("Yes",),))


# --- relations -----------------------------------------------------------------------------------------------------------------


def pair_of_things(view, rng):
    """Two things that can be told apart, with a clear relation."""
    named = [t for t in view.scene.things if view.the(t)]
    for _ in range(8):
        if len(named) < 2:
            return None
        i, j = rng.choice(len(named), 2, replace=False)
        a, b = named[int(i)], named[int(j)]
        where = view.relation(a, b)
        if where:
            return a, b, where
    return None


def relation_open(view, rng):
    found = pair_of_things(view, rng)
    if not found:
        return None
    a, b, where = found
    x, y = view.the(a), view.the(b)
    q = pick(rng, [f"Where is {x} relative to {y}?", f"Where is {x} compared to {y}?", f"Is {x} left, right, above or below {y}?", f"On which side of {y} is {x}?",
                   f"Where is {x} in relation to {y}?"])
    return Turn(q, f"{cap(x)} is {WHERE[where]} {y}.", "relation", ((where,),), tuple(w for w in WHERE if w != where))


def relation_yes_no(view, rng):
    found = pair_of_things(view, rng)
    if not found:
        return None
    a, b, where = found
    x, y = view.the(a), view.the(b)
    true = chance(rng, 0.5)
    asked = where if true else (OPPOSITE[where] if chance(rng, 0.7) else pick(rng, [w for w in WHERE if w != where]))
    if not true and asked not in (where, OPPOSITE[where]):
        # A thing may be both left and above; only what is plainly false is denied.
        asked = OPPOSITE[where]
    q = pick(rng, [f"Is {x} {WHERE[asked]} {y}?", f"Is {x} {WHERE[asked]} {y}?", f"Do you see {x} {WHERE[asked]} {y}?"])
    answer = f"{'Yes' if true else 'No'}, {x} is {WHERE[where]} {y}."
    return Turn(q, answer, "relation yes/no", (("Yes",) if true else ("No",),))


def relation_which(view, rng):
    """What is to the left of the car? Asked only where one thing is."""
    found = pair_of_things(view, rng)
    if not found:
        return None
    a, b, where = found
    others = [t for t in view.scene.things if t is not a and t is not b]
    sign = {"left": lambda t: b.x - t.x, "right": lambda t: t.x - b.x, "above": lambda t: b.y - t.y, "below": lambda t: t.y - b.y}[where]
    if any(sign(t) > 0.03 for t in others):
        return None
    q = pick(rng, [f"What is {WHERE[where]} {view.the(b)}?", f"Which object is {WHERE[where]} {view.the(b)}?", f"What do you see {WHERE[where]} {view.the(b)}?"])
    return Turn(q, f"{cap(view.an(a))} is {WHERE[where]} {view.the(b)}.", "relation which", ((view.c(a).one, view.c(a).name),))


EXTREMES = [("leftmost", lambda t: t.x, "on the left"), ("rightmost", lambda t: -t.x, "on the right"),
            ("topmost", lambda t: t.y, "at the top"), ("lowest", lambda t: -t.y, "at the bottom")]


def outermost(view, key):
    """The thing with the lowest `key`, where it is so by far."""
    order = sorted(view.scene.things, key=key)
    return order[0] if len(order) > 1 and key(order[1]) - key(order[0]) >= 0.1 else None


def extreme(view, rng):
    """What is leftmost, what is at the top?"""
    way, key, side = pick(rng, EXTREMES)
    t = outermost(view, key)
    if t is None:
        return None
    q = pick(rng, [f"What is the {way} object?", f"Which object is {side}?", f"What is {side}?", f"What do you see {side}?", f"Which object is the {way}?"])
    return Turn(q, f"The {way} object is {view.an(t)}.", "extreme", ((view.c(t).one, view.c(t).name),))


# --- comparing and reasoning ---------------------------------------------------------------------------------------------------


def which_colour(view, rng):
    """Which object is red?"""
    if any(t.colour is None for t in view.scene.things):
        return None
    by = {}
    for t in view.scene.things:
        by.setdefault(t.colour, []).append(t)
    if chance(rng, 0.2):
        colour = pick(rng, [c for c in COLOURS if c not in by])
        return Turn(pick(rng, [f"Which object is {colour}?", f"What is {colour} in the picture?", f"Is anything {colour}?"]),
                    f"No object in the picture is {colour}.", "which colour", (("No object", "Nothing"),))
    ones = [c for c, ts in by.items() if len(ts) == 1 and view.the(ts[0])]
    if not ones:
        return None
    colour = pick(rng, ones)
    t = by[colour][0]
    if len(view.groups[t.kind]) > 1:
        return None
    q = pick(rng, [f"Which object is {colour}?", f"What is {colour}?", f"What is {colour} in the picture?", f"Which thing has the color {colour}?"])
    return Turn(q, f"The {view.c(t).one} is {colour}.", "which colour", ((view.c(t).one, view.c(t).name),))


def bigger(view, rng):
    named = [t for t in view.scene.things if view.the(t)]
    if len(named) < 2:
        return None
    i, j = rng.choice(len(named), 2, replace=False)
    a, b = named[int(i)], named[int(j)]
    if max(a.size, b.size) < 1.25 * min(a.size, b.size):
        return None
    large, small = (a, b) if a.size > b.size else (b, a)
    x, y = view.the(a), view.the(b)
    if chance(rng, 0.5):
        q = pick(rng, [f"Which is larger in the picture, {x} or {y}?", f"Which one is bigger here, {x} or {y}?", f"Is {x} or {y} larger in the image?"])
        return Turn(q, f"{cap(view.the(large))} is larger than {view.the(small)} in the picture.", "size", ((view.the(large) + " is larger",),))
    true = a is large
    q = pick(rng, [f"Is {x} larger than {y} in the picture?", f"Is {x} drawn bigger than {y}?"])
    return Turn(q, f"{'Yes' if true else 'No'}, {view.the(large)} is larger than {view.the(small)} in the picture.", "size yes/no", (("Yes",) if true else ("No",),))


def in_the_world(view, rng):
    """Would it fit? By the sizes that things have in the world."""
    kinds = [k for k in view.groups if view.classes[k].size]
    if not kinds:
        return None
    a = view.classes[pick(rng, kinds)]
    b = view.classes[pick(rng, kinds)] if len(kinds) > 1 and chance(rng, 0.7) else pick(rng, [c for c in view.classes if c.size])
    if abs(a.size - b.size) < 2:
        return None
    x, y = article(a.one), article(b.one)
    big, small = (x, y) if a.size > b.size else (y, x)
    form = int(rng.integers(3))
    if form == 0:
        q = pick(rng, [f"Which is larger in real life, {x} or {y}?", f"What is bigger in the real world, {x} or {y}?"])
        return Turn(q, f"In real life {big} is larger than {small}.", "world", ((f"{big} is larger",),))
    if form == 1:
        true = a.size > b.size
        return Turn(pick(rng, [f"Is a real {a.one} larger than {y}?", f"In real life, is {x} bigger than {y}?"]),
                    f"{'Yes' if true else 'No'}, in real life {big} is larger than {small}.", "world", (("Yes",) if true else ("No",),))
    true = a.size < b.size
    q = pick(rng, [f"Would a real {a.one} be smaller than {y}?", f"In real life, is {x} smaller than {y}?"])
    return Turn(q, f"{'Yes' if true else 'No'}, in real life {small} is smaller than {big}.", "world", (("Yes",) if true else ("No",),))


def taken_away(view, rng):
    """What would be left?"""
    if not 2 <= view.n <= 4:
        return None
    kinds = list(view.groups)
    if len(kinds) < 2:
        return None
    kind = int(pick(rng, kinds))
    c, n = view.classes[kind], len(view.groups[kind])
    gone = f"the {c.one}" if n == 1 else f"the {c.many}"
    rest = [t for t in view.scene.things if t.kind != kind]
    left = View(view.bank, type(view.scene)(rest, view.scene.background, view.scene.texture, view.scene.width, view.scene.height))
    q = pick(rng, [f"If I take away {gone}, what is left?", f"What is left without {gone}?", f"What remains if {gone} {is_are(n)} removed?", f"What is there besides {gone}?",
                   f"What else is in the picture besides {gone}?"])
    must = tuple((left.classes[k].one, left.classes[k].many, left.classes[k].name) for k in left.groups)
    return Turn(q, f"Without {gone} there {is_are(len(next(iter(left.groups.values()))) if len(left.groups) == 1 else (1 if left.listed().startswith(('a ', 'an ')) else 2))} {left.listed()}.",
                "left over", must)


def same_colour(view, rng):
    painted = [t for t in view.scene.things if t.colour and len(view.groups[t.kind]) == 1]
    if len(painted) < 2:
        return None
    i, j = rng.choice(len(painted), 2, replace=False)
    a, b = painted[int(i)], painted[int(j)]
    x, y = view.the(a), view.the(b)
    q = pick(rng, [f"Do {x} and {y} have the same color?", f"Are {x} and {y} the same color?"])
    if a.colour == b.colour:
        return Turn(q, f"Yes, both are {a.colour}.", "same colour", (("Yes",),))
    return Turn(q, f"No, {x} is {a.colour} and {y} is {b.colour}.", "same colour", (("No",),))


def more_than(view, rng):
    kinds = list(view.groups)
    if len(kinds) < 2:
        return None
    i, j = rng.choice(len(kinds), 2, replace=False)
    a, b = view.classes[kinds[int(i)]], view.classes[kinds[int(j)]]
    m, n = len(view.groups[kinds[int(i)]]), len(view.groups[kinds[int(j)]])
    if m == n == 1 and chance(rng, 0.7):
        return None
    tail = f"there {is_are(m)} {NUMBERS[m]} {a.one if m == 1 else a.many} and {NUMBERS[n]} {b.one if n == 1 else b.many}."
    return Turn(f"Are there more {a.many} than {b.many}?", f"{'Yes' if m > n else 'No'}, {tail}", "more", (("Yes",) if m > n else ("No",),))


def sort_of(view, rng, t=None, it=False):
    """Is it an animal? Which of them are animals?"""
    t = t or pick(rng, view.scene.things)
    c = view.c(t)
    if not c.kinds:
        return None
    if it or chance(rng, 0.5):
        if not it and len(view.groups[t.kind]) > 1:
            return None
        true = chance(rng, 0.5)
        sort = pick(rng, list(c.kinds)) if true else pick(rng, [k for k in KIND_PLURALS if k not in c.kinds])
        x = "it" if it else f"the {c.one}"
        kind = c.kinds[-1]
        return Turn(f"Is {x} {article(sort)}?", f"Yes, {article(c.one)} is {article(sort)}." if true else f"No, {article(c.one)} is {article(kind)}.", "sort", (("Yes",) if true else ("No",),))
    sort = pick(rng, list(c.kinds))
    members = [k for k in view.groups if sort in view.classes[k].kinds]
    names = joined([f"the {view.classes[k].one if len(view.groups[k]) == 1 else view.classes[k].many}" for k in members])
    q = pick(rng, [f"Which of the objects are {KIND_PLURALS[sort]}?", f"Which {KIND_PLURALS[sort]} do you see?", f"What {KIND_PLURALS[sort]} are in the picture?"])
    return Turn(q, f"The {KIND_PLURALS[sort]} in the picture: {names}.", "sort which", tuple((view.classes[k].one, view.classes[k].many) for k in members))


def background(view, rng):
    if not view.scene.background:
        return None
    q = pick(rng, ["What color is the background?", "What is the color of the background?", "What colour is the background?", "Which color is behind the objects?",
                   "What is the background color?"])
    return Turn(q, f"The background is {view.scene.background}.", "background", ((view.scene.background,),), tuple(c for c in COLOURS if c != view.scene.background))


# --- descriptions --------------------------------------------------------------------------------------------------------------


def detail(view, rng):
    q = pick(rng, ["Describe the picture.", "Describe this image in detail.", "What is happening in this picture? Describe it in detail.", "Give me a detailed description of the image.",
                   "Please describe the scene.", "Can you describe this picture for me?", "Write a detailed description of this picture.", "Tell me about this picture."])
    behind = f" on {article(view.scene.background)} background" if view.scene.background else ""
    sentences = [f"The picture shows {view.listed()}{behind}."]
    spoken = 0
    for t in sorted(view.scene.things, key=lambda t: t.x):
        the, place = view.the(t), view.place(t)
        if the and place and spoken < 3:
            sentences.append(f"{cap(the)} is {place}.")
            spoken += 1
    if view.n > 1:
        found = pair_of_things(view, rng)
        if found:
            a, b, where = found
            sentences.append(f"{cap(view.the(a))} is {WHERE[where]} {view.the(b)}.")
        order = sorted(view.scene.things, key=lambda t: -t.size)
        if order[0].size > 1.25 * order[1].size and view.the(order[0]):
            sentences.append(f"{cap(view.the(order[0]))} is the largest object.")
    must = tuple((view.classes[k].one, view.classes[k].name, view.classes[k].many) for k in view.groups)
    return Turn(q, " ".join(sentences), "detail", must)


def short_caption(view, rng):
    q = pick(rng, ["Describe the picture briefly.", "Give a short caption.", "Write a caption for this picture.", "Summarize the image in one sentence.", "Describe it in one sentence."])
    behind = f" on {article(view.scene.background)} background" if view.scene.background else ""
    must = tuple((view.classes[k].one, view.classes[k].name, view.classes[k].many) for k in view.groups)
    return Turn(q, f"{cap(view.listed())}{behind}.", "caption", must)


# --- what a picture does not show ----------------------------------------------------------------------------------------------


def refusal(view, rng):
    t = pick(rng, view.scene.things)
    c = view.c(t)
    if chance(rng, 0.5):
        kind = absent_kind(view, rng)
        if kind is None:
            return None
        a = view.classes[kind]
        q = pick(rng, [f"What color is the {a.one}?", f"Where is the {a.one}?", f"How large is the {a.one}?", f"What is next to the {a.one}?", f"What is to the left of the {a.one}?",
                       f"What colour is the {a.one}?", f"Describe the {a.one}."])
        return Turn(q, f"There is no {a.one} in the picture.", "absent", (("no " + a.one,),))
    if len(view.groups[t.kind]) > 1:
        return None
    x = f"the {c.one}"
    q = pick(rng, [f"What is the name of {x}?", f"How old is {x}?", f"Who owns {x}?", f"How much does {x} cost?", f"What does {x} smell like?", f"How heavy is {x}?",
                   f"Who drew {x}?", "Who drew this picture?", "When was this picture made?", "What is the artist's name?", "What time is it in the picture?",
                   "Where was this picture taken?", f"What is {x} thinking?", "What happened before?", "What will happen next?", "What is behind me?", f"What is inside {x}?"])
    return Turn(q, pick(rng, ["The picture does not show that.", "I cannot tell that from the picture."]), "refusal", (("does not show", "cannot tell"),))


def choice(view, rng):
    """A multiple-choice question in the form of LLaVA's prompt for ScienceQA."""
    t = pick(rng, view.scene.things)
    n = int(rng.integers(2, 5))
    form = int(rng.integers(3))
    if form == 0:
        right = view.c(t).one
        pool = [c.one for i, c in enumerate(view.classes) if i not in view.groups]
        q = pick(rng, ["Which object is in the picture?", "Which of these is shown?", "What is shown in the picture?"])
    elif form == 1:
        if not t.colour or len(view.groups[t.kind]) > 1:
            return None
        right, pool, q = t.colour, [c for c in COLOURS if c != t.colour], f"What color is the {view.c(t).one}?"
    else:
        right, pool, q = NUMBERS[view.n], [w for w in NUMBERS[1:] if w != NUMBERS[view.n]], "How many objects are in the picture?"
    wrong = [pool[int(i)] for i in rng.choice(len(pool), n - 1, replace=False)]
    options = wrong + [right]
    rng.shuffle(options)
    letter = "ABCDE"[options.index(right)]
    ask = "Answer with the option's letter from the given choices directly."
    if chance(rng, 0.5):
        lines = "".join(f"\n{'ABCDE'[i]}. {o}" for i, o in enumerate(options))
        return Turn(f"{q}{lines}\n{ask}", letter, "choice", ((letter,),))
    lines = " ".join(f"({'ABCDE'[i]}) {o}" for i, o in enumerate(options))
    return Turn(f"Context: N/A\nQuestion: {q}\nOptions: {lines}\n{ask}", letter, "choice", ((letter,),))


# --- conversations -------------------------------------------------------------------------------------------------------------


def _tries(rng, makers, n=6):
    for _ in range(n):
        turn = pick(rng, makers)()
        if turn is not None:
            return turn
    return None


def about_one(view, rng):
    """A conversation that stays with one thing: the questions after the first speak of it."""
    named = [t for t in view.scene.things if len(view.groups[t.kind]) == 1]
    if not named:
        return None
    t = pick(rng, named)
    if view.n == 1:
        turns = [name_one(view, rng, t)]
    else:
        turns = [_tries(rng, [lambda: _ask_presence_of(view, rng, t), lambda: where_is(view, rng, t), lambda: colour_of(view, rng, t)])]
    if turns[0] is None:
        return None
    makers = [lambda: colour_of(view, rng, t, it=True), lambda: where_is(view, rng, t, it=True), lambda: is_colour(view, rng, t, it=True),
              lambda: sort_of(view, rng, t, it=True)]
    if turns[0].kind in ("place", "colour"):
        makers.pop(1 if turns[0].kind == "place" else 0)
    order = rng.permutation(len(makers))
    for i in order[: int(rng.integers(1, 4))]:
        turn = makers[int(i)]()
        if turn is not None:
            if turn.kind in ("colour", "yes/no colour"):
                turn.kind = "follow colour"
            turns.append(turn)
    others = [o for o in named if o is not t and o.colour and view.the(o)]
    if others and turns[-1].kind == "follow colour":
        o = pick(rng, others)
        turns.append(Turn(pick(rng, [f"And {view.the(o)}?", f"What about {view.the(o)}?"]), f"{cap(view.the(o))} is {o.colour}.", "follow other", ((o.colour,),),
                          tuple(c for c in COLOURS if c != o.colour)))
    return turns


def _ask_presence_of(view, rng, t):
    c = view.c(t)
    return Turn(_any_of(rng, c) + pick(rng, IN_PICTURE) + "?", f"Yes, there is {article(c.one)} in the picture.", "presence", (("Yes",),), extra={"yes": True, "follow": True})


def counting(view, rng):
    turns = [count_all(view, rng)]
    if chance(rng, 0.6):
        turns.append(Turn(pick(rng, ["What are they?", "Which ones?", "Can you name them?"]) if view.n > 1 else "What is it?",
                          f"I see {view.listed()}.", "follow names", tuple((view.classes[k].one, view.classes[k].name, view.classes[k].many) for k in view.groups)))
    if chance(rng, 0.6):
        turn = count_kind(view, rng)
        if turn:
            turns.append(turn)
    return turns


def mixed(view, rng):
    """Questions that have nothing to do with each other."""
    singles = [t for t in view.scene.things if len(view.groups[t.kind]) == 1]
    one = lambda f: (lambda: f(view, rng, pick(rng, singles)) if singles else None)
    plain = lambda f: (lambda: f(view, rng))
    naming = [(lambda: name_one(view, rng, view.scene.things[0])) if view.n == 1 else plain(name_all)]
    weighted = naming * 5 + [one(colour_of)] * 6 + [one(is_colour), one(where_is)] * 2 + [plain(count_all)] * 2 + [plain(count_kind)] * 4 + [plain(presence)] * 6
    weighted += [plain(f) for f in (relation_open, relation_yes_no, relation_which)] * 5
    weighted += [plain(f) for f in (presence_painted, extreme, which_colour, bigger, refusal, background)] * 2
    weighted += [plain(f) for f in (presence_sort, count_sort, in_the_world, taken_away, same_colour, more_than, sort_of, choice)]
    turns, seen = [], set()
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        turn = _tries(rng, weighted)
        if turn is not None and turn.question not in seen:
            turns.append(turn)
            seen.add(turn.question)
    return turns or None


def conversation(view, rng):
    """One conversation about a picture: a list of turns."""
    while True:
        kind = rng.random()
        if kind < 0.10:
            turns = [detail(view, rng)]
            if chance(rng, 0.4):
                more = mixed(view, rng)
                turns += more[:1] if more else []
        elif kind < 0.14:
            turns = [short_caption(view, rng)]
        elif kind < 0.32:
            turns = about_one(view, rng)
        elif kind < 0.42:
            turns = counting(view, rng)
        else:
            turns = mixed(view, rng)
        if turns:
            return turns


def small_talk(rng, classes):
    """Conversations without a picture."""
    no_picture = "I do not see a picture. Please give me one."
    c = pick(rng, [c for c in classes if c.size])
    kind = rng.random()
    if kind < 0.35:
        return [Turn(pick(rng, ["What is in the picture?", "Describe the picture.", "What do you see?", f"What color is the {c.one}?", f"Is there {article(c.one)} in the picture?",
                                "How many objects are there?", "What is this?"]), no_picture)]
    if kind < 0.6:
        pair = pick(rng, [(("Hello!", "Hi", "Hello", "Hi there", "Good morning!", "Hey"), "Hello! Give me a picture and ask me what it shows."),
                          (("Who are you?", "What are you?", "What is your name?"), "I am a very small model that looks at pictures. I know drawings of things, shapes and colors."),
                          (("What can you do?", "Help", "How can you help me?", "What do you know?"),
                           "I can name drawn objects, tell their colors and places, count them and compare them."),
                          (("Thank you!", "Thanks", "Thank you very much."), "You are welcome."), (("Bye", "Goodbye!", "See you"), "Goodbye!"),
                          (("How are you?", "How do you do?"), "I am well, thank you. Shall we look at a picture?")])
        return [Turn(pick(rng, list(pair[0])), pair[1])]
    if kind < 0.8:
        q = pick(rng, ["What is the capital of France?", "Write a poem.", "Tell me a joke.", "What is the weather today?", "How do I cook rice?", "Who is the president?",
                       "What is two plus two?", "Translate this into German.", "Write some code for me.", "What is the meaning of life?", "Why is the sky blue?"])
        return [Turn(q, "I do not know. I am a very small model that only knows simple pictures.")]
    b = pick(rng, [x for x in classes if abs(x.size - c.size) >= 2 and x.size])
    large, small = (c, b) if c.size > b.size else (b, c)
    if chance(rng, 0.5) or not c.kinds:
        return [Turn(f"Which is larger in real life, {article(c.one)} or {article(b.one)}?", f"In real life {article(large.one)} is larger than {article(small.one)}.")]
    true = chance(rng, 0.5)
    sort = pick(rng, list(c.kinds)) if true else pick(rng, [k for k in KIND_PLURALS if k not in c.kinds])
    return [Turn(f"Is {article(c.one)} {article(sort)}?", f"Yes, {article(c.one)} is {article(sort)}." if true else f"No, {article(c.one)} is {article(c.kinds[-1])}.")]


def as_people_write(question, rng):
    """A question as it may be typed: without its capital, its mark, or with please."""
    if chance(rng, 0.10) and "\n" not in question and question.endswith("?"):
        question = question[:-1]
    if chance(rng, 0.14) and "\n" not in question:
        question = question[0].lower() + question[1:]
    if chance(rng, 0.03) and "\n" not in question:
        question = question.lower()
    return question


def right(turn, answer):
    """Marks an answer: every required word is in it and none that is excluded. Words are compared whole."""
    import re

    def said(word):
        return re.search(rf"(?<![\w-]){re.escape(word.lower())}(?![\w-])", answer.lower()) is not None

    if turn.kind == "choice":
        return answer.strip()[:1] == turn.must[0][0]
    if turn.must and turn.must[0] in (("Yes",), ("No",)):
        return answer.strip().lower().startswith(turn.must[0][0].lower())
    return all(any(said(w) for w in group) for group in turn.must) and not any(said(w) for w in turn.must_not)
