#!/usr/bin/env python3
"""Puts a measured stage's 4-bit pair where the page looks for it, with sizes and hashes in www/models.js, its curves beside this file, and
its figures into MODEL_CARD.md.

usage: publish.py RUNS [--stage whole]      after run.sh has measured that stage
"""

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path

from evaluate import GOALS

ROOT = Path(__file__).resolve().parent.parent
FILES = {"house-q4_0.gguf": "house.gguf", "house-mmproj-q4_0.gguf": "house-mmproj.gguf"}
MOST_BYTES = 16_000_000


def figures(runs, stage):
    """The model card's section of figures."""
    results = {kind: json.loads((runs / stage / f"scenes-{kind}.json").read_text()) for kind in ("q4_0", "f32")}
    lines = [f"| | goal | 4-bit ({results['q4_0']['answerer']}) | the same in 32-bit floats ({results['f32']['answerer']}) |", "| --- | --- | --- | --- |"]
    percent = lambda v: f"{100 * v:.1f} %"
    for goal, value in results["q4_0"]["accuracy"].items():
        wanted = percent(GOALS[goal]) if goal in GOALS else ""
        lines.append(f"| {goal} | {wanted} | {percent(value)} | {percent(results['f32']['accuracy'][goal])} |")
    kinds = ", ".join(f"{k} {v}" for k, v in results["q4_0"]["kinds"].items())
    lines += ["", "The last part of the training rounds the weights as the 4-bit files do, so both columns have the same weights; what differs is how the engine multiplies."]
    lines += ["", f"Whole answers right, by kind of question (4-bit): {kinds}.", "", "```text", (runs / stage / "parity.txt").read_text().strip(), "```", ""]
    lines += ["| stage | steps | last line of its log |", "| --- | --- | --- |"]
    for name in ("clip", "language", "distil", "project", "tune", "whole"):
        log = runs / name / "log.jsonl"
        if log.exists() and (name != "whole" or stage == "whole"):
            rows = [json.loads(line) for line in log.read_text().splitlines()]
            last = [r for r in rows if "seconds" in r][-1]
            tests = [f"{r['test']}: names {percent(r['test_names'])}, colours {percent(r['test_colours'])}" for r in rows if "test" in r and r["step"] == rows[-1]["step"]]
            said = ", ".join(f"{k} {v}" for k, v in last.items() if k not in ("step", "seconds"))
            lines.append(f"| {name} | {rows[-1]['step']} | {said}{'; zero-shot on regions of ' if tests else ''}{'; '.join(tests)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--stage", default="whole", choices=["tune", "whole"])
    a = parser.parse_args()
    target = ROOT / "www/models"
    target.mkdir(parents=True, exist_ok=True)
    size = sum((a.runs / a.stage / "gguf" / name).stat().st_size for name in FILES)
    if size > MOST_BYTES:
        raise SystemExit(f"publish.py: the pair has {size} bytes; the repository takes {MOST_BYTES}")
    section = figures(a.runs, a.stage)
    for name, to in FILES.items():
        shutil.copyfile(a.runs / a.stage / "gguf" / name, target / to)
    offered = ROOT / "www/models.js"
    text = re.sub(r"bytes: \d+", f"bytes: {size}", offered.read_text(), count=1)
    for key, name in (("model", "house.gguf"), ("mmproj", "house-mmproj.gguf")):
        sha256 = hashlib.sha256((target / name).read_bytes()).hexdigest()
        text = re.sub(rf'(sha256: {{[^}}]*\b{key}: )"[0-9a-f]*"', rf'\1"{sha256}"', text, count=1)
    offered.write_text(text)
    curves = ROOT / "training/curves"
    curves.mkdir(exist_ok=True)
    for curve in a.runs.glob("*/curve.svg"):
        shutil.copyfile(curve, curves / f"{curve.parent.name}.svg")
    card = ROOT / "MODEL_CARD.md"
    text = card.read_text()
    card.write_text(re.sub(r"<!-- figures -->.*<!-- /figures -->", lambda _: f"<!-- figures -->\n{section}\n<!-- /figures -->", text, flags=re.DOTALL))
    print(f"{target}: {size / 1e6:.2f} MB; figures of the stage {a.stage} are in {card}")


if __name__ == "__main__":
    main()
