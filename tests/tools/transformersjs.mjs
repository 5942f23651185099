// Measures a question about a picture in transformers.js, on the CPU of headless Chromium: the time to the first token, tokens per second and memory, beside
// `photograph.mjs`. One tile of 512 × 512 pixels that is preprocessed already, and a prompt of 82 tokens: what SmolVLM takes with `detail: "auto"` here.
//
// usage: node tests/tools/transformersjs.mjs --packages DIR --onnx DIR [--runs N] [--threads N] [--generate N]
// DIR of packages: where `npm install --ignore-scripts @huggingface/transformers@4` was run. DIR of onnx: written by tests/tools/onnx_smolvlm.py.

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
    packages: { type: "string" }, onnx: { type: "string" }, runs: { type: "string", default: "2" }, threads: { type: "string", default: "2" },
    generate: { type: "string", default: "64" },
  },
});
if (!values.packages || !values.onnx) throw new Error("usage: node tests/tools/transformersjs.mjs --packages DIR --onnx DIR");
const modules = path.join(path.resolve(values.packages), "node_modules");
const folder = path.resolve(values.onnx);
const server = await serve({
  root, mounts: { "/www/": path.join(root, "www"), "/modules/": modules, "/onnx/": path.dirname(folder) }, isolated: true,
});
const browser = await chromium.launchServer({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

try {
  const context = await (await chromium.connect(browser.wsEndpoint())).newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(0);
  page.on("pageerror", (error) => console.error(String(error)));
  await page.route("**/measure.html", (route) => route.fulfill({
    contentType: "text/html",
    headers: { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" },
    body: `<!doctype html><script type="importmap">${JSON.stringify({ imports: {
      "@huggingface/transformers": "/modules/@huggingface/transformers/dist/transformers.web.js",
      "onnxruntime-web/webgpu": "/modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs",
      "onnxruntime-web": "/modules/onnxruntime-web/dist/ort.bundle.min.mjs",
      "onnxruntime-common": "/modules/onnxruntime-common/dist/esm/index.js",
      "@huggingface/jinja": "/modules/@huggingface/jinja/dist/index.js",
      "@huggingface/tokenizers": "/modules/@huggingface/tokenizers/dist/tokenizers.mjs",
    } })}</script>`,
  }));
  await page.goto(`${server.origin}/measure.html`);
  const loadSeconds = await page.evaluate(async ({ id, threads }) => {
    const { env, Idefics3ForConditionalGeneration, Tensor } = await import("@huggingface/transformers");
    Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/onnx/", useBrowserCache: false, useWasmCache: false });
    const dist = new URL("/modules/onnxruntime-web/dist/", location.href).href;
    env.backends.onnx.wasm.wasmPaths = { mjs: `${dist}ort-wasm-simd-threaded.asyncify.mjs`, wasm: `${dist}ort-wasm-simd-threaded.asyncify.wasm` };
    Object.assign(env.backends.onnx.wasm, { numThreads: threads, proxy: false });
    const start = performance.now();
    globalThis.network = await Idefics3ForConditionalGeneration.from_pretrained(id, { dtype: "q8", device: "wasm" });
    globalThis.Tensor = Tensor;
    globalThis.version = env.version;
    return (performance.now() - start) / 1000;
  }, { id: path.basename(folder), threads: Number(values.threads) });
  const runs = [];
  const renderers = watchRenderers();
  for (let run = 0; run <= Number(values.runs); run++) {
    const measured = await page.evaluate(async ({ generate, seed }) => {
      const { Tensor, network } = globalThis;
      const tokens = 82;
      const ids = BigInt64Array.from({ length: tokens }, (_, i) => (i >= 8 && i < 72 ? 49190n : BigInt(100 + i)));
      const pixels = Float32Array.from({ length: 3 * 512 * 512 }, (_, i) => Math.sin(i * 0.01 + seed));
      const inputs = {
        input_ids: new Tensor("int64", ids, [1, tokens]), attention_mask: new Tensor("int64", new BigInt64Array(tokens).fill(1n), [1, tokens]),
        pixel_values: new Tensor("float32", pixels, [1, 1, 3, 512, 512]),
        pixel_attention_mask: new Tensor("bool", new Uint8Array(512 * 512).fill(1), [1, 1, 512, 512]),
      };
      const times = [];
      const asked = performance.now();
      // What the streamer is given first is the prompt.
      const streamer = { put: () => times.push(performance.now()), end() {} };
      await network.generate({ ...inputs, max_new_tokens: generate, min_new_tokens: generate, do_sample: false, streamer });
      const [first, ...later] = times.slice(1);
      return { first: first - asked, rate: (later.length * 1000) / (later.at(-1) - first) };
    }, { generate: Number(values.generate), seed: run });
    // The first warms up.
    if (run > 0) runs.push(measured);
  }
  const median = (numbers) => Number(numbers.toSorted((a, b) => a - b)[numbers.length >> 1].toPrecision(4));
  console.log(JSON.stringify({
    peer: `transformers.js ${await page.evaluate(() => globalThis.version)}`, model: path.basename(folder), threads: Number(values.threads), firstTokenMs: median(runs.map(({ first }) => first)),
    decodeTokensPerSecond: median(runs.map(({ rate }) => rate)), rendererMB: renderers.stop(), loadSeconds: Number(loadSeconds.toPrecision(3)),
    load: Number(loadavg()[0].toFixed(1)),
  }));
} finally {
  await browser.close();
  await server.close();
}
