// The engine on WebGPU, in a browser whose adapter computes on the CPU (SwiftShader): slow, and bound to the same answers.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { cosine, goldenJson, goldenTensor, maxDifference, openTab, satisfiesSchema, SCHEMA, start, SWIFTSHADER, withoutEngine } from "./support.mjs";

const PROMPT = "USER: <image>\nWhat is in this image? ASSISTANT:";

describe("WebGPU", { skip: withoutEngine }, () => {
  let host;
  let tab;
  let page;

  before(async () => {
    host = await start({ flags: SWIFTSHADER });
    tab = await openTab(host.browser);
    page = tab.page;
    page.setDefaultTimeout(0);
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(async ({ site, origin }) => {
      globalThis.api = await import(`${site}llava-web.js`);
      globalThis.load = (options, language = "f16") => globalThis.api.createEngine({
        model: `${origin}/golden/tiny-llava/tiny-llava-${language}.gguf`, mmproj: `${origin}/golden/tiny-llava/mmproj-legacy-f16.gguf`, ...options,
      });
      globalThis.picture = async () => (await fetch(`${origin}/golden/images/astronaut.png`)).blob();
      globalThis.engine = await globalThis.load({ device: "webgpu", kvFormat: "f32" });
    }, { site: host.site, origin: host.server.origin });
  });

  after(async () => {
    const complaints = tab?.complaints.filter((text) => !text.includes("Failed to load resource")) ?? [];
    await host?.close();
    assert.deepEqual(complaints, []);
  });

  test("info says which adapter computes", async () => {
    const { device, bytes, warnings } = await page.evaluate(() => globalThis.engine.info);
    // A kernel that the self-test replaced would be said here.
    assert.deepEqual(warnings.filter((text) => text.includes("GPU")), []);
    assert.equal(device.kind, "webgpu");
    assert.match(device.adapter, /swiftshader/i);
    // SwiftShader has subgroups, and wgpu does not ask for them: this is the page's doing. It has no 16-bit floats.
    assert.deepEqual(device.features, ["subgroups", "packed_4x8_integer_dot_product"]);
    assert.ok(bytes.weights > 1e6);
  });

  test("a picture's rows are the reference's", async () => {
    const { data, shape } = await page.evaluate(async () => {
      const { data, shape } = await globalThis.engine.embedImage(await globalThis.picture());
      return { data: [...data], shape: [...shape] };
    });
    assert.deepEqual(shape, [16, data.length / 16]);
    const reference = goldenTensor("tiny-llava/vision.safetensors", "astronaut.pad.embeds");
    assert.ok(cosine(data, reference) > 0.9999 && maxDifference(data, reference) < 1e-3);
  });

  test("greedy tokens are the reference's", async () => {
    const expected = goldenJson("tiny-llava/expected.json").greedy["astronaut.f16.pad.hf"].tokens;
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
    assert.ok(difference < 0.5, `activations in bytes, as on the CPU: ${difference}`);
  });

  test("a session goes over to the CPU and back, and both see where the model looked", async () => {
    const { sessions, usages, worst, again } = await page.evaluate(async (prompt) => {
      const { engine, load, picture } = globalThis;
      const images = [await picture()];
      const ask = (engine, prompt) => engine.completions.create({ prompt, images, temperature: 0, max_tokens: 6 });
      const cpu = await load({ device: "cpu", kvFormat: "f32" });
      await engine.reset();
      const first = await ask(engine, prompt);
      const bytes = await engine.saveSession();
      await cpu.restoreSession(bytes);
      const request = { position: first.usage.prompt_tokens + 2, token: first.choices[0].token_ids[2] };
      const [[a], [b]] = (await Promise.all([engine, cpu].map((engine) => engine.lookedAt(request)))).map(({ images }) => images);
      const worst = Math.max(...a.data.map((x, i) => Math.abs(x - b.data[i])));
      const sessions = [bytes, await cpu.saveSession()].map((bytes) => bytes.join());
      const usages = [];
      for (const one of [engine, cpu]) usages.push((await ask(one, `${prompt} a cat USER: And why? ASSISTANT:`)).usage);
      await engine.restoreSession(await cpu.saveSession());
      const again = (await ask(engine, `${prompt} a cat USER: And why? ASSISTANT: So. USER: Yes? ASSISTANT:`)).usage;
      await cpu.unload();
      return { sessions, usages, worst, again };
    }, PROMPT);
    assert.equal(sessions[0], sessions[1], "the CPU holds what the GPU did");
    assert.equal(usages[0].cached_tokens, usages[1].cached_tokens);
    assert.ok(usages[0].cached_tokens > 16 && usages[1].image_ms === 0, JSON.stringify(usages));
    assert.ok(again.cached_tokens > usages[0].cached_tokens && again.image_ms === 0, JSON.stringify(again));
    assert.ok(worst < 1e-4, `probabilities differ by ${worst}`);
  });

  test("keys and values in 8 bits: a session goes over to the CPU and back, and one in another format is refused", async () => {
    const { sessions, answers, bytes, refusal } = await page.evaluate(async (prompt) => {
      const images = [await globalThis.picture()];
      const ask = (engine) => engine.completions.create({ prompt, images, temperature: 0, max_tokens: 6 });
      const [gpu, cpu, halves] = [await globalThis.load({ device: "webgpu", kvFormat: "q8_0" }), await globalThis.load({ device: "cpu", kvFormat: "q8_0" }), await globalThis.load({ device: "cpu" })];
      const answers = [await ask(gpu), await ask(cpu)].map(({ choices: [{ token_ids }] }) => [...token_ids]);
      const session = await gpu.saveSession();
      await cpu.restoreSession(session);
      const sessions = [session, await cpu.saveSession()].map((bytes) => bytes.join());
      await gpu.restoreSession(await cpu.saveSession());
      const refusal = await halves.restoreSession(session).then(() => null, ({ code, message }) => ({ code, message }));
      const bytes = [cpu, halves].map(({ info }) => info.bytes.kvCache);
      for (const engine of [gpu, cpu, halves]) await engine.unload();
      return { sessions, answers, bytes, refusal };
    }, PROMPT);
    assert.equal(sessions[0], sessions[1], "the CPU holds what the GPU did");
    assert.equal(answers[0][0], answers[1][0]);
    assert.equal(refusal.code, "invalid_request");
    assert.match(refusal.message, /'q8_0'.*'f16'.*kvFormat/);
    // Heads of 32 elements, each with a scale.
    assert.equal(bytes[0] / bytes[1], 34 / 64);
  });

  test("an answer in a form is the CPU's: its tokens are chosen on the host", async () => {
    const [gpu, cpu] = await page.evaluate(async (schema) => {
      const request = { messages: [{ role: "user", content: "What is it?" }], temperature: 0, max_tokens: 300, response_format: { type: "json_schema", json_schema: { schema } } };
      const onCpu = await globalThis.load({ device: "cpu" });
      const replies = [await globalThis.engine.chat.completions.create(request), await onCpu.chat.completions.create(request)];
      await onCpu.unload();
      return replies.map(({ choices: [{ message, finish_reason }] }) => ({ text: message.content, finish_reason }));
    }, SCHEMA);
    assert.equal(gpu.finish_reason, "stop");
    satisfiesSchema(gpu.text);
    assert.deepEqual(gpu, cpu);
  });

  test("a benchmark tells launches per token", async () => {
    const report = await page.evaluate(() => globalThis.engine.benchmark({ promptTokens: 8, generatedTokens: 4, runs: 1 }));
    assert.equal(report.submitsPerToken, 1);
    assert.ok(report.dispatchesPerToken > 0 && report.decode_tokens_per_second > 0);
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
