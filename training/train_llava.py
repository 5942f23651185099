#!/usr/bin/env python3
"""Trains the house model's language side, stage by stage.

usage: train_llava.py STAGE --bank bank.npz --runs FOLDER [--steps N] [--batch N] [--device cuda] [--size small|large]

stages: tokenizer   the byte-pair vocabulary
        language    the decoder alone, on layouts instead of pictures: it learns the language and to read rows of patches, in
                    the place of the chat model that LLaVA starts from
        distil      tower and projector, to give for each patch the row that the decoder learned to read there
        project     LLaVA's stage 1: the projector alone, on captions
        tune        LLaVA's stage 2: projector and decoder, on all instructions
        whole       the same with the vision tower trained as well, as LLaVA-NeXT and later ones do

Each stage goes on where FOLDER/STAGE/last.pt stands and starts from the stage before.
"""

import argparse
import contextlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from house import bpe, dialogue, drills, runs, scenes, sequences
from house.colours import COLOURS
from house.model import Llama, LlamaConfig, Llava, VisionConfig, grid_position

SIZES = {
    "small": LlamaConfig(n_embd=192, n_ff=512, n_heads=6, n_kv_heads=3, n_layers=6),
    "large": LlamaConfig(n_embd=320, n_ff=896, n_heads=10, n_kv_heads=5, n_layers=8),
}
RATES = {"language": 2e-3, "distil": 1e-3, "project": 1e-3, "tune": 1e-3, "whole": 5e-4}
BEFORE = {"distil": "language", "project": "distil", "tune": "project", "whole": "tune"}
# Each stage sees scenes of its own.
SEEDS = {"language": 100, "distil": 150, "project": 200, "tune": 300, "whole": 400}
# The share of drills among the conversations.
DRILLED = {"language": 0.6, "project": 0.0, "tune": 0.35, "whole": 0.35}
# The weight of the second part of `distillation`.
NAMES = {"distil": 1.0, "whole": 0.4}
# The tower's share of the learning rate, where it is trained.
TOWER_RATE = {"distil": 0.7, "whole": 0.4}


class Layouts(nn.Module):
    """Reads layouts in the place of tower and projector. A patch's row begins as the mean of the words for what is on it, in the decoder's own embeddings:
    where projectors end up, too; and its place as sines, for from random positions the decoder had not learned places after 2,500 steps.
    `words [n_in, n]`: their tokens, padded with −1."""

    def __init__(self, words, n_out, n_patches):
        super().__init__()
        self.register_buffer("words", words.clamp(min=0), persistent=False)
        self.register_buffer("share", (words >= 0) / (words >= 0).sum(1, keepdim=True).clamp(min=1), persistent=False)
        self.first = nn.Linear(len(words), n_out)
        self.position = nn.Parameter(0.1 * grid_position(math.isqrt(n_patches), n_out))
        nn.init.normal_(self.first.weight, std=0.005)
        # As long as a word's embedding: what marks an object's middle.
        nn.init.normal_(self.first.weight[:, -1], std=n_out**-0.5)

    def forward(self, x, table):
        """`table`: the decoder's embeddings."""
        # Towers are not perfect: cover is uncertain, and now and then a patch says nothing.
        if self.training:
            x = x * (1 + 0.2 * torch.randn_like(x)) * (torch.rand(*x.shape[:2], 1, device=x.device) > 0.02)
        words = (table[self.words] * self.share[..., None]).sum(1)
        return self.first(x) + x @ words + self.position


def told(off, amounts, vectors, spread):
    """Which of the reader's inputs a row tells: the logits of rows that have another one in the place of the wanted, each with a normal
    distribution of the variance `spread` around it, and the wanted one's index. `off [n, n_embd]`: rows less wanted rows; `amounts [n, k]`: the
    inputs; `vectors [k, n_embd]`: what a unit of each adds to a row."""
    amount, kind = amounts.max(-1)
    amount = amount[:, None]
    along = off @ vectors.T
    apart = torch.cdist(vectors, vectors).square()[kind]
    return (amount * (along - along.gather(1, kind[:, None])) - 0.5 * amount**2 * apart) / spread, kind


