// Measures what saving and restoring a session takes, in headless Chromium on one thread of the CPU, and prints one JSON line.
//
// usage: node tests/tools/session.mjs [--model FILE] [--prompt N] [--runs N]
// Default: models/smollm2-135m-q4_0.gguf, 1000 tokens, 5 runs. Milliseconds are medians.

import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { serve } from "./serve.mjs";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { chromium } = createRequire(path.join(root, "tests/package.json"))("playwright-core");
const { values } = parseArgs({
  options: { model: { type: "string", default: path.join(root, "models/smollm2-135m-q4_0.gguf") }, prompt: { type: "string", default: "1000" }, runs: { type: "string", default: "5" } },
});
const server = await serve({ root, mounts: { "/www/": path.join(root, "www"), "/tests/": path.join(root, "tests/browser"), "/model/": path.dirname(path.resolve(values.model)) } });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(`${server.origin}/tests/blank.html`);
  const measured = await page.evaluate(async ({ model, count, runs }) => {
    const { createEngine } = await import(new URL("/www/llava-web.js", location.href).href);
    const engine = await createEngine({ model: new URL(model, location.href).href, cache: "none", device: "cpu", threads: 1 });
    // Words, until there are as many tokens as were asked for.
    const text = "The lighthouse keeper wrote a long letter about the weather. ".repeat(count);
    const prompt = await engine.detokenize((await engine.tokenize(text)).slice(0, count));
    const ask = async () => (await engine.completions.create({ prompt, max_tokens: 1, temperature: 0 })).usage;
    const timed = async (/** @type {() => Promise<any>} */ work) => {
      const start = performance.now();
      const value = await work();
      return { value, ms: performance.now() - start };
    };
    const first = await ask();
    const heap = engine.info.bytes.wasmHeap;
    const times = /** @type {Record<string, number[]>} */ ({ save: [], restore: [], again: [] });
    let bytes = 0;
    let cached = 0;
    for (let run = 0; run < runs; run++) {
      const saved = await timed(() => engine.saveSession());
      await engine.reset();
      const restored = await timed(() => engine.restoreSession(saved.value));
      const usage = await ask();
      bytes = saved.value.length;
      cached = usage.cached_tokens;
      times.save.push(saved.ms);
      times.restore.push(restored.ms);
      times.again.push(usage.prefill_ms);
    }
    const median = (/** @type {number[]} */ values) => Number(values.sort((a, b) => a - b)[values.length >> 1].toFixed(1));
    return {
      tokens: first.prompt_tokens, bytes, cached, prefill_ms: Number(first.prefill_ms.toFixed(1)), save_ms: median(times.save), restore_ms: median(times.restore),
      again_ms: median(times.again), heap_grown_by: engine.info.bytes.wasmHeap - heap,
    };
  }, { model: `/model/${path.basename(values.model)}`, count: Number(values.prompt), runs: Number(values.runs) });
  console.log(JSON.stringify({ model: path.basename(values.model), ...measured }));
} finally {
  await browser.close();
  await server.close();
}
