// The GPU goes away: in the middle of everything, in a browser whose adapter computes on the CPU (SwiftShader). Answers must be the
// undisturbed ones.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { LOSS_WINDOW, Losses } from "../../www/worker/recovery.js";
import { openTab, QUICK_SWIFTSHADER, start, withoutEngine } from "./support.mjs";

const PROMPT = "USER: <image>\nWhat is in this image? ASSISTANT:";

/**
 * What goes wrong in the engine's worker, added to its choose-device.js. A plan says what happens with which call:
 *   { call: "submit" | "writeBuffer" | "mapAsync" | "createBuffer", after: N, refuse?: true }
 * destroys the device with the N-th of those calls from then on; `refuse` also lets memory run out at that moment.
 */
function saboteur(plan, memory) {
  if (!globalThis.WorkerGlobalScope) return;
  let device = null;
  let calls = {};
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    device = await requestDevice.apply(this, args);
    return device;
  };
  const count = (call) => {
    calls[call] = (calls[call] ?? 0) + 1;
    if (plan?.call !== call || calls[call] < plan.after) return;
    const { refuse } = plan;
    plan = null;
    if (refuse) device.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error: new GPUOutOfMemoryError("of 16 bytes") }));
    device.destroy();
  };
  for (const [type, call] of [[GPUQueue, "submit"], [GPUQueue, "writeBuffer"], [GPUBuffer, "mapAsync"], [GPUDevice, "createBuffer"]]) {
    const original = type.prototype[call];
    type.prototype[call] = function (...args) {
      // Before: whoever asks then asks a device that is gone.
      if (call !== "submit") count(call);
      const result = original.apply(this, args);
      if (call === "submit") count(call);
      return result;
    };
  }
  if (memory !== null) {
    // As many bytes as there are; beyond them every scope tells of a refusal.
    let left = memory;
    const { createBuffer, popErrorScope } = GPUDevice.prototype;
    let refused = false;
    GPUDevice.prototype.createBuffer = function (descriptor) {
      refused = descriptor.size > left;
      if (!refused) left -= descriptor.size;
      return createBuffer.call(this, descriptor);
    };
    GPUDevice.prototype.popErrorScope = async function () {
      const wasRefused = refused;
      refused = false;
      return (await popErrorScope.call(this)) ?? (wasRefused ? new GPUOutOfMemoryError("The heap is full.") : null);
    };
  }
  const channel = new BroadcastChannel("saboteur");
  channel.onmessage = ({ data }) => {
    if (data.destroy) device.destroy();
    if ("plan" in data) plan = data.plan;
    channel.postMessage({ done: data.id, calls });
    calls = {};
  };
}