def distillation(rows, layouts, reader, table, n_classes, least=0.4, spread=0.1):
    """How far rows are from what the reader makes of the layouts; how badly they tell classes, colours and objects' middles; and which share of the
    covered patches tell their class. `rows [b, n_patches, n_embd]`, `layouts [b, n_patches, n_in]`, `table`: the decoder's embeddings.

    The first is the difference's square as a share of the rows' variance. What tells classes apart is a small part of that, so the second is the sum of the
    cross-entropies of `told`, over patches that are covered by at least `least`. All are least at the wanted row. (The angle between a row and the
    classes' words in its place drew rows away from the words for their colour and place: after 2,000 steps of it 36 % of the questions of a quick look
    were answered right, and 49 % after 1,400 more of this.)"""
    n_told = n_classes + len(COLOURS) + 1
    with torch.no_grad():
        wanted = reader(layouts, table)
        vectors = (table[reader.words[:n_told]] * reader.share[:n_told, :, None]).sum(1) + reader.first.weight.T[:n_told]
        covered = layouts[..., :n_classes].amax(-1) > least
    off, amounts = (rows.float() - wanted)[covered], layouts[covered]
    logits, kind = told(off, amounts[:, :n_classes], vectors[:n_classes], spread)
    colours = F.cross_entropy(*told(off, amounts[:, n_classes:n_told], vectors[n_classes:], spread))
    # A row with and one without a middle, alike in all else; less what is not to be had where two patches share a middle.
    mark, middle = reader.first.weight[:, -1], amounts[:, -1].clamp(max=1)
    with_one = (off @ mark + (middle - 0.5) * mark.square().sum()) / spread
    middles = F.binary_cross_entropy_with_logits(with_one, middle) - F.binary_cross_entropy(middle, middle)
    far = (rows.float() - wanted).square().mean() / wanted.var()
    return far, F.cross_entropy(logits, kind) + colours + middles, (logits.argmax(-1) == kind).float().mean()


def embed(language, ids, rows):
    """Embeddings `[b, t, n_embd]` with the picture's rows where ids are −1."""
    x = language.embed(ids.clamp(min=0))
    where = ids == -1
    return x.masked_scatter(where[..., None], rows.to(x.dtype)) if rows is not None else x


def loss_of(language, batch, rows):
    """Cross-entropy over the answers' tokens, and how many of them are the likeliest."""
    x = embed(language, batch["ids"], rows)
    hidden = language(x, batch["positions"], sequences.mask(batch["owner"], batch["alone"]))
    asked = batch["targets"] != sequences.IGNORED
    logits, targets = language.logits(hidden[asked]).float(), batch["targets"][asked]
    return F.cross_entropy(logits, targets), (logits.argmax(-1) == targets).float().mean()


@torch.no_grad()
def generate(language, tokenizer, rows, prompts, max_tokens=70):
    """Greedy answers. `rows [b, n_patches, n_embd]` or None; `prompts`: ids without the prefix."""
    device = language.embed.weight.device
    prefix = [bpe.BOS, bpe.USER] + [-1] * rows.shape[1] if rows is not None else [bpe.BOS]
    full = [prefix + p for p in prompts]
    longest = max(map(len, full))
    # Padded on the left, so that all go on from the same column.
    ids = torch.tensor([[bpe.BOS] * (longest - len(p)) + p for p in full], device=device)
    pad = torch.tensor([longest - len(p) for p in full], device=device)
    columns = torch.arange(longest, device=device)
    positions = (columns[None] - pad[:, None]).clamp(min=0)
    seen = columns[None] >= pad[:, None]
    look = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()[None] & seen[:, None, :]
    look = look | torch.eye(longest, dtype=torch.bool, device=device)
    caches = [{} for _ in language.blocks]
    hidden = language(embed(language, ids, rows), positions, look[:, None], caches)
    out, ended = [[] for _ in prompts], [False] * len(prompts)
    for step in range(max_tokens):
        chosen = language.logits(hidden[:, -1]).argmax(-1)
        for i, token in enumerate(chosen.tolist()):
            if token == bpe.END:
                ended[i] = True
            if not ended[i]:
                out[i].append(token)
        if all(ended):
            break
        seen = torch.cat([seen, torch.ones(len(prompts), 1, dtype=torch.bool, device=device)], 1)
        at = (longest + step - pad)[:, None]
        hidden = language(language.embed(chosen[:, None]), at, seen[:, None, None], caches)
    return [tokenizer.decode(o) for o in out]


