#!/usr/bin/env python3
"""Has a language model write the conversations, as LLaVA's authors had GPT-4: from captions and boxes, never from the picture.

usage: write.py OUT.jsonl --bank bank.npz --endpoint http://localhost:8000/v1 --model NAME [--n 1000] [--seed 1]

Any OpenAI-compatible server will do; a key is read from OPENAI_API_KEY. Each line of OUT is {"scene": [seed, number],
"kind": …, "conversations": [[[question, answer], …]]}; train_llava.py takes the file by --written. Goes on where OUT stands.
What a server answers that is no such conversation is counted and left out.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np

from house import answerers, captions, dialogue, scenes

FACTS = """You are given what is known of a picture: captions, and each object with its box as [left, top, right, bottom] in fractions of the picture.
Write as if you saw the picture; do not mention captions, boxes or numbers from them. Say only what follows from what is given."""
ASKS = {
    "conversation": "Write a conversation of two to four turns between a person asking about the picture and an assistant answering. Ask about kinds, colors, counts and places of objects, "
    "and once about something that the picture does not show, which the assistant says plainly.",
    "detail": "Write one request for a detailed description and a description of two to five sentences.",
    "reasoning": "Write one question that needs thought about the picture (comparing, counting by kind, what would be left, real sizes) and a short reasoned answer.",
}
FORM = 'Reply with JSON alone: [{"question": "...", "answer": "..."}, ...]'


def facts(bank, scene, rng):
    """Captions and boxes of a scene, as text."""
    view = dialogue.View(bank, scene)
    lines = ["Captions:", f"- {captions.caption(bank, scene, rng)}", f"- {view.listed()}", "Objects:"]
    for thing in scene.things:
        x, y = thing.x * scenes.SIDE / scene.width, thing.y * scenes.SIDE / scene.height
        w, h = thing.size * scenes.SIDE / scene.width / 2, thing.size * scenes.SIDE / scene.height / 2
        lines.append(f"- {captions.phrase(bank, thing)}: [{max(0, x - w):.2f}, {max(0, y - h):.2f}, {min(1, x + w):.2f}, {min(1, y + h):.2f}]")
    if scene.background:
        lines.append(f"Background: {scene.background}")
    return "\n".join(lines)


def parse(reply):
    """The turns of a reply; None where it is not of the form asked for."""
    found = re.search(r"\[.*\]", reply, re.DOTALL)
    if not found:
        return None
    try:
        turns = [[str(t["question"]).strip(), str(t["answer"]).strip()] for t in json.loads(found.group())]
    except (ValueError, KeyError, TypeError):
        return None
    return turns if turns and all(q and a and len(q) < 400 and len(a) < 900 for q, a in turns) else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name in ("bank", "endpoint", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    bank, endpoint = scenes.Bank(a.bank), answerers.Endpoint(a.endpoint, a.model)
    out = Path(a.out)
    # A killed run may leave half a line.
    done = [line for line in out.read_text().splitlines() if line.endswith("}")] if out.exists() else []
    out.write_text("".join(line + "\n" for line in done))
    number = json.loads(done[-1])["scene"][1] + 1 if done else 0
    unusable = 0
    with out.open("a", encoding="utf-8") as file:
        while number < a.n:
            where = [50_000 + a.seed, number]
            scene = scenes.sample(bank, np.random.default_rng(where))
            kind = list(ASKS)[number % 3]
            reply = endpoint.chat([{"role": "system", "content": FACTS}, {"role": "user", "content": f"{facts(bank, scene, np.random.default_rng(where))}\n\n{ASKS[kind]} {FORM}"}])
            turns = parse(reply)
            if turns is None:
                unusable += 1
            else:
                file.write(json.dumps({"scene": where, "kind": kind, "conversations": [turns]}) + "\n")
                file.flush()
            number += 1
    print(f"{len(out.read_text().splitlines())} of {a.n} scenes have conversations; {unusable} of this run's replies were unusable")


if __name__ == "__main__":
    main()
