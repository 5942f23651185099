"""Classes, colours, scenes, conversations."""

import unittest
from collections import Counter

import numpy as np
import support
from house import captions, classes, colours, dialogue, drills, scenes


class Classes(unittest.TestCase):
    def test_there_are_enough_and_each_can_be_told_from_the_others(self):
        known = classes.load()
        self.assertGreaterEqual(len(known), 250)
        for get in (lambda c: c.name, lambda c: c.one, lambda c: c.many):
            self.assertEqual(len({get(c) for c in known}), len(known))
        self.assertTrue(all(c.icons for c in known if c.section != "shape"))
        self.assertGreaterEqual(len(colours.COLOURS), 11)

    def test_grammar(self):
        by_name = {c.name: c for c in classes.load()}
        self.assertEqual(by_name["wolf"].many, "wolves")
        self.assertEqual(by_name["french fries"].many, "boxes of french fries")
        self.assertEqual(by_name["fox"].icons, ("fox",))
        self.assertEqual([classes.article(w) for w in ("owl", "unicorn", "hourglass", "car")], ["an owl", "a unicorn", "an hourglass", "a car"])
        self.assertNotIn("animal", by_name["seashell"].kinds)


class Colours(unittest.TestCase):
    def test_what_is_painted_is_called_so(self):
        rng = np.random.default_rng(1)
        for name in colours.COLOURS:
            shades = np.array([colours.paint(name, rng) for _ in range(300)]) * 255
            said = colours.classify(shades)
            wrong = [colours.COLOURS[i] for i in said if i >= 0 and colours.COLOURS[i] != name]
            self.assertLessEqual(len(wrong), 3, f"{name}: {Counter(wrong)}")
            self.assertGreater(np.mean(said >= 0), 0.8, name)

    def test_a_motley_sprite_has_no_one_colour(self):
        sprite = np.full((20, 20, 4), 255, np.uint8)
        sprite[:10, :, :3] = (220, 10, 10)
        sprite[10:, :, :3] = (10, 10, 220)
        self.assertIsNone(colours.dominant(sprite))
        sprite[:, :, :3] = (220, 10, 10)
        self.assertEqual(colours.dominant(sprite), "red")


