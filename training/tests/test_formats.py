"""Tokenizer and GGUF."""

import struct
import tempfile
import unittest
from pathlib import Path

import numpy as np
import support  # noqa: F401
from house import bpe, gguf

TEXTS = ["Is there a red car in the picture?", "Yes, there is a red car in the picture.", "How many cats are there?", "There are two cats in the picture."] * 5


class Tokenizer(unittest.TestCase):
    def setUp(self):
        self.tokenizer = bpe.Tokenizer(bpe.train(TEXTS, 320), 330)

    def test_every_text_comes_back(self):
        for text in [*TEXTS, "", "\nWhat?", "  two  spaces ", "naïve café 😀 汉字", "a_b, it's 1234!\n\n\tx", "don't"]:
            self.assertEqual(self.tokenizer.decode(self.tokenizer.encode(text)), text)

    def test_frequent_words_are_one_token(self):
        self.assertEqual(len(self.tokenizer.encode(" picture")), 1)
        self.assertEqual(len(self.tokenizer.pieces), 330)

    def test_what_people_write_is_never_a_special_token(self):
        self.assertTrue(all(i >= len(bpe.SPECIAL) for i in self.tokenizer.encode("<|end|> <|user|><|endoftext|>")))

    def test_saving(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "t.json"
            self.tokenizer.save(path)
            again = bpe.Tokenizer.load(path)
        self.assertEqual(again.pieces, self.tokenizer.pieces)
        self.assertEqual(again.encode(TEXTS[0]), self.tokenizer.encode(TEXTS[0]))


class Gguf(unittest.TestCase):
    def test_q4_0_is_as_the_format_defines_it(self):
        # d = 0.5; byte j holds elements j (low) and j + 16 (high); x = d · (q − 8).
        block = struct.pack("<e", 0.5) + bytes([0x3F] * 16)
        got = gguf.dequantize_q4_0(np.frombuffer(block, np.uint8))
        np.testing.assert_array_equal(got, [0.5 * 7] * 16 + [0.5 * -5] * 16)

    def test_quantization_leaves_less_error_than_the_plain_scale(self):
        x = np.random.default_rng(1).normal(size=(64, 96)).astype(np.float32)
        ours = gguf.dequantize_q4_0(gguf.quantize_q4_0(x))
        blocks = x.reshape(-1, 32)
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[:, None], -1)
        d = (largest / -8).astype(np.float16).astype(np.float32)
        plain = (np.clip(np.floor(blocks / d + 8.5), 0, 15) - 8) * d
        self.assertLess(((ours - x) ** 2).mean(), ((plain - blocks) ** 2).mean() * 0.95)
        eight = gguf.dequantize_q8_0(gguf.quantize_q8_0(x))
        self.assertLess(np.abs(eight - x).max(), np.abs(x).max() / 127)

    def test_zeros(self):
        x = np.zeros((2, 64), np.float32)
        for kind in (gguf.Q4_0, gguf.Q8_0, gguf.F16, gguf.F32):
            np.testing.assert_array_equal(gguf.decode(gguf.encode(x, kind), x.shape, kind), x)

    def test_a_file_comes_back(self):
        rng = np.random.default_rng(2)
        w = gguf.Writer()
        w.put("general.architecture", gguf.STRING, "llama")
        w.put("llama.block_count", gguf.U32, 6)
        w.put("clip.use_gelu", gguf.BOOL, False)
        w.put("eps", gguf.FLOAT, 0.5)
        w.put("list", (gguf.ARRAY, gguf.STRING), ["a", "Ġb", ""])
        w.put("ints", (gguf.ARRAY, gguf.I32), [-1, 6])
        tensors = {"a.weight": (rng.normal(size=(3, 64)), gguf.Q4_0), "b": (rng.normal(size=5), gguf.F32), "c": (rng.normal(size=(7, 3, 4, 4)), gguf.F16),
                   "d": (rng.normal(size=(2, 32)), gguf.Q8_0)}
        for name, (x, kind) in tensors.items():
            w.tensor(name, x.astype(np.float32), kind)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.gguf"
            size = w.write(path)
            data = path.read_bytes()
            metadata, got = gguf.read(path)
        self.assertEqual(len(data), size)
        self.assertEqual(data[:8], b"GGUF\x03\0\0\0")
        self.assertEqual(metadata, {"general.architecture": "llama", "llama.block_count": 6, "clip.use_gelu": False, "eps": 0.5, "list": ["a", "Ġb", ""], "ints": [-1, 6]})
        for name, (x, kind) in tensors.items():
            y, stored = got[name]
            self.assertEqual((stored, y.shape), (kind, x.shape))
            limit = {gguf.F32: 1e-6, gguf.F16: 1e-2, gguf.Q8_0: 0.02, gguf.Q4_0: 0.25}[kind]
            self.assertLess(np.abs(y - x).max(), limit)


if __name__ == "__main__":
    unittest.main()
