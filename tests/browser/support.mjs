// A browser, the served page, and the reference data, for the tests beside this file.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

import { loggedRequests, objection } from "../tools/requests.mjs";
import { serve } from "../tools/serve.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
/** The published folder; another one may be named to try the page without a built engine. */
export const WWW = process.env.LLAVA_WWW ?? path.join(here, "../../www");
export const GOLDEN = process.env.LLAVA_GOLDEN ?? path.join(here, "../golden");
const MODELS = path.join(here, "../../models");
export const SCREENSHOTS = path.join(here, "screenshots");

export const golden = (name) => path.join(GOLDEN, name);
export const goldenJson = (name) => JSON.parse(readFileSync(golden(name), "utf8"));

/** Flags for a browser that has a WebGPU adapter here: one that computes on the CPU. */
export const SWIFTSHADER = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
/**
 * The same, and kernels do not begin by filling their workgroup's memory with zeros, on which ours do not rely: compiling that takes this adapter
 * twice as long as all else. For tests that load often; webgpu.test.mjs has the kernels as visitors have them.
 */
export const QUICK_SWIFTSHADER = [...SWIFTSHADER, "--enable-dawn-features=disable_workgroup_init"];

/** Why tests that need the engine cannot run, or false. */
export const withoutEngine = existsSync(path.join(WWW, "pkg/llava_web.js")) ? false : "www/pkg is not built: run ./build.sh build";
/** Why tests that need the modules with threads cannot run, or false. */
export const withoutThreads = existsSync(path.join(WWW, "pkg-threads/llava_web.js")) ? false : "www/pkg-threads is not built: it needs the source of Rust's standard library";
/** Why tests that need this model cannot run, or false. */
export const withoutModel = (name) => (existsSync(path.join(MODELS, name)) ? false : `models/${name} is missing: run ./build.sh fetch-models`);

/** One tensor of a safetensors file, as floats. */
export function goldenTensor(file, name) {
  const bytes = readFileSync(golden(file));
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const { data_offsets: [start, end], dtype } = JSON.parse(bytes.toString("utf8", 8, 8 + headerLength))[name];
  assert.equal(dtype, "F32");
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset + 8 + headerLength + start, bytes.byteOffset + 8 + headerLength + end));
}

/** A JSON schema that has something of everything, and ends soon whatever a model of noise writes. */
export const SCHEMA = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    colour: { enum: ["red", "grün", "\"blue\""] },
    box: { type: "array", items: { type: "integer", minimum: 0, maximum: 99 }, minItems: 4, maxItems: 4 },
    tree: { $ref: "#/$defs/tree" },
    when: { type: "string", format: "date" },
  },
  required: ["name", "colour", "box", "tree", "when"],
  $defs: { tree: { anyOf: [{ type: "null" }, { type: "object", properties: { sub: { $ref: "#/$defs/tree" } }, required: ["sub"], additionalProperties: false }] } },
};

/** Checks that an answer satisfies it. @param {string} text */
export function satisfiesSchema(text) {
  const value = JSON.parse(text);
  assert.deepEqual(Object.keys(value), Object.keys(SCHEMA.properties));
  assert.ok([...value.name].length <= 12);
  assert.ok(SCHEMA.properties.colour.enum.includes(value.colour));
  assert.equal(value.box.length, 4);
  assert.ok(value.box.every((n) => Number.isInteger(n) && n >= 0 && n <= 99));
  for (let tree = value.tree; tree !== null; tree = tree.sub) assert.deepEqual(Object.keys(tree), ["sub"]);
  assert.equal(new Date(`${value.when}T00:00:00Z`).toISOString().slice(0, 10), value.when);
}

export function cosine(a, b) {
  assert.equal(a.length, b.length);
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return dot / Math.sqrt(aa * bb);
}

export function maxDifference(a, b) {
  assert.equal(a.length, b.length);
  return a.reduce((max, value, i) => Math.max(max, Math.abs(value - b[i])), 0);
}

/** What the tabs asked for, where a test answers in the network's place. @type {WeakMap<import("playwright-core").Browser, { method: string, url: string }[]>} */
const askedOfTabs = new WeakMap();

/**
 * A browser and two servers: the page's, where it stands in a folder as on many static hosts, and one of another origin. Closing it fails where
 * anything was asked of the network, by a page or by a worker of any kind, that is neither a published file nor in `given`.
 * @param {Record<string, any>} [options]  `flags` for the browser; `isolated` cuts the pages off from other sites, as threads want it;
 *   `given` are addresses that the tests give to the page though no server here has such a file;
 *   all else are mounts of the servers, beside the usual ones
 */
export async function start({ flags = [], isolated = false, given = [], ...more } = {}) {
  const mounts = { ...more, "/some/folder/": WWW, "/golden/": GOLDEN, "/models/": MODELS, "/tests/": here };
  const other = await serve({ root: here, mounts });
  const server = await serve({ root: here, mounts, isolated, elsewhere: other.origin });
  const folder = mkdtempSync(path.join(tmpdir(), "llava-web-requests-"));
  const log = path.join(folder, "requests.json");
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", `--log-net-log=${log}`, ...flags],
  });
  askedOfTabs.set(browser, []);
  const servers = [server, other];
  const isFile = async (/** @type {URL} */ url) => (await servers.find(({ origin }) => origin === url.origin)?.has(url)) ?? false;
  return {
    server,
    other,
    browser,
    site: `${server.origin}/some/folder/`,
    // The page where it opens with the choice of a model, not with its own.
    chooser: `${server.origin}/some/folder/?model=`,
    /** Addresses that tests give though there is no such file. @type {(string | RegExp)[]} */
    given,
    close: async () => {
      await browser.close();
      await Promise.all([server.close(), other.close()]);
      const asked = [...loggedRequests(log), ...askedOfTabs.get(browser) ?? []];
      rmSync(folder, { recursive: true });
      const strangers = new Map();
      for (const request of asked) {
        const why = await objection(request, { isFile, given });
        if (why) strangers.set(`${request.method} ${request.url.slice(0, 300)}`, why);
      }
      assert.deepEqual([...strangers], [], "requests that should not have been made");
    },
  };
}

/**
 * A tab that remembers what went wrong in it and whom it talked to.
 * @param {import("playwright-core").Browser} browser
 */
export async function openTab(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  /** @type {string[]} */
  const complaints = [];
  /** @type {string[]} */
  const requests = [];
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error.stack)));
  context.on("request", (request) => {
    requests.push(request.url());
    if (!request.isNavigationRequest()) askedOfTabs.get(browser)?.push({ method: request.method(), url: request.url() });
  });
  return { page, complaints, requests, close: () => context.close() };
}

/**
 * Waits for the transitions under way: half-way between two colours, none has the contrast that it ends with.
 * @param {import("playwright-core").Page} page
 */
export const settled = (page) => page.evaluate(async () => {
  const roots = [document, ...[...document.querySelectorAll("*")].flatMap((node) => node.shadowRoot ?? [])];
  const transitions = roots.flatMap((root) => root.getAnimations()).filter((animation) => animation instanceof CSSTransition);
  await Promise.allSettled(transitions.map(({ finished }) => finished));
});
