"""Evaluation on the small sets in data/, the judge and the writer against a server of our own."""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import support
from house import answerers, dialogue, scenes

import evaluate
import write


class Scripted:
    """Answers by a function of picture and question."""

    name = "scripted"

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def answer(self, picture, turns, max_tokens=96):
        self.asked.append((picture, turns))
        return self.reply(picture, turns[-1])


def quietly(f, *arguments, **named):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        return f(*arguments, **named), out.getvalue()


class ScienceQa(unittest.TestCase):
    data = support.DATA / "scienceqa"

    def test_the_prompt_is_the_papers(self):
        problems = json.loads((self.data / "problems.json").read_text())
        self.assertEqual(evaluate.scienceqa_prompt(problems["2"]), "Context: Count the squares.\nQuestion: How many squares are there?\n"
                         "Options: (A) one (B) two (C) three (D) four\nAnswer with the option's letter from the given choices directly.")
        self.assertTrue(evaluate.scienceqa_prompt(problems["1"]).startswith("Context: N/A\n"))

    def test_reading_answers(self):
        # www/pages/evaluation.js is held to the same table.
        table = json.loads((support.DATA / "scoring.json").read_text())
        for text, expected in table["chosen"]["cases"]:
            self.assertEqual(evaluate.chosen(text, table["chosen"]["choices"]), expected, text)
        for reference, answer, expected in table["keyword"]:
            self.assertAlmostEqual(evaluate.keyword_score(reference, answer), expected)

    def test_accuracy_by_subject_context_and_grade(self):
        (result, records), text = quietly(evaluate.evaluate_scienceqa, self.data, "test", Scripted(lambda picture, question: "B"))
        self.assertAlmostEqual(result["all"], 4 / 6)
        self.assertEqual({k: round(v, 3) for k, v in result.items()},
                         {"all": 0.667, "NAT": 0.667, "SOC": 1.0, "LAN": 0.5, "TXT": 0.5, "IMG": 1.0, "NO": 0.5, "G1-6": 1.0, "G7-12": 0.0})
        self.assertIn("NAT", text)
        self.assertEqual(len(records), 6)

    def test_pictures_go_with_their_questions(self):
        scripted = Scripted(lambda picture, question: "A")
        quietly(evaluate.evaluate_scienceqa, self.data, "test", scripted)
        pictures = [p for p, _ in scripted.asked]
        self.assertEqual([p is not None and Path(p).exists() for p in pictures], [True] * 3 + [False] * 3)

    def test_ensembles(self):
        # The first sees pictures and is lost without; the second reads well.
        first = Scripted(lambda picture, question: "B" if picture else "I cannot tell.")
        second = Scripted(lambda picture, question: "C" if "mammal" in question else ("A" if "passage" in question or "Two answers" in question else "B"))
        (alone, _), _ = quietly(evaluate.evaluate_scienceqa, self.data, "test", first)
        (both, _), _ = quietly(evaluate.evaluate_scienceqa, self.data, "test", first, second, "complement")
        self.assertAlmostEqual(alone["all"], 3 / 6)
        self.assertAlmostEqual(both["all"], 1.0)
        # The judge is asked only where the two differ, and what it says counts.
        first, asked = Scripted(lambda picture, question: "A"), []
        second = Scripted(lambda picture, question: (asked.append(question) or "B") if "Two answers" in question else "B")
        (judged, _), _ = quietly(evaluate.evaluate_scienceqa, self.data, "test", first, second, "judge")
        self.assertEqual(len(asked), 6)
        self.assertIn("A by a model that sees the picture, and B by one", asked[0])
        self.assertAlmostEqual(judged["all"], 4 / 6)


