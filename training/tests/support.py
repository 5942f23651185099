"""What the tests share: a bank of plain sprites, and a small server that speaks as an OpenAI-compatible endpoint does."""

import json
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(__file__).resolve().parent / "data"
sys.path.insert(0, str(ROOT))

from house import classes, colours, scenes  # noqa: E402


def bank():
    """Every class as a disc in a colour of its own, in one style to train on and one held out; shapes in grey."""
    known = classes.load()
    side = 24
    y, x = np.mgrid[0:side, 0:side]
    disc = ((x - 11.5) ** 2 + (y - 11.5) ** 2 < 130).astype(np.uint8) * 255
    rng = np.random.default_rng(0)
    pixels, which, style, colour = [], [], [], []
    for index, kind in enumerate(known):
        for s in (2,) if kind.section == "shape" else (0, 1):
            name = int(rng.integers(len(colours.COLOURS)))
            rgb = (np.array(colours.paint(colours.COLOURS[name], rng)) * 255).astype(np.uint8)
            pixels.append(np.dstack([np.broadcast_to(rgb, (side, side, 3)), disc]))
            which.append(index), style.append(s), colour.append(-1 if s == 2 or index % 3 == 0 else name)
    path = Path(tempfile.mkdtemp()) / "bank.npz"
    np.savez(path, pixels=np.stack(pixels), which=np.array(which, np.int16), style=np.array(style, np.int8), colour=np.array(colour, np.int8),
             names=np.array([c.name for c in known]), styles=np.array(["noto", "twemoji", "shape"]), trained=np.array(["noto"]))
    return path, scenes.Bank(path)


class Endpoint:
    """Answers each chat completion with what `reply(messages)` gives; keeps the requests."""

    def __init__(self, reply):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                seen.append((self.path, body))
                data = json.dumps({"choices": [{"message": {"role": "assistant", "content": reply(body["messages"])}}]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
