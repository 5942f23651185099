// Every promise of the public API settles, whatever happens meanwhile, and what was made on the way is given back.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { openTab, start, withoutEngine } from "./support.mjs";

describe("calls", { skip: withoutEngine }, () => {
  let host;
  let tab;
  let page;

  before(async () => {
    host = await start({ flags: ["--js-flags=--expose-gc"], given: [/^https?:\/\/[^?]*\ba{200,}/] });
    tab = await openTab(host.browser);
    page = tab.page;
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(async ({ site, origin }) => {
      const api = await import(`${site}llava-web.js`);
      /** Pixels that were made and not given back. */
      const bitmaps = new Set();
      const { createImageBitmap } = globalThis;
      globalThis.createImageBitmap = async (...args) => {
        const bitmap = await createImageBitmap(...args);
        bitmaps.add(bitmap);
        return bitmap;
      };
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [64, 48];
      canvas.getContext("2d").fillRect(8, 8, 20, 20);
      Object.assign(globalThis, {
        api, canvas,
        files: { model: `${origin}/golden/tiny-llava/tiny-llava-f16.gguf`, mmproj: `${origin}/golden/tiny-llava/mmproj-legacy-f16.gguf` },
        /** How many of the pictures that were converted are still alive. Those that were moved or closed have no width. */
        alive: () => [...bitmaps].filter(({ width }) => width > 0).length,
        outcome: (promise) => Promise.resolve(promise).then((value) => ({ value }), (error) => ({
          code: error.code, message: error.message, cause: error.cause?.message ?? null, is: error instanceof api.LlavaError,
        })),
        user: (content) => [{ role: "user", content }],
      });
      globalThis.load = (options) => api.createEngine({ ...globalThis.files, device: "cpu", ...options });
      globalThis.engine = await globalThis.load();
    }, { site: host.site, origin: host.server.origin });
  });

  after(() => host?.close());

  test("several that wait for the same stream get a chunk each, in the order in which they asked", async () => {
    const { chunks, whole, rest } = await page.evaluate(async () => {
      const request = { prompt: "One two three", max_tokens: 6, temperature: 0 };
      const stream = await globalThis.engine.completions.create({ ...request, stream: true, onProgress() {} });
      const asked = Array.from({ length: 9 }, () => stream.next());
      const chunks = (await Promise.all(asked)).map(({ done, value }) => ({ done, ids: value?.choices[0].token_ids ?? [], finish: value?.choices[0].finish_reason ?? null }));
      const whole = await globalThis.engine.completions.create(request);
      const left = await globalThis.engine.completions.create({ ...request, max_tokens: 300, logit_bias: { 2: -100 }, stream: true });
      await left.next();
      // One that waits when the stream is left.
      const waiting = [left.next(), left.next(), left.next()];
      const returned = await left.return();
      return { chunks, whole: whole.choices[0].token_ids, rest: [(await Promise.all(waiting)).at(-1).done, returned.done, (await left.next()).done] };
    });
    assert.deepEqual(chunks.flatMap(({ ids }) => ids), whole);
    const end = chunks.findIndex(({ finish }) => finish !== null);
    assert.ok(end > 0, JSON.stringify(chunks));
    assert.deepEqual(chunks.map(({ done }) => done), chunks.map((_, i) => i > end));
    assert.deepEqual(rest, [true, true, true]);
  });

  test("a listener that throws changes nothing, and is reported", async () => {
    const seen = await page.evaluate(async () => {
      const reported = [];
      const listen = (event) => {
        reported.push(event.error?.message);
        event.preventDefault();
      };
      addEventListener("error", listen);
      const onProgress = () => {
        throw new Error("the listener's own");
      };
      const other = await globalThis.load({ onProgress });
      const loads = reported.splice(0);
      // A picture that is new has to be looked at, which is told.
      const picture = (shade) => {
        const canvas = document.createElement("canvas");
        canvas.getContext("2d").fillStyle = `rgb(${shade} 0 0)`;
        canvas.getContext("2d").fillRect(0, 0, 100, 100);
        return [canvas];
      };
      const whole = await other.completions.create({ prompt: "<image> One", images: picture(99), max_tokens: 3, onProgress });
      const wholes = reported.splice(0);
      let streamed = 0;
      for await (const chunk of await other.completions.create({ prompt: "<image> Two", images: picture(199), max_tokens: 3, stream: true, onProgress })) streamed += chunk.choices[0].token_ids.length;
      const streams = reported.splice(0);
      await other.unload();
      removeEventListener("error", listen);
      return { loads, wholes, streams, whole: whole.choices[0].token_ids.length, streamed };
    });
    assert.ok(seen.whole > 0 && seen.streamed > 0);
    for (const reported of [seen.loads, seen.wholes, seen.streams]) assert.deepEqual([...new Set(reported)], ["the listener's own"]);
  });

  test("halves of surrogate pairs, wherever a text may stand", async () => {
    const outcomes = await page.evaluate(async () => {
      const { engine, outcome, user, api } = globalThis;
      const half = "a\ud83d b\ude00";
      const schema = { type: "object", properties: { [half]: { enum: [half] } }, required: [half], additionalProperties: false };
      const calls = {
        tokenize: () => engine.tokenize(half), detokenized: async () => engine.detokenize(await engine.tokenize(half)),
        template: () => engine.applyChatTemplate(user(half)), parts: () => engine.applyChatTemplate(user([{ type: "text", text: half }])),
        count: () => engine.countTokens(user(half)),
        chat: () => engine.chat.completions.create({ messages: user(half), max_tokens: 2, stop: half }),
        system: () => engine.chat.completions.create({ messages: [{ role: "system", content: half }, ...user("x")], max_tokens: 2 }),
        prompt: () => engine.completions.create({ prompt: half, max_tokens: 2, stop: [half, "b"] }), evaluate: () => engine.evaluate({ prompt: half }),
        schema: () => engine.chat.completions.create({ messages: user("x"), max_tokens: 40, temperature: 0, response_format: { type: "json_schema", json_schema: { schema } } }),
        role: () => engine.chat.completions.create({ messages: [{ role: half, content: "x" }] }),
        bias: () => engine.completions.create({ prompt: "x", logit_bias: { [half]: 1 } }),
        field: () => engine.completions.create({ prompt: "x", [half]: 1 }),
        url: () => engine.embedImage(`data:${half}`), address: () => engine.embedImage(`blob:${half}`),
        templateOption: () => globalThis.load({ chatTemplate: half }),
        template2: async () => {
          const other = await globalThis.load({ chatTemplate: `${half}{{ messages[0].content }}` });
          const text = await other.applyChatTemplate(user("!"));
          await other.unload();
          return text;
        },
        model: () => api.createEngine({ model: `blob:${half}` }), deleted: () => api.deleteCachedModel(half),
      };
      const outcomes = {};
      for (const [name, call] of Object.entries(calls)) {
        const { value, ...failure } = await outcome(call());
        outcomes[name] = failure.code ? failure : { value: typeof value === "string" ? value : value?.choices?.[0].message?.content ?? "answered" };
      }
      return outcomes;
    });
    for (const name of ["tokenize", "chat", "system", "prompt", "evaluate", "count"]) assert.ok(!outcomes[name].code, `${name}: ${JSON.stringify(outcomes[name])}`);
    for (const name of ["detokenized", "template", "parts", "template2"]) assert.match(outcomes[name].value ?? "", /a\ufffd b\ufffd/, `${name}: ${JSON.stringify(outcomes[name])}`);
    assert.deepEqual(JSON.parse(outcomes.schema.value), { "a\ufffd b\ufffd": "a\ufffd b\ufffd" });
    for (const [name, code] of Object.entries({ role: "invalid_request", bias: "invalid_request", field: "invalid_request", url: "invalid_image", templateOption: "invalid_request", deleted: "invalid_request" })) {
      assert.equal(outcomes[name].code, code, `${name}: ${JSON.stringify(outcomes[name])}`);
    }
    for (const { code } of [outcomes.address, outcomes.model]) assert.ok(["network", "invalid_request", "invalid_image"].includes(code), code);
  });

  test("requests are answered in the order in which they were made, whatever their pictures take", async () => {
    const { order, kept } = await page.evaluate(async () => {
      const { engine, user } = globalThis;
      const order = [];
      // A picture that takes long to convert: the browser decodes it first.
      const slow = new Image();
      let loaded;
      slow.decode = () => new Promise((resolve) => {
        loaded = resolve;
      });
      slow.src = globalThis.canvas.toDataURL();
      await new Promise((resolve) => slow.addEventListener("load", resolve));
      const ask = async (name, call) => order.push([name, await call]);
      const all = [
        ask("picture", engine.chat.completions.create({ messages: user([{ type: "image", image: slow }, { type: "text", text: "?" }]), max_tokens: 1 }).then(({ usage }) => usage.image_tokens)),
        ask("text", engine.chat.completions.create({ messages: user("Hello"), max_tokens: 1 }).then(({ usage }) => usage.image_tokens)),
        ask("reset", engine.reset()), ask("ids", engine.tokenize("x").then(({ length }) => length > 0)),
      ];
      // Whatever could overtake it would be there by now: this goes the same way.
      const other = await globalThis.load();
      await other.unload();
      const before = order.length;
      loaded();
      await Promise.all(all);
      const again = await engine.chat.completions.create({ messages: user("Hello"), max_tokens: 1 });
      return { order: [before, ...order.map(([name]) => name)], kept: again.usage.cached_tokens };
    });
    assert.deepEqual(order, [0, "picture", "text", "reset", "ids"]);
    assert.equal(kept, 0, "the reset came after the answer");
  });

  test("every call can be stopped by a signal, before and while it is at work, and the engine goes on", async () => {
    const results = await page.evaluate(async () => {
      const { engine, outcome, user, canvas } = globalThis;
      const session = await (async () => {
        await engine.completions.create({ prompt: "<image> One", images: [canvas], max_tokens: 2, temperature: 0 });
        return engine.saveSession();
      })();
      const content = [{ type: "image", image: canvas }, { type: "text", text: "?" }];
      const calls = {
        tokenize: (options) => engine.tokenize("x", options), detokenize: (options) => engine.detokenize([1], options),
        applyChatTemplate: (options) => engine.applyChatTemplate(user(content), options), countTokens: (options) => engine.countTokens(user(content), options),
        embedImage: (options) => engine.embedImage(canvas, options), preprocessImage: (options) => engine.preprocessImage(canvas, options),
        evaluate: ({ signal }) => engine.evaluate({ prompt: "<image> x", images: [canvas], signal }), evaluateIds: (options) => engine.evaluate({ tokens: [1, 2] }, options),
        lookedAt: ({ signal }) => engine.lookedAt({ position: 3, signal }), saveSession: (options) => engine.saveSession(options),
        restoreSession: (options) => engine.restoreSession(session, options), reset: (options) => engine.reset(options),
        benchmark: ({ signal }) => engine.benchmark({ promptTokens: 8, generatedTokens: 4, runs: 1, signal }),
      };
      const results = {};
      for (const [name, call] of Object.entries(calls)) {
        const before = AbortSignal.abort();
        const soon = new AbortController();
        const pending = outcome(call({ signal: soon.signal }));
        soon.abort();
        const late = new AbortController();
        const done = await outcome(call({ signal: late.signal }));
        late.abort();
        results[name] = [(await outcome(call({ signal: before }))).code, (await pending).code, done.code ?? "answered"];
      }
      const chat = async (options, signal) => (await engine.chat.completions.create({ messages: user(content), max_tokens: 400, logit_bias: { 2: -100 }, signal }, options)).choices[0].finish_reason;
      const controllers = [new AbortController(), new AbortController()];
      const chats = [chat({ signal: AbortSignal.abort() }), chat({ signal: controllers[0].signal }), chat(undefined, controllers[1].signal)];
      for (const controller of controllers) controller.abort();
      return { results, chats: await Promise.all(chats), alive: globalThis.alive() };
    });
    for (const [name, codes] of Object.entries(results.results)) {
      assert.deepEqual(codes.slice(0, 2), ["aborted", "aborted"], name);
      assert.notEqual(codes[2], "aborted", name);
    }
    assert.deepEqual(results.chats, ["abort", "abort", "abort"]);
    assert.equal(results.alive, 0, "pictures that were converted for nothing");
  });

  test("a long computation ends soon after it was stopped", async () => {
    const codes = await page.evaluate(async () => {
      const { engine, outcome, canvas } = globalThis;
      const codes = [];
      // Each would take hours: that the next call is answered shows that it ended.
      const forever = [(signal) => engine.benchmark({ promptTokens: 100, generatedTokens: 100, runs: 1_000_000, signal })];
      for (const start of forever) {
        const controller = new AbortController();
        const pending = outcome(start(controller.signal));
        // It has begun when what comes before it is answered.
        await new Promise((resolve) => setTimeout(resolve));
        controller.abort();
        codes.push((await pending).code, (await engine.tokenize("x")).length > 0);
      }
      // Also where its turn had certainly come.
      const controller = new AbortController();
      const first = engine.tokenize("before");
      const pending = outcome(engine.benchmark({ promptTokens: 100, generatedTokens: 100, runs: 1_000_000, signal: controller.signal }));
      await first;
      controller.abort();
      codes.push((await pending).code);
      const after = await engine.completions.create({ prompt: "<image> One", images: [canvas], max_tokens: 4, temperature: 0 });
      codes.push(after.usage.completion_tokens > 0);
      return codes;
    });
    assert.deepEqual(codes, ["aborted", true, "aborted", true]);
  });

  test("the answer after twenty that were stopped is that of an engine that was never disturbed", async () => {
    const { disturbed, fresh } = await page.evaluate(async () => {
      const request = { prompt: "USER: <image>\nWhat is it? ASSISTANT:", images: [globalThis.canvas], max_tokens: 8, temperature: 0 };
      const ids = ({ choices: [{ token_ids }] }) => token_ids;
      const other = await globalThis.load();
      for (let i = 0; i < 20; i++) {
        const controller = new AbortController();
        const stream = await other.completions.create({ ...request, max_tokens: 200, stream: true, signal: controller.signal, onProgress: () => i % 2 && controller.abort() });
        for await (const chunk of stream) if (chunk.choices[0].token_ids.length > 0) controller.abort();
      }
      const disturbed = ids(await other.completions.create(request));
      await other.unload();
      const another = await globalThis.load();
      const fresh = ids(await another.completions.create(request));
      await another.unload();
      return { disturbed, fresh };
    });
    assert.deepEqual(disturbed, fresh);
  });

  test("unload settles whatever is under way", async () => {
    const results = await page.evaluate(async () => {
      const { outcome, user, canvas } = globalThis;
      const results = {};
      const never = Object.assign(new Image(), { decode: () => new Promise(() => {}) });
      const calls = {
        tokenize: (engine) => engine.tokenize("x"), chat: (engine) => engine.chat.completions.create({ messages: user("x") }),
        stream: async (engine) => {
          for await (const chunk of await engine.completions.create({ prompt: "x", stream: true, logit_bias: { 2: -100 } })) if (chunk.choices[0].text) await engine.unload();
        },
        picture: (engine) => engine.embedImage(canvas), benchmark: (engine) => engine.benchmark({ promptTokens: 64, generatedTokens: 64, runs: 1000 }),
        evaluate: (engine) => engine.evaluate({ tokens: [1, 2, 3] }), save: (engine) => engine.saveSession(), reset: (engine) => engine.reset(),
        converting: (engine) => engine.embedImage(never), behind: (engine) => {
          outcome(engine.embedImage(never));
          return engine.tokenize("x");
        },
      };
      for (const [name, call] of Object.entries(calls)) {
        const engine = await globalThis.load();
        const pending = outcome(call(engine));
        if (name !== "stream") await engine.unload();
        results[name] = [(await pending).code, (await outcome(engine.tokenize("x"))).code];
      }
      return { results, alive: globalThis.alive() };
    });
    for (const [name, codes] of Object.entries(results.results)) assert.deepEqual(codes, ["aborted", "invalid_request"], name);
    assert.equal(results.alive, 0);
  });

  test("a load that is cancelled at any of its stages ends, and the next one works", async () => {
    const outcomes = await page.evaluate(async () => {
      const outcomes = [];
      const cancelled = async (when) => {
        const controller = new AbortController();
        const pending = globalThis.outcome(globalThis.load({ signal: controller.signal, onProgress: (progress) => when === progress.stage && controller.abort() }));
        if (when === "at once") controller.abort();
        if (when === "soon") setTimeout(() => controller.abort());
        return (await pending).code;
      };
      for (const when of ["at once", "soon", "header", "model", "mmproj"]) outcomes.push(await cancelled(when));
      const engine = await globalThis.load();
      outcomes.push(typeof engine.info.name);
      await engine.unload();
      return outcomes;
    });
    assert.deepEqual(outcomes, ["aborted", "aborted", "aborted", "aborted", "aborted", "string"]);
  });

  test("pictures that were converted are given back, whatever becomes of the request", async () => {
    const alive = await page.evaluate(async () => {
      const { engine, outcome, user, canvas } = globalThis;
      const image = { type: "image", image: canvas };
      await engine.chat.completions.create({ messages: user([image, { type: "text", text: "?" }]), max_tokens: 1 });
      await outcome(engine.chat.completions.create({ messages: user([image, { type: "wrong" }]) }));
      await outcome(engine.completions.create({ prompt: "x", images: [canvas, canvas, 7] }));
      await outcome(engine.completions.create({ prompt: "no mark", images: [canvas] }));
      await outcome(engine.embedImage(canvas));
      await engine.applyChatTemplate(user([image]));
      const bitmap = await createImageBitmap(canvas);
      await engine.embedImage(bitmap);
      const kept = bitmap.width;
      bitmap.close();
      return [kept, globalThis.alive()];
    });
    assert.deepEqual(alive, [64, 0]);
  });

  test("no error shows more than 200 characters of an address or a value, wherever it is given", async () => {
    const shownAtMost = 200;
    const outcomes = await page.evaluate(async () => {
      const { engine, outcome, user, api } = globalThis;
      const long = "a".repeat(1000);
      const image = (value) => engine.embedImage(value);
      const create = (request) => engine.chat.completions.create({ messages: user("x"), ...request });
      const schema = (schema) => create({ response_format: { type: "json_schema", json_schema: { schema } } });
      const load = (options) => api.createEngine({ model: globalThis.files.model, device: "cpu", ...options });
      const calls = [
        image(long), image(`${long}.png`), image(`https://${long}`), image(`https://x.invalid:${long}`), image(`blob:${long}`), image(`ftp://${long}`), image(`data:${long}`), image(`data:;base64,${long}*`),
        image(`http://127.0.0.1:9/${long}`), image(`/golden/images/${long}`), image(`iVBORw0KGgo${long}`), image(`/9j/${"A".repeat(5000)}`), image("b".repeat(5000)), image({ long }), image([long]),
        engine.embedImage(new Blob([long], { type: "image/jpeg" })),
        create({ [long]: 1 }), create({ n: long }), create({ response_format: { type: long } }), create({ temperature: long }), create({ max_tokens: long }), create({ seed: long }),
        create({ stop: { [long]: long } }), create({ logit_bias: { [long]: 1 } }), create({ logit_bias: long }), create({ top_k: { [long]: 1 } }), create({ signal: long }),
        create({ messages: [{ role: long, content: "x" }] }), create({ messages: user([{ type: long }]) }), create({ messages: user([{ type: { [long]: long } }]) }), create({ messages: user([{ type: "image", image: long }]) }),
        create({ messages: user([{ type: "image_url", image_url: { url: `ftp://${long}` } }]) }),
        schema({ [long]: 1 }), schema({ type: long }), schema({ $ref: `#/${long}` }), schema({ $ref: long }), schema({ format: long, type: "string" }), schema({ properties: { [long]: { type: long } } }),
        schema({ properties: { [long]: { not: {} } } }), schema({ type: "string", pattern: `(?=${long})` }), schema({ type: "string", pattern: `(${long}` }), schema({ pattern: `\\p{${long}}` }), schema({ required: [long], additionalProperties: false }),
        schema({ enum: [long], type: "number" }), schema({ type: "object", additionalProperties: false, properties: { a: { allOf: [{ [long]: 1 }] } } }),
        engine.completions.create({ prompt: "x", [long]: 1 }), engine.completions.create({ prompt: "x", images: [long] }), engine.completions.create({ prompt: { long } }),
        engine.evaluate({ tokens: [long] }), engine.evaluate({ tokens: long }), engine.detokenize([long]), engine.detokenize([{ long }]), engine.lookedAt({ position: long }), engine.benchmark({ runs: long }),
        engine.benchmark({ promptTokens: { [long]: long } }), engine.restoreSession(long), engine.restoreSession(new TextEncoder().encode(long)),
        engine.applyChatTemplate([{ role: long, content: "" }]), engine.countTokens([{ role: long, content: "" }]),
        load({ [long]: 1 }), load({ device: long }), load({ cache: long }), load({ threads: long }), load({ contextSize: long }), load({ chatTemplate: long }), load({ chatTemplate: `{{ ${long} }}{{ raise_exception("${long}") }}` }),
        load({ chatTemplate: `{% ${long} %}` }), load({ chatTemplate: `{{ '${long}' | ${long} }}` }), load({ quantizeMmproj: long }), load({ kvFormat: long }), load({ sha256: { model: long } }), load({ sha256: { model: [long, long] } }),
        load({ model: long }), load({ model: `https://${long}` }), load({ model: `hf:${long}` }), load({ model: `hf:a/../${long}` }), load({ model: `ftp://${long}` }), load({ model: `http://127.0.0.1:9/${long}` }),
        load({ model: `blob:${long}` }), load({ model: `data:,${long}` }), load({ model: { long } }), load({ model: new File([long], `${long.slice(0, 250)}.gguf`) }), load({ mmproj: new File([long], `${long.slice(0, 250)}.gguf`) }),
        api.deleteCachedModel(long), api.deleteCachedModel({ long }),
      ];
      return Promise.all(calls.map(async (call) => {
        const { value, ...failure } = await outcome(call);
        return { ...failure, settled: value === undefined ? "failed" : "answered" };
      }));
    });
    for (const [i, { code, message, cause, is, settled }] of outcomes.entries()) {
      if (settled === "answered") continue;
      assert.ok(is, `${i}: ${code} ${message}`);
      for (const text of [message, cause ?? ""]) {
        const run = /([ab])\1{100,}/i.exec(text)?.[0].length ?? 0;
        assert.ok(run <= shownAtMost, `${i}: ${run} characters of it in ${code}: ${text.slice(0, 300)}`);
        assert.ok(text.length < 1000, `${i}: ${text.length} characters: ${text.slice(0, 300)}`);
      }
    }
    assert.ok(outcomes.filter(({ settled }) => settled === "failed").length > 60, `${outcomes.filter(({ settled }) => settled === "failed").length} failed`);
  });

  test("an engine that nobody holds ends, and one that is being used does not", async () => {
    // Collects what nobody holds until that many workers are left, or for some seconds.
    const collect = async (/** @type {number} */ left) => {
      for (let i = 0; i < 200 && page.workers().length > left; i++) {
        await page.evaluate(async () => {
          globalThis.gc();
          await new Promise((resolve) => setTimeout(resolve, 20));
        });
      }
      return page.workers().length;
    };
    // The suite's own engine; those that earlier tests left alone end by this as well.
    assert.equal(await collect(1), 1);
    const used = await page.evaluate(async () => {
      // Nothing but the stream, and nothing but the promise of an answer, is held.
      globalThis.streams = await (async () => {
        const engine = await globalThis.load();
        return [await engine.completions.create({ prompt: "x", max_tokens: 3, stream: true })];
      })();
      globalThis.answer = (async () => (await globalThis.load()).completions.create({ prompt: "x", max_tokens: 200, logit_bias: { 2: -100 } }))();
      const look = async () => {
        await new Promise((resolve) => setTimeout(resolve));
        globalThis.gc();
      };
      for (let i = 0; i < 5; i++) await look();
      let tokens = 0;
      for await (const chunk of globalThis.streams[0]) tokens += chunk.choices[0].token_ids.length;
      const { choices } = await globalThis.answer;
      delete globalThis.streams;
      delete globalThis.answer;
      await (async () => {
        const engine = await globalThis.load();
        // What `await using` does at the end of the block.
        await engine[Symbol.asyncDispose]();
        if (!(await globalThis.outcome(engine.tokenize("x"))).code) throw new Error("it goes on");
      })();
      return [tokens > 0, choices[0].token_ids.length > 0];
    });
    assert.deepEqual(used, [true, true]);
    assert.equal(await collect(1), 1, "workers that were left");
  });

  test("what a signal of another frame says counts, and what is no signal is refused", async () => {
    const codes = await page.evaluate(async () => {
      const frame = document.createElement("iframe");
      document.body.append(frame);
      const { AbortController: Foreign } = frame.contentWindow;
      const controller = new Foreign();
      controller.abort();
      const codes = [(await globalThis.outcome(globalThis.engine.tokenize("x", { signal: controller.signal }))).code];
      for (const signal of [{}, "x", 7, { aborted: false }, new EventTarget()]) codes.push((await globalThis.outcome(globalThis.engine.tokenize("x", { signal }))).code);
      const canvas = frame.contentDocument.createElement("canvas");
      canvas.getContext("2d").fillRect(0, 0, 5, 5);
      codes.push((await globalThis.engine.embedImage(canvas)).shape.length);
      const pixels = canvas.getContext("2d").getImageData(0, 0, 9, 9);
      codes.push((await globalThis.engine.embedImage(pixels)).shape.length);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve));
      codes.push((await globalThis.engine.embedImage(blob)).shape.length);
      frame.remove();
      return codes;
    });
    assert.deepEqual(codes, ["aborted", ...Array(5).fill("invalid_request"), 2, 2, 2]);
  });

  test("countTokens is what the prompt takes, pictures included", async () => {
    const { counted, taken } = await page.evaluate(async () => {
      const messages = [{ role: "system", content: "Be brief." }, ...globalThis.user([{ type: "image", image: globalThis.canvas }, { type: "text", text: "What is it?" }, { type: "image", image: globalThis.canvas }])];
      const counted = [await globalThis.engine.countTokens(messages)];
      const { usage } = await globalThis.engine.chat.completions.create({ messages, max_tokens: 1 });
      // The pictures are known by now.
      counted.push(await globalThis.engine.countTokens(messages));
      counted.push(await globalThis.engine.countTokens(globalThis.user("many words ".repeat(5000))) > globalThis.engine.info.contextSize);
      return { counted, taken: usage.prompt_tokens };
    });
    assert.deepEqual(counted, [taken, taken, true]);
  });
});
