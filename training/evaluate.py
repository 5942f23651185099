#!/usr/bin/env python3
"""Evaluates a model as the LLaVA papers do, and on held-out scenes.

usage: evaluate.py scenes     --bank bank.npz ANSWERER [--n 100] [--out FILE.json]
       evaluate.py scienceqa  --data FOLDER [--split test] ANSWERER [--second ANSWERER2 --ensemble judge|complement]
       evaluate.py llava-bench --data FOLDER ANSWERER [--judge URL --judge-model NAME]

An answerer is one of
       --engine PROGRAM --model FILE.gguf --mmproj FILE.gguf     the engine (cargo build --release --example batch, or browser.mjs for the browser's build)
       --checkpoint FILE.pt --tokenizer FILE.json                PyTorch
       --endpoint URL --endpoint-model NAME                      an OpenAI-compatible server

scienceqa reads ScienceQA's own files (problems.json, pid_splits.json, SPLIT/ID/image.png) and asks with LLaVA's prompt. llava-bench
reads questions.jsonl, context.jsonl and answers.jsonl (the reference) beside images/. Without an endpoint to judge, answers are
compared word by word with the reference, and the result says so.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from house import answerers

# --- held-out scenes -----------------------------------------------------------------------------------------------------------

GOALS = {"name": 0.90, "colour": 0.95, "count": 0.90, "relation": 0.90, "presence": 0.93, "name, held-out style": 0.75, "follow-up": 0.85}


def scene_questions(bank, n, seed=2026):
    """`n` questions for each goal, as (goal, scene, turns); the same ones every time. Scenes come from seeds that training does not use;
    half of those not of the held-out style hold pairs of objects that training never shows together."""
    from house import dialogue, scenes

    def draw(rng, wanted, style=None, count=None):
        while True:
            combinations = "train" if style or rng.random() < 0.5 else "held-out"
            size = count or (int(rng.integers(2, 6)) if combinations == "held-out" else None)
            scene = scenes.sample(bank, rng, style=style, combinations=combinations, n=size)
            view = dialogue.View(bank, scene)
            turns = wanted(view, rng)
            if turns and all(turns):
                return scene, turns

    single = lambda v, r: [t for t in v.scene.things if len(v.groups[t.kind]) == 1]
    one = lambda f: lambda v, r: [f(v, r, dialogue.pick(r, single(v, r)))] if single(v, r) else None
    plain = lambda f: lambda v, r: [f(v, r)]

    def follow(view, rng):
        turns = dialogue.about_one(view, rng) or []
        return turns if len(turns) > 1 and any(t.kind.startswith("follow") for t in turns[1:]) else None

    goals = {
        "name": [(lambda v, r: [dialogue.name_one(v, r, v.scene.things[0])], dict(count=1)), (plain(dialogue.name_all), {})],
        "colour": [(one(dialogue.colour_of), {})],
        "count": [(plain(dialogue.count_all), {}), (plain(dialogue.count_kind), {})],
        "relation": [(plain(dialogue.relation_open), {}), (plain(dialogue.relation_yes_no), {})],
        "presence": [(plain(dialogue.presence), {})],
        "name, held-out style": [(lambda v, r: [dialogue.name_one(v, r, v.scene.things[0])], dict(count=1, style="twemoji")),
                                 (plain(dialogue.name_all), dict(style="twemoji"))],
        "name, second held-out style": [(lambda v, r: [dialogue.name_one(v, r, v.scene.things[0])], dict(count=1, style="openmoji"))],
        "follow-up": [(follow, {})],
        "other questions": [(plain(f), {}) for f in (dialogue.background, dialogue.extreme, dialogue.which_colour, dialogue.count_sort, dialogue.presence_sort,
                                                     dialogue.refusal, dialogue.in_the_world, dialogue.choice, dialogue.taken_away)],
    }  # fmt: skip
    out = []
    for number, (goal, makers) in enumerate(goals.items()):
        rng = np.random.default_rng([seed, number])
        for i in range(n):
            maker, options = makers[i % len(makers)]
            if goal == "name" and options.get("count") == 1:
                # One object has no partner to be held out with.
                scene = scenes.sample(bank, rng, n=1)
                turns = maker(dialogue.View(bank, scene), rng)
            elif goal == "presence":
                # Both answers equally often.
                while True:
                    scene, turns = draw(rng, maker, **options)
                    if turns[0].extra["yes"] == (i % 2 == 0):
                        break
            else:
                scene, turns = draw(rng, maker, **options)
            out.append((goal, scene, turns))
    return out


def objects_named(turn, answer):
    """How many of a picture's objects an answer names."""
    said = [any(re.search(rf"(?<![\w-]){re.escape(w)}(?![\w-])", answer.lower()) for w in map(str.lower, group)) for group in turn.must]
    return sum(said), len(said)


