"""The parts that need PyTorch: networks, rows of training, generation, export. Skipped where PyTorch is not installed."""

import tempfile
import unittest
from dataclasses import asdict
from pathlib import Path

import numpy as np
import support
from house import bpe, dialogue, gguf, scenes
from house.colours import COLOURS

try:
    import torch
except ImportError:
    torch = None


@unittest.skipIf(torch is None, "PyTorch is not installed (pip install torch)")
class Networks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        from house.model import LlamaConfig, Llava, VisionConfig

        torch.manual_seed(0)
        torch.set_num_threads(1)
        cls.path, cls.bank = support.bank()
        rng = np.random.default_rng(0)
        texts = [t for _ in range(60) for turn in dialogue.conversation(dialogue.View(cls.bank, scenes.sample(cls.bank, rng)), rng) for t in (turn.question, turn.answer)]
        cls.tokenizer = bpe.Tokenizer(bpe.train(texts, 400), 512)
        cls.vision = VisionConfig(image_size=64, patch_size=16, n_embd=64, n_ff=96, n_heads=2, n_layers=2)
        cls.language = LlamaConfig(n_vocab=512, n_embd=64, n_ff=96, n_heads=4, n_kv_heads=2, n_layers=2)
        cls.model = Llava(cls.vision, cls.language).eval()
        for p in cls.model.parameters():
            if p.ndim > 1:
                torch.nn.init.normal_(p, std=0.15)

    def batch(self, n=3):
        from house import sequences

        return sequences.batch(self.bank, self.tokenizer, self.vision, 1, 0, n, 160)

    def test_a_batch_follows_from_its_step(self):
        a, b = self.batch(), self.batch()
        for key in a:
            self.assertTrue(torch.equal(a[key], b[key]), key)

    def test_targets_are_the_answers(self):
        batch = self.batch()
        for ids, targets, owner in zip(batch["ids"], batch["targets"], batch["owner"]):
            asked = targets != -100
            self.assertTrue(asked.any())
            # A target is the id that follows, in the same conversation.
            where = asked.nonzero().flatten()
            self.assertTrue(torch.equal(targets[where], ids[where + 1]))
            self.assertTrue(torch.equal(owner[where], owner[where + 1]))
            # Every answer begins after <|assistant|> and ends with <|end|>.
            self.assertEqual(int((targets == bpe.END).sum()), int((ids == bpe.ASSISTANT).sum()))

    def test_of_a_drill_only_the_answers_are_learned(self):
        from house import sequences

        pieces = [(" dog", False), (" yes", True), (",", False), (" cat", False), (" no", True), (",", False)]
        ids, answers = sequences.drill_to_ids(self.tokenizer, "Which are there?", pieces)
        self.assertEqual(self.tokenizer.decode([i for i, learned in zip(ids, answers) if learned]), " yes no")
        self.assertEqual(ids[-1], bpe.END)
        batch = sequences.batch(self.bank, self.tokenizer, self.vision, 1, 0, 2, 160, drilled=1.0)
        self.assertTrue(batch["alone"][batch["targets"] == bpe.END].all())

    def test_a_layout_reads_as_the_words_for_what_is_there(self):
        from house import sequences
        from train_llava import Layouts

        words = sequences.layout_words(self.bank, self.tokenizer)
        reader = Layouts(words, 64, 16).eval()
        torch.nn.init.zeros_(reader.first.weight), torch.nn.init.zeros_(reader.first.bias), torch.nn.init.zeros_(reader.position)
        table = torch.randn(512, 64)
        layout = torch.zeros(1, 16, len(words))
        layout[0, 5, 3] = 1
        expected = table[self.tokenizer.encode(f" {self.bank.classes[3].one}")].mean(0)
        self.assertTrue(torch.allclose(reader(layout, table)[0, 5], expected, atol=1e-5))

    def test_layouts_mark_the_middle_of_each_object(self):
        from house import sequences

        rng = np.random.default_rng(8)
        for scene in (scenes.sample(self.bank, rng) for _ in range(100)):
            layout = sequences.layout(self.bank, scene, 16, scenes.SIDE)
            self.assertEqual(len(layout), 64)
            self.assertAlmostEqual(float(layout[:, -1].sum()), len(scene.things), places=4)
            dx, dy = scenes.offset(scene)
            for thing in scene.things:
                column, row = int((thing.x + dx) * 8), int((thing.y + dy) * 8)
                self.assertGreater(layout[8 * row + column, -1], 0.2)
                self.assertGreater(layout[8 * row + column, thing.kind], 0.2)

    def test_distillation_wants_the_rows_that_the_reader_makes(self):
        from house import sequences
        from train_llava import Layouts, distillation

        torch.manual_seed(0)
        batch = sequences.pictures_and_layouts(self.bank, self.vision, 1, 0, 12)
        reader = Layouts(sequences.layout_words(self.bank, self.tokenizer), 64, self.vision.n_patches).eval()
        table, n = torch.randn(512, 64), len(self.bank.classes)
        with torch.no_grad():
            wanted = reader(batch["layouts"], table)
            *perfect, told = distillation(wanted, batch["layouts"], reader, table, n)
            *other, guessed = distillation(wanted.flip(1), batch["layouts"], reader, table, n)
        self.assertEqual(self.model.vision(batch["patches"]).shape[1], wanted.shape[1])
        self.assertEqual(float(perfect[0]), 0)
        self.assertLess(float(perfect[1]), 0.1)
        self.assertEqual(float(told), 1)
        self.assertTrue(float(other[0]) > 0.2 and float(other[1]) > 1 and float(guessed) < 0.5, (other, guessed))

    def test_distillation_asks_for_colours_and_middles_too(self):
        from house import sequences
        from train_llava import Layouts, distillation

        torch.manual_seed(0)
        batch = sequences.pictures_and_layouts(self.bank, self.vision, 1, 0, 12)
        reader = Layouts(sequences.layout_words(self.bank, self.tokenizer), 64, self.vision.n_patches).eval()
        table, n = torch.zeros(512, 64), len(self.bank.classes)
        # Without words, and classes, colours and the mark of a middle in dimensions of their own: so none says anything of another.
        weight = torch.zeros_like(reader.first.weight)
        weight[:48, :n], weight[48:63, n : n + len(COLOURS) + 1], weight[63, -1] = torch.randn(48, n), torch.randn(15, len(COLOURS) + 1), 1
        reader.first.weight.data = weight
        with torch.no_grad():
            wanted = reader(batch["layouts"], table)
            least = distillation(wanted, batch["layouts"], reader, table, n)
            for wrong in (weight[:, n + COLOURS.index("blue")], weight[:, -1]):
                _, untold, right = distillation(wanted + wrong, batch["layouts"], reader, table, n)
                self.assertEqual(float(right), 1)
                self.assertGreater(float(untold), float(least[1]) + 1)

    def test_conversations_do_not_see_each_other(self):
        from house import sequences
        from train_llava import embed

        batch = self.batch(1)
        rows = self.model.projector(self.model.vision(batch["patches"]))
        run = lambda ids: self.model.language(embed(self.model.language, ids, rows), batch["positions"], sequences.mask(batch["owner"], batch["alone"]))
        with torch.no_grad():
            before = run(batch["ids"])
            changed = batch["ids"].clone()
            first = batch["owner"] == 0
            changed[first] = (changed[first] + 7) % 500
            after = run(changed)
        others = (batch["owner"] > 0) | (batch["owner"] == -1)
        self.assertTrue(torch.allclose(before[others], after[others], atol=1e-5))
        self.assertFalse(torch.allclose(before[first], after[first], atol=1e-2))

    def test_a_packed_conversation_gives_what_it_gives_alone(self):
        from house import sequences
        from train_llava import embed

        batch = self.batch(1)
        language = self.model.language
        rows = self.model.projector(self.model.vision(batch["patches"]))
        with torch.no_grad():
            packed = language(embed(language, batch["ids"], rows), batch["positions"], sequences.mask(batch["owner"], batch["alone"]))[0]
            owner, alone = batch["owner"][0], batch["alone"][0]
            for number in range(int(owner.max()) + 1):
                mine = owner == number
                keep = mine if alone[mine].any() else (mine | (owner == -1))
                ids = batch["ids"][:, keep]
                n = ids.shape[1]
                single = language(embed(language, ids, rows if (ids == -1).any() else None), torch.arange(n)[None], torch.ones(1, 1, n, n, dtype=torch.bool).tril())[0]
                self.assertTrue(torch.allclose(single[-int(mine.sum()) :], packed[mine], atol=2e-4))

    def test_generation_is_what_the_whole_sequence_gives(self):
        from train_llava import embed, generate

        prompts = [self.tokenizer.encode("\nWhat is this?") + [bpe.ASSISTANT], self.tokenizer.encode("\nHow many objects are in the picture?") + [bpe.ASSISTANT]]
        batch = self.batch(2)
        with torch.no_grad():
            rows = self.model.projector(self.model.vision(batch["patches"]))
            answers = generate(self.model.language, self.tokenizer, rows, prompts, max_tokens=8)
            for i, prompt in enumerate(prompts):
                ids = [bpe.BOS, bpe.USER] + [-1] * self.vision.n_patches + prompt
                said = []
                for _ in range(8):
                    n = len(ids)
                    hidden = self.model.language(embed(self.model.language, torch.tensor([ids]), rows[i : i + 1]), torch.arange(n)[None],
                                                 torch.ones(1, 1, n, n, dtype=torch.bool).tril())
                    token = int(self.model.language.logits(hidden[0, -1]).argmax())
                    if token == bpe.END:
                        break
                    ids.append(token), said.append(token)
                self.assertEqual(answers[i], self.tokenizer.decode(said))

    def test_an_exported_pair_holds_the_network(self):
        import export
        import parity

        state = {k: v.clone() for k, v in self.model.state_dict().items()}
        with tempfile.TemporaryDirectory() as folder:
            for kind, limit in ((gguf.F32, 0.0), (gguf.Q4_0, 0.12)):
                language, vision = str(Path(folder) / "l.gguf"), str(Path(folder) / "v.gguf")
                export.language_file(language, state, asdict(self.language), self.tokenizer, kind)
                export.vision_file(vision, state, asdict(self.vision), asdict(self.language), kind)
                parity.from_gguf(self.model, language, vision)
                for name, tensor in self.model.state_dict().items():
                    off = (tensor - state[name]).norm() / state[name].norm().clamp(min=1e-9)
                    self.assertLessEqual(float(off), limit, name)
                self.model.load_state_dict(state)
                metadata = gguf.read(language)[0]
                self.assertEqual(metadata["tokenizer.ggml.tokens"], self.tokenizer.pieces)
                self.assertEqual(metadata["llama.attention.head_count_kv"], 2)

    def test_weights_trained_for_the_grid_are_stored_without_loss(self):
        from house import runs

        exact = {k: v.clone() for k, v in self.model.state_dict().items()}
        quantized = runs.Quantized([self.model])
        # Every matrix but the patches', which is stored as F16.
        self.assertEqual(len(quantized.weights), 2 * 4 + 2 + 2 * 4)
        with quantized:
            for w in quantized.weights:
                array = w.detach().numpy()
                self.assertGreater(np.abs(array - exact[next(k for k, v in self.model.state_dict().items() if v.data_ptr() == w.data_ptr())].numpy()).max(), 0)
                np.testing.assert_array_equal(gguf.dequantize_q4_0(gguf.quantize_q4_0(array)), array)
        self.assertTrue(all(torch.equal(v, exact[k]) for k, v in self.model.state_dict().items()))

    def test_contrastive_training_learns(self):
        import train_clip
        from house import captions, colours, runs
        from house.model import Clip, TextConfig

        words = captions.Words(self.bank)
        text = TextConfig(n_vocab=len(words.words), n_embd=32, n_heads=2, n_layers=1, n_joint=32)
        clip = Clip(self.vision, text)
        optimizer = runs.optimizer([clip], 3e-3)
        label = lambda texts: tuple(torch.tensor(t) for t in words.encode(texts, text.n_ctx))
        labels = label([f"a {c.one}" for c in self.bank.classes]), label([f"something {c}" for c in colours.COLOURS])
        batch = train_clip.make_batch(self.bank, words, text, self.vision, 1, 0, 8)
        history = []
        for _ in range(12):
            loss = sum(train_clip.losses(clip, batch, labels)[:3])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(float(loss.detach()))
        self.assertLess(history[-1], history[0] - 1)

    def test_of_an_object_one_patch_alone_may_be_asked(self):
        import train_clip
        from house import captions
        from house.model import TextConfig

        words = captions.Words(self.bank)
        text = TextConfig(n_vocab=len(words.words), n_embd=32, n_heads=2, n_layers=1, n_joint=32)
        whole, single = (train_clip.make_batch(self.bank, words, text, self.vision, 1, 0, 8, single=share)["weights"] for share in (0.0, 1.0))
        self.assertTrue(torch.equal((single > 0).sum(1), torch.ones(len(single), dtype=torch.long)))
        self.assertTrue(torch.equal(single.sum(1), torch.ones(len(single))))
        # Patches that the object covers.
        self.assertTrue((whole[single > 0] > 0).all())

    def test_a_run_survives_being_killed(self):
        import os
        import signal
        import subprocess
        import sys

        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(support.ROOT / "train_clip.py"), "--bank", str(self.path), "--run", folder, "--batch", "2", "--workers", "0", "--threads", "1",
                       "--save-minutes", "0", "--no-compile", "--steps", "100000"]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            import time

            saved = Path(folder) / "last.pt"
            limit = time.monotonic() + 240
            while not saved.exists() and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.2)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            state = torch.load(saved, weights_only=True)
            self.assertGreaterEqual(state["step"], 1)


if __name__ == "__main__":
    unittest.main()