/** The header of a LLaMA of some 13 billion weights in 16 bits, whose data begin where the header ends. */
function hugeHeader() {
  /** @type {Buffer[]} */
  const parts = [];
  const number = (value, bytes) => {
    const buffer = Buffer.alloc(bytes);
    if (bytes === 8) buffer.writeBigUInt64LE(BigInt(value));
    else buffer.writeUInt32LE(value);
    parts.push(buffer);
  };
  const string = (text) => {
    number(Buffer.byteLength(text), 8);
    parts.push(Buffer.from(text));
  };
  const [layers, width, wide, tokens] = [40, 5120, 13824, 300];
  const metadata = [
    ["general.architecture", 8, "llama"], ["llama.block_count", 4, layers], ["llama.embedding_length", 4, width],
    ["llama.feed_forward_length", 4, wide], ["llama.attention.head_count", 4, 40], ["llama.context_length", 4, 4096],
    ["llama.attention.layer_norm_rms_epsilon", 6, 1e-5], ["tokenizer.ggml.model", 8, "llama"],
    ["tokenizer.ggml.tokens", 8, Array.from({ length: tokens }, (_, i) => (i < 3 ? ["<unk>", "<s>", "</s>"][i] : `t${i}`))],
    ["tokenizer.ggml.scores", 6, Array.from({ length: tokens }, (_, i) => -i)],
  ];
  const tensors = [["token_embd.weight", [width, tokens], 1], ["output.weight", [width, tokens], 1], ["output_norm.weight", [width], 0]];
  for (let i = 0; i < layers; i++) {
    for (const name of ["attn_norm", "ffn_norm"]) tensors.push([`blk.${i}.${name}.weight`, [width], 0]);
    for (const name of ["attn_q", "attn_k", "attn_v", "attn_output"]) tensors.push([`blk.${i}.${name}.weight`, [width, width], 1]);
    for (const name of ["ffn_gate", "ffn_up"]) tensors.push([`blk.${i}.${name}.weight`, [width, wide], 1]);
    tensors.push([`blk.${i}.ffn_down.weight`, [wide, width], 1]);
  }
  const float = (value) => {
    const buffer = Buffer.alloc(4);
    buffer.writeFloatLE(value);
    parts.push(buffer);
  };
  parts.push(Buffer.from("GGUF"));
  number(3, 4);
  number(tensors.length, 8);
  number(metadata.length, 8);
  const write = { 4: (value) => number(value, 4), 6: float, 8: string };
  for (const [key, kind, value] of metadata) {
    string(key);
    if (Array.isArray(value)) {
      number(9, 4);
      number(kind, 4);
      number(value.length, 8);
      value.forEach(write[kind]);
    } else {
      number(kind, 4);
      write[kind](value);
    }
  }
  let offset = 0;
  for (const [name, dims, kind] of tensors) {
    string(name);
    number(dims.length, 4);
    for (const dim of dims) number(dim, 8);
    number(kind, 4);
    number(offset, 8);
    offset += Math.ceil(dims.reduce((a, b) => a * b) * (kind === 1 ? 2 : 4) / 32) * 32;
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  parts.push(Buffer.alloc(Math.ceil(length / 32) * 32 - length));
  return { header: Buffer.concat(parts), size: Math.ceil(length / 32) * 32 + offset, weights: offset };
}

test("two losses within a minute are too many, two with more time between them are not", () => {
  let now = 1000;
  const losses = new Losses(() => now);
  assert.equal(losses.add(), true);
  now += LOSS_WINDOW;
  assert.equal(losses.add(), true);
  now += LOSS_WINDOW - 1;
  assert.equal(losses.add(), false);
});

describe("a GPU that goes away", { skip: withoutEngine }, () => {
  let host;
  let tab;
  let page;
  /** What a worker that is made from now on is to suffer. */
  let plan = null;
  let memory = null;
  /** Whether losses are forgotten at once, so that there can be many in a test. */
  let patient = true;
  /** Whether a device is tried before it is trusted, which takes long on this one, and is another file's matter. */
  let selfTest = false;
  let expected;
  /** What that answer took. */
  let counted;
  const folder = mkdtempSync(path.join(os.tmpdir(), "llava-web-loss-"));

  before(async () => {
    host = await start({ "/huge/": folder, flags: QUICK_SWIFTSHADER });
    tab = await openTab(host.browser);
    page = tab.page;
    page.setDefaultTimeout(0);
    await page.context().route("**/choose-device.js", sabotaged);
    await page.context().route("**/recovery.js", async (route) => {
      const response = await route.fetch();
      const body = await response.text();
      assert.match(body, /LOSS_WINDOW = 60_000/);
      await route.fulfill({ response, body: patient ? body.replace("LOSS_WINDOW = 60_000", "LOSS_WINDOW = 0") : body });
    });
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(prepare, { site: host.site, origin: host.server.origin, prompt: PROMPT });
    await page.evaluate(() => globalThis.load());
    await calls();
    expected = await page.evaluate(() => globalThis.ask());
    counted = await calls();
    assert.equal(expected.ids.length, 16);
  });

  after(async () => {
    const complaints = tab?.complaints.filter((text) => !text.includes("Failed to load resource")) ?? [];
    await host?.close();
    rmSync(folder, { recursive: true });
    assert.deepEqual(complaints, []);
  });

  /** @param {import("playwright-core").Route} route */
  async function sabotaged(route) {
    const response = await route.fetch();
    const body = await response.text();
    assert.match(body, /device: wanted,/);
    const trusting = selfTest ? body : body.replace("device: wanted,", "device: wanted, skipSelfTest: true,");
    await route.fulfill({ response, body: `${trusting}\n(${saboteur})(${JSON.stringify(plan)}, ${JSON.stringify(memory)});` });
  }

  /** Functions for the tests, in the page. */
  async function prepare({ site, origin, prompt }) {
    const api = await import(`${site}llava-web.js`);
    const channel = new BroadcastChannel("saboteur");
    let id = 0;
    Object.assign(globalThis, {
      files: { model: `${origin}/golden/tiny-llava/tiny-llava-f16.gguf`, mmproj: `${origin}/golden/tiny-llava/mmproj-legacy-f16.gguf` },
      picture: async (name = "astronaut") => (await fetch(`${origin}/golden/images/${name}.png`)).blob(),
      async load(options) {
        await globalThis.engine?.unload();
        globalThis.engine = await api.createEngine({ ...globalThis.files, device: "webgpu", kvFormat: "f32", cache: "none", ...options });
      },
      /** Tells the worker something; gives what it counted since the last time. */
      sabotage: (message) => new Promise((resolve) => {
        const mine = ++id;
        channel.addEventListener("message", function listen({ data }) {
          if (data.done !== mine) return;
          channel.removeEventListener("message", listen);
          resolve(data.calls);
        });
        channel.postMessage({ ...message, id: mine });
      }),
      async ask(request = {}, { onToken = async () => {}, signal } = {}) {
        const images = [await globalThis.picture()];
        const stages = [];
        globalThis.stages = stages;
        const answer = { text: "", ids: [], stages, error: null, code: null };
        try {
          const stream = await globalThis.engine.completions.create({
            prompt, images, max_tokens: 16, temperature: 0, stream: true, logprobs: true, ...request, signal,
            onProgress: ({ stage, done, total }) => {
              if (!(done <= total)) throw new Error(`${stage}: ${done} of ${total}`);
              if (stages.at(-1) !== stage) stages.push(stage);
            },
          });
          for await (const chunk of stream) {
            const [choice] = chunk.choices;
            answer.text += choice.text;
            answer.ids.push(...choice.token_ids);
            if (choice.finish_reason) Object.assign(answer, { finish: choice.finish_reason, usage: chunk.usage });
            await onToken(answer);
          }
        } catch (error) {
          Object.assign(answer, { error: error.message, code: error.code });
        }
        answer.warnings = globalThis.engine.info.warnings ?? [];
        return answer;
      },
    });
  }

  /** @param {any} got */
  function assertSame(got, want = expected) {
    assert.equal(got.error, null);
    assert.deepEqual(got.ids, want.ids);
    assert.equal(got.text, want.text);
    assert.equal(got.finish, want.finish);
    for (const count of ["prompt_tokens", "completion_tokens", "total_tokens", "image_tokens"]) assert.equal(got.usage[count], want.usage[count], count);
  }

  const calls = () => page.evaluate(() => globalThis.sabotage({}));

  test("an answer goes on wherever the device is lost", async () => {
    assert.ok(counted.mapAsync >= 16 && counted.submit >= 16 && counted.createBuffer > 8, JSON.stringify(counted));
    const plans = [
      // The first thing that is asked of it, the end of the prompt, and amid the answer.
      { call: "submit", after: 1 }, { call: "mapAsync", after: 1 }, { call: "mapAsync", after: 9 }, { call: "submit", after: counted.submit - 2 },
      // As losses often begin: what is asked for is refused.
      { call: "mapAsync", after: 5, refuse: true },
    ];
    for (const [i, plan] of plans.entries()) {
      const got = await page.evaluate(async (plan) => {
        await globalThis.engine.reset();
        await globalThis.sabotage({ plan });
        return globalThis.ask();
      }, plan);
      assertSame(got);
      assert.ok(got.stages.includes("recovering"), `${JSON.stringify(plan)}: ${got.stages}`);
      assert.ok(got.warnings.some((text) => text.includes(i === 0 ? "went away once" : `went away ${i + 1} times`)), JSON.stringify(got.warnings));
    }
  });

  test("a picture goes on through the tower", async () => {
    for (const plan of [{ call: "createBuffer", after: 9 }, { call: "createBuffer", after: 2, refuse: true }]) {
      // A new engine has seen no picture yet.
      const got = await page.evaluate(async (plan) => {
        await globalThis.load();
        await globalThis.sabotage({ plan });
        return globalThis.ask();
      }, plan);
      assertSame(got);
      assert.deepEqual([got.stages.includes("image"), got.stages.includes("recovering")], [true, true], `${got.stages}`);
    }
  });

  test("a drawn answer goes on with the same draws", async () => {
    const drawn = { temperature: 1.3, seed: 11, top_p: 0.95, repetition_penalty: 1.2, presence_penalty: 0.3, stop: ["zzzz"] };
    const want = await page.evaluate((request) => globalThis.ask(request), drawn);
    assert.notDeepEqual(want.ids, expected.ids);
    const got = await page.evaluate(async (request) => {
      await globalThis.engine.reset();
      await globalThis.sabotage({ plan: { call: "mapAsync", after: 7 } });
      return globalThis.ask(request);
    }, drawn);
    assertSame(got, want);
    assert.ok(got.stages.includes("recovering"));
  });

  test("a device lost while the model loads is loaded again", async () => {
    // While it is tried, while it is asked for memory, and while weights are read.
    for (const [call, after] of [["mapAsync", 2], ["createBuffer", 20], ["writeBuffer", 40]]) {
      plan = { call, after };
      selfTest = call === "mapAsync";
      const stages = await page.evaluate(async () => {
        const stages = [];
        await globalThis.load({ onProgress: ({ stage }) => stages.at(-1) !== stage && stages.push(stage) });
        return stages;
      });
      plan = null;
      selfTest = false;
      assert.deepEqual([stages.includes("recovering"), stages.at(-1)], [true, "ready"], `${call} ${after}: ${stages}`);
    }
    assertSame(await page.evaluate(() => globalThis.ask()));
  });

  test("a device lost between two questions is replaced without a word", async () => {
    assertSame(await page.evaluate(() => globalThis.ask()));
    await page.evaluate(() => globalThis.sabotage({ destroy: true }));
    // What needs no device does not notice.
    assert.equal(await page.evaluate(async () => globalThis.engine.detokenize(await globalThis.engine.tokenize("Hello"))), "Hello");
    const again = await page.evaluate(() => globalThis.ask());
    assertSame(again);
    assert.equal(again.usage.cached_tokens, 0);
    const third = await page.evaluate(() => globalThis.ask());
    assertSame(third);
    assert.equal(third.usage.cached_tokens, third.usage.prompt_tokens - 1);
  });

  test("single calls are made again", async () => {
    const results = await page.evaluate(async (prompt) => {
      const run = async (after) => {
        const plan = after ? { call: "mapAsync", after } : null;
        const results = [];
        await globalThis.sabotage({ plan });
        results.push([...(await globalThis.engine.embedImage(await globalThis.picture())).data]);
        await globalThis.sabotage({ plan });
        const { logits, tokens } = await globalThis.engine.evaluate({ prompt, images: [await globalThis.picture()] });
        results.push([...logits], [...tokens]);
        await globalThis.sabotage({ plan });
        const report = await globalThis.engine.benchmark({ promptTokens: 8, generatedTokens: 4, runs: 1 });
        if (!(report.decode_tokens_per_second > 0)) throw new Error("no speed");
        return results;
      };
      const times = () => {
        const [, n = "0"] = /went away (once|\d+ times)/.exec((globalThis.engine.info.warnings ?? []).join(" ")) ?? [];
        return n === "once" ? 1 : parseInt(n, 10);
      };
      const before = times();
      const [plain, disturbed] = [await run(0), await run(1)];
      await globalThis.ask({ max_tokens: 1 });
      return { plain, disturbed, losses: times() - before };
    }, PROMPT);
    assert.deepEqual(results.disturbed, results.plain);
    assert.equal(results.losses, 3);
  });

  test("a recovery reads the storage, or the very file, again", async () => {
    for (const source of ["opfs", "file"]) {
      const requests = await page.evaluate(async (source) => {
        if (source === "opfs") {
          await globalThis.load({ cache: "opfs" });
        } else {
          const files = {};
          for (const [name, url] of Object.entries(globalThis.files)) files[name] = new File([await (await fetch(url)).blob()], `${name}.gguf`);
          await globalThis.load(files);
        }
        await globalThis.sabotage({ plan: { call: "mapAsync", after: 6 } });
      }, source);
      const before = host.server.requests.length;
      const got = await page.evaluate(() => globalThis.ask());
      assertSame(got);
      assert.ok(got.stages.includes("recovering"), `${source}: ${got.stages} ${requests}`);
      const asked = host.server.requests.slice(before).filter(({ url }) => url.includes(".gguf"));
      assert.deepEqual(asked, [], source);
    }
  });

  test("whoever stops a recovery need not wait for it, and the next question finds what it did", async () => {
    await page.evaluate(() => globalThis.load());
    // The files come when the one who stopped has his answer, and not before.
    /** @type {() => void} */
    let release = () => {};
    const released = new Promise((resolve) => {
      release = () => resolve(undefined);
    });
    await page.context().route("**/*.gguf", async (route) => {
      await released;
      await route.continue();
    });
    const stopped = await page.evaluate(async () => {
      await globalThis.sabotage({ plan: { call: "mapAsync", after: 5 } });
      globalThis.stages = null;
      const controller = new AbortController();
      const answer = globalThis.ask({}, { signal: controller.signal });
      while (!globalThis.stages?.includes("recovering")) await new Promise((resolve) => setTimeout(resolve, 20));
      controller.abort();
      return answer;
    });
    release();
    await page.context().unroute("**/*.gguf");
    assert.equal(stopped.error, null);
    assert.equal(stopped.finish, "abort");
    assert.deepEqual(stopped.ids, expected.ids.slice(0, stopped.ids.length));
    assert.ok(stopped.ids.length >= 3 && stopped.stages.includes("recovering"), JSON.stringify(stopped));
    assertSame(await page.evaluate(() => globalThis.ask()));
  });

  test("two losses within a minute end with device_lost, which offers the CPU", async () => {
    patient = false;
    await page.evaluate(() => globalThis.load());
    const got = await page.evaluate(() => globalThis.ask({}, { onToken: async ({ ids }) => {
      if (ids.length === 3 || ids.length === 9) await globalThis.sabotage({ destroy: true });
    } }));
    patient = true;
    assert.equal(got.code, "device_lost");
    assert.match(got.error, /2 times within a minute.*device "cpu"/);
    assert.deepEqual(got.ids, expected.ids.slice(0, got.ids.length));
    assert.ok(got.stages.includes("recovering"));
    assert.deepEqual(await page.evaluate(() => globalThis.engine.tokenize("x").then(() => null, ({ code }) => code)), "device_lost");
    assertSame(await page.evaluate(async () => {
      await globalThis.load();
      return globalThis.ask();
    }));
  });

  test("a file that is gone ends a recovery with its reason, and the next question tries again", async () => {
    await page.evaluate(() => globalThis.engine.reset());
    await page.context().route("**/*.gguf", (route) => route.fulfill({ status: 404 }));
    const failed = await page.evaluate(async () => {
      await globalThis.sabotage({ plan: { call: "mapAsync", after: 5 } });
      return globalThis.ask();
    });
    await page.context().unroute("**/*.gguf");
    assert.equal(failed.code, "device_lost");
    assert.match(failed.error, /could not be loaded again.*404.*device "cpu"/);
    assert.deepEqual(failed.ids, expected.ids.slice(0, failed.ids.length));
    assertSame(await page.evaluate(() => globalThis.ask()));
  });

  test("a model beyond what the module can address is refused when its header is read", async () => {
    const { header, size, weights } = hugeHeader();
    // As much of the weights as is read with the header, and a little more, which would be waited for in vain.
    const sent = 8 << 20;
    writeFileSync(path.join(folder, "huge.gguf"), Buffer.concat([header, Buffer.alloc(sent)]));
    const url = `${host.server.origin}/huge/huge.gguf?announce=${size}&stall=${sent}`;
    const refused = await page.evaluate((model) => globalThis.load({ model, mmproj: undefined, device: "cpu", contextSize: 1024 })
      .catch(({ code, message }) => ({ code, message })), url);
    assert.equal(refused.code, "out_of_memory");
    assert.match(refused.message, /needs \d+ bytes of memory/);
    const [, needed, limit] = /needs (\d+) bytes of memory.* but no more than (\d+) can be had here/.exec(refused.message).map(Number);
    assert.ok(needed > weights && needed < 1.2 * weights, `${needed} of ${weights}`);
    assert.ok(limit > 3e9 && limit < 2 ** 32, String(limit));
  });

  test("a model beyond the GPU's memory is refused before it is read, with the bytes it needs and those there are", async () => {
    memory = 2_000_000;
    const refused = await page.evaluate(async () => {
      const loaded = [];
      const error = await globalThis.load({ onProgress: (progress) => loaded.push(progress) }).catch(({ code, message }) => ({ code, message }));
      return { ...error, read: Math.max(...loaded.map((progress) => progress.loaded)), stages: [...new Set(loaded.map(({ stage }) => stage))] };
    });
    memory = null;
    assert.equal(refused.code, "out_of_memory");
    const { weights, kvCache } = await page.evaluate(async () => {
      await globalThis.load();
      return globalThis.engine.info.bytes;
    });
    const [, needed, granted] = /needs (\d+) bytes of memory.* but after (\d+) bytes there were no more/.exec(refused.message).map(Number);
    assert.ok(needed > weights + kvCache && needed < 1.5 * (weights + kvCache), `${needed} of ${weights + kvCache}`);
    assert.ok(granted <= 2_000_000, String(granted));
    assert.match(refused.message, /device "cpu"/);
    assert.deepEqual([refused.read, refused.stages], [0, ["header"]]);
    assertSame(await page.evaluate(() => globalThis.ask()));
  });

  test("the page says what happens, and goes on with the CPU where the GPU does not last", async () => {
    patient = false;
    const own = await openTab(host.browser);
    await own.page.context().route("**/choose-device.js", sabotaged);
    try {
      await own.page.goto(host.site);
      await own.page.evaluate(prepare, { site: host.site, origin: host.server.origin, prompt: PROMPT });
      await own.page.evaluate(async () => {
        const chat = document.querySelector("llava-chat");
        chat.device = "webgpu";
        globalThis.said = [];
        const live = chat.shadowRoot.querySelector("[aria-live=polite]");
        new MutationObserver(() => globalThis.said.push(live.textContent)).observe(live, { childList: true, characterData: true, subtree: true });
        const status = chat.shadowRoot.querySelector("[part=status]");
        globalThis.statuses = [];
        new MutationObserver(() => globalThis.statuses.push(status.textContent)).observe(status, { childList: true, characterData: true, subtree: true });
        await chat.load(globalThis.files);
      });
      const chat = own.page.locator("llava-chat");
      const ask = (text) => own.page.evaluate(async (text) => document.querySelector("llava-chat").ask(text).catch(({ code }) => code), text);
      await own.page.evaluate(() => globalThis.sabotage({ plan: { call: "mapAsync", after: 4 } }));
      // Left alone it would write until its context is full.
      const stop = own.page.waitForFunction(() => globalThis.said.includes("The answer continues"))
        .then(() => own.page.evaluate(() => document.querySelector("llava-chat").stop()));
      const first = await ask("What is this?");
      await stop;
      const said = await own.page.evaluate(() => globalThis.said.join(" | "));
      assert.match(said, /The GPU was lost.*loaded again.*The answer continues/);
      assert.match(await own.page.evaluate(() => globalThis.statuses.join(" | ")), /The GPU was lost. Reloading the model/);
      // Shown as Markdown, whose paragraphs end with a line break.
      assert.equal((await chat.locator("[part=answer]").first().textContent()).trim(), first.trim());
      await own.page.evaluate(() => globalThis.sabotage({ plan: { call: "mapAsync", after: 3 } }));
      assert.equal(await ask("And why?"), "device_lost");
      assert.match(await chat.locator("[part=error]:not([hidden])").textContent(), /within a minute/);
      await chat.getByRole("button", { name: "Continue on the CPU" }).click();
      await chat.locator("[part=status]", { hasText: "CPU" }).waitFor();
      // What was said is still there, and what was asked is answered there.
      // Shown as Markdown, whose paragraphs end with a line break.
      assert.equal((await chat.locator("[part=answer]").first().textContent()).trim(), first.trim());
      await own.page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelectorAll("[part=answer]")[1].textContent.length > 0, undefined, { timeout: 120_000 });
      await own.page.evaluate(() => document.querySelector("llava-chat").stop());
      await own.page.waitForFunction(() => document.querySelector("llava-chat").messages.length === 4, undefined, { timeout: 120_000 });
      assert.equal(await own.page.evaluate(() => document.querySelector("llava-chat").engine.info.device.kind), "cpu");
      assert.ok((await chat.locator("[part=answer]").nth(1).textContent()).length > 0);
      assert.equal(await own.page.evaluate(() => document.querySelector("llava-chat").messages.length), 4);
      assert.deepEqual(own.complaints.filter((text) => !text.includes("Failed to load resource")), []);
    } finally {
      patient = true;
      await own.close();
    }
  });
});