class Bench(unittest.TestCase):
    data = support.DATA / "llava-bench"

    def test_keyword_judge_says_what_it_is(self):
        references = {json.loads(line)["question_id"]: json.loads(line)["text"] for line in (self.data / "answers.jsonl").read_text().splitlines()}
        texts = {json.loads(line)["text"]: references[json.loads(line)["question_id"]] for line in (self.data / "questions.jsonl").read_text().splitlines()}
        (result, _), text = quietly(evaluate.evaluate_bench, self.data, Scripted(lambda picture, question: texts[question]))
        self.assertAlmostEqual(result["all"], 100)
        self.assertIn("KEYWORD JUDGE", text)
        (result, _), _ = quietly(evaluate.evaluate_bench, self.data, Scripted(lambda picture, question: "An elephant."))
        self.assertAlmostEqual(result["all"], 10)

    def test_an_endpoint_judges(self):
        server = support.Endpoint(lambda messages: "8 6\nThe second is shorter." if "Describe" in messages[0]["content"] else "10 10\nBoth are right.")
        try:
            (result, records), text = quietly(evaluate.evaluate_bench, self.data, Scripted(lambda picture, question: "Something."), answerers.Endpoint(server.url, "judge"))
        finally:
            server.close()
        self.assertAlmostEqual(result["all"], 100 * 26 / 28)
        self.assertAlmostEqual(result["detail"], 75)
        self.assertIn("green circle on the left", server.seen[1][1]["messages"][0]["content"])
        self.assertNotIn("KEYWORD", text)

    def test_a_judge_that_gives_no_numbers_is_left_out(self):
        server = support.Endpoint(lambda messages: "I would rather not.")
        try:
            (result, records), text = quietly(evaluate.evaluate_bench, self.data, Scripted(lambda picture, question: "x"), answerers.Endpoint(server.url, "judge"))
        finally:
            server.close()
        self.assertEqual((result, records), ({}, []))
        self.assertIn("left out", text)


class SceneQuestions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.path, cls.bank = support.bank()

    def test_the_truth_scores_full_marks_and_nonsense_none(self):
        questions = _without_openmoji(evaluate.scene_questions, self.bank, 12)
        with mock.patch.object(evaluate, "scene_questions", lambda bank, n: questions):
            replies = iter([t.answer for _, _, turns in questions for t in turns])
            result, _ = quietly(evaluate.evaluate_scenes, self.path, Scripted(lambda picture, question: next(replies)), 12, 128)
            self.assertEqual(set(result), {goal for goal, *_ in questions})
            self.assertTrue(all(v == 1 for v in result.values()), result)
            result, _ = quietly(evaluate.evaluate_scenes, self.path, Scripted(lambda picture, question: "Hmm."), 12, 128)
            self.assertTrue(all(v == 0 for v in result.values()), result)

    def test_presence_is_balanced_and_questions_stay_the_same(self):
        first, again = (list(_without_openmoji(evaluate.scene_questions, self.bank, 10)) for _ in range(2))
        self.assertEqual([t.question for _, _, ts in first for t in ts], [t.question for _, _, ts in again for t in ts])
        answers = [turns[0].answer.startswith("Yes") for goal, _, turns in first if goal == "presence"]
        self.assertEqual(sum(answers), 5)


def _without_openmoji(questions, bank, n):
    """The test's bank has one held-out style, so the second one's questions are drawn in the first."""
    real = scenes.sample
    with mock.patch.object(scenes, "sample", lambda bank, rng, style=None, **k: real(bank, rng, style="twemoji" if style else None, **k)):
        return questions(bank, n)


class Writer(unittest.TestCase):
    def test_conversations_from_an_endpoint(self):
        path, bank = support.bank()
        answers = iter(["Here you are: [{\"question\": \"What is it?\", \"answer\": \"A thing.\"}]", "no JSON", "[{\"question\": \"Q?\", \"answer\": \"A.\"}, {\"question\": \"R?\", \"answer\": \"B.\"}]",
                        "[{\"question\": \"later\", \"answer\": \"yes\"}]"])
        server = support.Endpoint(lambda messages: next(answers))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "written.jsonl"
            run = lambda n: mock.patch.object(sys, "argv", ["write.py", str(out), "--bank", str(path), "--endpoint", server.url, "--model", "m", "--n", str(n)])
            try:
                with run(3):
                    quietly(write.main)
                # It goes on where it stood, half a line and all.
                out.write_text(out.read_text() + '{"scene": [')
                with run(4):
                    quietly(write.main)
            finally:
                server.close()
            records = [json.loads(line) for line in out.read_text().splitlines()]
        self.assertEqual([r["scene"][1] for r in records], [0, 2, 3])
        self.assertEqual([r["kind"] for r in records], ["conversation", "reasoning", "conversation"])
        self.assertEqual(records[1]["conversations"], [[["Q?", "A."], ["R?", "B."]]])
        # It is told captions and boxes of that very scene.
        said = server.seen[0][1]["messages"][1]["content"]
        scene = scenes.sample(bank, np.random.default_rng(records[0]["scene"]))
        self.assertIn(dialogue.View(bank, scene).listed(), said)


if __name__ == "__main__":
    unittest.main()
