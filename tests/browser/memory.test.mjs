// On WebGPU a model of any size passes through the tab in small pieces: the wasm memory, and what the worker holds outside of it, stay
// small beside the model.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";

import { measureMemory } from "../tools/memory.mjs";
import { writeSparseModel } from "../tools/sparse_gguf.mjs";
import { withoutEngine } from "./support.mjs";

const MB = 1e6;

describe("memory", { skip: withoutEngine }, () => {
  test("weights go to the GPU in pieces", async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), "model-"));
    try {
      const model = path.join(folder, "zeros.gguf");
      const size = await writeSparseModel(model, { layers: 5 });
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
});
