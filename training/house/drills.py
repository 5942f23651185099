"""Drills: what the decoder is asked beside conversations."""

from .dialogue import EXTREMES, NUMBERS, OPPOSITE, WHERE, absent_kind, chance, outermost, pair_of_things

# How often a drill is about what is there, where it is, what is outermost, how two things stand, whether they stand so, and of all from left to
# right: at first, and for a decoder that knows the most of it. What takes it the longest is whether two things stand so (after the stage `language`
# still 50 %, where 89 % of open questions about two things were answered right), and to count and list.
FIRST_SHARES = (0.25, 0.2, 0.1, 0.15, 0.1, 0.2)
LATER_SHARES = (0.2, 0.1, 0.05, 0.1, 0.2, 0.35)


def drill(view, rng, shares=FIRST_SHARES):
    """Not a conversation but many small questions at once, "dog yes, cat no, …": the question, and an answer in pieces `(text, whether it is learned)`. A
    spoken answer tells a decoder one bit in twenty tokens, and after 3,000 steps of them it still guessed at presence, place and relation; this is what
    teaches it to find a name's patches."""
    kind = int(rng.choice(len(shares), p=shares))
    pieces = []
    if kind == 0:
        kinds = list(view.groups)
        kinds += [k for k in (absent_kind(view, rng) for _ in range(len(kinds) + 2)) if k is not None and k not in kinds]
        numbered = chance(rng, 0.5)
        for k in rng.permutation(kinds):
            c, n = view.classes[int(k)], len(view.groups.get(int(k), ()))
            said = (NUMBERS[n] if n else "no") if numbered else ("yes" if n else "no")
            pieces += [(f" {c.many if numbered else c.one}", False), (f" {said}", True), (",", False)]
        if numbered:
            pieces += [(" objects", False), (f" {NUMBERS[view.n]}", True), (",", False)]
        return "Count:" if numbered else "Which are there?", pieces
    if kind == 1:
        named = [(view.the(t), t) for t in view.scene.things]
        for i in rng.permutation(len(named)):
            the, t = named[int(i)]
            coloured = t.colour and chance(rng, 0.4)
            said = t.colour if coloured else view.place(t)
            if the and said:
                pieces += [(f" {the}", False), (f" {said}", True), (",", False)]
        return "Where are they?", pieces
    if kind == 2:
        for way, key, _ in EXTREMES:
            if t := outermost(view, key):
                pieces += [(f" {way}:", False), (f" {view.c(t).one}", True), (",", False)]
        return "Which are they?", pieces
    if kind == 5:
        # Where a list ends has to be known, too.
        for group in view.in_order():
            c = view.c(group[0])
            pieces += [(f" {NUMBERS[len(group)]} {c.one if len(group) == 1 else c.many}", True), (",", False)]
        return "From left to right:", [*pieces, (" end", True)]
    asks, seen = kind == 4, []
    for _ in range(8):
        found = pair_of_things(view, rng)
        if found and found not in seen:
            seen.append(found)
            a, b, where = found
            if asks:
                true = chance(rng, 0.5)
                said = WHERE[where if true else OPPOSITE[where]]
                pieces += [(f" {view.the(a)} {said} {view.the(b)}:", False), (" yes" if true else " no", True), (",", False)]
            else:
                pieces += [(f" {view.the(a)} and {view.the(b)}:", False), (f" {where}", True), (",", False)]
    return "Is it so?" if asks else "How do they stand?", pieces
