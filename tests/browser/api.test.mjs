// The JavaScript contract, with the built engine, in a browser: on a page in a folder, with nothing but the module.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";

import { cosine, golden, goldenJson, goldenTensor, maxDifference, openTab, satisfiesSchema, SCHEMA, start, withoutEngine, withoutModel } from "./support.mjs";

const PROMPT = "USER: <image>\nWhat is in this image? ASSISTANT:";
const F16 = "tiny-llava/tiny-llava-f16.gguf";
const MMPROJ = "tiny-llava/mmproj-legacy-f16.gguf";

describe("the public module", { skip: withoutEngine }, () => {
  let host;
  let tab;
  let page;
  const expected = () => goldenJson("tiny-llava/expected.json");

  before(async () => {
    host = await start({ given: [/\/golden\/images\/none\.png$/, "http://127.0.0.1:9/x.gguf"] });
    tab = await openTab(host.browser);
    page = tab.page;
    // Resolves once a server was asked for an address that ends so.
    await page.exposeFunction("asked", async (/** @type {string} */ ending) => {
      while (!host.server.requests.some(({ url }) => url.endsWith(ending))) await new Promise((resolve) => setTimeout(resolve, 20));
    });
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(async ({ site, origin }) => {
      const api = await import(`${site}llava-web.js`);
      Object.assign(globalThis, {
        api,
        golden: (name) => `${origin}/golden/${name}`,
        image: async (name) => (await fetch(`${origin}/golden/images/${name}`)).blob(),
        /** What a promise was rejected with. */
        failure: async (promise) => {
          try {
            await (typeof promise === "function" ? promise() : promise);
          } catch (error) {
            return { code: error.code, message: error.message, isLlavaError: error instanceof api.LlavaError, isError: error instanceof Error };
          }
          return null;
        },
      });
      globalThis.engine = await api.createEngine({ model: globalThis.golden("tiny-llava/tiny-llava-f16.gguf"), mmproj: globalThis.golden("tiny-llava/mmproj-legacy-f16.gguf") });
    }, { site: host.site, origin: host.server.origin });
  });

  after(async () => {
    const complaints = tab?.complaints.filter((text) => !text.includes("Failed to load resource")) ?? [];
    await host?.close();
    assert.deepEqual(complaints, []);
  });

  const codeOf = async (fn, arg) => {
    const failure = await page.evaluate(fn, arg);
    assert.ok(failure, "it did not fail");
    assert.ok(failure.isLlavaError && failure.isError);
    assert.ok(failure.message.length > 20, failure.message);
    return failure.code;
  };

  test("info describes what was loaded", async () => {
    const info = await page.evaluate(() => globalThis.engine.info);
    assert.equal(info.architecture, "llama");
    assert.equal(info.quantization, "F16");
    assert.equal(info.vocabularySize, 2048);
    assert.equal(info.vision.imageSize, 56);
    assert.equal(info.vision.patchSize, 14);
    assert.equal(info.vision.tokensPerImage, 16);
    assert.equal(info.vision.featureSize, 64);
    assert.equal(info.device.kind, "cpu");
    assert.equal(info.device.threads, 1);
    assert.ok(info.parameters > 1e6 && info.contextSize > 0);
    for (const bytes of Object.values(info.bytes)) assert.ok(bytes > 0);
    assert.deepEqual(Object.keys(info.bytes).sort(), ["kvCache", "wasmHeap", "weights"]);
  });

  test("tokenize and detokenize", async () => {
    const { ids, text, isArray } = await page.evaluate(async () => {
      const ids = await globalThis.engine.tokenize("USER: ", { bos: true });
      return { ids: [...ids], isArray: ids instanceof Uint32Array, text: await globalThis.engine.detokenize(ids.slice(1)) };
    });
    assert.ok(isArray);
    assert.deepEqual(ids.slice(0, 4), expected().chunks[PROMPT][0]);
    assert.equal(text.trim(), "USER:");
  });

  test("applyChatTemplate puts <image> where the picture stands", async () => {
    const [withPrompt, without] = await page.evaluate(async () => {
      const messages = [{ role: "user", content: [{ type: "image", image: await globalThis.image("astronaut.png") }, { type: "text", text: "What is this?" }] }];
      return [await globalThis.engine.applyChatTemplate(messages), await globalThis.engine.applyChatTemplate(messages, { addGenerationPrompt: false })];
    });
    assert.match(withPrompt, /<image>\s*What is this\?/);
    assert.ok(withPrompt.length > without.length);
  });

  test("preprocessImage gives the reference's pixels", async () => {
    const { data, shape } = await page.evaluate(async () => {
      const { data, shape } = await globalThis.engine.preprocessImage(await globalThis.image("astronaut.png"));
      return { data: [...data], shape };
    });
    assert.deepEqual(shape, [1, 3, 56, 56]);
    assert.ok(maxDifference(data, goldenTensor("tiny-llava/preprocess.safetensors", "astronaut.pad")) < 1e-5);
  });

  test("embedImage gives the reference's rows", async () => {
    const { data, shape, milliseconds } = await page.evaluate(async () => {
      const { data, shape, milliseconds } = await globalThis.engine.embedImage(await globalThis.image("astronaut.png"));
      return { data: [...data], shape, milliseconds };
    });
    assert.deepEqual(shape, [16, 256]);
    assert.ok(milliseconds > 0);
    assert.ok(cosine(data, goldenTensor("tiny-llava/vision.safetensors", "astronaut.pad.embeds")) >= 0.9999);
  });

  test("evaluate gives the reference's logits", async () => {
    const { logits, tokens } = await page.evaluate(async (prompt) => {
      const { logits, tokens } = await globalThis.engine.evaluate({ prompt, images: [await globalThis.image("astronaut.png")] });
      return { logits: [...logits], tokens: [...tokens] };
    }, PROMPT);
    const [before, , after] = expected().chunks[PROMPT];
    assert.deepEqual(tokens, [...before, ...Array(16).fill(-1), ...after]);
    const reference = goldenTensor("tiny-llava/logits.safetensors", "astronaut.f16.pad.hf.logits");
    // The reference data's bound for half-precision activations; its own implementations differ by 0.0175.
    assert.ok(maxDifference(logits, reference) < 0.03, `max ${maxDifference(logits, reference)}`);
    const again = await page.evaluate(async (tokens) => [...(await globalThis.engine.evaluate({ tokens })).logits], before);
    assert.equal(again.length, 2048);
  });

  test("a raw completion gives the reference's greedy tokens", async () => {
    const reply = await page.evaluate(async (prompt) => globalThis.engine.completions.create({
      prompt, images: [await globalThis.image("astronaut.png")], temperature: 0, max_tokens: 16, logprobs: true, top_logprobs: 3,
    }), PROMPT);
    assert.deepEqual(reply.choices[0].token_ids, expected().greedy["astronaut.f16.pad.hf"].tokens);
    assert.equal(reply.object, "text_completion");
    assert.equal(reply.choices[0].finish_reason, "length");
    assert.equal(typeof reply.choices[0].text, "string");
    assert.equal(reply.choices[0].logprobs.content.length, 16);
    assert.equal(reply.choices[0].logprobs.content[0].top_logprobs.length, 3);
    assert.equal(reply.usage.prompt_tokens, 31);
    assert.equal(reply.usage.image_tokens, 16);
    assert.equal(reply.usage.completion_tokens, 16);
    assert.equal(reply.usage.total_tokens, 47);
  });

  test("a streamed chat: OpenAI's chunks, ids and usage; the whole reply says the same", async () => {
    const { chunks, whole } = await page.evaluate(async () => {
      const request = {
        messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: globalThis.golden("images/astronaut.jpg") } }, { type: "text", text: "What is this?" }] }],
        temperature: 0, max_tokens: 12, logprobs: true,
      };
      const chunks = [];
      for await (const chunk of await globalThis.engine.chat.completions.create({ ...request, stream: true })) chunks.push(chunk);
      return { chunks, whole: await globalThis.engine.chat.completions.create(request) };
    });
    for (const chunk of chunks) {
      assert.equal(chunk.object, "chat.completion.chunk");
      assert.match(chunk.id, /^chatcmpl-/);
      assert.equal(chunk.id, chunks[0].id);
      assert.ok(Math.abs(chunk.created - Date.now() / 1000) < 600);
      assert.equal(typeof chunk.choices[0].delta.content, "string");
      assert.equal(chunk.choices[0].index, 0);
    }
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    assert.ok(chunks.length > 3);
    const last = chunks.at(-1);
    assert.ok(chunks.slice(0, -1).every(({ choices, usage }) => choices[0].finish_reason === null && usage === undefined));
    assert.ok(["length", "stop"].includes(last.choices[0].finish_reason));
    assert.deepEqual(Object.keys(last.usage).sort(), ["cached_tokens", "completion_tokens", "decode_ms", "decode_tokens_per_second", "image_ms",
      "image_tiles", "image_tokens", "prefill_ms", "prefill_tokens_per_second", "prompt_tokens", "prompt_tokens_details", "total_tokens"]);
    assert.equal(whole.object, "chat.completion");
    assert.equal(whole.choices[0].message.role, "assistant");
    assert.equal(whole.choices[0].message.content, chunks.map(({ choices }) => choices[0].delta.content).join(""));
    assert.deepEqual(whole.choices[0].token_ids, chunks.flatMap(({ choices }) => choices[0].token_ids));
    assert.equal(whole.usage.image_ms, 0, "the picture was encoded again");
  });

  test("a follow-up computes only what is new", async () => {
    const usage = await page.evaluate(async () => {
      await globalThis.engine.reset();
      const messages = [{ role: "user", content: [{ type: "image", image: await globalThis.image("chelsea.png") }, { type: "text", text: "What is this?" }] }];
      const first = await globalThis.engine.chat.completions.create({ messages, temperature: 0, max_tokens: 8 });
      const second = await globalThis.engine.chat.completions.create({
        messages: [...messages, first.choices[0].message, { role: "user", content: "And what else?" }].map(({ role, content }) => ({ role, content })),
        temperature: 0, max_tokens: 4,
      });
      return [first.usage, second.usage];
    });
    assert.equal(usage[0].cached_tokens, 0);
    assert.ok(usage[1].cached_tokens > 16, `${usage[1].cached_tokens} cached`);
  });

  test("a session goes on in another engine, and damaged ones are refused", async () => {
    const seen = await page.evaluate(async (prompt) => {
      const { api, engine, failure, golden, image } = globalThis;
      const images = [await image("chelsea.png")];
      const ask = (engine, prompt) => engine.completions.create({ prompt, images, temperature: 0, max_tokens: 12 });
      const first = await ask(engine, prompt);
      const bytes = await engine.saveSession();
      const again = `${prompt} a cat USER: And why? ASSISTANT:`;
      const went = await ask(engine, again);
      const other = await api.createEngine({ model: golden("tiny-llava/tiny-llava-f16.gguf"), mmproj: golden("tiny-llava/mmproj-legacy-f16.gguf") });
      // A part of a larger buffer, which stays the caller's.
      const larger = new Uint8Array(bytes.length + 100);
      larger.set(bytes, 50);
      await other.restoreSession(larger.subarray(50, 50 + bytes.length));
      const restored = await ask(other, again);
      await other.restoreSession(bytes.buffer);
      const twice = await ask(other, again);
      const damaged = bytes.slice();
      damaged[bytes.length >> 1] ^= 1;
      const failures = [await failure(other.restoreSession(damaged)), await failure(other.restoreSession(bytes.subarray(0, 1000)))];
      const after = await ask(other, `${again} Because. USER: So? ASSISTANT:`);
      // One that comes while an answer is written waits for its end.
      const stream = await other.completions.create({ prompt: "One two", max_tokens: 20, temperature: 0, stream: true });
      const saved = other.saveSession();
      let count = 0;
      for await (const chunk of stream) count += chunk.choices[0].token_ids.length;
      const waited = (await saved).length;
      await other.unload();
      const { buffer, byteOffset } = bytes;
      return {
        first: first.usage, bytes: bytes.length, whole: buffer.byteLength, byteOffset, count, waited, failures: failures.map(({ code }) => code),
        replies: [went, restored, twice].map(({ usage, choices: [{ token_ids }] }) => ({ cached: usage.cached_tokens, imageMs: usage.image_ms, ids: token_ids })),
        after: after.usage.cached_tokens,
      };
    }, PROMPT);
    const [went, restored, twice] = seen.replies;
    assert.ok(went.cached > 16, JSON.stringify(seen));
    assert.deepEqual([restored.cached, restored.ids, restored.imageMs], [went.cached, went.ids, 0]);
    assert.deepEqual([twice.cached, twice.ids], [went.cached, went.ids]);
    assert.deepEqual(seen.failures, ["integrity", "integrity"]);
    assert.ok(seen.after > went.cached, "a refused session has changed nothing");
    assert.ok(seen.count > 0 && seen.waited > 0);
    assert.deepEqual([seen.whole, seen.byteOffset], [seen.bytes, 0], "its buffer is no larger than it");
    console.log(`a session of ${seen.first.total_tokens - 1} tokens: ${seen.bytes} bytes`);
  });

  test("where the model looked", async () => {
    const { looked, prompt, failures } = await page.evaluate(async (prompt) => {
      const { engine, failure, image } = globalThis;
      const reply = await engine.completions.create({ prompt, images: [await image("coffee_tall.png")], temperature: 0, max_tokens: 6 });
      const [{ token_ids }] = reply.choices;
      const position = reply.usage.prompt_tokens + 3;
      const looked = await engine.lookedAt({ position, token: token_ids[3] });
      return {
        prompt: reply.usage.prompt_tokens,
        looked: { ...looked, images: looked.images.map(({ data, salience, ...rest }) => ({ ...rest, data: [...data], salience: [...salience] })) },
        failures: [await failure(engine.lookedAt({ position, token: token_ids[3] + 1 })), await failure(engine.lookedAt({ position: 1 }))],
      };
    }, PROMPT);
    assert.ok(prompt > 16);
    assert.deepEqual(looked.layers, [1, 2]);
    assert.equal(looked.images.length, 1);
    const [{ data, salience, shape, bounds, share }] = looked.images;
    assert.deepEqual(shape, [4, 4]);
    const sum = data.reduce((sum, x) => sum + x, 0);
    assert.ok(Math.abs(sum - share) < 1e-5 && share > 0 && share < 1, `${sum} ${share}`);
    assert.equal(Math.max(...salience), 1);
    assert.ok(bounds[0] < 0 && bounds[2] > 1 && bounds[1] === 0 && bounds[3] === 1, String(bounds));
    assert.deepEqual(failures.map(({ code }) => code), ["invalid_request", "invalid_request"]);
  });

  test("every kind of picture", async () => {
    const shapes = await page.evaluate(async () => {
      const blob = await globalThis.image("chelsea.png");
      const bitmap = await createImageBitmap(blob);
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      const context = canvas.getContext("2d");
      context.drawImage(bitmap, 0, 0);
      const offscreen = new OffscreenCanvas(bitmap.width, bitmap.height);
      offscreen.getContext("2d").drawImage(bitmap, 0, 0);
      const element = new Image();
      element.src = URL.createObjectURL(blob);
      const dataUrl = canvas.toDataURL("image/png");
      const pictures = {
        blob, file: new File([blob], "chelsea.png", { type: "image/png" }), bitmap, canvas, offscreen, element,
        imageData: context.getImageData(0, 0, canvas.width, canvas.height), dataUrl, blobUrl: element.src, url: globalThis.golden("images/chelsea.png"),
      };
      const reference = (await globalThis.engine.preprocessImage(blob)).data;
      const result = {};
      for (const [name, picture] of Object.entries(pictures)) {
        const { data } = await globalThis.engine.preprocessImage(picture);
        result[name] = data.reduce((max, value, i) => Math.max(max, Math.abs(value - reference[i])), 0);
      }
      // Nothing of the caller's was used up.
      result.again = bitmap.width > 0 && canvas.width > 0 ? 0 : 1;
      return result;
    });
    // One of 255 steps in the canvas's colours, over the smallest standard deviation.
    for (const [name, difference] of Object.entries(shapes)) assert.ok(difference < 0.03, `${name}: ${difference}`);
  });

  test("an answer in a form parses and satisfies it, whatever a model of noise would write", async () => {
    const replies = await page.evaluate(async (schema) => {
      const response_format = { type: "json_schema", json_schema: { name: "thing", schema } };
      const image = await globalThis.image("astronaut.png");
      const chat = (more) => globalThis.engine.chat.completions.create({
        messages: [{ role: "user", content: [{ type: "image", image }, { type: "text", text: "What is it?" }] }], max_tokens: 400, response_format, ...more,
      });
      const whole = [];
      for (const more of [{ seed: 0 }, { temperature: 0 }, { seed: 2, temperature: 2 }, { seed: 3, top_k: 5 }, { seed: 4, repetition_penalty: 1.5, frequency_penalty: 1 },
        { seed: 5, top_p: 0.5, min_p: 0.01, logprobs: true, top_logprobs: 3 }]) whole.push(await chat(more));
      const raw = await globalThis.engine.completions.create({ prompt: "USER: Answer. ASSISTANT:", max_tokens: 400, response_format, seed: 1 });
      let streamed = "";
      let finish = "";
      for await (const { choices: [{ delta, finish_reason }] } of await chat({ stream: true, temperature: 0 })) {
        streamed += delta.content;
        finish = finish_reason ?? finish;
      }
      const short = await chat({ temperature: 0, max_tokens: 3 });
      const digits = await chat({ response_format: { type: "json_schema", json_schema: { schema: { type: "integer", minimum: 10, maximum: 999 } } }, seed: 3 });
      const text = await chat({ response_format: { type: "text" }, max_tokens: 2, temperature: 0 });
      const stopped = await chat({ stop: '"colour"', temperature: 0 });
      return { whole, raw, streamed, finish, short, digits, text, stopped };
    }, SCHEMA);
    for (const { choices: [{ message, finish_reason }] } of replies.whole) {
      assert.equal(finish_reason, "stop", message.content);
      satisfiesSchema(message.content);
    }
    satisfiesSchema(replies.raw.choices[0].text);
    assert.equal(replies.streamed, replies.whole[1].choices[0].message.content, "greedy both");
    assert.equal(replies.finish, "stop");
    const { content } = replies.whole[5].choices[0].logprobs;
    assert.equal(content.length, replies.whole[5].usage.completion_tokens);
    assert.ok(content.every(({ logprob, top_logprobs }) => logprob <= top_logprobs[0].logprob && top_logprobs.length === 3), "in the model's own distribution");
    assert.equal(replies.short.choices[0].finish_reason, "length");
    assert.ok(replies.streamed.startsWith(replies.short.choices[0].message.content));
    assert.equal(replies.stopped.choices[0].message.content, replies.streamed.slice(0, replies.streamed.indexOf('"colour"')));
    const number = Number(replies.digits.choices[0].message.content);
    assert.ok(Number.isInteger(number) && number >= 10 && number <= 999);
    assert.equal(replies.text.choices[0].token_ids.length, 2);
  });

  test("a signal stops a generation; what was generated stays", async () => {
    const { text, finish, usage, before } = await page.evaluate(async () => {
      const controller = new AbortController();
      const stream = await globalThis.engine.completions.create({ prompt: "Once", temperature: 1, seed: 1, max_tokens: 400, stream: true, signal: controller.signal });
      let [text, finish, usage, count] = ["", null, null, 0];
      for await (const chunk of stream) {
        text += chunk.choices[0].text;
        if (++count === 3) controller.abort();
        ({ finish_reason: finish } = chunk.choices[0]);
        ({ usage } = chunk);
      }
      const aborted = new AbortController();
      aborted.abort();
      const before = await globalThis.engine.completions.create({ prompt: "Once", signal: aborted.signal });
      return { text, finish, usage, before };
    });
    assert.equal(finish, "abort");
    assert.ok(usage.completion_tokens >= 3 && usage.completion_tokens < 100, `${usage.completion_tokens} tokens`);
    assert.ok(text.length > 0);
    assert.equal(before.choices[0].finish_reason, "abort");
    assert.equal(before.choices[0].text, "");
  });

  test("leaving the loop stops the generation, and the next question is answered", async () => {
    const { kept, context, finish } = await page.evaluate(async () => {
      // Without its end token it would write until the context is full.
      for await (const chunk of await globalThis.engine.completions.create({ prompt: "Once", stream: true, temperature: 0, logit_bias: { 2: -100 } })) {
        if (chunk.choices[0].text) break;
      }
      // What was computed stays: the session's bytes tell how much that is.
      const kept = (await globalThis.engine.saveSession()).length;
      await globalThis.engine.completions.create({ prompt: "Once", temperature: 0, logit_bias: { 2: -100 } });
      const context = (await globalThis.engine.saveSession()).length;
      return { kept, context, finish: (await globalThis.engine.completions.create({ prompt: "Twice", max_tokens: 2, temperature: 0 })).choices[0].finish_reason };
    });
    assert.ok(kept < context / 4, `${kept} bytes of a context of ${context}`);
    assert.ok(["length", "stop"].includes(finish));
  });

  test("requests made at once are answered one after another", async () => {
    const { alone, together, order } = await page.evaluate(async () => {
      const prompts = ["The first", "A second one", "And the third"];
      const ask = async (prompt) => (await globalThis.engine.completions.create({ prompt, max_tokens: 5, temperature: 0 })).choices[0].token_ids.join();
      const alone = [];
      for (const prompt of prompts) alone.push(await ask(prompt));
      const order = [];
      const together = await Promise.all(prompts.map(async (prompt, i) => {
        const ids = await ask(prompt);
        order.push(i);
        return ids;
      }));
      return { alone, together, order };
    });
    assert.equal(new Set(alone).size, 3);
    assert.deepEqual(together, alone);
    assert.deepEqual(order, [0, 1, 2]);
  });

  test("wrong requests are named, and the engine goes on", async () => {
    const wrong = await page.evaluate(async () => {
      const { engine, failure, api } = globalThis;
      const chat = (request) => failure(() => engine.chat.completions.create(request));
      const user = (content) => ({ messages: [{ role: "user", content }] });
      const schema = (schema) => ({ type: "json_schema", json_schema: { name: "x", schema } });
      const circle = { properties: {} };
      circle.properties.a = circle;
      let deep = {};
      for (let i = 0; i < 5000; i++) deep = { items: deep };
      const textFile = new Blob(["this is no picture"], { type: "image/jpeg" });
      const failures = {
        noObject: await chat(undefined),
        noMessages: await chat({}),
        emptyMessages: await chat({ messages: [] }),
        emptyContent: await chat(user("")),
        noContent: await chat({ messages: [{ role: "user" }] }),
        unknownRole: await chat({ messages: [{ role: "wizard", content: "x" }] }),
        unknownPart: await chat(user([{ type: "video", video: 1 }])),
        badTemperature: await chat({ ...user("x"), temperature: -1 }),
        badTopP: await chat({ ...user("x"), top_p: 2 }),
        badTopLogprobs: await chat({ ...user("x"), logprobs: true, top_logprobs: 50 }),
        unknownField: await chat({ ...user("x"), maxTokens: 5 }),
        responseFormat: await chat({ ...user("x"), response_format: { type: "xml" } }),
        noSchema: await chat({ ...user("x"), response_format: { type: "json_schema", json_schema: {} } }),
        schemaKeyword: await chat({ ...user("x"), response_format: schema({ not: {} }) }),
        schemaThatContainsItself: await chat({ ...user("x"), response_format: schema(circle) }),
        deepSchema: await chat({ ...user("x"), response_format: schema(deep) }),
        largeSchema: await chat({ ...user("x"), response_format: schema({ title: "x".repeat(2_000_000) }) }),
        noImage: await chat(user([{ type: "image" }, { type: "text", text: "x" }])),
        badImageUrl: await chat(user([{ type: "image_url", image_url: { url: "ftp://x/y" } }])),
        noSession: await failure(engine.restoreSession(new Uint8Array(1))),
        noBytes: await failure(engine.restoreSession("session")),
        noPosition: await failure(engine.lookedAt({ position: -1 })),
        farPosition: await failure(engine.lookedAt({ position: 3000 })),
        device: await failure(api.createEngine({ model: "x", device: "abacus" })),
        noModel: await failure(api.createEngine({})),
        hash: await failure(api.createEngine({ model: "x", sha256: { model: "12" } })),
        deleteCached: await failure(api.deleteCachedModel("x")),
      };
      const others = {
        context_overflow: await chat(user("many words ".repeat(5000))),
        invalid_image: await chat(user([{ type: "image", image: textFile }, { type: "text", text: "x" }])),
        invalid_image_data: await chat(user([{ type: "image_url", image_url: { url: "data:image/png;base64,%%%" } }])),
        unsupported_browser: await failure(api.createEngine({ model: globalThis.golden("tiny-llava/tiny-llava-f16.gguf"), device: "webgpu" })),
        network: await chat(user([{ type: "image_url", image_url: { url: globalThis.golden("images/none.png") } }])),
      };
      return { failures, others };
    });
    for (const [name, failure] of Object.entries(wrong.failures)) {
      assert.equal(failure?.code, "invalid_request", `${name}: ${JSON.stringify(failure)}`);
      assert.ok(failure.isLlavaError && failure.message.length > 15, failure.message);
    }
    for (const [name, failure] of Object.entries(wrong.others)) {
      assert.equal(failure?.code, name.replace("_data", ""), `${name}: ${JSON.stringify(failure)}`);
    }
    const reply = await page.evaluate(() => globalThis.engine.chat.completions.create({ messages: [{ role: "user", content: "And now?" }], max_tokens: 2, temperature: 0 }));
    assert.ok(reply.usage.completion_tokens > 0);
  });

  test("model files that do not fit, by code", async () => {
    const model = readFileSync(golden(F16));
    assert.equal(model.length, 5_689_952);
    assert.equal(await codeOf(() => globalThis.failure(globalThis.api.createEngine({ model: globalThis.golden("images/astronaut.png") }))), "invalid_gguf");
    assert.equal(await codeOf(() => globalThis.failure(globalThis.api.createEngine({ model: new ArrayBuffer(0) }))), "invalid_gguf");
    const truncated = await page.evaluate(async () => {
      const blob = await (await fetch(globalThis.golden("tiny-llava/tiny-llava-f16.gguf"))).blob();
      return globalThis.failure(globalThis.api.createEngine({ model: blob.slice(0, blob.size - 1000) }));
    });
    assert.equal(truncated.code, "invalid_gguf");
    const swapped = await page.evaluate(([model, mmproj]) => globalThis.failure(globalThis.api.createEngine({ model: globalThis.golden(mmproj), mmproj: globalThis.golden(model) })), [F16, MMPROJ]);
    assert.ok(["unsupported_architecture", "mmproj_mismatch"].includes(swapped.code), JSON.stringify(swapped));
  });

  test("downloads that fail, by code", async () => {
    const failure = (query, options = {}) => codeOf(([query, options]) => globalThis.failure(globalThis.api.createEngine({ model: `${globalThis.golden("tiny-llava/tiny-llava-f16.gguf")}?${query}`, ...options })), [query, options]);
    assert.equal(await failure("status=404"), "network");
    assert.equal(await failure("status=403"), "network");
    assert.equal(await failure("html"), "network");
    assert.equal(await failure("drop=3000000&newetag"), "integrity");
    assert.equal(await failure("", { sha256: { model: "0".repeat(64) } }), "integrity");
    assert.equal(await codeOf(() => globalThis.failure(globalThis.api.createEngine({ model: "http://127.0.0.1:9/x.gguf" }))), "network");
  });

  test("downloads that get over it: dropped, without ranges, from another origin, with the right hash", async () => {
    const sha256 = createHash("sha256").update(readFileSync(golden("tiny-llava/tiny-llava-q4_0.gguf"))).digest("hex");
    const stages = await page.evaluate(async ([other, sha256]) => {
      const stages = [];
      const name = "/golden/tiny-llava/tiny-llava-q4_0.gguf";
      for (const url of [`${name}?drop=700000&times=2`, `${name}?drop=700000&times=1&noranges`, `${name}?chunked`, `${other}${name}`, `${other}${name}?drop=900000&times=1`]) {
        const seen = [];
        const engine = await globalThis.api.createEngine({ model: url, sha256: { model: sha256 }, cache: "none", onProgress: (progress) => seen.push(progress) });
        stages.push({ quantization: engine.info.quantization, vision: engine.info.vision, last: seen.at(-1), seen: [...new Set(seen.map(({ stage }) => stage))], cached: seen.some(({ cached }) => cached) });
        await engine.unload();
      }
      return stages;
    }, [host.other.origin, sha256]);
    for (const { quantization, vision, last, seen, cached } of stages) {
      assert.equal(quantization, "Q4_0");
      assert.equal(vision, null);
      assert.equal(last.stage, "ready");
      assert.ok(seen.includes("model"));
      assert.equal(cached, false);
    }
  });

  test("a load is cancelled, and its download with it", async () => {
    // So slow that only what ends it can end it.
    const query = "?rate=2000";
    const { code, before } = await page.evaluate(async (query) => {
      const controller = new AbortController();
      const loading = globalThis.failure(globalThis.api.createEngine({ model: `${globalThis.golden("tiny-llava/tiny-llava-f16.gguf")}${query}`, signal: controller.signal }));
      // It has begun when the host was asked.
      await globalThis.asked(query);
      controller.abort();
      const { code } = await loading;
      return { code, before: (await globalThis.failure(globalThis.api.createEngine({ model: "x", signal: controller.signal }))).code };
    }, query);
    assert.equal(code, "aborted");
    assert.equal(before, "aborted");
    const connections = () => host.server.requests.filter(({ url }) => url.endsWith(query));
    assert.ok(connections().length > 0);
    while (connections().some(({ to }) => to === Infinity)) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.ok(connections().every(({ sent }) => sent < 1e6));
  });

  test("the module from another origin", async () => {
    const name = await page.evaluate(async (other) => {
      const { createEngine } = await import(`${other}/some/folder/llava-web.js`);
      const engine = await createEngine({ model: globalThis.golden("tiny-llava/tiny-llava-q4_0.gguf") });
      const { quantization } = engine.info;
      await engine.unload();
      return quantization;
    }, host.other.origin);
    assert.equal(name, "Q4_0");
  });

  test("several engines at once, and unload", async () => {
    const result = await page.evaluate(async () => {
      const load = () => globalThis.api.createEngine({ model: globalThis.golden("tiny-llava/tiny-llava-q4_0.gguf") });
      const [a, b] = await Promise.all([load(), load()]);
      // Without its end token: noise may end at once. A stream that is not read goes on until the context is full.
      const stream = await a.completions.create({ prompt: "x", temperature: 1, logit_bias: { 2: -100 }, stream: true });
      const first = (await stream.next()).done;
      const pending = globalThis.failure(a.benchmark({ promptTokens: 64, generatedTokens: 64, runs: 1_000_000 }));
      await a.unload();
      if (first) throw new Error("it had ended before");
      const after = await globalThis.failure(a.tokenize("x"));
      const ids = await b.tokenize("x");
      await b.unload();
      return { pending: (await pending)?.code, after: after.code, ids: ids.length };
    });
    assert.deepEqual(result, { pending: "aborted", after: "invalid_request", ids: result.ids });
    assert.ok(result.ids > 0);
  });

  test("detectDevice, storage, and what the tests above left in the cache", async () => {
    const { device, storage, cached } = await page.evaluate(async () => ({
      device: await globalThis.api.detectDevice(), storage: await globalThis.api.storageEstimate(), cached: await globalThis.api.listCachedModels(),
    }));
    assert.equal(device.cpu.simd, true);
    assert.equal(device.cpu.relaxedSimd, true);
    assert.equal(device.cpu.threads, 1);
    // Without the flags that give it one, this browser has no adapter; with them, webgpu.test.mjs sees it.
    assert.deepEqual(device.webgpu, { available: false, adapter: null, software: false, features: [], limits: {} });
    assert.ok(storage.quota > 0);
    const model = cached.find(({ url }) => url === `${host.server.origin}/golden/${F16}`);
    // The same name came with several queries, so the address is the name.
    assert.equal(model.name, model.url);
    assert.deepEqual([model.complete, model.bytes, model.total], [true, 5_689_952, 5_689_952]);
    // With cache: "none", and from memory, nothing is kept.
    assert.ok(cached.every(({ url }) => !url.startsWith(host.other.origin)), JSON.stringify(cached));
  });

  test("the vision file quantized while it loads", async () => {
    const data = await page.evaluate(async ([model, mmproj]) => {
      const engine = await globalThis.api.createEngine({ model: globalThis.golden(model), mmproj: globalThis.golden(mmproj), quantizeMmproj: "q8_0", kvFormat: "f32" });
      const { data } = await engine.embedImage(await globalThis.image("astronaut.png"));
      await engine.unload();
      return [...data];
    }, [F16, MMPROJ]);
    const similarity = cosine(data, goldenTensor("tiny-llava/vision.safetensors", "astronaut.pad.embeds"));
    // 8 bits of a tower this narrow; a cosine of 1 would mean that nothing was quantized.
    assert.ok(similarity > 0.99 && similarity < 0.999999, `${similarity}`);
  });

  test("benchmark gives medians", async () => {
    const result = await page.evaluate(() => globalThis.engine.benchmark({ promptTokens: 16, generatedTokens: 8, runs: 1 }));
    assert.ok(result.prefill_tokens_per_second > 0 && result.decode_tokens_per_second > 0);
  });

  test("a vision file of another language model", { skip: withoutModel("smollm2-135m-q4_1.gguf") }, async () => {
    assert.equal(await codeOf((mmproj) => globalThis.failure(globalThis.api.createEngine({ model: "/models/smollm2-135m-q4_1.gguf", mmproj: globalThis.golden(mmproj) })), MMPROJ), "mmproj_mismatch");
  });

  test("a real small language model answers sensibly", { skip: withoutModel("smollm2-135m-q4_1.gguf") }, async () => {
    const reply = await page.evaluate(async () => {
      const engine = await globalThis.api.createEngine({ model: "/models/smollm2-135m-q4_1.gguf" });
      const reply = await engine.chat.completions.create({ messages: [{ role: "user", content: "How many days are in a week?" }], temperature: 0, max_tokens: 24 });
      await engine.unload();
      return reply;
    });
    assert.match(reply.choices[0].message.content, /\b(7|seven)\b/i);
  });
});
