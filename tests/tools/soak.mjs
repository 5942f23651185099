// Lets the engine run for long in headless Chromium, with the model that comes with the page: models loaded and unloaded again, pictures
// never seen before asked about, answers stopped at random moments. After each round it tells what the tab holds, which must stay flat, and
// whether the answer behind a stopped one is the one a fresh engine gives.
//
// usage: node tests/tools/soak.mjs [--loads N] [--turns N] [--aborts N] [--rounds N] [--seed N] [--threads N]
// Default: 1000 loads, 10000 turns, 1000 aborts, in 20 rounds each. One JSON line a round, and one at the end; exits with 1 where memory grew or
// an answer was another one.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { serve } from "./serve.mjs";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const { chromium } = createRequire(path.join(root, "tests/package.json"))("playwright-core");

/**
 * What a tab holds once its garbage is collected. In bytes: `resident`, its process; `script`, what JavaScript holds in the page and in
 * workers; `wasm`, the engine's memory, which never shrinks (0 without an engine). Counted: `nodes` and `listeners` of the document, `workers`.
 * @typedef {{ resident: number, script: number, wasm: number, nodes: number, listeners: number, workers: number }} Held
 */

/** How much more may be held than when the engine was warm, though nothing leaks: V8 and the allocators keep some of what they had. */
const SLACK = { resident: 64e6, script: 1e6, wasm: 2e6, nodes: 0, listeners: 0, workers: 0 };

/** Bytes of a picture's rows in the page's own model. The engine keeps those of the last pictures, 64 MiB of them, which 1,400 pictures fill. */
export const PICTURE = 50e3;

/**
 * A tab with the engine's module, and what is done in it. `close` ends it. On one thread unless told otherwise: browsers count memory that
 * threads share as the script's, so that the engine's own, which grows by the rows of pictures up to a bound, would be in both figures.
 * @param {{ seed?: number, threads?: number, www?: string }} [options]
 */
export async function openSoak({ seed = 1, threads = 1, www = path.join(root, "www") } = {}) {
  const server = await serve({ root, mounts: { "/www/": www, "/tests/": path.join(root, "tests/browser") }, isolated: true });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
      // What scripts hold in workers too is told at once, after a collection.
      "--enable-blink-features=ForceEagerMeasureMemory",
    ],
  });
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  await page.goto(`${server.origin}/tests/blank.html`);
  await page.evaluate(prepare, { seed, threads });
  const cdp = await page.context().newCDPSession(page);
  const system = await browser.newBrowserCDPSession();

  /** @returns {Promise<Held>} */
  async function held() {
    for (let i = 0; i < 3; i++) await cdp.send("HeapProfiler.collectGarbage");
    const { script, wasm } = await page.evaluate(() => globalThis.soak.held());
    const { nodes, jsEventListeners } = await cdp.send("Memory.getDOMCounters");
    const { processInfo } = await system.send("SystemInfo.getProcessInfo");
    const resident = processInfo.filter(({ type }) => type === "renderer").reduce((sum, { id }) => sum + residentBytes(id), 0);
    return { resident, script, wasm, nodes, listeners: jsEventListeners, workers: page.workers().length };
  }

  return {
    page,
    held,
    /** Loads a model, asks it something, and unloads it, this often. @param {number} count */
    loads: (count) => page.evaluate((count) => globalThis.soak.loads(count), count),
    /** Asks about this many new pictures, in conversations of a few turns. @param {number} count */
    turns: (count) => page.evaluate((count) => globalThis.soak.turns(count), count),
    /**
     * Stops this many answers at random moments, each of them followed by a question whose answer is compared with a fresh engine's.
     * @param {number} count
     * @returns {Promise<{ differ: { asked: string, wanted: string, got: string }[], stopped: Record<string, number> }>}  `stopped`: how many before the
     *   first word, how many between words, and how many ended too soon to be stopped
     */
    aborts: (count) => page.evaluate((count) => globalThis.soak.aborts(count), count),
    close: async () => {
      await browser.close();
      await server.close();
    },
  };
}

/** What a process has in memory, where the system tells. @param {number} id */
function residentBytes(id) {
  try {
    return 1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1]);
  } catch {
    return NaN;
  }
}