class Scenes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.path, cls.bank = support.bank()
        rng = np.random.default_rng(2)
        cls.scenes = [scenes.sample(cls.bank, rng) for _ in range(400)]

    def test_a_seed_gives_the_same_picture(self):
        a, b = (scenes.draw(self.bank, scenes.sample(self.bank, np.random.default_rng([3, 4]))) for _ in range(2))
        self.assertTrue((a == b).all())
        self.assertEqual(a.shape, (scenes.SIDE, scenes.SIDE, 3))

    def test_objects_are_inside_and_overlap_little(self):
        for s in self.scenes:
            for t in s.things:
                self.assertGreaterEqual(t.x - t.size / 2, -1e-6 - max(0, t.size - s.width / scenes.SIDE))
                self.assertLessEqual(t.x + t.size / 2, s.width / scenes.SIDE + 1e-6 + max(0, t.size - s.width / scenes.SIDE))
            for i, a in enumerate(s.things):
                for b in s.things[:i]:
                    self.assertLessEqual(scenes._overlap((a.x, a.y, a.size), (b.x, b.y, b.size)), 0.25 + 1e-9)

    def test_training_never_sees_what_is_held_out(self):
        for s in self.scenes:
            kinds = {t.kind for t in s.things}
            self.assertFalse(any(scenes.held_out_pair(a, b) for a in kinds for b in kinds))
            self.assertFalse(any(t.painted and scenes.held_out_paint(t.kind, t.colour) for t in s.things))
            self.assertTrue(all(self.bank.styles[self.bank.style[t.sprite]] != "twemoji" for t in s.things))
        rng = np.random.default_rng(5)
        for _ in range(40):
            s = scenes.sample(self.bank, rng, combinations="held-out", n=3)
            kinds = {t.kind for t in s.things}
            self.assertTrue(len(kinds) == 1 or any(scenes.held_out_pair(a, b) for a in kinds for b in kinds))
            s = scenes.sample(self.bank, rng, style="twemoji")
            self.assertTrue(all(self.bank.styles[self.bank.style[t.sprite]] in ("twemoji", "shape") for t in s.things))

    def test_scenes_vary(self):
        self.assertEqual({len(s.things) for s in self.scenes}, {1, 2, 3, 4, 5})
        self.assertEqual({s.texture for s in self.scenes}, {"plain", "gradient", "stripes", "checks", "dots", "noise"})
        self.assertGreater(len({t.kind for s in self.scenes for t in s.things}), 200)
        self.assertEqual({t.colour for s in self.scenes for t in s.things} - {None}, set(colours.COLOURS))
        self.assertTrue(any(s.width != s.height for s in self.scenes))

    def test_a_picture_that_is_not_square_is_padded_with_the_mean_colour(self):
        s = next(s for s in self.scenes if s.height < 110)
        picture = scenes.draw(self.bank, s)
        self.assertEqual(tuple(picture[0, 0]), (122, 116, 104))
        self.assertEqual(tuple(picture[-1, -1]), (122, 116, 104))

    def test_regions_lie_on_their_objects(self):
        for s in self.scenes[:50]:
            weights = scenes.region_weights(s, 16)
            np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
            dx, dy = scenes.offset(s)
            for row, t in zip(weights, s.things):
                centre = (np.arange(8) + 0.5) / 8
                grid = row.reshape(8, 8)
                self.assertLess(abs((grid.sum(0) * centre).sum() - t.x - dx), 0.05)
                self.assertLess(abs((grid.sum(1) * centre).sum() - t.y - dy), 0.05)

    def test_patches_are_in_the_order_of_a_convolution(self):
        picture = np.arange(8 * 8 * 3).reshape(1, 8, 8, 3)
        rows = scenes.patches(picture, 4)
        # Patch 1 is right of patch 0; within one the column is fastest, then the row, then the channel.
        self.assertEqual(rows.shape, (1, 4, 48))
        self.assertEqual(rows[0, 1, 0], picture[0, 0, 4, 0])
        self.assertEqual(rows[0, 1, 1], picture[0, 0, 5, 0])
        self.assertEqual(rows[0, 1, 4], picture[0, 1, 4, 0])
        self.assertEqual(rows[0, 1, 16], picture[0, 0, 4, 1])

    def test_captions_are_of_known_words(self):
        words = captions.Words(self.bank)
        rng = np.random.default_rng(8)
        texts = [captions.caption(self.bank, s, rng) for s in self.scenes]
        ids, lengths = words.encode(texts, 48)
        self.assertEqual(max(lengths), len(ids[0]))