def evaluate_scenes(bank_path, answerer, n, side, out=None, show=0):
    """Prints and returns accuracy by goal."""
    from house import dialogue, scenes

    bank = scenes.Bank(bank_path)
    right, total, by_kind = defaultdict(float), defaultdict(int), defaultdict(lambda: [0, 0])
    shown = defaultdict(int)
    records = []
    for goal, scene, turns in scene_questions(bank, n):
        picture = scenes.draw(bank, scene, side)
        said = []
        for turn in turns:
            # Follow-ups build on the model's own answers.
            said.append(turn.question)
            answer = answerer.answer(picture, said)
            said.append(answer)
            if goal == "follow-up" and not turn.kind.startswith("follow"):
                continue
            if turn.kind in ("name", "names") and goal.startswith("name"):
                found, all_of = objects_named(turn, answer)
                right[goal] += found
                total[goal] += all_of
            else:
                right[goal] += dialogue.right(turn, answer)
                total[goal] += 1
            ok = dialogue.right(turn, answer)
            by_kind[turn.kind][0] += ok
            by_kind[turn.kind][1] += 1
            records.append({"goal": goal, "kind": turn.kind, "question": turn.question, "truth": turn.answer, "answer": answer, "right": bool(ok)})
            if shown[goal] < show:
                shown[goal] += 1
                print(f"  {'right' if ok else 'WRONG'} {goal}: {turn.question!r} → {answer!r} (truth {turn.answer!r})")
    print(f"{answerer.name}; {n} questions a goal")
    result = {}
    for goal in total:
        result[goal] = right[goal] / total[goal]
        wanted = f"  (goal {GOALS[goal]:.0%})" if goal in GOALS else ""
        print(f"  {goal:30} {result[goal]:6.1%}  of {total[goal]}{wanted}")
    kinds = {k: f"{a}/{b}" for k, (a, b) in sorted(by_kind.items())}
    print("  whole answers right, by kind of question:", ", ".join(f"{k} {v}" for k, v in kinds.items()))
    if out:
        Path(out).write_text(json.dumps({"answerer": answerer.name, "accuracy": result, "kinds": kinds, "records": records}, indent=1))
    return result


# --- ScienceQA -----------------------------------------------------------------------------------------------------------------

SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
LETTERS = "ABCDE"


def scienceqa_prompt(problem):
    """LLaVA's prompt: context, question, options, and the request for a letter."""
    context = problem.get("hint", "").strip() or "N/A"
    options = " ".join(f"({LETTERS[i]}) {choice}" for i, choice in enumerate(problem["choices"]))
    return f"Context: {context}\nQuestion: {problem['question']}\nOptions: {options}\nAnswer with the option's letter from the given choices directly."


def chosen(answer, choices):
    """The index of the option that an answer means; None where it means none."""
    text = answer.strip()
    letters = LETTERS[: len(choices)]
    patterns = [rf"\(?([{letters}])\)?[.:]?$", rf"\(?([{letters}])[).:]\s", rf"[Aa]nswer is:? \(?([{letters}])\b"]
    for pattern in patterns:
        found = re.match(pattern, text) if not pattern.startswith("[Aa]") else re.search(pattern, text)
        if found:
            return letters.index(found.group(1))
    same = [i for i, c in enumerate(choices) if c.strip().lower() == text.rstrip(".").lower()]
    return same[0] if len(same) == 1 else None


