// The CPU's threads: the same results to the last bit for any number of them, none that spins, none that stays.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { openTab, start, SWIFTSHADER, withoutEngine, withoutModel, withoutThreads } from "./support.mjs";

const MMPROJ = "/golden/tiny-llava/mmproj-legacy-f16.gguf";
/** Text enough that every op of a prompt is worth dividing. */
const PROMPT = `<image>\n${"The quick brown fox jumps over the lazy dog. ".repeat(12)}`;

/** Loads models in a page and evaluates prompts with them. */
const helpers = (page, site) => page.evaluate(async (site) => {
  const { createEngine } = await import(`${site}llava-web.js`);
  const { origin } = globalThis.location;
  globalThis.load = (model, mmproj, options) => createEngine({
    model: origin + model, ...(mmproj ? { mmproj: origin + mmproj } : {}), device: "cpu", cache: "none", ...options,
  });
  globalThis.picture = async () => (await fetch(`${origin}/golden/images/astronaut.png`)).blob();
  const bits = async (floats) => {
    const digest = await crypto.subtle.digest("SHA-256", floats.slice().buffer);
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  };
  /** Hashes of all that the engine computes, and the number of threads it did so with. */
  globalThis.outcome = async (model, mmproj, prompt, threads) => {
    const engine = await globalThis.load(model, mmproj, { threads, contextSize: 512 });
    const images = mmproj ? [await globalThis.picture()] : [];
    const { logits } = await engine.evaluate({ prompt, images });
    const embedded = mmproj ? await bits((await engine.embedImage(images[0])).data) : null;
    const reply = await engine.completions.create({ prompt, images, max_tokens: 12, temperature: 0 });
    const result = {
      threads: engine.info.device.threads, logits: await bits(logits), embedded, ids: reply.choices[0].token_ids,
      isFinite: logits.every(Number.isFinite),
    };
    engine.unload();
    return result;
  };
}, site);

/** What Linux says of each thread of this test's browser that is a worker: the fields of its `stat` behind the name. */
function workers() {
  const parents = new Map();
  const read = (/** @type {string} */ path) => {
    const stat = readFileSync(path, "utf8");
    return { name: stat.slice(stat.indexOf("(") + 1), fields: stat.slice(stat.lastIndexOf(")") + 2).split(" ") };
  };
  const found = [];
  const attempt = (/** @type {() => void} */ look) => {
    try {
      look();
    } catch {
      // A process that ended meanwhile.
    }
  };
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    attempt(() => parents.set(Number(pid), Number(read(`/proc/${pid}/stat`).fields[1])));
  }
  const isOurs = (/** @type {number} */ pid) => pid === process.pid || (parents.has(pid) && isOurs(parents.get(pid)));
  for (const pid of [...parents.keys()].filter(isOurs)) {
    attempt(() => {
      for (const task of readdirSync(`/proc/${pid}/task`)) {
        const { name, fields } = read(`/proc/${pid}/task/${task}/stat`);
        if (name.startsWith("DedicatedWorker")) found.push(fields);
      }
    });
  }
  return found;
}

const workerThreads = () => workers().length;

/** Seconds that they have computed: ticks of a hundredth. */
const workerSeconds = () => workers().reduce((sum, fields) => sum + Number(fields[11]) + Number(fields[12]), 0) / 100;

/** Looks until it is so; a test that waits in vain is ended by its runner. @param {() => boolean} isSo */
async function until(isSo) {
  while (!isSo()) await sleep(50);
}

