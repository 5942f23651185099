// Measures the engine in headless Chromium through its public API, and prints one JSON line per model.
//
// usage: node tests/tools/bench.mjs [--model FILE] [--mmproj FILE] [--image FILE] [--prompt N] [--generate N] [--runs N]
//                                   [--threads N]   (1 is the module without threads; default: what the engine chooses)
//                                   [--kv f16,q8_0] how keys and values are kept; of several one after the other
// Files are relative to the current folder. Default: models/smollm2-135m-q4_0.gguf and -q4_1.gguf, and the picture of the tiny LLaVA
// in tests/golden. Run it on a quiet machine, and compare only figures of one run.

import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, loadavg } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";

import { serve } from "./serve.mjs";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { chromium } = createRequire(path.join(root, "tests/package.json"))("playwright-core");
const { values } = parseArgs({
  options: {
    model: { type: "string" }, mmproj: { type: "string" }, image: { type: "string" },
    prompt: { type: "string", default: "512" }, generate: { type: "string", default: "128" }, runs: { type: "string", default: "3" },
    threads: { type: "string" }, kv: { type: "string", default: "f16" },
  },
});
const golden = (name) => path.join(root, "tests/golden", name);
const models = values.model
  ? [{ model: values.model, mmproj: values.mmproj, image: values.image ?? golden("images/astronaut.png") }]
  : [
      { model: path.join(root, "models/smollm2-135m-q4_0.gguf") },
      { model: path.join(root, "models/smollm2-135m-q4_1.gguf") },
      { model: golden("tiny-llava/tiny-llava-q4_0.gguf"), mmproj: golden("tiny-llava/mmproj-legacy-f16.gguf"), image: golden("images/astronaut.png") },
    ];
const jobs = models.flatMap((job) => values.kv.split(",").map((kvFormat) => ({ ...job, kvFormat })));

const wasm = readFileSync(path.join(root, "www/pkg-relaxed/llava_web_bg.wasm"));
const mounts = { "/www/": path.join(root, "www") };
const url = (file) => {
  const folder = `/file${Object.keys(mounts).length}/`;
  mounts[folder] = path.dirname(path.resolve(file));
  return folder + path.basename(file);
};
for (const job of jobs) for (const key of ["model", "mmproj", "image"]) if (job[key]) job[key + "Url"] = url(job[key]);

const server = await serve({ root, mounts, isolated: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  for (const job of jobs) {
    const page = await browser.newPage();
    page.setDefaultTimeout(0);
    await page.goto(`${server.origin}/www/index.html`);
    const measured = await page.evaluate(async ({ job, options }) => {
      const { createEngine } = await import("./llava-web.js");
      const absolute = (path) => path && new URL(path, location.href).href;
      const start = performance.now();
      const engine = await createEngine({
        model: absolute(job.modelUrl), mmproj: absolute(job.mmprojUrl), device: "cpu", cache: "none", threads: options.threads, kvFormat: job.kvFormat,
        contextSize: options.promptTokens + options.generatedTokens,
      });
      const loadMs = performance.now() - start;
      const speed = await engine.benchmark(options);
      let imageMs;
      if (job.mmprojUrl) {
        const picture = await (await fetch(absolute(job.imageUrl))).blob();
        const times = [];
        for (let run = 0; run < options.runs; run++) {
          // A pixel's difference makes another picture, which the engine has not seen.
          const bitmap = await createImageBitmap(picture);
          const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
          const context = canvas.getContext("2d");
          context.drawImage(bitmap, 0, 0);
          context.fillRect(run, 0, 1, 1);
          times.push((await engine.embedImage(canvas)).milliseconds);
        }
        imageMs = times.sort((a, b) => a - b)[times.length >> 1];
      }
      const { bytes, device } = engine.info;
      engine.unload();
      return { loadMs, imageMs, ...speed, heap: bytes.wasmHeap, kvCache: bytes.kvCache, device };
    }, { job, options: { promptTokens: Number(values.prompt), generatedTokens: Number(values.generate), runs: Number(values.runs), threads: values.threads && Number(values.threads) } });
    const size = (file) => (file ? statSync(file).size : 0);
    console.log(JSON.stringify({
      model: path.basename(job.model), mmproj: job.mmproj && path.basename(job.mmproj), file_mb: round((size(job.model) + size(job.mmproj)) / 1e6),
      load_ms: round(measured.loadMs), prefill_tps: round(measured.prefill_tokens_per_second), decode_tps: round(measured.decode_tokens_per_second),
      weight_gb_per_s: round(measured.bytesPerSecond / 1e9), image_ms: measured.imageMs && round(measured.imageMs),
      kv: job.kvFormat, wasm_heap_mb: round(measured.heap / 1e6), kv_cache_mb: round(measured.kvCache / 1e6), device: measured.device,
      n_prompt: Number(values.prompt), n_generate: Number(values.generate), runs: Number(values.runs),
      wasm_bytes: wasm.length, wasm_gzip_bytes: gzipSync(wasm, { level: 9 }).length,
      browser: `Chromium ${browser.version()}`, cpu: `${cpus().length} × ${cpus()[0].model}`, load_average: round(loadavg()[0]),
    }));
    await page.close();
  }
} finally {
  await browser.close();
  await server.close();
}

function round(value) {
  return Number(value.toPrecision(4));
}
