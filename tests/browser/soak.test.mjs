// The small form of tests/tools/soak.mjs: what a tab holds stays flat however often models are loaded and pictures asked about, and an answer
// that was stopped leaves nothing behind in the next one.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { growth, openSoak, PICTURE } from "../tools/soak.mjs";
import { withoutEngine, WWW } from "./support.mjs";

describe("an engine in use for long", { skip: withoutEngine }, () => {
  let tab;
  before(async () => {
    tab = await openSoak({ www: WWW });
  });
  after(() => tab?.close());

  /** What grew while this went on, once a first part had filled what is kept for good. */
  async function grown(use, warmUp, count, t, slack = {}) {
    await use(warmUp);
    const warm = await tab.held();
    await use(count);
    const last = await tab.held();
    t.diagnostic(JSON.stringify({ warm, last }));
    return growth(warm, last, slack);
  }

  test("20 models loaded and unloaded leave nothing", async (t) => {
    assert.deepEqual(await grown(tab.loads, 5, 20, t), {});
    assert.equal((await tab.held()).workers, 0);
  });

  test("100 questions about new pictures leave nothing", async (t) => {
    // The rows of the last pictures are kept, in a bounded memory that the long form fills; a picture itself takes several times as much.
    assert.deepEqual(await grown(tab.turns, 50, 100, t, { wasm: 2e6 + 100 * PICTURE }), {});
    assert.equal((await tab.held()).workers > 0, true);
  });

  test("behind an answer stopped at a random moment comes the answer of a fresh engine", async (t) => {
    const { differ, stopped } = await tab.aborts(20);
    t.diagnostic(JSON.stringify(stopped));
    assert.deepEqual(differ, []);
    assert.equal(stopped.before + stopped.between, 20);
  });

  test("what is not given back is seen", async () => {
    const warm = await tab.held();
    await tab.page.evaluate(() => {
      globalThis.kept = {
        objects: Array.from({ length: 100_000 }, (_, i) => ({ i })),
        node: document.body.appendChild(document.createElement("p")),
        worker: new Worker(URL.createObjectURL(new Blob([""]))),
        pixels: new Uint8Array(100e6).fill(1),
      };
      globalThis.kept.node.addEventListener("click", () => {});
    });
    assert.deepEqual(Object.keys(growth(warm, await tab.held())).sort(), ["listeners", "nodes", "resident", "script", "workers"]);
  });
});