def train_tokenizer(bank, path, n_vocab):
    """Makes the vocabulary from generated conversations, with every name of every class in them."""
    rng = np.random.default_rng(7)
    texts = []
    for _ in range(3000):
        view = dialogue.View(bank, scenes.sample(bank, rng))
        for _ in range(4):
            texts += [t for turn in dialogue.conversation(view, rng) for t in (turn.question, turn.answer)]
        texts += [t for turn in dialogue.small_talk(rng, bank.classes) for t in (turn.question, turn.answer)]
    texts += [f"a {c.one}, the {c.many}, {c.name}" for c in bank.classes for _ in range(10)]
    texts += [f" {s}" for s in dialogue.SYNONYMS.values() for _ in range(5)] + sequences.SYSTEMS * 20
    tokenizer = bpe.Tokenizer(bpe.train(texts, n_vocab), n_vocab)
    tokenizer.save(path)
    lengths = [len(tokenizer.encode(t)) / max(1, len(t.split())) for t in texts[:5000]]
    print(f"{len(tokenizer.merges)} merges, {np.mean(lengths):.2f} tokens a word")


def load_tower(model, folder, which):
    """Takes the trained tower out of CLIP's checkpoint."""
    state = torch.load(folder / "clip" / which, map_location="cpu", weights_only=True)
    own = model.vision.state_dict()
    model.vision.load_state_dict({k: state["clip"]["vision." + k] for k in own})
    return state["step"]


