// Measures what saving and restoring a session takes, in headless Chromium on one thread of the CPU, and prints one JSON line.
//
// usage: node tests/tools/session.mjs [--model FILE] [--prompt N] [--runs N] [--mmproj FILE --image FILE]
// Default: models/smollm2-135m-q4_0.gguf, 1000 tokens, 5 runs. With a picture it stands before the prompt, and it is measured, too, how
// long it takes to see where the model looked. Milliseconds are medians.

import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { serve } from "./serve.mjs";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { chromium } = createRequire(path.join(root, "tests/package.json"))("playwright-core");
const { values } = parseArgs({
  options: {
    model: { type: "string", default: path.join(root, "models/smollm2-135m-q4_0.gguf") }, prompt: { type: "string", default: "1000" },
    runs: { type: "string", default: "5" }, mmproj: { type: "string" }, image: { type: "string" },
  },
});
/** @type {Record<string, string>} */
const mounts = { "/www/": path.join(root, "www"), "/tests/": path.join(root, "tests/browser") };
const url = (/** @type {string | undefined} */ file) => {
  if (!file) return undefined;
  const folder = `/file${Object.keys(mounts).length}/`;
  mounts[folder] = path.dirname(path.resolve(file));
  return folder + path.basename(file);
};
const files = { model: url(values.model), mmproj: url(values.mmproj), image: url(values.image) };
const server = await serve({ root, mounts });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(`${server.origin}/tests/blank.html`);
  const measured = await page.evaluate(async ({ model, mmproj, image, count, runs }) => {
    const { createEngine } = await import(new URL("/www/llava-web.js", location.href).href);
    const absolute = (/** @type {string | undefined} */ path) => path && new URL(path, location.href).href;
    const engine = await createEngine({ model: /** @type {string} */ (absolute(model)), mmproj: absolute(mmproj), cache: "none", device: "cpu", threads: 1 });
    const images = image ? [await (await fetch(image)).blob()] : [];
    // Words, until there are as many tokens as were asked for.
    const text = "The lighthouse keeper wrote a long letter about the weather. ".repeat(count);
    const words = await engine.detokenize((await engine.tokenize(text)).slice(0, count));
    const prompt = image ? `<image>\n${words}` : words;
    const ask = async () => (await engine.completions.create({ prompt, images, max_tokens: 1, temperature: 0 })).usage;
    const timed = async (/** @type {() => Promise<any>} */ work) => {
      const start = performance.now();
      const value = await work();
      return { value, ms: performance.now() - start };
    };
    const first = await ask();
    const heap = engine.info.bytes.wasmHeap;
    const times = /** @type {Record<string, number[]>} */ ({ save: [], restore: [], again: [], looked: [] });
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
      if (image) times.looked.push((await timed(() => engine.lookedAt({ position: usage.prompt_tokens }))).ms);
    }
    const median = (/** @type {number[]} */ values) => Number(values.sort((a, b) => a - b)[values.length >> 1].toFixed(1));
    return {
      tokens: first.prompt_tokens, bytes, cached, image_ms: Math.round(first.image_ms), prefill_ms: Math.round(first.prefill_ms), save_ms: median(times.save), restore_ms: median(times.restore),
      again_ms: median(times.again), ...(image && { looked_at_ms: median(times.looked) }), heap_grown_by: engine.info.bytes.wasmHeap - heap,
    };
  }, { ...files, count: Number(values.prompt), runs: Number(values.runs) });
  console.log(JSON.stringify({ model: path.basename(values.model), ...measured }));
} finally {
  await browser.close();
  await server.close();
}
