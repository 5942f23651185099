// Measures what a question about a photograph of 1024 × 768 pixels costs in headless Chromium on the CPU: the time to the first token, where
// it goes, tokens per second, and memory; at each detail. Prints one JSON line per detail.
//
// usage: node tests/tools/photograph.mjs --model FILE --mmproj FILE [--detail auto,low,high] [--runs N] [--threads N] [--generate N]
// tests/tools/random_model.py makes files in the shapes of published models. Run it on a quiet machine, and compare only figures of one run.

import { createRequire } from "node:module";
import { loadavg } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { watchRenderers } from "./renderers.mjs";
import { serve } from "./serve.mjs";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { chromium } = createRequire(path.join(root, "tests/package.json"))("playwright-core");
const { values } = parseArgs({
  options: {
    model: { type: "string" }, mmproj: { type: "string" }, detail: { type: "string", default: "auto,low,high" },
    runs: { type: "string", default: "3" }, threads: { type: "string" }, generate: { type: "string", default: "64" },
  },
});
if (!values.model || !values.mmproj) throw new Error("usage: node tests/tools/photograph.mjs --model FILE --mmproj FILE");
const folder = (file) => path.dirname(path.resolve(file));
const mounts = {
  "/www/": path.join(root, "www"), "/pictures/": path.join(root, "tests/golden/images"), "/model/": folder(values.model), "/mmproj/": folder(values.mmproj),
};
const server = await serve({ root, mounts, isolated: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(`${server.origin}/www/index.html?model=`);
  const loaded = await page.evaluate(async ({ model, mmproj, threads }) => {
    const { createEngine } = await import("./llava-web.js");
    const absolute = (path) => new URL(path, location.href).href;
    const start = performance.now();
    globalThis.engine = await createEngine({
      model: absolute(model), mmproj: absolute(mmproj), device: "cpu", cache: "none", contextSize: 2048, ...(threads ? { threads } : {}),
    });
    // A picture of an astronaut drawn at the size that is asked about: what it shows changes no cost.
    const drawn = await createImageBitmap(await (await fetch(absolute("/pictures/astronaut.png"))).blob());
    globalThis.photograph = (seed) => {
      const canvas = new OffscreenCanvas(1024, 768);
      const context = canvas.getContext("2d");
      context.drawImage(drawn, 0, 0, 1024, 768);
      // Another picture for each question, or its rows are found again.
      context.fillStyle = `rgb(${seed % 256} 0 0)`;
      context.fillRect(0, 0, 8, 8);
      return canvas.convertToBlob();
    };
    return { seconds: (performance.now() - start) / 1000, device: globalThis.engine.info.device };
  }, { model: `/model/${path.basename(values.model)}`, mmproj: `/mmproj/${path.basename(values.mmproj)}`, threads: Number(values.threads ?? 0) });
  const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
  let seed = 0;
  for (const detail of values.detail.split(",")) {
    const runs = [];
    const renderers = watchRenderers();
    for (let run = 0; run <= Number(values.runs); run++) {
      seed += 1;
      const measured = await page.evaluate(async ({ detail, seed, max_tokens }) => {
        const image = await globalThis.photograph(seed);
        await globalThis.engine.reset();
        const asked = performance.now();
        let first;
        let usage;
        const stream = await globalThis.engine.chat.completions.create({
          messages: [{ role: "user", content: [{ type: "image", image, detail }, { type: "text", text: "What is in this picture?" }] }],
          temperature: 0, max_tokens, stream: true,
        });
        for await (const chunk of stream) {
          first ??= performance.now() - asked;
          usage = chunk.usage ?? usage;
        }
        return { first, usage, heap: globalThis.engine.info.bytes.wasmHeap };
      }, { detail, seed, max_tokens: Number(values.generate) });
      // The first warms up.
      if (run > 0) runs.push(measured);
    }
    const of = (read) => Number(median(runs.map(read)).toPrecision(4));
    const { usage } = runs[0];
    console.log(JSON.stringify({
      model: path.basename(values.model), detail, tiles: usage.image_tiles, promptTokens: usage.prompt_tokens,
      firstTokenMs: of((run) => run.first), imageMs: of((run) => run.usage.image_ms), prefillMs: of((run) => run.usage.prefill_ms),
      decodeTokensPerSecond: of((run) => run.usage.decode_tokens_per_second), wasmHeapMB: Math.round(Math.max(...runs.map(({ heap }) => heap)) / 1e6), rendererMB: renderers.stop(),
      loadSeconds: Number(loaded.seconds.toPrecision(3)), threads: loaded.device.threads ?? 1, load: Number(loadavg()[0].toFixed(1)),
    }));
  }
} finally {
  await browser.close();
  await server.close();
}
