#!/usr/bin/env node
// Answers requests from standard input, one JSON object a line, by the product as it is served: www/ in Chromium, the pair of files fetched
// and kept as a visitor's would be. It is to examples/batch.rs what the browser's build is to the native one, and evaluate.py takes it in
// its place:
//
//     training/evaluate.py scenes --bank bank.npz --engine training/browser.mjs --model house.gguf --mmproj house-mmproj.gguf
//
// LLAVA_DEVICE chooses the device ("cpu" unless said otherwise). Needs what the browser tests need: `./build.sh test` installs it.

import { readFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

import { openTab, start } from "../tests/browser/support.mjs";

const [model, mmproj] = process.argv.slice(2);
if (!mmproj) {
  console.error("usage: browser.mjs MODEL.gguf MMPROJ.gguf < REQUESTS.jsonl");
  process.exit(2);
}
const device = process.env.LLAVA_DEVICE ?? "cpu";
const flags = device === "cpu" ? [] : ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const world = await start({ isolated: true, flags, "/model/": path.dirname(path.resolve(model)), "/mmproj/": path.dirname(path.resolve(mmproj)) });
const { page } = await openTab(world.browser);
await page.goto(`${world.server.origin}/tests/blank.html`);
console.error(await page.evaluate(async ({ site, files, device }) => {
  const { createEngine } = await import(`${site}llava-web.js`);
  globalThis.engine = await createEngine({ ...files, device });
  return JSON.stringify(globalThis.engine.info.device);
}, { site: world.site, device, files: { model: `/model/${path.basename(model)}`, mmproj: `/mmproj/${path.basename(mmproj)}` } }));

for await (const line of createInterface({ input: process.stdin })) {
  const { images = [], ...request } = JSON.parse(line);
  const bytes = images.map((file) => readFileSync(file).toString("base64"));
  const out = await page.evaluate(async ({ request, bytes }) => {
    const blobs = bytes.map((encoded) => new Blob([Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))]));
    for (const { content } of request.messages ?? []) {
      if (typeof content === "string") continue;
      for (const part of content) if (part.type === "image") part.image = blobs[part.image];
    }
    try {
      if (!request.messages) {
        const { logits, tokens } = await globalThis.engine.evaluate({ ...request, images: blobs });
        return { logits: [...logits], tokens: [...tokens] };
      }
      const reply = await globalThis.engine.chat.completions.create(request);
      return { text: reply.choices[0].message.content };
    } catch (error) {
      return { error: `${error.code}: ${error.message}` };
    }
  }, { request, bytes });
  console.log(JSON.stringify(out));
}
await world.close();
