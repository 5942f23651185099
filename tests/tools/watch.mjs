// Measures how many answers a second engine.watch gives in headless Chromium, with the model that comes with the page, and prints one JSON line per source.
//
// usage: node tests/tools/watch.mjs [--source canvas|stream|camera]… [--seconds N] [--threads N] [--side N] [--detail D] [--max-tokens N] [--question TEXT] [--model FILE --mmproj FILE]
//   canvas   drawings (www/examples) that take turns on a canvas, each a little different, so that no frame is known already
//   stream   the same canvas as a MediaStream of 30 frames a second, as a camera's is
//   camera   Chromium's own camera: a moving figure, 640 × 480, 20 frames a second
// Milliseconds are medians, from when a frame is drawn: `first_token`, `whole` as `onAnswer` is told; `tower`, `prefill`, `decode` as `usage` tells; `besides`: what is left of
// `whole`, which is the copies of the frame, its way to the worker and its resizing; `between`: from an answer to the next frame. Run it on a quiet machine.

import { createRequire } from "node:module";
import { cpus, loadavg } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { serve } from "./serve.mjs";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { chromium } = createRequire(path.join(root, "tests/package.json"))("playwright-core");
const { values } = parseArgs({
  options: {
    source: { type: "string", multiple: true, default: ["canvas", "stream", "camera"] }, seconds: { type: "string", default: "10" }, threads: { type: "string" },
    side: { type: "string", default: "512" }, detail: { type: "string", default: "low" }, "max-tokens": { type: "string" }, question: { type: "string", default: "What is in this picture?" },
    model: { type: "string", default: path.join(root, "www/models/house.gguf") }, mmproj: { type: "string", default: path.join(root, "www/models/house-mmproj.gguf") },
  },
});
const server = await serve({ root, isolated: true, mounts: { "/www/": path.join(root, "www"), "/tests/": path.join(root, "tests/browser"), "/model/": path.dirname(path.resolve(values.model)), "/mmproj/": path.dirname(path.resolve(values.mmproj)) } });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
});
try {
  for (const source of values.source) {
    const page = await browser.newPage();
    page.setDefaultTimeout(0);
    await page.goto(`${server.origin}/tests/blank.html`);
    const measured = await page.evaluate(async ({ source, seconds, side, threads, detail, maxTokens, question, model, mmproj }) => {
      const { createEngine } = await import(new URL("/www/llava-web.js", location.href).href);
      const engine = await createEngine({ model: new URL(model, location.href).href, mmproj: new URL(mmproj, location.href).href, cache: "none", device: "cpu", threads });
      const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
      const context = canvas.getContext("2d");
      const drawings = await Promise.all(["pets", "fruit", "travel"].map(async (name) => createImageBitmap(await (await fetch(`/www/examples/${name}.png`)).blob())));
      let shown = 0;
      const draw = () => {
        context.fillStyle = "#fff";
        context.fillRect(0, 0, side, side);
        context.drawImage(drawings[shown % 3], shown % 7, shown % 5, side - 8, side - 8);
        // No frame is one that was seen before.
        for (let bit = 0; bit < 16; bit++) {
          context.fillStyle = (shown >> bit) & 1 ? "#ccc" : "#eee";
          context.fillRect(bit * side / 16, side - 6, side / 16, 6);
        }
        shown += 1;
      };
      draw();
      const drawer = source === "camera" ? undefined : setInterval(draw, 1000 / 30);
      const watched = source === "canvas" ? canvas : source === "stream" ? canvas.captureStream(30) : await navigator.mediaDevices.getUserMedia({ video: true });
      const answers = [];
      let [skipped, begun] = [0, 0];
      const watch = engine.watch(watched, {
        question, detail, max_tokens: maxTokens,
        onAnswer(answer) {
          if (answer.skipped) skipped += 1;
          else if (answer.done) answers.push({ ...answer, at: performance.now() });
          else if (answer.text === "") begun += 1;
        },
      });
      // The first answers warm up caches and the browser's compiler.
      while (answers.length < 3) await new Promise((resolve) => setTimeout(resolve, 50));
      answers.length = 0;
      const [start, heap] = [performance.now(), engine.info.bytes.wasmHeap];
      // The engine's memory, ten times on the way: it grows until the rows of frames that are remembered are as many as they may be.
      const heaps = [];
      for (let i = 0; i < 10; i++) {
        await new Promise((resolve) => setTimeout(resolve, seconds * 100));
        heaps.push(Math.round((engine.info.bytes.wasmHeap - heap) / 1e6));
      }
      const took = performance.now() - start;
      await watch.stop();
      clearInterval(drawer);
      const median = (pick) => answers.map(pick).sort((a, b) => a - b)[answers.length >> 1];
      const result = {
        answers: answers.length, answers_per_second: answers.length / (took / 1000), first_token_ms: median(({ latency }) => latency.firstToken), whole_ms: median(({ latency }) => latency.whole),
        tower_ms: median(({ usage }) => usage.image_ms), prefill_ms: median(({ usage }) => usage.prefill_ms), decode_ms: median(({ usage }) => usage.decode_ms),
        besides_ms: median(({ latency, usage }) => latency.whole - usage.image_ms - usage.prefill_ms - usage.decode_ms),
        between_ms: median((answer) => answers[answers.indexOf(answer) + 1] ? answers[answers.indexOf(answer) + 1].time - answer.at : 0),
        prompt_tokens: median(({ usage }) => usage.prompt_tokens), cached_tokens: median(({ usage }) => usage.cached_tokens), completion_tokens: median(({ usage }) => usage.completion_tokens),
        skipped, heap_grown_by_mb: heaps, texts: [...new Set(answers.map(({ text }) => text))].slice(0, 4), device: engine.info.device,
      };
      engine.unload();
      return result;
    }, {
      source, seconds: Number(values.seconds), side: Number(values.side), threads: values.threads && Number(values.threads), detail: values.detail,
      maxTokens: values["max-tokens"] && Number(values["max-tokens"]), question: values.question,
      model: `/model/${path.basename(values.model)}`, mmproj: `/mmproj/${path.basename(values.mmproj)}`,
    });
    const round = (value) => (typeof value === "number" ? Number(value.toPrecision(4)) : value);
    console.log(JSON.stringify({
      source, ...Object.fromEntries(Object.entries(measured).map(([key, value]) => [key, round(value)])),
      browser: `Chromium ${browser.version()}`, cpu: `${cpus().length} × ${cpus()[0].model}`, load_average: round(loadavg()[0]),
    }));
    await page.close();
  }
} finally {
  await browser.close();
  await server.close();
}