def kinds_of(problem):
    """The columns of the paper's table that a problem counts in."""
    context = ["TXT"] if problem.get("hint", "").strip() else []
    context += ["IMG"] if problem.get("image") else []
    grade = int(re.sub(r"\D", "", str(problem.get("grade", ""))) or 0)
    return [SUBJECTS.get(problem.get("subject", ""), "other"), *(context or ["NO"]), *([] if not grade else ["G1-6"] if grade <= 6 else ["G7-12"])]


def evaluate_scienceqa(folder, split, answerer, second=None, ensemble="judge"):
    """Accuracy by subject, context and grade. With a second answerer: `complement` takes its answer where the first gives none, `judge`
    asks it to decide where the two differ, as the paper did with GPT-4."""
    folder = Path(folder)
    problems = json.loads((folder / "problems.json").read_text())
    ids = json.loads((folder / "pid_splits.json").read_text())[split]
    right, total = defaultdict(int), defaultdict(int)
    records = []
    for key in ids:
        problem = problems[key]
        picture = folder / split / key / problem["image"] if problem.get("image") else None
        prompt = scienceqa_prompt(problem)
        said = answerer.answer(picture, [prompt])
        choice = chosen(said, problem["choices"])
        other = None
        if second is not None and (ensemble == "judge" or choice is None):
            other_said = second.answer(picture if ensemble == "complement" else None, [prompt])
            other = chosen(other_said, problem["choices"])
            if choice is None:
                choice = other
            elif ensemble == "judge" and other is not None and other != choice:
                verdict = second.answer(None, [f"{prompt}\nTwo answers were given: {LETTERS[choice]} by a model that sees the picture, and {LETTERS[other]} by one that "
                                               "reads the text alone. Which one is right? Answer with its letter directly."])
                decided = chosen(verdict, problem["choices"])
                choice = decided if decided in (choice, other) else choice
        for kind in ["all", *kinds_of(problem)]:
            total[kind] += 1
            right[kind] += choice == problem["answer"]
        records.append({"id": key, "answer": said, "second": other, "choice": choice, "right": choice == problem["answer"]})
    print(f"ScienceQA {split}: {answerer.name}" + (f", with {second.name} ({ensemble})" if second else ""))
    order = ["all", "NAT", "SOC", "LAN", "other", "TXT", "IMG", "NO", "G1-6", "G7-12"]
    result = {kind: right[kind] / total[kind] for kind in order if total[kind]}
    for kind, value in result.items():
        print(f"  {kind:6} {value:6.1%}  of {total[kind]}")
    failed = sum(r["choice"] is None for r in records)
    print(f"  {failed} answers named no option and count as wrong")
    return result, records


# --- LLaVA-Bench ---------------------------------------------------------------------------------------------------------------

JUDGE = """You compare two assistants that answered a question about a picture. You do not see the picture; this is a description of it:
{context}

Question: {question}

Answer of assistant 1: {reference}

Answer of assistant 2: {answer}

Rate helpfulness, relevance, accuracy and detail of each on a scale of 1 to 10. Write the two numbers alone on the first line, separated by a space, then your reasons."""


def content_words(text):
    """The words of a text that say something."""
    small = "a an the is are was were be of in on at to and or it its this that there with by for from as no not i you".split()
    return [w for w in re.findall(r"[a-z0-9]+", text.lower()) if w not in small]


def keyword_score(reference, answer):
    """1 to 10: how many words the two share (F1), no judgement of what they mean."""
    a, b = set(content_words(reference)), set(content_words(answer))
    if not a or not b:
        return 10.0 if a == b else 1.0
    shared = len(a & b)
    return 1 + 9 * 2 * shared / (len(a) + len(b))


