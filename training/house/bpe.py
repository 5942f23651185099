"""Byte-level byte-pair encoding (as GPT-2's): training, encoding, decoding."""

import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

# GPT-2's pattern; Python's re has no \p{L} and \p{N}, but these say the same.
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|system|>"]
BOS, USER, ASSISTANT, END, SYSTEM = range(len(SPECIAL))


def byte_characters():
    """The printable character that stands for each byte in vocabularies of this kind."""
    keep = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in keep:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


BYTE_TO_CHAR = byte_characters()
CHAR_TO_BYTE = {c: b for b, c in BYTE_TO_CHAR.items()}


def spell(word):
    """A word's bytes as stand-in characters."""
    return "".join(BYTE_TO_CHAR[b] for b in word.encode("utf-8"))


def train(texts, n_vocab):
    """Merges for a vocabulary of `n_vocab` pieces, most frequent pair first; ties go to the pair that sorts first."""
    counts = Counter(word for text in texts for word in WORDS.findall(text))
    words = [(list(spell(word)), n) for word, n in counts.items()]
    merges = []
    while len(SPECIAL) + 256 + len(merges) < n_vocab:
        pairs = Counter()
        for parts, n in words:
            for pair in zip(parts, parts[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        for parts, _ in words:
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = [parts[i] + parts[i + 1]]
                i += 1
    return merges


class Tokenizer:
    """A vocabulary: special tokens, bytes, merges in their order; filled up with unused pieces to `n_vocab`."""

    def __init__(self, merges, n_vocab=None):
        self.merges = [tuple(m) for m in merges]
        self.pieces = SPECIAL + [BYTE_TO_CHAR[b] for b in range(256)] + [a + b for a, b in self.merges]
        while n_vocab and len(self.pieces) < n_vocab:
            self.pieces.append(f"<|unused{len(self.pieces)}|>")
        self.ids = {p: i for i, p in enumerate(self.pieces)}
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self._word = lru_cache(maxsize=50000)(self._encode_word)

    @classmethod
    def load(cls, path):
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(data["merges"], data["n_vocab"])

    def save(self, path):
        Path(path).write_text(json.dumps({"n_vocab": len(self.pieces), "merges": self.merges}), encoding="utf-8")

    def _encode_word(self, word):
        parts = list(spell(word))
        while len(parts) > 1:
            rank, i = min((self.rank.get(pair, 1 << 30), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == 1 << 30:
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return tuple(self.ids[p] for p in parts)

    def encode(self, text):
        """Ids of plain text; nothing in it is a special token."""
        return [i for word in WORDS.findall(text) for i in self._word(word)]

    def decode(self, ids):
        """The text of ids, without special tokens."""
        first = len(SPECIAL)
        chars = "".join(self.pieces[i] for i in ids if i >= first and not self.pieces[i].startswith("<|unused"))
        return bytes(CHAR_TO_BYTE[c] for c in chars).decode("utf-8", "replace")
