// The engine on WebGPU in Firefox, on Mesa's adapter that computes on the CPU (lavapipe). It has other features than Chromium's: 16-bit
// floats in shaders, but no subgroups, and it reads buffers back every tenth of a second.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { serve } from "../tools/serve.mjs";
import { launchFirefox, withoutFirefox } from "./firefox.mjs";
import { cosine, GOLDEN, goldenJson, goldenTensor, maxDifference, withoutEngine } from "./support.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const PROMPT = "USER: <image>\nWhat is in this image? ASSISTANT:";

describe("WebGPU in Firefox", { skip: withoutEngine || withoutFirefox }, () => {
  let server;
  /** @type {Awaited<ReturnType<typeof launchFirefox>>} */
  let page;

  before(async () => {
    const www = process.env.LLAVA_WWW ?? fileURLToPath(new URL("../../www", import.meta.url));
    server = await serve({ root: here, mounts: { "/some/folder/": www, "/golden/": GOLDEN, "/tests/": here } });
    page = await launchFirefox(`${server.origin}/tests/firefox.html`);
    await page.evaluate(async (origin) => {
      globalThis.api = await import(`${origin}/some/folder/llava-web.js`);
      globalThis.load = (options, language = "f16") => globalThis.api.createEngine({
        model: `${origin}/golden/tiny-llava/tiny-llava-${language}.gguf`, mmproj: `${origin}/golden/tiny-llava/mmproj-legacy-f16.gguf`, ...options,
      });
      globalThis.picture = async () => (await fetch(`${origin}/golden/images/astronaut.png`)).blob();
      globalThis.engine = await globalThis.load({ device: "webgpu", kvFormat: "f32" });
    }, server.origin);
  });

  after(async () => {
    await page?.close();
    await server?.close();
    assert.deepEqual(page?.complaints ?? [], []);
  });

  test("the engine computes on the GPU, with every kernel as it was chosen", async () => {
    const { device, bytes, warnings } = await page.evaluate(() => globalThis.engine.info);
    // A kernel that the self-test replaced would be said here.
    assert.deepEqual(warnings.filter((text) => text.includes("GPU")), []);
    assert.equal(device.kind, "webgpu");
    // No subgroups, and WGSL's packed bytes are second choice.
    assert.deepEqual(device.features, ["shader-f16"]);
    assert.ok(bytes.weights > 1e6);
  });

  test("a picture's rows are the reference's", async () => {
    const { data, shape } = await page.evaluate(async () => {
      const { data, shape } = await globalThis.engine.embedImage(await globalThis.picture());
      return { data: [...data], shape: [...shape] };
    });
    assert.deepEqual(shape, [16, data.length / 16]);
    const reference = goldenTensor("tiny-llava/vision.safetensors", "astronaut.pad.embeds");
    // Products of many rows have operands of 16 bits here.
    const [near, difference] = [cosine(data, reference), maxDifference(data, reference)];
    assert.ok(near > 0.9999 && difference < 5e-3, `cosine ${near}, largest difference ${difference}`);
  });

  test("greedy tokens are the reference's", async () => {
    const { tokens: expected, margins } = goldenJson("tiny-llava/expected.json").greedy["astronaut.f16.pad.hf"];
    assert.ok(Math.min(...margins) > 0.04, "no token is so close to another that 16 bits may choose it");
    const ids = await page.evaluate(async (prompt) => {
      const reply = await globalThis.engine.completions.create({ prompt, images: [await globalThis.picture()], max_tokens: 16, temperature: 0 });
      return [...reply.choices[0].token_ids];
    }, PROMPT);
    assert.deepEqual(ids, expected);
  });

  test("logits of a quantized model are the reference's", async () => {
    const logits = await page.evaluate(async (prompt) => {
      const engine = await globalThis.load({ device: "webgpu" }, "q4_0");
      const { logits } = await engine.evaluate({ prompt, images: [await globalThis.picture()] });
      await engine.unload();
      return [...logits];
    }, PROMPT);
    const difference = maxDifference(logits, goldenTensor("tiny-llava/logits.safetensors", "astronaut.q4_0.pad.hf.logits"));
    assert.ok(difference < 0.05, `keys and values, and operands of products, in 16 bits: ${difference}`);
  });

  test("auto does not take an adapter that computes on the CPU", async () => {
    const kind = await page.evaluate(async () => {
      const engine = await globalThis.load({ device: "auto" });
      const { kind } = engine.info.device;
      await engine.unload();
      return kind;
    });
    assert.equal(kind, "cpu");
  });
});