describe("threads", { timeout: 600_000, skip: withoutEngine || withoutThreads }, () => {
  let host, tab, page;
  before(async () => {
    host = await start({ isolated: true, given: [/\/nowhere\/thread\.js$/] });
    tab = await openTab(host.browser);
    page = tab.page;
    page.setDefaultTimeout(120_000);
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await helpers(page, host.site);
    assert.equal(await page.evaluate(() => globalThis.crossOriginIsolated), true);
  });
  after(() => host.close());

  const outcome = (...args) => page.evaluate((args) => globalThis.outcome(...args), args);

  for (const format of ["f16", "q4_0", "q4_1", "q8_0", "q4_k_m"]) {
    test(`1 to 8 threads compute the same bits: ${format}`, async () => {
      const model = `/golden/tiny-llava/tiny-llava-${format}.gguf`;
      const one = await outcome(model, MMPROJ, PROMPT, 1);
      assert.equal(one.threads, 1);
      assert.ok(one.isFinite);
      for (let threads = 2; threads <= 8; threads++) assert.deepEqual(await outcome(model, MMPROJ, PROMPT, threads), { ...one, threads });
    });
  }

  test("the same with a model whose every op is divided", { skip: withoutModel("smollm2-135m-q4_0.gguf") }, async () => {
    const model = "/models/smollm2-135m-q4_0.gguf";
    const prompt = "The quick brown fox jumps over the lazy dog. ".repeat(8);
    const one = await outcome(model, null, prompt, 1);
    for (const threads of [2, 3]) assert.deepEqual(await outcome(model, null, prompt, threads), { ...one, threads });
  });

  test("how many threads there are is measured where nobody says it", async () => {
    const { threads, most } = await page.evaluate(async () => {
      const engine = await globalThis.load("/golden/tiny-llava/tiny-llava-q4_0.gguf");
      const { threads } = engine.info.device;
      engine.unload();
      return { threads, most: Math.min(8, navigator.hardwareConcurrency) };
    });
    assert.ok(threads >= 1 && threads <= most, `${threads} of ${most}`);
  });

  test("idle threads sleep, and unload ends them", { skip: process.platform !== "linux" && "it looks into /proc" }, async () => {
    // Workers of the tests before end by and by.
    let before = workerThreads();
    await until(() => {
      const last = before;
      before = workerThreads();
      return before === 0 || (before === last && page.workers().length === 0);
    });
    await page.evaluate(async () => {
      globalThis.engine = await globalThis.load("/golden/tiny-llava/tiny-llava-q4_0.gguf", null, { threads: 4 });
      await globalThis.engine.completions.create({ prompt: "once", max_tokens: 4 });
    });
    await until(() => workerThreads() - before === 4);
    // They may look for more work for a moment. One that spins would go on counting for ever.
    let [looks, seconds] = [0, workerSeconds()];
    await until(() => {
      const now = workerSeconds();
      looks = now === seconds ? looks + 1 : 0;
      seconds = now;
      return looks === 20;
    });
    await page.evaluate(() => globalThis.engine.unload());
    await until(() => workerThreads() <= before);
  });

  test("a generation on several threads can be stopped", async () => {
    const result = await page.evaluate(async () => {
      const engine = await globalThis.load("/golden/tiny-llava/tiny-llava-q4_0.gguf", null, { threads: 3 });
      const controller = new AbortController();
      const reply = await engine.completions.create({ prompt: "once upon", max_tokens: 400, stream: true, signal: controller.signal, logit_bias: { 2: -100 } });
      let [chunks, reason] = [0, null];
      for await (const chunk of reply) {
        if (++chunks === 3) controller.abort();
        reason = chunk.choices[0].finish_reason ?? reason;
      }
      const { choices } = await engine.completions.create({ prompt: "again", max_tokens: 3 });
      engine.unload();
      return { chunks, reason, length: choices[0].token_ids.length };
    });
    assert.equal(result.reason, "abort");
    assert.ok(result.chunks < 300 && result.length > 0, JSON.stringify(result));
  });

  test("without the module one thread computes", async () => {
    const other = await openTab(host.browser);
    await other.page.context().route("**/pkg*-threads/**", (route) => route.fulfill({ status: 404 }));
    await other.page.goto(`${host.server.origin}/tests/blank.html`);
    await helpers(other.page, host.site);
    const { threads, isFinite } = await other.page.evaluate(() => globalThis.outcome("/golden/tiny-llava/tiny-llava-q4_0.gguf", null, "x", 4));
    await other.close();
    assert.deepEqual([threads, isFinite], [1, true]);
  });

  test("of the builds of the module the best that is there is taken", async () => {
    const taken = [];
    for (const missing of [[], ["pkg-relaxed-threads"], ["pkg-relaxed-threads", "pkg-relaxed"], ["pkg-relaxed-threads", "pkg-relaxed", "pkg-threads"]]) {
      const other = await openTab(host.browser);
      for (const build of missing) await other.page.context().route(`**/${build}/**`, (route) => route.fulfill({ status: 404 }));
      await other.page.goto(`${host.server.origin}/tests/blank.html`);
      await helpers(other.page, host.site);
      const { threads, isFinite } = await other.page.evaluate(() => globalThis.outcome("/golden/tiny-llava/tiny-llava-q4_0.gguf", null, "x", 2));
      assert.ok(isFinite);
      const modules = other.requests.map((url) => /\/(pkg[^/]*)\/.*\.wasm$/.exec(url)?.[1]).filter((name) => name && !missing.includes(name));
      taken.push([...modules, threads]);
      await other.close();
    }
    assert.deepEqual(taken, [["pkg-relaxed-threads", 2], ["pkg-relaxed", 1], ["pkg-threads", 2], ["pkg", 1]]);
  });

  test("a browser without relaxed SIMD has threads too, and the same results from them", async () => {
    const other = await openTab(host.browser);
    await other.page.context().route("**/devices.js", async (route) => {
      const response = await route.fetch();
      const text = (await response.text()).replace("WebAssembly.validate(RELAXED_SIMD_MODULE)", "false");
      assert.match(text, /&& false/);
      await route.fulfill({ response, body: text });
    });
    await other.page.goto(`${host.server.origin}/tests/blank.html`);
    await helpers(other.page, host.site);
    const outcomes = [];
    for (const threads of [1, 2, 3]) {
      outcomes.push(await other.page.evaluate(([mmproj, prompt, threads]) => globalThis.outcome("/golden/tiny-llava/tiny-llava-q4_0.gguf", mmproj, prompt, threads), [MMPROJ, PROMPT, threads]));
    }
    assert.deepEqual(outcomes.map(({ threads }) => threads), [1, 2, 3]);
    for (const outcome of outcomes) assert.deepEqual({ ...outcome, threads: 1 }, outcomes[0]);
    assert.ok(other.requests.some((url) => url.includes("/pkg-threads/")) && !other.requests.some((url) => url.includes("relaxed")), "the module without relaxed SIMD");
    await other.close();
  });

  test("nobody waits for a thread that ended: the others do its work", async () => {
    const other = await openTab(host.browser);
    const script = readFileSync(new URL("../../www/worker/thread.js", import.meta.url), "utf8");
    assert.ok(script.includes("pkg.help(helper);"));
    const bad = script.replace("pkg.help(helper);", 'throw new WebAssembly.RuntimeError("unreachable");');
    let patched = 0;
    await other.page.context().route("**/load.js", async (route) => {
      const response = await route.fetch();
      const text = (await response.text()).replace("startWorker(new URL(assets.thread))", `startWorker(new URL(URL.createObjectURL(new Blob([${JSON.stringify(bad)}], { type: "text/javascript" }))))`);
      if (text.includes("unreachable")) patched += 1;
      await route.fulfill({ response, body: text });
    });
    await other.page.goto(`${host.server.origin}/tests/blank.html`);
    await helpers(other.page, host.site);
    const [alone, lost] = await other.page.evaluate(async ([mmproj, prompt]) => {
      const outcomes = [];
      for (const threads of [1, 2]) outcomes.push(await globalThis.outcome("/golden/tiny-llava/tiny-llava-q4_0.gguf", mmproj, prompt, threads));
      return outcomes;
    }, [MMPROJ, PROMPT]);
    await other.close();
    assert.ok(patched > 0, "the engine starts the script that ends");
    assert.deepEqual({ ...lost, threads: 1 }, alone);
  });

  // What goes wrong with a helper before it could begin: in its own script, by what is replaced there.
  const LOST = {
    "whose module cannot be imported": ["await import(data.script)", 'await import("./nowhere.js")'],
    "for which there is no memory": ["pkg.initSync({", "(() => { throw new RangeError(\"WebAssembly.Memory(): could not allocate memory\"); })({"],
    "that never answer": ['self.postMessage("ready");', ""],
    "whose script is not there": null,
  };
  for (const [name, change] of Object.entries(LOST)) for (const which of ["all", "one"]) {
    test(`threads ${name} cost speed, not the load: ${which} of them`, async () => {
      const other = await openTab(host.browser);
      // The script of a worker that a worker starts passes by what routes requests, so the worker is given another script to start.
      const script = readFileSync(new URL("../../www/worker/thread.js", import.meta.url), "utf8");
      if (change) assert.ok(script.includes(change[0]), change[0]);
      const bad = change ? `URL.createObjectURL(new Blob([${JSON.stringify(script.replace(change[0], change[1]))}], { type: "text/javascript" }))` : '"/nowhere/thread.js"';
      let patched = 0;
      await other.page.context().route("**/load.js", async (route) => {
        const response = await route.fetch();
        const text = (await response.text())
          .replace("HELPER_PATIENCE = 10_000", `HELPER_PATIENCE = ${which === "all" ? "200" : "10_000"}`)
          .replace("startWorker(new URL(assets.thread))", `startWorker((globalThis.nStarted = (globalThis.nStarted ?? 0) + 1) <= ${which === "all" ? 2 : 1} ? new URL(${bad}, location.origin) : new URL(assets.thread))`);
        if (/HELPER_PATIENCE = (200|10_000);/.test(text) && text.includes("nStarted")) patched += 1;
        await route.fulfill({ response, body: text });
      });
      await other.page.goto(`${host.server.origin}/tests/blank.html`);
      await helpers(other.page, host.site);
      const args = ["/golden/tiny-llava/tiny-llava-q4_0.gguf", MMPROJ, PROMPT];
      const [alone, lost] = await other.page.evaluate(async (args) => [await globalThis.outcome(...args, 1), await globalThis.outcome(...args, 3)], args);
      assert.ok(patched > 0, "the engine starts the scripts that are no good");
      assert.equal(lost.threads, which === "all" ? 1 : 2);
      assert.deepEqual({ ...lost, threads: 1 }, alone);
      await other.close();
    });
  }
});