def evaluate_bench(folder, answerer, judge=None):
    """The relative score by category: the model's points over the reference's, in percent."""
    folder = Path(folder)
    lines = lambda name: [json.loads(line) for line in (folder / name).read_text().splitlines() if line.strip()]
    contexts = {c["image"]: c["caption"] for c in lines("context.jsonl")}
    references = {r["question_id"]: r["text"] for r in lines("answers.jsonl")}
    points = defaultdict(lambda: [0.0, 0.0])
    records = []
    for q in lines("questions.jsonl"):
        answer = answerer.answer(folder / "images" / q["image"], [q["text"]])
        reference = references[q["question_id"]]
        if judge is None:
            pair = 10.0, keyword_score(reference, answer)
        else:
            verdict = judge.chat([{"role": "user", "content": JUDGE.format(context=contexts.get(q["image"], "(none)"), question=q["text"], reference=reference, answer=answer)}])
            numbers = re.findall(r"\d+(?:\.\d+)?", verdict.splitlines()[0] if verdict else "")
            if len(numbers) < 2:
                print(f"  question {q['question_id']}: the judge gave no two numbers ({verdict[:60]!r}); left out")
                continue
            pair = float(numbers[0]), float(numbers[1])
        for category in ("all", q.get("category", "other")):
            points[category][0] += pair[0]
            points[category][1] += pair[1]
        records.append({"question_id": q["question_id"], "answer": answer, "reference_points": pair[0], "points": pair[1]})
    how = f"judged by {judge.name}" if judge else "KEYWORD JUDGE (shared words with the reference; no model judged, not comparable with published scores)"
    print(f"LLaVA-Bench form: {answerer.name}; {how}")
    result = {c: 100 * b / a for c, (a, b) in points.items() if a}
    for category, value in result.items():
        print(f"  {category:16} {value:5.1f}")
    return result, records


# --- command line --------------------------------------------------------------------------------------------------------------


def add_answerer(parser, prefix=""):
    for name in ("engine", "model", "mmproj", "checkpoint", "tokenizer", "endpoint", "endpoint-model"):
        parser.add_argument(f"--{prefix}{name}")


def make_answerer(a, prefix=""):
    get = lambda name: getattr(a, (prefix + name).replace("-", "_"))
    if get("engine"):
        return answerers.Engine(get("engine"), get("model"), get("mmproj"))
    if get("checkpoint"):
        return answerers.Checkpoint(get("checkpoint"), get("tokenizer"))
    if get("endpoint"):
        return answerers.Endpoint(get("endpoint"), get("endpoint-model") or "default")
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scenes", "scienceqa", "llava-bench"])
    parser.add_argument("--bank")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--side", type=int, default=128, help="pixels of the scenes that are drawn; the answerer resizes")
    parser.add_argument("--show", type=int, default=3)
    parser.add_argument("--data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out")
    add_answerer(parser)
    add_answerer(parser, "second-")
    parser.add_argument("--ensemble", choices=["judge", "complement"], default="judge")
    parser.add_argument("--judge", help="URL of an OpenAI-compatible endpoint")
    parser.add_argument("--judge-model", default="default")
    a = parser.parse_args()
    answerer = make_answerer(a)
    if answerer is None:
        sys.exit("evaluate.py: name an answerer: --engine, --checkpoint or --endpoint")
    if a.what == "scenes":
        evaluate_scenes(a.bank, answerer, a.n, a.side, a.out, a.show)
    else:
        if a.what == "scienceqa":
            result, records = evaluate_scienceqa(a.data, a.split, answerer, make_answerer(a, "second-"), a.ensemble)
        else:
            result, records = evaluate_bench(a.data, answerer, answerers.Endpoint(a.judge, a.judge_model) if a.judge else None)
        if a.out:
            Path(a.out).write_text(json.dumps({"answerer": answerer.name, "result": result, "records": records}, indent=1))
    answerer.close()


if __name__ == "__main__":
    main()
