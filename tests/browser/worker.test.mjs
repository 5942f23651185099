// What becomes of an engine whose module traps, runs out of memory or is not there. The module is a stand-in here: the real
// one is not to be made to fail.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { openTab, start } from "./support.mjs";

/** A module whose tokenize() runs the given code. */
const standIn = (code) => `
  export default async function init() {}
  export class Sha256 { update() {} digestHex() { return ""; } free() {} }
  export class Engine {
    static async load() { return new Engine(); }
    static simd() { return "simd128"; }
    info() { return JSON.stringify({ name: "stand-in", vision: null, bytes: {} }); }
    tokenize(text) { ${code} }
    detokenize() { return "still there"; }
    free() {}
  }`;

describe("the worker", () => {
  let host;
  before(async () => {
    host = await start();
  });
  after(() => host.close());

  /** What two calls in a row are answered with, by an engine with this module. */
  async function outcomes(module, path = "**/pkg*/llava_web.js") {
    const tab = await openTab(host.browser);
    await tab.page.context().route(path, (route) => (module === null ? route.fulfill({ status: 404 }) :
      route.fulfill({ contentType: "text/javascript", body: module })));
    await tab.page.goto(`${host.server.origin}/tests/blank.html`);
    const result = await tab.page.evaluate(async (site) => {
      const { createEngine } = await import(`${site}llava-web.js`);
      const codes = [];
      const ask = async (call) => {
        try {
          codes.push(await call());
        } catch ({ code, message, cause }) {
          codes.push({ code, message, cause: String(cause ?? "") });
        }
      };
      let engine;
      await ask(async () => void (engine = await createEngine({ model: new Uint8Array(8) })));
      if (engine) {
        await ask(() => engine.tokenize("x"));
        await ask(() => engine.detokenize([1]));
      }
      return codes;
    }, host.site);
    await tab.close();
    return result.slice(result.length > 1 ? 1 : 0);
  }

  test("a trap is a fault: this call and every later one say so", async () => {
    const [first, second] = await outcomes(standIn('throw new WebAssembly.RuntimeError("unreachable");'));
    assert.equal(first.code, "internal");
    assert.match(first.cause, /unreachable/);
    assert.equal(second.code, "internal");
    assert.match(second.message, /Create the engine again/);
  });

  test("memory that cannot be had is out_of_memory", async () => {
    for (const code of ['throw new WebAssembly.RuntimeError("memory allocation of 9 bytes failed");', 'throw new RangeError("Array buffer allocation failed");']) {
      const [first, second] = await outcomes(standIn(code));
      assert.equal(first.code, "out_of_memory");
      assert.equal(second.code, "internal");
    }
  });

  test("an error with a code keeps it, and the engine goes on", async () => {
    const [first, second] = await outcomes(standIn('throw Object.assign(new Error("Too long: 7 of 5."), { code: "context_overflow" });'));
    assert.deepEqual([first.code, first.message], ["context_overflow", "Too long: 7 of 5."]);
    assert.equal(second, "still there");
  });

  test("a code that is none becomes internal", async () => {
    const [first] = await outcomes(standIn('throw Object.assign(new Error("?"), { code: "wat" });'));
    assert.equal(first.code, "internal");
  });

  test("files that were not published are named", async () => {
    for (const path of ["**/pkg*/llava_web.js", "**/worker.js"]) {
      const [only] = await outcomes(null, path);
      assert.equal(only.code, "network");
      assert.match(only.message, path.includes("pkg") ? /pkg-relaxed\// : /worker\.js/);
    }
  });
});