class Conversations(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        _, cls.bank = support.bank()
        rng = np.random.default_rng(11)
        cls.talks = []
        for _ in range(900):
            view = dialogue.View(cls.bank, scenes.sample(cls.bank, rng))
            cls.talks += [(view, dialogue.conversation(view, rng)) for _ in range(4)]
        cls.turns = [(view, t) for view, turns in cls.talks for t in turns]

    def test_the_truth_is_marked_right(self):
        for _, turn in self.turns:
            self.assertTrue(dialogue.right(turn, turn.answer), turn)

    def test_another_answer_is_marked_wrong(self):
        rng = np.random.default_rng(12)
        for kind in ("name", "colour", "count", "relation", "presence", "place", "background"):
            turns = [t for _, t in self.turns if t.kind == kind]
            for turn in turns[:60]:
                other = turns[int(rng.integers(len(turns)))]
                if other.must != turn.must and not any(set(a) & set(b) for a, b in zip(turn.must, other.must)):
                    self.assertFalse(dialogue.right(turn, other.answer), (turn, other.answer))

    def test_all_sorts_are_there(self):
        kinds = Counter(t.kind for _, t in self.turns)
        for kind in ("name", "names", "colour", "count", "count kind", "count sort", "presence", "relation", "relation yes/no", "relation which", "background",
                     "detail", "caption", "refusal", "absent", "choice", "follow colour", "follow where", "follow names", "size", "world", "left over", "more"):
            self.assertGreater(kinds[kind], 3, kind)
        self.assertGreater(sum(len(turns) > 1 for _, turns in self.talks), 0.25 * len(self.talks))

    def test_yes_and_no_are_equally_frequent(self):
        for kind in ("presence", "relation yes/no", "yes/no colour", "presence painted"):
            answers = [t.answer.startswith("Yes") for _, t in self.turns if t.kind == kind and "follow" not in t.extra]
            share = np.mean(answers)
            self.assertLess(abs(share - 0.5), 0.08 + 1.5 / np.sqrt(len(answers)), f"{kind}: {share:.2f} of {len(answers)} are yes")

    def test_presence_is_true_to_the_scene(self):
        for view, t in self.turns:
            if t.kind == "presence":
                named = [k for k, c in enumerate(view.classes) if any(f" {name} in the picture" in t.answer for name in (c.one, c.many))]
                # An arrow is not meant by "bow and arrow".
                meant = max(named, key=lambda k: len(view.classes[k].one), default=None)
                self.assertEqual(meant in view.groups, t.answer.startswith("Yes"), t)

    def test_counts_are_true_to_the_scene(self):
        for view, t in self.turns:
            if t.kind == "count":
                self.assertIn(f" {captions.NUMBERS[len(view.scene.things)]} ", t.answer)

    def test_questions_are_worded_in_many_ways(self):
        self.assertGreater(len({t.question for _, t in self.turns if t.kind == "names"}), 10)
        self.assertGreater(len({t.question.replace(view.classes[view.scene.things[0].kind].one, "X") for view, t in self.turns if t.kind == "colour"}), 8)

    def test_drills_are_true_to_the_scene(self):
        rng, asked = np.random.default_rng(7), Counter()
        for _ in range(400):
            view = dialogue.View(self.bank, scenes.sample(self.bank, rng))
            question, pieces = drills.drill(view, rng)
            if question == "From left to right:":
                asked[question, True] += 1
                kinds = list(dict.fromkeys(t.kind for t in sorted(view.scene.things, key=lambda t: t.x)))
                names = [f" {captions.NUMBERS[len(view.groups[k])]} {view.classes[k].one if len(view.groups[k]) == 1 else view.classes[k].many}" for k in kinds]
                self.assertEqual([text for text, learned in pieces if learned], [*names, " end"])
                continue
            counts = {c.one: len(view.groups.get(k, ())) for k, c in enumerate(view.classes)} | {c.many: len(view.groups.get(k, ())) for k, c in enumerate(view.classes)}
            counts["objects"] = view.n
            for (name, _), (said, learned) in zip(pieces[::3], pieces[1::3]):
                self.assertTrue(learned)
                asked[question, said.strip() != "no"] += 1
                if question == "Which are there?":
                    self.assertEqual(said == " yes", counts[name.strip()] > 0, name)
                elif question == "Count:":
                    self.assertEqual(said.strip(), captions.NUMBERS[counts[name.strip()]] if counts[name.strip()] else "no", name)
        # Each kind comes up, and what is there about as often as what is not.
        self.assertEqual({q for q, _ in asked}, {"Which are there?", "Count:", "Where are they?", "Which are they?", "How do they stand?", "Is it so?", "From left to right:"})
        self.assertLess(abs(asked["Is it so?", True] - asked["Is it so?", False]), 0.3 * (asked["Is it so?", True] + asked["Is it so?", False]))
        there, lacking = asked["Which are there?", True], asked["Which are there?", False]
        self.assertLess(abs(there - lacking), 0.4 * (there + lacking))

    def test_small_talk_has_no_picture(self):
        rng = np.random.default_rng(3)
        talks = [dialogue.small_talk(rng, self.bank.classes)[0] for _ in range(300)]
        self.assertGreater(sum("do not see a picture" in t.answer for t in talks), 50)


if __name__ == "__main__":
    unittest.main()
