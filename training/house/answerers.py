"""Things that answer questions about pictures: a checkpoint in PyTorch, the engine itself, an OpenAI-compatible endpoint."""

import base64
import io
import json
import os
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image


class Engine:
    """The engine: its native build, the example `batch`, or its browser build, browser.mjs, with a pair of GGUF files."""

    def __init__(self, program, model, mmproj):
        self.name = f"engine ({Path(program).name}), {Path(model).name}"
        self.process = subprocess.Popen([program, model, mmproj], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.folder = tempfile.TemporaryDirectory()

    def request(self, **request):
        """One request of examples/batch.rs."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the engine ended; see its message above")
        return json.loads(line)

    def path(self, picture):
        """A picture as a file."""
        if isinstance(picture, str | Path):
            return str(picture)
        path = os.path.join(self.folder.name, "picture.png")
        Image.fromarray(picture).save(path)
        return path

    def answer(self, picture, turns, max_tokens=96):
        """The answer to the last of `turns`, a list of user, assistant, user … texts."""
        content = lambda i, text: [{"type": "image", "image": 0}, {"type": "text", "text": text}] if i == 0 and picture is not None else text
        messages = [{"role": "assistant" if i % 2 else "user", "content": content(i, text)} for i, text in enumerate(turns)]
        images = [self.path(picture)] if picture is not None else []
        out = self.request(images=images, messages=messages, temperature=0, max_tokens=max_tokens)
        if "error" in out:
            raise RuntimeError(out["error"])
        return out["text"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Checkpoint:
    """A checkpoint of train_llava.py."""

    def __init__(self, path, tokenizer, device="cpu"):
        import torch

        from . import bpe
        from .model import LlamaConfig, Llava, VisionConfig

        state = torch.load(path, map_location="cpu", weights_only=True)
        self.name = f"checkpoint {path}, step {state['step']}"
        self.torch, self.device = torch, device
        self.vision = VisionConfig(**state["vision"])
        self.model = Llava(self.vision, LlamaConfig(**state["language"]))
        self.model.load_state_dict(state["model"])
        self.model.eval().to(device)
        self.tokenizer = bpe.Tokenizer.load(tokenizer)
        self.kept = (None, None)

    def rows(self, picture):
        """The projected rows of a picture; the last one is kept."""
        from . import scenes

        if isinstance(picture, str | Path):
            picture = pad_and_resize(Image.open(picture), self.vision.image_size)
        if self.kept[0] is not picture:
            if len(picture) != self.vision.image_size:
                picture = pad_and_resize(Image.fromarray(picture), self.vision.image_size)
            patches = self.torch.from_numpy(scenes.patches(scenes.normalise(picture[None]), self.vision.patch_size)).to(self.device)
            with self.torch.no_grad():
                self.kept = (picture, self.model.projector(self.model.vision(patches)))
        return self.kept[1]

    def answer(self, picture, turns, max_tokens=96):
        """As Engine.answer."""
        from train_llava import generate

        from . import bpe

        ids = []
        for i, text in enumerate(turns):
            if i % 2:
                ids += self.tokenizer.encode(text) + [bpe.END]
            else:
                ids += [bpe.USER] if i or picture is None else self.tokenizer.encode("\n")
                ids += self.tokenizer.encode(text) + [bpe.ASSISTANT]
        rows = self.rows(picture) if picture is not None else None
        return generate(self.model.language, self.tokenizer, rows, [ids], max_tokens)[0]

    def close(self):
        pass


class Endpoint:
    """An OpenAI-compatible endpoint; the key is read from OPENAI_API_KEY, where it needs one."""

    def __init__(self, url, model):
        self.url, self.model, self.name = url.rstrip("/"), model, f"{model} at {url}"

    def chat(self, messages, max_tokens=1024):
        """One chat completion's text."""
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0, "max_tokens": max_tokens}).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + "/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=300) as reply:
            return json.load(reply)["choices"][0]["message"]["content"]

    def answer(self, picture, turns, max_tokens=256):
        """As Engine.answer; the picture travels as a data URL."""
        messages = []
        for i, text in enumerate(turns):
            content = text
            if i == 0 and picture is not None:
                image = Image.open(picture) if isinstance(picture, str | Path) else Image.fromarray(picture)
                data = io.BytesIO()
                image.convert("RGB").save(data, "PNG")
                url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
                content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
            messages.append({"role": "assistant" if i % 2 else "user", "content": content})
        return self.chat(messages, max_tokens)

    def close(self):
        pass


def pad_and_resize(image, side):
    """The engine's preparation of a picture: on a square of the mean colour, then resized."""
    from .scenes import BORDER

    image = image.convert("RGB")
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), BORDER)
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    return np.asarray(square.resize((side, side), Image.BICUBIC))
