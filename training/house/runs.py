"""What every stage of the training shares: settings, checkpoints that survive being killed, logs, curves."""

import json
import math
import os
import signal
import time
from pathlib import Path

import torch


class Run:
    """A stage's folder: `last.pt` to go on from, `log.jsonl`, `curve.svg`."""

    def __init__(self, folder, settings):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.stopping = False
        self.saved_at = time.monotonic()
        # A polite kill saves first; an impolite one loses at most the minutes since the last save.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "stopping", True))

    @property
    def path(self):
        return self.folder / "last.pt"

    def done(self):
        """Whether the stage has been finished."""
        return (self.folder / "final.pt").exists()

    def load(self):
        """The last checkpoint, or None."""
        if not self.path.exists():
            return None
        return torch.load(self.path, map_location="cpu", weights_only=True)

    def save(self, state, final=False):
        """Writes a checkpoint whole or not at all; a final one holds no more than the next stage needs."""
        if final:
            state = {k: v for k, v in state.items() if k != "optimizer"}
        target = self.folder / "final.pt" if final else self.path
        part = target.with_suffix(".part")
        torch.save(state, part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
        self.saved_at = time.monotonic()

    def log(self, **values):
        """Adds a line to the log and prints it."""
        values = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        print(" ".join(f"{k}={v}" for k, v in values.items()), flush=True)

    def draw(self, *names, title=""):
        """Draws the logged values over the steps."""
        log = self.folder / "log.jsonl"
        if not log.exists():
            return
        import matplotlib

        matplotlib.use("svg")
        import matplotlib.pyplot as plt

        plt.rcParams["svg.fonttype"] = "none"
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        figure, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False)
        for axis, name in zip(axes[0], names):
            points = [(r["step"], r[name]) for r in rows if name in r]
            if points:
                axis.plot(*zip(*points))
            axis.set_title(f"{title} {name}".strip())
            axis.set_xlabel("step")
            axis.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(self.folder / "curve.svg")
        plt.close(figure)


def learning_rate(step, steps, peak, warmup=200, floor=0.03):
    """Linear warm-up, then a cosine down to `floor · peak`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    along = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along)))


class Optimizers:
    """Several optimizers as one."""

    def __init__(self, *parts):
        self.parts = parts

    @property
    def param_groups(self):
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none=True):
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self):
        for part in self.parts:
            part.step()

    def state_dict(self):
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states):
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def optimizer(modules, peak, decay=0.05):
    """Muon (arXiv 2502.16982) for the blocks' matrices, AdamW for the rest; vectors and embeddings of positions are not decayed. Muon's
    steps are scaled to AdamW's size, so both go by one rate. A step of CLIP takes 0.46 s with it instead of 0.31 s, and 300 of them do what 450
    of AdamW's do."""
    hidden, matrices, rest = [], [], []
    for module in modules:
        for name, p in module.named_parameters():
            if p.requires_grad:
                (rest if p.ndim < 2 else hidden if "blocks." in name else matrices).append(p)
    groups = [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=peak, betas=(0.9, 0.98), eps=1e-6)
    if not hidden:
        return Optimizers(adam)
    return Optimizers(torch.optim.Muon(hidden, lr=peak, weight_decay=decay, adjust_lr_fn="match_rms_adamw"), adam)


def batches(dataset, start, workers, device):
    """Batches from step `start` on, made by other processes; each is a function of its step alone, so a resumed run goes on as if
    it had never stopped."""
    class Stream(torch.utils.data.Dataset):
        def __len__(self):
            return 1 << 30

        def __getitem__(self, i):
            torch.set_num_threads(1)
            return dataset(start + i)

    loader = torch.utils.data.DataLoader(Stream(), batch_size=None, sampler=range(1 << 30), num_workers=workers, prefetch_factor=6 if workers else None)
    for batch in loader:
        yield {k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.items()}


def on_grid(weights):
    """A matrix's values as Q4_0 stores them, with ggml's own scale: the largest of each 32 becomes −8."""
    blocks = weights.detach().float().reshape(-1, 32)
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    d = (largest / -8).half().float()
    q = torch.where(d == 0, torch.zeros_like(blocks), (blocks / torch.where(d == 0, torch.ones_like(d), d)).round().clamp(-8, 7))
    return (q * d).reshape(weights.shape).to(weights.dtype)


class Quantized:
    """Trains weights for the grid they will be stored on: a step is computed with the rounded weights, and its gradient changes the exact
    ones (the straight-through estimator, arXiv 1308.3432)."""

    def __init__(self, modules):
        self.weights = [p.weight for m in modules for n, p in m.named_modules()
                        if isinstance(p, torch.nn.Linear) and not n.endswith("patch") and p.weight.shape[1] % 32 == 0]
        self.exact = None

    @torch.no_grad()
    def __enter__(self):
        self.exact = [w.detach().clone() for w in self.weights]
        for w in self.weights:
            w.copy_(on_grid(w))

    @torch.no_grad()
    def __exit__(self, *_):
        for w, exact in zip(self.weights, self.exact):
            w.copy_(exact)


class Threads:
    """As many threads as pay. Where other work takes the processors, two threads that wait for each other at the end of every product do
    less than one alone (measured among a dozen builds: 5 s of processor time a step instead of 0.5 s)."""

    def __init__(self, most):
        self.most = most
        torch.set_num_threads(most)

    def adapt(self, own=2.5):
        """Looks at the machine's load, of which `own` is this run's and its data process'."""
        busy = os.getloadavg()[0] - own > 0.6 * (os.cpu_count() or 1)
        wanted = 1 if busy else self.most
        if wanted != torch.get_num_threads():
            torch.set_num_threads(wanted)


def compile_blocks(blocks):
    """Compiles blocks in place where there is a C++ compiler: on a CPU with AVX-512 a step of the decoder takes 0.53 s of processor
    time instead of 0.90 s. Evaluation, whose shapes change all the time, goes by torch.compiler.set_stance("force_eager")."""
    import shutil

    if shutil.which("g++") or torch.cuda.is_available():
        from torch._inductor import config

        # The number of threads is a matter of the moment, see Threads.
        config.cpp.dynamic_threads = True
        torch._dynamo.config.recompile_limit = 64
        for block in blocks:
            block.compile()


def autocast(device):
    """bf16 where it pays: on GPUs and on CPUs with AVX-512 BF16."""
    return torch.autocast(device_type=torch.device(device).type, dtype=torch.bfloat16)