describe("threads where the GPU does not pass", { skip: withoutEngine || withoutThreads, timeout: 600_000 }, () => {
  test("the CPU takes over with all of them, and the note says why", async () => {
    const host = await start({ isolated: true, flags: SWIFTSHADER });
    const { page, requests, close } = await openTab(host.browser);
    // As on a machine whose adapter calls itself hardware: the engine finds out by itself that it is not.
    await page.context().route("**/choose-device.js", async (route) => {
      const response = await route.fetch();
      const text = await response.text();
      assert.ok(text.includes('(software && wanted === "auto")'));
      await route.fulfill({ response, body: text.replace('(software && wanted === "auto")', "false") });
    });
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await helpers(page, host.site);
    const info = await page.evaluate(async () => {
      const engine = await globalThis.load("/golden/tiny-llava/tiny-llava-q4_0.gguf", null, { device: "auto", threads: 3 });
      const reply = await engine.completions.create({ prompt: "once", max_tokens: 2 });
      const { device, warnings } = engine.info;
      await engine.unload();
      return { device, warnings, length: reply.choices[0].token_ids.length };
    });
    assert.deepEqual([info.device.kind, info.device.threads], ["cpu", 3], JSON.stringify(info));
    assert.match(info.warnings.join(" "), /computes on the CPU/);
    assert.ok(info.length > 0);
    assert.ok(requests.some((url) => /\/pkg(-relaxed)?-threads\//.test(url)));
    await close();
    await host.close();
  });
});
