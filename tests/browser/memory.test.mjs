// On WebGPU a model of any size passes through the tab in small pieces: the wasm memory, and what the worker holds outside of it, stay
// small beside the model. On the CPU one that cannot fit is refused before any of its weights is asked for.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";

import { measureMemory } from "../tools/memory.mjs";
import { writeSparseModel } from "../tools/sparse_gguf.mjs";
import { openTab, start, withoutEngine } from "./support.mjs";

const MB = 1e6;
/** The shape of a 7B model, and a little more: 4.2 GB, which take no room on the disk. */
const SEVEN_B = { layers: 36, embd: 4096, ff: 11008, heads: 32, kvHeads: 32 };

describe("memory", { skip: withoutEngine }, () => {
  // The large one takes minutes and 5 GB of memory where the GPU is a program: LLAVA_LARGE=1 runs it.
  for (const [title, shape, skip] of /** @type {const} */ ([["weights go to the GPU in pieces", { layers: 5 }, false],
    ["so do those of a model of 4 GB", SEVEN_B, process.env.LLAVA_LARGE ? false : "set LLAVA_LARGE=1 to run it"]])) test(title, { skip }, async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), "model-"));
    try {
      const model = path.join(folder, "zeros.gguf");
      const size = await writeSparseModel(model, shape);
      const seen = await measureMemory({ model });
      t.diagnostic(JSON.stringify(seen));
      assert.equal(seen.device.kind, "webgpu");
      assert.ok(size > 190 * MB && seen.weights > 0.95 * size && seen.written > 0.95 * size, "all of the model is on the GPU");
      assert.ok(seen.heap < 96 * MB, `the wasm memory has ${seen.heap} bytes`);
      assert.ok(Math.max(seen.array, seen.write, seen.mapped) <= 64 << 20, `a piece of ${Math.max(seen.array, seen.write, seen.mapped)} bytes`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("on the CPU a model of 4 GB is refused at once, with the figures", async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "model-"));
    const host = await start({ "/large/": folder });
    try {
      const size = await writeSparseModel(path.join(folder, "zeros.gguf"), SEVEN_B);
      const { page, close } = await openTab(host.browser);
      await page.goto(`${host.server.origin}/tests/blank.html`);
      const { code, message } = await page.evaluate(async ([site, model]) => {
        const { createEngine } = await import(new URL("llava-web.js", site).href);
        const { code, message } = await createEngine({ model, device: "cpu" }).catch((error) => error);
        return { code, message };
      }, [host.site, `${host.server.origin}/large/zeros.gguf`]);
      assert.equal(code, "out_of_memory");
      const figures = [...message.matchAll(/\d{7,}/g)].map(Number);
      assert.ok(figures.some((n) => n > 0.99 * size && n < 1.2 * size), message);
      const sent = host.server.requests.filter(({ url }) => url.includes("zeros.gguf")).reduce((sum, { sent }) => sum + sent, 0);
      assert.ok(sent < 64 * MB, `${sent} bytes were sent`);
      await close();
    } finally {
      await host.close();
      rmSync(folder, { recursive: true });
    }
  });
});