/**
 * By how much more than the slack `last` exceeds `warm`; empty where memory is flat.
 * @param {Held} warm
 * @param {Held} last
 * @param {Partial<Held>} [slack]  where it is another one
 */
export function growth(warm, last, slack = {}) {
  const allowed = { ...SLACK, ...slack };
  const grown = /** @type {Partial<Held>} */ ({});
  for (const key of /** @type {(keyof Held)[]} */ (Object.keys(SLACK))) {
    if (last[key] > warm[key] + allowed[key]) grown[key] = last[key] - warm[key];
  }
  return grown;
}

/**
 * Runs in the page.
 * @param {{ seed: number, threads: number | undefined }} options
 */
async function prepare({ seed, threads }) {
  const { createEngine } = await import(new URL("/www/llava-web.js", location.href).href);
  const files = { model: new URL("/www/models/house.gguf", location.href).href, mmproj: new URL("/www/models/house-mmproj.gguf", location.href).href };
  const load = () => createEngine({ ...files, device: "cpu", cache: "none", threads });

  /** The same numbers from 0 to 1 for the same seed. */
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
  const pick = (/** @type {any[]} */ list) => list[Math.floor(random() * list.length)];
  const QUESTIONS = ["What is in this picture?", "How many objects are there?", "Is there a dog?", "What color is it?"];
  const FORMATS = ["image/png", "image/jpeg", "image/webp"];

  /** A picture that was never seen before, in a size and a format of its own. */
  async function picture() {
    const canvas = new OffscreenCanvas(64 + Math.floor(random() * 400), 64 + Math.floor(random() * 400));
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const colour = () => `hsl(${Math.floor(random() * 360)} ${40 + Math.floor(random() * 60)}% ${20 + Math.floor(random() * 60)}%)`;
    context.fillStyle = colour();
    context.fillRect(0, 0, canvas.width, canvas.height);
    for (let shapes = 1 + Math.floor(random() * 5); shapes > 0; shapes--) {
      context.fillStyle = colour();
      context.beginPath();
      context.arc(random() * canvas.width, random() * canvas.height, 10 + random() * 80, 0, 7);
      context.fill();
    }
    return canvas.convertToBlob({ type: pick(FORMATS) });
  }
  const message = (/** @type {string} */ text, /** @type {Blob} */ image) => ({ role: "user", content: [{ type: "image", image }, { type: "text", text }] });

  /** @type {any} */
  let engine = null;
  const warm = async () => (engine ??= await load());
  const unload = async () => {
    await engine?.unload();
    engine = null;
  };

  async function loads(/** @type {number} */ count) {
    await unload();
    for (let i = 0; i < count; i++) {
      const loaded = await load();
      await loaded.chat.completions.create({ messages: [message(pick(QUESTIONS), await picture())], max_tokens: 2, temperature: 0 });
      await loaded.unload();
    }
  }

  async function turns(/** @type {number} */ count) {
    const engine = await warm();
    /** @type {any[]} */
    let messages = [];
    for (let i = 0; i < count; i++) {
      if (i % 3 === 0) messages = [];
      messages.push(message(pick(QUESTIONS), await picture()));
      const reply = await engine.chat.completions.create({ messages, max_tokens: 4, temperature: 0 });
      messages.push(reply.choices[0].message);
    }
  }

  /** Questions about the example pictures, and what a fresh engine answers. @type {{ asked: string, messages: any[], ids: string }[] | null} */
  let known = null;
  async function fresh() {
    const cases = [];
    for (const name of ["pets", "fruit", "travel"]) {
      const image = await (await fetch(`/www/examples/${name}.png`)).blob();
      for (const text of QUESTIONS.slice(0, 3)) {
        const messages = [message(text, image)];
        const engine = await load();
        cases.push({ asked: `${name}: ${text}`, messages, ids: await answer(engine, messages) });
        await engine.unload();
      }
    }
    return cases;
  }
  const answer = async (/** @type {any} */ engine, /** @type {any[]} */ messages) =>
    (await engine.chat.completions.create({ messages, max_tokens: 24, temperature: 0 })).choices[0].token_ids.join(" ");

  async function aborts(/** @type {number} */ count) {
    known ??= await fresh();
    const engine = await warm();
    const differ = [];
    const stopped = { before: 0, between: 0, not: 0 };
    // How long an answer takes here and now, for the moments to be anywhere in it.
    const first = performance.now();
    await answer(engine, [message(QUESTIONS[0], await picture())]);
    let long = performance.now() - first;
    while (stopped.before + stopped.between < count) {
      // Half of them about a picture that is known, whose rows and keys the next question may use again.
      const messages = random() < 0.5 ? pick(known).messages : [message(pick(QUESTIONS), await picture())];
      const controller = new AbortController();
      const timer = setTimeout(() => controller.abort(), random() * long);
      const start = performance.now();
      let words = 0;
      let reason = null;
      try {
        for await (const chunk of await engine.chat.completions.create({ messages, max_tokens: 24, temperature: 0, stream: true, signal: controller.signal })) {
          words += chunk.choices[0]?.delta.content ? 1 : 0;
          reason = chunk.choices[0]?.finish_reason ?? reason;
        }
      } catch (error) {
        if (/** @type {any} */ (error).code !== "aborted") throw error;
        reason = "abort";
      }
      clearTimeout(timer);
      stopped[reason !== "abort" ? "not" : words > 0 ? "between" : "before"] += 1;
      long = reason === "abort" ? long * 1.02 : performance.now() - start;
      const { asked, messages: next, ids } = pick(known);
      const got = await answer(engine, next);
      if (got !== ids) differ.push({ asked, wanted: ids, got });
    }
    return { differ, stopped };
  }

  /** @type {any} */ (globalThis).soak = {
    loads, turns, aborts, unload,
    held: async () => ({
      script: (await /** @type {any} */ (performance).measureUserAgentSpecificMemory()).bytes,
      wasm: engine?.info.bytes.wasmHeap ?? 0,
    }),
  };
}