def quick_look(model, rows_of, bank, tokenizer, vision, oracle, device, n=8):
    """Accuracy by kind of question on some new scenes: to see where training stands, not the evaluation."""
    right, total = {}, {}
    rng = np.random.default_rng(99)
    examples = []
    for _ in range(n):
        drawn = [scenes.sample(bank, rng) for _ in range(12)]
        turns = [dialogue.conversation(dialogue.View(bank, s), rng)[0] for s in drawn]
        if oracle:
            pictures = torch.from_numpy(np.stack([sequences.layout(bank, s, vision.patch_size, vision.image_size) for s in drawn]))
        else:
            pictures = np.stack([scenes.draw(bank, s, vision.image_size) for s in drawn])
            pictures = torch.from_numpy(scenes.patches(scenes.normalise(pictures), vision.patch_size))
        with runs.autocast(device):
            answers = generate(model, tokenizer, rows_of(pictures.to(device)),
                               [tokenizer.encode("\n") + tokenizer.encode(t.question) + [bpe.ASSISTANT] for t in turns])
        for turn, answer in zip(turns, answers):
            total[turn.kind] = total.get(turn.kind, 0) + 1
            right[turn.kind] = right.get(turn.kind, 0) + dialogue.right(turn, answer)
            examples.append((turn.question, turn.answer, answer))
    for question, answer, given in examples[:6]:
        print(f"    {question!r}\n      truth {answer!r}\n      model {given!r}")
    return sum(right.values()) / sum(total.values()), {k: f"{right[k]}/{total[k]}" for k in sorted(total)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["tokenizer", *RATES])
    parser.add_argument("--bank", required=True)
    parser.add_argument("--runs", required=True)
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--easy-steps", type=int, default=300, help="of the stage language: steps over which the share of easy scenes goes from all to none")
    parser.add_argument("--tokens", type=int, default=288, help="length of a row, picture and all")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--start", help="a checkpoint of an earlier run. language: the decoder goes on from there, with the later drills; other stages: "
                        "tower and projector do")
    parser.add_argument("--clip", default="final.pt", help="which checkpoint of CLIP to take")
    parser.add_argument("--written", help="conversations written by a language model (JSONL of write.py)")
    parser.add_argument("--written-share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save-minutes", type=float, default=4)
    parser.add_argument("--quantize-from", type=float, default=1.0, help="from which share of the steps on to train for 4-bit weights")
    parser.add_argument("--look-every", type=int, default=500)
    parser.add_argument("--no-compile", action="store_true")
    a = parser.parse_args()
    threads = runs.Threads(a.threads)
    torch.manual_seed(a.seed)
    folder = Path(a.runs)
    folder.mkdir(parents=True, exist_ok=True)
    bank = scenes.Bank(a.bank)
    language_config = SIZES[a.size]
    if a.stage == "tokenizer":
        if not (folder / "tokenizer.json").exists():
            train_tokenizer(bank, folder / "tokenizer.json", language_config.n_vocab)
        return
    run = runs.Run(folder / a.stage, vars(a))
    if run.done():
        return
    tokenizer = bpe.Tokenizer.load(folder / "tokenizer.json")
    written = [json.loads(line) for line in open(a.written, encoding="utf-8")] if a.written else None
    for record in written or ():
        record["conversations"] = [[dialogue.Turn(q, r) for q, r in conversation] for conversation in record["conversations"]]
    oracle = a.stage == "language"
    state = run.load()
    if oracle:
        from train_clip import SIZES as VISION_SIZES

        vision = VISION_SIZES[a.size]
        words = sequences.layout_words(bank, tokenizer)
        language, reader = Llama(language_config), Layouts(words, language_config.n_embd, vision.n_patches)
        parts = nn.ModuleDict({"language": language, "reader": reader}).to(a.device)
        trained = [language, reader]
        if state is None and a.start:
            earlier = torch.load(a.start, map_location="cpu", weights_only=True)["model"]
            parts.load_state_dict({k: v for k, v in earlier.items() if k.startswith(("language.", "reader."))})
        rows_of = lambda layouts: reader(layouts, language.embed.weight)
    else:
        clip = torch.load(folder / "clip" / a.clip, map_location="cpu", weights_only=True)
        vision = VisionConfig(**clip["vision"])
        parts = Llava(vision, language_config)
        load_tower(parts, folder, a.clip)
        if a.stage in ("distil", "whole"):
            learned = torch.load(folder / "language" / "final.pt", map_location="cpu", weights_only=True)["model"]
            reader = Layouts(sequences.layout_words(bank, tokenizer), language_config.n_embd, vision.n_patches).eval()
            reader.load_state_dict({k.removeprefix("reader."): v for k, v in learned.items() if k.startswith("reader.")})
            reader.requires_grad_(False).to(a.device)
        if state is None:
            earlier = torch.load(folder / BEFORE[a.stage] / "final.pt", map_location="cpu", weights_only=True)["model"]
            parts.load_state_dict({k: v for k, v in earlier.items() if not k.startswith("reader.")}, strict=False)
            if a.start:
                earlier = torch.load(a.start, map_location="cpu", weights_only=True)["model"]
                parts.load_state_dict({k: v for k, v in earlier.items() if k.startswith(("vision.", "projector."))}, strict=False)
        parts.to(a.device)
        language = parts.language
        tower = a.stage in ("distil", "whole")
        trained = [parts.projector] + ([language] if a.stage in ("tune", "whole") else [])
        trained += [parts.vision] if tower else []
        for p in parts.parameters():
            p.requires_grad_(False)
        for module in trained:
            module.requires_grad_(True)

        def rows_of(patches):
            with torch.set_grad_enabled(tower and torch.is_grad_enabled()):
                features = parts.vision(patches)
            return parts.projector(features)

    rate = a.rate or RATES[a.stage]
    main_parts = [m for m in trained if m is not getattr(parts, "vision", None)]
    optimizer = runs.optimizer(main_parts, rate)
    scales = [1.0] * len(optimizer.param_groups)
    if a.stage in ("distil", "whole"):
        of_tower = runs.optimizer([parts.vision], rate)
        scales += [TOWER_RATE[a.stage]] * len(of_tower.param_groups)
        optimizer = runs.Optimizers(*optimizer.parts, *of_tower.parts)
    if not a.no_compile:
        runs.compile_blocks([*language.blocks, *(parts.vision.blocks if not oracle else ())])
    start = 0
    if state:
        parts.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    if a.stage == "distil":
        made = lambda step: sequences.pictures_and_layouts(bank, vision, a.seed + SEEDS[a.stage], step, a.batch)

        def objective(batch):
            far, names, right = distillation(rows_of(batch["patches"]), batch["layouts"], reader, language.embed.weight, len(bank.classes))
            return far + NAMES["distil"] * names, right

    else:
        made = lambda step: sequences.batch(bank, tokenizer, vision, a.seed + SEEDS[a.stage], step, a.batch, a.tokens,
                                            oracle, written, a.written_share if written else 0.0, a.stage == "project",
                                            max(0.0, 1 - step / a.easy_steps) if oracle and not a.start else 0.0, DRILLED[a.stage],
                                            drills.FIRST_SHARES if oracle and not a.start else drills.LATER_SHARES, layouts=a.stage == "whole")

        def objective(batch):
            rows = rows_of(batch["patches"])
            loss, correct = loss_of(language, batch, rows)
            if a.stage == "whole":
                # Answers say of few patches what is on them; this says it of all.
                loss = loss + NAMES["whole"] * distillation(rows, batch["layouts"], reader, language.embed.weight.detach(), len(bank.classes))[1]
            return loss, correct

    state_of = lambda step: {"model": parts.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                             "vision": asdict(vision), "language": asdict(language_config)}
    print(f"{a.stage}: {sum(p.numel() for m in trained for p in m.parameters()) / 1e6:.2f} M parameters trained, from step {start}")
    quantized = runs.Quantized([parts])
    sums, counted, began = np.zeros(2), 0, time.monotonic()
    for step, batch in zip(range(start, a.steps), runs.batches(made, start, a.workers, a.device)):
        for group, scale in zip(optimizer.param_groups, scales):
            group["lr"] = scale * runs.learning_rate(step, a.steps, rate, warmup=100)
        parts.train()
        optimizer.zero_grad(set_to_none=True)
        with quantized if step >= a.quantize_from * a.steps else contextlib.nullcontext():
            with runs.autocast(a.device):
                loss, correct = objective(batch)
            loss.backward()
        torch.nn.utils.clip_grad_norm_([p for m in trained for p in m.parameters()], 1.0)
        optimizer.step()
        sums += [float(loss.detach()), float(correct)]
        counted += 1
        if (step + 1) % 20 == 0:
            threads.adapt()
        if (step + 1) % 50 == 0:
            run.log(step=step + 1, seconds=(time.monotonic() - began) / counted, loss=sums[0] / counted, tokens_right=sums[1] / counted)
            sums, counted, began = np.zeros(2), 0, time.monotonic()
        if (step + 1) % a.look_every == 0 or step + 1 == a.steps:
            parts.eval()
            with torch.compiler.set_stance("force_eager"):
                accuracy, by_kind = quick_look(language, rows_of, bank, tokenizer, vision, oracle, a.device)
            run.log(step=step + 1, answers_right=accuracy, by_kind=by_kind)
            began = time.monotonic()
        if run.stopping or time.monotonic() - run.saved_at > 60 * a.save_minutes:
            run.save(state_of(step + 1))
            run.draw("loss", "tokens_right", "answers_right", title=a.stage)
        if run.stopping:
            return
    with quantized if a.quantize_from < 1 else contextlib.nullcontext():
        run.save(state_of(a.steps), final=True)
    run.draw("loss", "tokens_right", "answers_right", title=a.stage)


if __name__ == "__main__":
    main()
