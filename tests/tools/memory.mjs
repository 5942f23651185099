// Measures what the engine holds of a model on WebGPU, in headless Chromium on its adapter that computes on the CPU.
//
// usage: node tests/tools/memory.mjs --model FILE [--mmproj FILE] [--context N]

import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { serve } from "./serve.mjs";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { chromium } = createRequire(path.join(root, "tests/package.json"))("playwright-core");

/**
 * Loads a model and runs two tokens through it. All in bytes:
 * `heap`, the wasm memory, which never shrinks; `array`, the longest byte array made in the worker's JavaScript; `write` and `mapped`, the
 * most handed to the GPU at once; `written`, all of it; `tab`, the most that the tab's process had in memory.
 * @param {{ model: string, mmproj?: string, context?: number }} options  paths of the files
 */
export async function measureMemory({ model, mmproj, context = 256 }) {
  const mounts = { "/www/": path.join(root, "www"), "/tests/": path.join(root, "tests/browser"), "/model/": path.dirname(path.resolve(model)) };
  if (mmproj) mounts["/mmproj/"] = path.dirname(path.resolve(mmproj));
  const server = await serve({ root, mounts });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
      "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader",
    ],
  });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(0);
    await page.goto(`${server.origin}/tests/blank.html`);
    const measured = await page.evaluate(async ({ model, mmproj, context }) => {
      /** @type {Worker | undefined} */
      let worker;
      const { Worker } = globalThis;
      globalThis.Worker = /** @type {any} */ (class {
        constructor(/** @type {URL} */ url, /** @type {WorkerOptions} */ options) {
          worker = new Worker(`/tests/watched-worker.js?worker=${encodeURIComponent(String(url))}`, options);
          return worker;
        }
      });
      const { createEngine } = await import(new URL("/www/llava-web.js", location.href).href);
      const start = performance.now();
      const absolute = (/** @type {string | undefined} */ path) => path && new URL(path, location.href).href;
      const engine = await createEngine({ model: absolute(model), mmproj: absolute(mmproj), device: "webgpu", cache: "none", contextSize: context });
      const loadMs = performance.now() - start;
      await engine.evaluate({ tokens: [300, 301] });
      const { bytes, device, warnings } = engine.info;
      const { port1, port2 } = new MessageChannel();
      const seen = new Promise((resolve) => {
        port1.onmessage = ({ data }) => resolve(data);
      });
      worker?.postMessage({ watched: true, port: port2 }, [port2]);
      const { array, write, mapped, written } = /** @type {any} */ (await seen);
      return { loadMs, heap: bytes.wasmHeap, weights: bytes.weights, kvCache: bytes.kvCache, array, write, mapped, written, device, warnings };
    }, { model: `/model/${path.basename(model)}`, mmproj: mmproj && `/mmproj/${path.basename(mmproj)}`, context });
    const session = await browser.newBrowserCDPSession();
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    const peaks = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => peakBytes(id));
    return { ...measured, tab: Math.max(...peaks), file: statSync(model).size + (mmproj ? statSync(mmproj).size : 0) };
  } finally {
    await browser.close();
    await server.close();
  }
}

/** The most a process had in memory so far, where the system tells. @param {number} id */
function peakBytes(id) {
  try {
    return 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1]);
  } catch {
    return NaN;
  }
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { model: { type: "string" }, mmproj: { type: "string" }, context: { type: "string", default: "256" } } });
  if (!values.model) throw new Error("--model FILE is missing");
  const { device, warnings, loadMs, ...bytes } = await measureMemory({ model: values.model, mmproj: values.mmproj, context: Number(values.context) });
  const megabytes = Object.fromEntries(Object.entries(bytes).map(([name, n]) => [name, Number((n / 1e6).toPrecision(4))]));
  console.log(JSON.stringify({ megabytes, load_s: Number((loadMs / 1e3).toPrecision(3)), device, warnings }));
}