/**
 * The whole of it, in rounds; tells of each.
 * @param {{ loads: number, turns: number, aborts: number, rounds: number, seed?: number, threads?: number }} options
 * @param {(line: object) => void} tell
 */
export async function soak({ loads, turns, aborts, rounds, ...options }, tell) {
  const tab = await openSoak(options);
  try {
    const grown = /** @type {Record<string, object>} */ ({});
    const differ = [];
    for (const [kind, count] of /** @type {const} */ ([["loads", loads], ["turns", turns], ["aborts", aborts]])) {
      /** @type {Held | null} */
      let warm = null;
      for (let round = 0, done = 0; round < rounds && done < count; round++) {
        const now = Math.round((count * (round + 1)) / rounds) - done;
        const result = await tab[kind](now);
        done += now;
        const held = await tab.held();
        if (result) differ.push(...result.differ);
        tell({ [kind]: done, ...(result && { stopped: result.stopped, differ: result.differ.length }), ...held });
        // The first rounds fill caches, grow the wasm memory to what pictures need, and warm up V8.
        if (round === Math.floor(rounds / 4)) warm = held;
        if (round === rounds - 1 && warm) Object.assign(grown, { [kind]: growth(warm, held, kind === "aborts" ? { wasm: SLACK.wasm + PICTURE * count } : {}) });
      }
    }
    return { grown, differ };
  } finally {
    await tab.close();
  }
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      loads: { type: "string", default: "1000" }, turns: { type: "string", default: "10000" }, aborts: { type: "string", default: "1000" },
      rounds: { type: "string", default: "20" }, seed: { type: "string", default: "1" }, threads: { type: "string" },
    },
  });
  const number = (/** @type {string} */ text) => Number(text);
  const { grown, differ } = await soak({
    loads: number(values.loads), turns: number(values.turns), aborts: number(values.aborts), rounds: number(values.rounds), seed: number(values.seed),
    ...(values.threads !== undefined && { threads: number(values.threads) }),
  }, (line) => console.log(JSON.stringify(line)));
  console.log(JSON.stringify({ grown, differ }));
  if (differ.length > 0 || Object.values(grown).some((kinds) => Object.keys(kinds).length > 0)) process.exit(1);
}
