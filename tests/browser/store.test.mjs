// Models kept in the browser's storage: what is fetched and what is not, what a closed tab, a full disk, a changed file and a
// damaged cache do. Most tests have a stand-in for the engine that reads files of random bytes, and tells what it was given.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { golden, openTab, start, withoutEngine } from "./support.mjs";

const CHUNK = 1 << 20;
/** Neither the last chunk nor the engine's reads are whole. */
const SIZE = 9 * CHUNK + 12_345;
/** What the stand-in leaves out, as padding is left out. */
const GAP = [5 * CHUNK - 100, 5 * CHUNK + 3000];
const TAIL = 5000;
/** What it reads before it accepts a model. */
const HEADER = 1_200_000;

/** Of a file that is worth several connections. */
const LARGE = 70 * CHUNK + 999;

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const given = (bytes) => sha256(Buffer.concat([bytes.subarray(0, GAP[0]), bytes.subarray(GAP[1], bytes.length - TAIL)]));

const STAND_IN = `
  import init, { Sha256 } from "./llava_web.js?real";
  export default (options) => init(options);
  export { Sha256 };
  export class Engine {
    static async load(model, mmproj, options, onProgress) {
      const engine = new Engine();
      engine.names = [];
      const files = [...model, ...(mmproj ?? [])];
      const headers = [];
      for (const file of files) {
        onProgress(JSON.stringify({ stage: "header", file: file.name, loaded: 0, total: 0 }));
        headers.push((await file.read(0, ${HEADER})).slice());
        // Files that the engine finds to be at fault, and models that are too large, have it in their names.
        if (file.name.includes("damaged-header")) {
          file.refuse();
          throw Object.assign(new Error(file.name + ": damaged"), { code: "invalid_gguf" });
        }
        if (file.name.includes("too-large")) throw Object.assign(new Error(file.name + " needs more memory"), { code: "out_of_memory" });
      }
      for (const file of files) {
        const hash = new Sha256();
        hash.update(headers.shift());
        const total = file.size ?? ${SIZE};
        onProgress(JSON.stringify({ stage: "model", file: file.name, loaded: 0, total }));
        const parts = [[${HEADER}, ${GAP[0]}], [${GAP[1]}, total - ${TAIL}]];
        if (file.name.includes("damaged-data")) {
          await file.read(${HEADER}, 6_000_000);
          file.refuse();
          throw Object.assign(new Error(file.name + ": not finite"), { code: "invalid_gguf" });
        }
        for (const [from, to] of parts) {
          for (let at = from; at < to; at += 1_500_000) {
            const bytes = await file.read(at, Math.min(1_500_000, to - at));
            hash.update(bytes);
            onProgress(JSON.stringify({ stage: "model", file: file.name, loaded: at + bytes.length, total }));
          }
        }
        engine.names.push(hash.digestHex());
      }
      onProgress(JSON.stringify({ stage: "ready", file: model[0].name, loaded: 0, total: 0 }));
      return engine;
    }
    static simd() { return "simd128"; }
    info() { return JSON.stringify({ name: this.names.join(), vision: null, bytes: {} }); }
    free() {}
  }`;

describe("the model store", { skip: withoutEngine }, () => {
  let host;
  let folder;
  let count = 0;
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-"));
    // Files come and go here, and one test answers in Hugging Face's place.
    host = await start({ "/files/": folder, given: [/\/pkg-relaxed\/llava_web\.js\?real$/, /\/files\/pieces-[\w.-]+\/[\w.-]+$/, /^http:\/\/127\.0\.0\.1:\d+\/files\/[\w.-]{1,80}(\?[^ ]{0,400})?$/, /^https:\/\/huggingface\.co\/owner\/repo\/(raw|resolve)\/main\/[\w./]+(\?download=true)?$/] });
  });
  after(async () => {
    await host?.close();
    rmSync(folder, { recursive: true });
  });

  /** A file of random bytes on the server. */
  function newFile(bytes = randomBytes(SIZE), name = `m${++count}.gguf`) {
    writeFileSync(path.join(folder, name), bytes);
    return { bytes, name, url: `${host.server.origin}/files/${name}`, path: path.join(folder, name) };
  }

  const requestsOf = (url) => host.server.requests.filter((request) => request.url.startsWith(new URL(url).pathname + new URL(url).search));

  /** A page with the module as `api`, and what the tests do with it. */
  async function openPage(context, origin = host.server.origin) {
    const page = await context.newPage();
    await page.goto(`${origin}/tests/blank.html`);
    await page.evaluate(async (site) => {
      globalThis.api = await import(`${site}llava-web.js`);
      globalThis.load = async (options) => {
        const seen = [];
        try {
          const engine = await globalThis.api.createEngine({ ...options, onProgress: (progress) => seen.push(progress) });
          const { name, warnings = [] } = engine.info;
          await engine.unload();
          return { given: name, warnings, seen };
        } catch ({ code, message }) {
          return { code, message, seen };
        }
      };
      /** A file of the store, by its extension. */
      globalThis.stored = async (extension) => {
        const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("llava-web");
        for await (const [name, file] of folder) if (name.endsWith(extension)) return file;
        return null;
      };
      globalThis.change = async (extension, commands) => {
        const writable = await (await globalThis.stored(extension)).createWritable({ keepExistingData: true });
        for (const command of commands) {
          const { flip, ...rest } = command;
          if (flip === undefined) {
            await writable.write(rest);
            continue;
          }
          const file = await (await globalThis.stored(extension)).getFile();
          const [byte] = new Uint8Array(await file.slice(flip, flip + 1).arrayBuffer());
          await writable.write({ type: "write", position: flip, data: new Uint8Array([byte ^ 4]) });
        }
        await writable.close();
      };
    }, host.site);
    return page;
  }

  /** A visitor of his own, with an empty storage. */
  const visit = (name, use, { real = false } = {}) => test(name, async () => {
    const tab = await openTab(host.browser);
    const context = tab.page.context();
    try {
      if (!real) await context.route("**/pkg*/llava_web.js", (route) => route.fulfill({ contentType: "text/javascript", body: STAND_IN }));
      await use(await openPage(context), context);
    } finally {
      await tab.close();
    }
  });

  const load = (page, url, options = {}) => page.evaluate((options) => globalThis.load(options), { model: url, ...options });
  const list = (page) => page.evaluate(() => globalThis.api.listCachedModels());
  const change = (page, extension, ...commands) => page.evaluate(([extension, commands]) => globalThis.change(extension, commands), [extension, commands]);
  const isGiven = (result, { bytes }) => {
    assert.equal(result.code, undefined, result.message);
    assert.equal(result.given, given(bytes), "the engine was given other bytes");
  };
  /** Waits for what the page says only when asked. */
  async function until(page, holds) {
    while (!await holds()) await page.waitForTimeout(20);
  }
  /** Starts a slow download and ends the tab when so many bytes are stored. */
  async function breakOff(context, url, bytes = 3 * CHUNK, options = {}) {
    const page = await openPage(context);
    await page.evaluate(([url, options]) => void globalThis.load({ model: url, ...options }), [url, options]);
    await until(page, async () => (await list(page)).some((model) => model.url === url && model.bytes >= bytes));
    await page.close();
  }

  visit("the first load stores, the second asks nobody", async (page) => {
    const file = newFile();
    const first = await load(page, file.url);
    isGiven(first, file);
    assert.deepEqual(first.warnings, []);
    assert.ok(first.seen.every(({ cached }) => cached === false));
    assert.equal(requestsOf(file.url).length, 1);
    const [model] = await list(page);
    assert.ok(Math.abs(model.lastUsed - Date.now()) < 60_000);
    assert.deepEqual({ ...model, lastUsed: 0 }, {
      name: file.name, url: file.url, bytes: SIZE, allocated: SIZE, total: SIZE, complete: true, lastUsed: 0, sha256: sha256(file.bytes),
    });
    const second = await load(page, file.url);
    isGiven(second, file);
    assert.equal(requestsOf(file.url).length, 1);
    assert.ok(second.seen.every(({ cached, stage }) => cached || stage === "header"));
  });

  visit("the real engine, from the network and from the storage; also offline", async (page, context) => {
    const sources = { model: `${host.server.origin}/golden/tiny-llava/tiny-llava-f16.gguf?store`, mmproj: `${host.server.origin}/golden/tiny-llava/mmproj-legacy-f16.gguf?store` };
    const first = await load(page, sources.model, sources);
    assert.equal(first.code, undefined, first.message);
    // The page's own files are a service worker's matter; here they come from beside the browser.
    const www = path.join(path.dirname(golden("x")), "../../www");
    await context.route(`${host.site}**`, (route) => {
      const file = path.join(www, new URL(route.request().url()).pathname.slice("/some/folder/".length));
      return route.fulfill({ body: readFileSync(file), contentType: file.endsWith(".wasm") ? "application/wasm" : "text/javascript" });
    });
    await context.setOffline(true);
    const second = await load(page, sources.model, sources);
    assert.equal(second.code, undefined, second.message);
    assert.equal(second.seen.at(-1).stage, "ready");
    assert.ok(second.seen.every(({ cached, stage }) => cached || stage === "header"));
    assert.equal(requestsOf(sources.model).length, 1);
    assert.equal(requestsOf(sources.mmproj).length, 1);
    // What is not there says so.
    assert.equal((await load(page, `${sources.model}&other`)).code, "network");
    assert.deepEqual((await list(page)).map(({ name }) => name).sort(), ["mmproj-legacy-f16.gguf", "tiny-llava-f16.gguf"]);
  }, { real: true });

  visit("cache: none stores nothing and reads nothing", async (page) => {
    const file = newFile();
    isGiven(await load(page, file.url, { cache: "none" }), file);
    assert.deepEqual(await list(page), []);
    isGiven(await load(page, file.url), file);
    isGiven(await load(page, file.url, { cache: "none" }), file);
    assert.equal(requestsOf(file.url).length, 3);
  });

  visit("a tab closed midway: the next one goes on where it stood", async (page, context) => {
    const file = newFile();
    const url = `${file.url}?rate=9000000`;
    await breakOff(context, url);
    const [partly] = await list(page);
    assert.equal(partly.complete, false);
    assert.equal(partly.total, SIZE);
    assert.equal(partly.bytes % CHUNK, 0);
    // Only what was on its way and one unfinished chunk are lost.
    assert.ok(partly.bytes >= 3 * CHUNK);
    const result = await load(page, url);
    isGiven(result, file);
    const [, second, ...more] = requestsOf(url);
    assert.equal(second.range, `bytes=${partly.bytes}-`);
    assert.deepEqual(more, []);
    // What is there comes first and is told as such; the counts only ever grow.
    const inModel = result.seen.filter(({ stage }) => stage === "model");
    assert.equal(inModel[0].cached, true);
    assert.equal(inModel.at(-1).cached, false);
    assert.ok(inModel.every(({ loaded, total }, i) => loaded <= total && (i === 0 || loaded >= inModel[i - 1].loaded)));
    // A disk's speed is not told as the network's.
    assert.ok(inModel.filter(({ cached }) => !cached).every(({ bytesPerSecond }) => bytesPerSecond < 50_000_000));
    const [model] = await list(page);
    assert.deepEqual([model.complete, model.sha256], [true, sha256(file.bytes)]);
  });

  visit("a load that was stopped goes on too, at once", async (page) => {
    const file = newFile();
    const url = `${file.url}?rate=9000000`;
    const [code, result] = await page.evaluate(async (url) => {
      const controller = new AbortController();
      const stopped = globalThis.load({ model: url, signal: controller.signal });
      while ((await globalThis.api.listCachedModels())[0]?.bytes > 3e6 === false) await new Promise((resolve) => setTimeout(resolve, 20));
      controller.abort();
      return [(await stopped).code, await globalThis.load({ model: url })];
    }, url);
    assert.equal(code, "aborted");
    isGiven(result, file);
    assert.match(requestsOf(url)[1].range, /^bytes=[1-9]\d+-$/);
  });

  visit("a server that drops: the download goes on, and is stored", async (page) => {
    const file = newFile();
    const url = `${file.url}?drop=4000000`;
    isGiven(await load(page, url), file);
    assert.ok(requestsOf(url).length > 2);
    isGiven(await load(page, url), file);
    assert.deepEqual((await list(page)).map(({ complete, sha256 }) => [complete, sha256]), [[true, sha256(file.bytes)]]);
  });

  for (const [name, before, later] of [
    ["the ETag has changed", "", "changed"],
    ["the server ignores ranges", "&noranges", ""],
    ["the server has no ETag", "&noetag", ""],
    ["the server sends another part", "&wrongrange", ""],
  ]) {
    visit(`resuming where ${name}: from the start`, async (page, context) => {
      const file = newFile();
      const url = `${file.url}?rate=20000000${before}`;
      await breakOff(context, url);
      assert.ok((await list(page))[0].bytes > 0);
      if (later === "changed") {
        file.bytes = randomBytes(SIZE + 777);
        writeFileSync(file.path, file.bytes);
      }
      isGiven(await load(page, url), file);
      const [model] = await list(page);
      assert.deepEqual([model.complete, model.total, model.sha256], [true, file.bytes.length, sha256(file.bytes)]);
    });
  }

  visit("no ETag, but a hash that proves the whole: goes on", async (page, context) => {
    const file = newFile();
    const url = `${file.url}?rate=20000000&noetag`;
    await breakOff(context, url);
    const hash = { sha256: { model: sha256(file.bytes) } };
    isGiven(await load(page, url, hash), file);
    assert.match(requestsOf(url).at(-1).range, /^bytes=[1-9]\d+-$/);
  });

  visit("no length announced: stored all the same", async (page) => {
    const file = newFile(readFileSync(golden("tiny-llava/tiny-llava-q4_0.gguf")));
    const url = `${file.url}?chunked`;
    assert.equal((await load(page, url)).code, undefined);
    const second = await load(page, url);
    assert.equal(second.code, undefined);
    assert.equal(requestsOf(url).length, 1);
    assert.deepEqual((await list(page)).map(({ complete, total }) => [complete, total]), [[true, file.bytes.length]]);
  }, { real: true });

  visit("a flipped bit, a hole and a cut: only those chunks are fetched again", async (page) => {
    const file = newFile();
    await load(page, file.url);
    await change(page, ".gguf", { flip: 2 * CHUNK + 77 }, { flip: 6 * CHUNK }, { flip: 7 * CHUNK + 5 });
    isGiven(await load(page, file.url), file);
    assert.deepEqual(requestsOf(file.url).slice(1).map(({ range }) => range),
      [2, 6, 7].map((i) => `bytes=${i * CHUNK}-${(i + 1) * CHUNK - 1}`));

    await change(page, ".gguf", { type: "truncate", size: 8 * CHUNK + 1000 });
    const [cut] = await list(page);
    assert.deepEqual([cut.complete, cut.bytes], [false, 8 * CHUNK]);
    isGiven(await load(page, file.url), file);
    assert.equal(requestsOf(file.url).at(-1).range, `bytes=${8 * CHUNK}-`);
    await change(page, ".gguf", { type: "truncate", size: 0 });
    isGiven(await load(page, file.url), file);

    const before = requestsOf(file.url).length;
    isGiven(await load(page, file.url), file);
    assert.equal(requestsOf(file.url).length, before, "it was repaired");
    assert.equal((await list(page))[0].complete, true);
  });

  visit("a damaged chunk on a host that has another version by now is never run", async (page) => {
    const file = newFile();
    await load(page, file.url);
    writeFileSync(file.path, randomBytes(SIZE));
    await change(page, ".gguf", { flip: 3 * CHUNK });
    const { code, message } = await load(page, file.url);
    assert.equal(code, "integrity");
    assert.match(message, /another version/);
    assert.deepEqual(await list(page), []);
    isGiven(await load(page, file.url), { bytes: readFileSync(file.path) });
  });

  visit("a damaged chunk without a network: network, and nothing is lost", async (page, context) => {
    const file = newFile();
    await load(page, file.url);
    await change(page, ".gguf", { flip: 3 * CHUNK });
    await context.route("**/files/**", (route) => route.abort());
    assert.equal((await load(page, file.url)).code, "network");
    await context.unroute("**/files/**");
    isGiven(await load(page, file.url), file);
    assert.equal(requestsOf(file.url).at(-1).range, `bytes=${3 * CHUNK}-${4 * CHUNK - 1}`);
  });

  visit("a damaged record costs what it spoke of, at most a download", async (page) => {
    const file = newFile();
    await load(page, file.url);
    const text = await page.evaluate(async () => (await (await globalThis.stored(".log")).getFile()).text());
    // A digit of one chunk's line, and half a line at the end.
    await change(page, ".log", { flip: text.indexOf('"chunk":4') + 20 }, { type: "write", position: text.length, data: '1234 {"chu' });
    isGiven(await load(page, file.url), file);
    assert.equal(requestsOf(file.url).at(-1).range, `bytes=${4 * CHUNK}-${5 * CHUNK - 1}`);
    assert.equal((await list(page))[0].complete, true);
    // The hash's line: it is computed again, without a request.
    await change(page, ".log", { flip: text.indexOf('"sha256"') + 20 });
    const before = requestsOf(file.url).length;
    // Pages that have read a record read on from there.
    const fresh = await openPage(page.context());
    assert.equal((await list(fresh))[0].sha256, undefined);
    isGiven(await load(page, file.url), file);
    assert.equal((await list(page))[0].sha256, sha256(file.bytes));
    assert.equal(requestsOf(file.url).length, before);
    // The first line, without which there is no record.
    await change(page, ".log", { flip: 3 });
    assert.deepEqual(await list(page), []);
    isGiven(await load(page, file.url), file);
    assert.equal((await list(page))[0].complete, true);
  });

  visit("hashes: a wrong one, a right one, another version's", async (page) => {
    const file = newFile();
    const wrong = await load(page, file.url, { sha256: { model: "0".repeat(64) } });
    assert.equal(wrong.code, "integrity");
    assert.ok(wrong.message.includes(sha256(file.bytes)));
    assert.deepEqual(await list(page), []);
    isGiven(await load(page, file.url, { sha256: { model: sha256(file.bytes) } }), file);
    isGiven(await load(page, file.url, { sha256: { model: sha256(file.bytes).toUpperCase() } }), file);
    assert.equal(requestsOf(file.url).length, 2);
    // The host has a new version, and the page asks for it.
    const old = file.bytes;
    file.bytes = randomBytes(SIZE);
    writeFileSync(file.path, file.bytes);
    isGiven(await load(page, file.url), { bytes: old });
    isGiven(await load(page, file.url, { sha256: { model: sha256(file.bytes) } }), file);
    assert.deepEqual((await list(page)).map(({ sha256 }) => sha256), [sha256(file.bytes)]);
  });

  visit("an ETag that looks like a hash fails nothing: it may be any", async (page) => {
    const file = newFile();
    isGiven(await load(page, `${file.url}?hashetag`), file);
    assert.equal((await list(page))[0].sha256, sha256(file.bytes));
    const opaque = `${file.url}?etag=${"ab".repeat(32)}`;
    isGiven(await load(page, opaque), file);
    const { complete, sha256: found } = (await list(page)).find(({ url }) => url === opaque);
    assert.deepEqual([complete, found], [true, undefined]);
    isGiven(await load(page, opaque), file);
    assert.equal(requestsOf(opaque).length, 1);
    // The caller's word is worth more: the same file is there under another address.
    isGiven(await load(page, opaque, { sha256: { model: sha256(file.bytes) } }), file);
    assert.equal(requestsOf(opaque).length, 1);
  });

  visit("a file is known by its address without fragment and signature, and by its hash", async (page) => {
    const file = newFile();
    const signed = (n) => `X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=${n}&X-Amz-Expires=60&X-Amz-Signature=${n}`;
    isGiven(await load(page, `${file.url}?rate=60000000#one`), file);
    const asked = () => host.server.requests.filter(({ url }) => url.includes(`/files/${file.name}`)).length;
    assert.equal(asked(), 1);
    for (const url of [`${file.url}?rate=60000000`, `${file.url}?rate=60000000#two`, `${file.url}?rate=60000000&${signed(1)}`, `${file.url}?rate=60000000&${signed(2)}`]) isGiven(await load(page, url), file);
    assert.equal(asked(), 1);
    // Under another address altogether, with the hash.
    const elsewhere = `${host.other.origin}/files/${file.name}?token=1`;
    isGiven(await load(page, elsewhere, { sha256: { model: sha256(file.bytes) } }), file);
    assert.deepEqual((await list(page)).map(({ name, complete }) => [name, complete]), [[file.name, true]]);
    // The latest address is the one to go on with; any of them names the file.
    assert.equal((await list(page))[0].url, elsewhere);
    await page.evaluate((url) => globalThis.api.deleteCachedModel(url), `${elsewhere}#x`);
    assert.deepEqual(await list(page), []);
  });

  visit("a download that was broken off goes on under a new address, where a hash names the file", async (page, context) => {
    const file = newFile();
    const hash = { sha256: { model: sha256(file.bytes) } };
    await breakOff(context, `${file.url}?rate=9000000&token=1`, undefined, hash);
    isGiven(await load(page, `${file.url}?rate=60000000&token=2&newetag`, hash), file);
    assert.match(requestsOf(file.url).at(-1).range, /^bytes=[1-9]\d+-$/);
    assert.equal((await list(page)).length, 1);
  });

  visit("another ETag where a hash of the whole is known: goes on, and begins anew once where the hash says so", async (page, context) => {
    const file = newFile();
    const url = `${file.url}?rate=20000000`;
    await breakOff(context, url);
    // The host has a new version of the same length.
    file.bytes = randomBytes(SIZE);
    writeFileSync(file.path, file.bytes);
    isGiven(await load(page, url, { sha256: { model: sha256(file.bytes) } }), file);
    const [, resumed, ...again] = requestsOf(url);
    assert.match(resumed.range, /^bytes=[1-9]\d+-$/);
    assert.deepEqual(again.map(({ range }) => range), ["bytes=0-"]);
    assert.deepEqual((await list(page)).map(({ complete, sha256 }) => [complete, sha256]), [[true, sha256(file.bytes)]]);
  });

  visit("Hugging Face: the pointer in the repository has the hash", async (page, context) => {
    const file = newFile();
    let oid = sha256(file.bytes);
    await context.route("https://huggingface.co/**", (route) => {
      const headers = { "access-control-allow-origin": "*" };
      const { pathname } = new URL(route.request().url());
      if (pathname === "/owner/repo/raw/main/sub/m.gguf") {
        return route.fulfill({ headers, body: `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${SIZE}\n`, contentType: "text/plain" });
      }
      return route.fulfill({ headers, body: file.bytes, contentType: "application/octet-stream" });
    });
    isGiven(await load(page, "hf:owner/repo/sub/m.gguf"), file);
    isGiven(await load(page, "https://huggingface.co/owner/repo/resolve/main/sub/m.gguf?download=true"), file);
    assert.equal((await list(page)).length, 1);
    await page.evaluate(() => globalThis.api.deleteCachedModel("m.gguf"));
    oid = "cd".repeat(32);
    assert.equal((await load(page, "hf:owner/repo/sub/m.gguf")).code, "integrity");
    assert.deepEqual(await list(page), []);
  });

  visit("as Hugging Face has it: a redirect to a signed address of another origin, whose signature expires and whose ETag changes", async (page, context) => {
    const file = newFile(randomBytes(LARGE));
    const oid = sha256(file.bytes);
    let rate = "rate=12000000&";
    await context.route("https://huggingface.co/**", (route) => {
      const headers = { "access-control-allow-origin": "*" };
      if (new URL(route.request().url()).pathname.includes("/raw/")) return route.fulfill({ headers, body: `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${LARGE}\n`, contentType: "text/plain" });
      // Each signature holds for one request.
      return route.fulfill({ status: 302, headers: { ...headers, location: `${host.server.origin}/files/${file.name}?${rate}newetag&signed=1` } });
    });
    const sent = () => host.other.requests.filter(({ url }) => url.includes(file.name) && url.includes("X-Amz-Signature"));
    const tab = await openPage(context);
    await tab.evaluate(() => void globalThis.load({ model: "hf:owner/repo/m.gguf" }));
    while (!((await list(page))[0]?.bytes > 20 * CHUNK)) await page.waitForTimeout(20);
    await tab.close();
    const [partly] = await list(page);
    assert.ok(!partly.complete);
    const before = sent().length;
    rate = "";
    isGiven(await load(page, "https://huggingface.co/owner/repo/blob/main/m.gguf?download=true"), file);
    const later = sent().slice(before);
    assert.ok(later.every(({ range }) => range !== "bytes=0-"));
    assert.ok(later.reduce((sum, { sent }) => sum + sent, 0) < LARGE - partly.bytes + 16 * CHUNK);
    assert.deepEqual((await list(page)).map(({ name, complete, sha256 }) => [name, complete, sha256]), [["m.gguf", true, oid]]);
    assert.deepEqual(host.other.requests.filter(({ method }) => method === "OPTIONS"), []);
  });

  for (const [name, query] of [
    ["compresses all it sends, and says how long that is", "gzip"], ["compresses what is asked for as a whole", "gzip&ranges"],
    ["hides its headers", "hidden"], ["hides its headers and drops connections", "hidden&drop=3000000"], ["sends little at once", "most=3000000"],
    ["knows no ranges", "noranges"], ["fails where a range is asked for", "rangefails"],
  ]) {
    visit(`another origin that ${name}`, async (page) => {
      const file = newFile(Buffer.concat([Buffer.alloc(3 * CHUNK), randomBytes(SIZE - 3 * CHUNK)]));
      const url = `${host.other.origin}/files/${file.name}?${query}`;
      isGiven(await load(page, url), file);
      assert.deepEqual((await list(page)).map(({ complete, total, sha256 }) => [complete, total, sha256]), [[true, SIZE, sha256(file.bytes)]]);
    });
  }

  visit("another origin that lets nobody read its files: network, and what to do", async (page) => {
    const { code, message } = await load(page, `${host.other.origin}/files/${newFile().name}?nocors`);
    assert.equal(code, "network");
    assert.match(message, /CORS.*choose it from disk/);
    assert.deepEqual(await list(page), []);
  });

  visit("from another origin, resumed without a preflight", async (page, context) => {
    const file = newFile();
    const url = `${host.other.origin}/files/${file.name}?rate=9000000`;
    const other = (method) => host.other.requests.filter((request) => request.url.includes(file.name) && request.method === method);
    await breakOff(context, url);
    isGiven(await load(page, url), file);
    assert.match(other("GET")[1].range, /^bytes=[1-9]\d+-$/);
    assert.deepEqual(other("OPTIONS"), []);
  });

  visit("a split model: each part is a file of its own", async (page) => {
    const parts = [1, 2, 3].map((n) => newFile(randomBytes(SIZE + n), `split${++count}-0000${n}-of-00003.gguf`));
    const urls = parts.map(({ url }) => url);
    const expected = parts.map(({ bytes }) => given(bytes)).join();
    assert.equal((await load(page, urls)).given, expected);
    assert.equal((await load(page, urls)).given, expected);
    assert.deepEqual(urls.map((url) => requestsOf(url).length), [1, 1, 1]);
    await page.evaluate((name) => globalThis.api.deleteCachedModel(name), parts[1].name);
    assert.equal((await load(page, urls)).given, expected);
    assert.deepEqual(urls.map((url) => requestsOf(url).length), [1, 2, 1]);
    // The same file twice in one load waits for nobody.
    assert.equal((await load(page, [urls[0], urls[0]])).given, `${given(parts[0].bytes)},${given(parts[0].bytes)}`);
  });

  visit("two tabs and two engines of one page at once: one download", async (page, context) => {
    const file = newFile();
    const url = `${file.url}?rate=9000000`;
    const other = await openPage(context);
    const results = await Promise.all([load(page, url), load(page, url), load(other, url), load(other, url)]);
    for (const result of results) isGiven(result, file);
    assert.equal(requestsOf(url).length, 1);
    // Whoever waits is told how far the other one is.
    const waited = results.flatMap(({ seen }) => seen.filter(({ stage, total }) => stage === "header" && total === SIZE));
    assert.ok(waited.length > 0 && waited.every(({ loaded }) => loaded <= SIZE));
    // All of them read at the same time.
    for (const result of await Promise.all([load(page, url), load(page, url), load(other, url)])) isGiven(result, file);
    assert.equal(requestsOf(url).length, 1);
  });

  visit("a tab that waits takes over where the other one is closed", async (page, context) => {
    const file = newFile();
    const url = `${file.url}?rate=6000000`;
    const other = await openPage(context);
    await other.evaluate((url) => void globalThis.load({ model: url }), url);
    while (requestsOf(url).length === 0) await page.waitForTimeout(10);
    const waiting = load(page, url);
    while (requestsOf(url)[0].sent < 3 * CHUNK) await page.waitForTimeout(20);
    await other.close();
    isGiven(await waiting, file);
    assert.match(requestsOf(url)[1].range, /^bytes=[1-9]\d+-$/);
  });

  visit("deleting: by name, by address, not while it is loaded, not what is not there", async (page) => {
    const remove = (name) => page.evaluate((name) => globalThis.api.deleteCachedModel(name).then(() => null, ({ code, message }) => ({ code, message })), name);
    const [a, b] = [newFile(), newFile()];
    await load(page, a.url);
    await load(page, `${b.url}?1`);
    await load(page, `${b.url}?2`);
    // Two of a name are told apart by their addresses.
    assert.deepEqual((await list(page)).map(({ name }) => name), [`${b.url}?2`, `${b.url}?1`, a.name]);
    assert.equal((await remove(b.name)).code, "invalid_request");
    assert.equal(await remove(`${b.url}?1`), null);
    assert.equal(await remove(b.name), null);
    const usage = () => page.evaluate(async () => (await globalThis.api.storageEstimate()).usage);
    const before = await usage();
    assert.equal(await remove(a.name), null);
    assert.ok(await usage() <= before - SIZE);
    assert.deepEqual(await list(page), []);
    const missing = await remove(a.name);
    assert.equal(missing.code, "invalid_request");
    assert.match(missing.message, /empty/);

    const url = `${a.url}?rate=9000000`;
    const loading = load(page, url);
    while ((await list(page)).length === 0) await page.waitForTimeout(20);
    assert.equal((await remove(url)).code, "storage");
    isGiven(await loading, a);
    assert.equal(await remove(url), null);
  });

  /** Sets how much the origin may store. */
  async function quota(context, page, quotaSize) {
    const session = await context.newCDPSession(page);
    await session.send("Storage.overrideQuotaForOrigin", { origin: host.server.origin, ...(quotaSize === null ? {} : { quotaSize }) });
    // The override ends with its session.
    return session;
  }

  visit("too little room: loaded without storing, with a word; or an error where storing was asked for", async (page, context) => {
    const [old, file] = [newFile(), newFile()];
    await load(page, old.url);
    await quota(context, page, 14 * CHUNK);
    const result = await load(page, file.url);
    isGiven(result, file);
    assert.match(result.warnings[0], new RegExp(`not kept.*${SIZE} bytes.*${old.name.replace(".", "\\.")}`));
    const { code, message } = await load(page, file.url, { cache: "opfs" });
    assert.equal(code, "storage");
    for (const part of [String(SIZE), old.name, "9.4 MB", 'cache: "none"']) assert.ok(message.includes(part), `"${part}" in: ${message}`);
    assert.deepEqual((await list(page)).map(({ name }) => name), [old.name]);
    await page.evaluate((name) => globalThis.api.deleteCachedModel(name), old.name);
    await quota(context, page, 20 * CHUNK);
    isGiven(await load(page, file.url, { cache: "opfs" }), file);
    assert.equal((await list(page))[0].complete, true);
  });

  for (const cache of [undefined, "opfs"]) {
    visit(`the storage fills up midway, cache: ${cache}`, async (page, context) => {
      const file = newFile();
      // Without a length there is nothing to take the room for beforehand.
      const url = `${file.url}?rate=9000000&chunked&noranges`;
      const sized = { sha256: { model: sha256(file.bytes) } };
      await quota(context, page, 6 * CHUNK);
      const result = await load(page, url, { cache, ...sized });
      if (cache) {
        assert.equal(result.code, "storage", JSON.stringify(result.warnings));
        assert.match(result.message, /no room/);
      } else {
        isGiven(result, file);
        assert.match(result.warnings[0], /not wholly kept/);
      }
      const [partly] = await list(page);
      assert.equal(partly.complete, false);
      assert.ok(partly.bytes > 0);
      await quota(context, page, 30 * CHUNK);
      isGiven(await load(page, url, sized), file);
      assert.equal((await list(page))[0].complete, true);
    });
  }

  visit("room that was taken for a download counts as its own when it goes on", async (page, context) => {
    const file = newFile();
    const url = `${file.url}?rate=9000000`;
    await quota(context, page, 12 * CHUNK);
    await breakOff(context, url);
    const result = await load(page, url, { cache: "opfs" });
    isGiven(result, file);
    assert.deepEqual(result.warnings, []);
    assert.equal((await list(page))[0].complete, true);
  });

  visit("the browser is asked not to clear the storage when a large model is kept, once the person has done something", async (page) => {
    await page.evaluate(() => {
      globalThis.asked = 0;
      StorageManager.prototype.persist = async () => {
        globalThis.asked += 1;
        return false;
      };
    });
    const asked = () => page.evaluate(() => globalThis.asked);
    const large = newFile(Buffer.alloc(101_000_000));
    // Neither for one that is soon downloaded again, nor for one that is not kept; and not before a click, whatever is kept.
    isGiven(await load(page, large.url, { cache: "none" }), large);
    await page.mouse.click(5, 5);
    const small = newFile();
    isGiven(await load(page, small.url), small);
    isGiven(await load(page, small.url), small);
    assert.equal(await asked(), 0);
    // A page on which nobody has done anything yet.
    const fresh = await openPage(page.context());
    await fresh.evaluate(() => {
      // The browser takes what a test evaluates for something that the person did.
      Object.defineProperty(navigator, "userActivation", { value: { hasBeenActive: false } });
      globalThis.asked = 0;
      StorageManager.prototype.persist = async () => {
        globalThis.asked += 1;
        return false;
      };
    });
    isGiven(await load(fresh, large.url), large);
    assert.equal(await fresh.evaluate(() => globalThis.asked), 0);
    await fresh.mouse.click(5, 5);
    await fresh.waitForFunction(() => globalThis.asked === 1);
    // What was kept before is no reason to ask again.
    isGiven(await load(fresh, large.url), large);
    assert.equal(await fresh.evaluate(() => globalThis.asked), 1);
  });

  visit("a damaged file is deleted, and no other one: whatever their names", async (page) => {
    const complete = async () => (await list(page)).filter(({ complete }) => complete).map(({ name }) => name).sort();
    const model = newFile(randomBytes(SIZE), `x${++count}.gguf`);
    isGiven(await load(page, model.url), model);
    // The message about each of these has the model's name in it.
    for (const kind of ["damaged-header", "damaged-data"]) {
      const mmproj = newFile(randomBytes(SIZE), `${kind}-${model.name}`);
      const { code, message } = await load(page, model.url, { mmproj: mmproj.url });
      assert.equal(code, "invalid_gguf");
      assert.ok(message.includes(model.name));
      assert.deepEqual((await list(page)).map(({ name, complete }) => [name, complete]), [[model.name, true]]);
    }
    // A model that was on its way when the other file turned out to be damaged stays.
    const other = newFile();
    const damaged = newFile(randomBytes(SIZE), `damaged-data-${other.name}`);
    assert.equal((await load(page, other.url, { mmproj: damaged.url })).code, "invalid_gguf");
    assert.deepEqual(await complete(), [model.name, other.name].sort());
    // One that is complete, with its hash, is the file that the host has, whatever the engine says of it.
    const odd = newFile();
    isGiven(await load(page, odd.url), odd);
    await page.context().route(odd.url, (route) => route.abort());
    await page.context().route("**/pkg*/llava_web.js", (route) => route.fulfill({ contentType: "text/javascript", body: STAND_IN.replaceAll("damaged-header", odd.name) }));
    assert.equal((await load(page, odd.url)).code, "invalid_gguf");
    assert.ok((await complete()).includes(odd.name));
  });

  visit("a real model stays where the vision file named after it is damaged", async (page) => {
    const model = newFile(readFileSync(golden("tiny-llava/tiny-llava-f16.gguf")), `tiny${++count}.gguf`);
    const whole = readFileSync(golden("tiny-llava/mmproj-legacy-f16.gguf"));
    assert.equal((await load(page, model.url)).code, undefined);
    const noMagic = Buffer.from(whole).fill(0, 0, 4);
    const notFinite = Buffer.from(whole).fill(0xff, whole.length - 4096);
    for (const bytes of [noMagic, whole.subarray(0, whole.length - 100_000), notFinite]) {
      const mmproj = newFile(bytes, `mmproj${++count}-${model.name}`);
      assert.equal((await load(page, model.url, { mmproj: mmproj.url })).code, "invalid_gguf");
      assert.deepEqual((await list(page)).map(({ name, complete }) => [name, complete]), [[model.name, true]]);
    }
  }, { real: true });

  visit("a model that is refused takes no room", async (page) => {
    const usage = () => page.evaluate(async () => (await globalThis.api.storageEstimate()).usage);
    const before = await usage();
    const file = newFile(randomBytes(LARGE), `too-large${++count}.gguf`);
    const { code } = await load(page, file.url, { cache: "opfs" });
    assert.equal(code, "out_of_memory");
    assert.deepEqual(await list(page), []);
    // What a folder and its book-keeping take.
    assert.ok(await usage() - before < 1e6, `${await usage() - before} bytes`);
    // No more than the header was downloaded; the rest is what the browser and the system take in by themselves.
    assert.equal(requestsOf(file.url).length, 1, "nothing is read ahead of a model that may be refused");
  });

  visit("a load that is stopped gives back the room that it took, one whose tab was closed at the next load", async (page, context) => {
    const file = newFile(randomBytes(LARGE));
    const url = `${file.url}?rate=9000000`;
    const figures = async () => (await list(page)).filter((model) => model.url === url).map(({ bytes, allocated, total }) => ({ bytes, allocated, total }))[0];
    /** Until so much is there, and room for all of it. */
    const begun = async (bytes) => {
      for (let now; !((now = await figures())?.bytes >= bytes && now.allocated === LARGE);) await page.waitForTimeout(20);
    };
    await page.evaluate((url) => {
      globalThis.controller = new AbortController();
      globalThis.stopped = globalThis.load({ model: url, signal: globalThis.controller.signal });
    }, url);
    await begun(4 * CHUNK);
    await page.evaluate(() => globalThis.controller.abort());
    assert.equal((await page.evaluate(() => globalThis.stopped)).code, "aborted");
    const stopped = await figures();
    assert.ok(stopped.bytes >= 4 * CHUNK && stopped.allocated >= stopped.bytes && stopped.allocated < LARGE, JSON.stringify(stopped));

    const tab = await openPage(context);
    await tab.evaluate((url) => void globalThis.load({ model: url }), url);
    await begun(stopped.bytes + 4 * CHUNK);
    await tab.close();
    assert.equal((await figures()).allocated, LARGE);
    // Its worker ends a little later.
    await until(page, () => page.evaluate(async () => (await navigator.locks.query()).held.length === 0));
    // Of another model: what is lacking to it may be what nobody uses.
    const other = newFile();
    isGiven(await load(page, other.url), other);
    const left = await figures();
    assert.ok(left.bytes >= stopped.bytes && left.allocated < LARGE, JSON.stringify(left));
    isGiven(await load(page, url.replace("9000000", "900000000")), file);
  });

  /** Makes the worker's browser another one. */
  async function inWorkers(context, script) {
    await context.route("**/load-files.js", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `${await response.text()}\n${script}` });
    });
  }

  for (const [name, script, warning] of [
    ["no such storage, as in private windows", 'StorageManager.prototype.getDirectory = () => Promise.reject(new DOMException("No.", "SecurityError"));', /keeps no files/],
    ["files that cannot be opened", 'FileSystemFileHandle.prototype.createSyncAccessHandle = () => Promise.reject(new DOMException("No.", "NotAllowedError"));', /not wholly kept.*No\./],
    ["files that cannot be made", 'FileSystemDirectoryHandle.prototype.getFileHandle = () => Promise.reject(new DOMException("No.", "UnknownError"));', /not wholly kept.*No\./],
    ["no locks", 'LockManager.prototype.request = () => Promise.reject(new DOMException("No.", "SecurityError"));', /not kept.*No\./],
  ]) {
    visit(`${name}: loaded from the network, with a word`, async (page, context) => {
      const file = newFile();
      await inWorkers(context, script);
      const result = await load(page, file.url);
      isGiven(result, file);
      assert.match(result.warnings[0], warning);
      assert.ok((await list(page)).every(({ complete }) => !complete));
    });
  }

  const HANDLES = "const create = FileSystemFileHandle.prototype.createSyncAccessHandle;";
  visit("a browser that gives a file's only handle to one reader: others read all the same", async (page, context) => {
    const file = newFile(randomBytes(LARGE));
    isGiven(await load(page, file.url), file);
    await inWorkers(context, `${HANDLES} FileSystemFileHandle.prototype.createSyncAccessHandle = function () { return create.call(this); };`);
    const other = await openPage(context);
    for (const result of await Promise.all([load(page, file.url), load(other, file.url), load(page, file.url)])) isGiven(result, file);
    assert.equal(requestsOf(file.url).length, requestsOf(file.url).filter(({ to }) => to !== Infinity).length);
    assert.equal(requestsOf(`${file.url}`).filter(({ range }) => range === "bytes=0-").length, 1, "nobody downloads it again");
  });

  visit("a browser whose handles answer with promises, and one that says otherwise that a file is open", async (page, context) => {
    const file = newFile();
    await inWorkers(context, `${HANDLES}
      let busy = 0;
      FileSystemFileHandle.prototype.createSyncAccessHandle = async function (options) {
        if (busy++ % 3 !== 2) throw new DOMException("It is open.", "InvalidStateError");
        const handle = await create.call(this, options);
        for (const name of ["getSize", "truncate", "flush", "close"]) {
          const method = handle[name];
          handle[name] = async (...args) => method.apply(handle, args);
        }
        return handle;
      };`);
    const result = await load(page, file.url, { cache: "opfs" });
    isGiven(result, file);
    assert.deepEqual(result.warnings, []);
    assert.deepEqual((await list(page)).map(({ complete, allocated }) => [complete, allocated]), [[true, SIZE]]);
    isGiven(await load(page, file.url), file);
    assert.equal(requestsOf(file.url).length, 1);
  });

  /** The most requests that were open at the same time. */
  const atOnce = (requests) => Math.max(...requests.map(({ from }) => requests.filter((other) => other.from <= from && from < other.to).length));

  visit("a large file: several parts at once, given in order, each byte asked for once", async (page) => {
    const file = newFile(randomBytes(LARGE));
    // Each connection has this rate, as on hosts that share their line out among connections.
    const url = `${file.url}?rate=4000000`;
    const first = await load(page, url);
    isGiven(first, file);
    const requests = requestsOf(url);
    assert.equal(requests[0].range, "bytes=0-");
    for (const { range } of requests.slice(1)) {
      const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range);
      assert.equal(from % CHUNK, 0);
      assert.ok((to === "" ? LARGE : Number(to) + 1) - from <= 16 * CHUNK, range);
    }
    // The server sees one end a little after the next has begun.
    assert.ok(atOnce(requests) >= 3 && atOnce(requests) <= 5, `${atOnce(requests)} at once`);
    // What the browser had taken in on the reader's own connection, beyond where another's part began, is all that is sent twice.
    const sent = requests.reduce((sum, { sent }) => sum + sent, 0);
    assert.ok(sent < LARGE + 16 * CHUNK, `${sent} of ${LARGE}`);
    const inModel = first.seen.filter(({ stage }) => stage === "model");
    assert.ok(inModel.every(({ cached, loaded, total }, i) => !cached && loaded <= total && (i === 0 || loaded >= inModel[i - 1].loaded)));
    assert.deepEqual((await list(page)).map(({ complete, sha256 }) => [complete, sha256]), [[true, sha256(file.bytes)]]);
    isGiven(await load(page, url), file);
    assert.equal(requestsOf(url).length, requests.length);
  });

  visit("a tab closed with several downloads open: only what is missing is asked for", async (page, context) => {
    const file = newFile(randomBytes(LARGE));
    const url = `${file.url}?rate=6000000`;
    await breakOff(context, url, 8 * CHUNK);
    assert.ok(requestsOf(url).length >= 4);
    const [partly] = await list(page);
    assert.ok(!partly.complete, `${partly.bytes}`);
    const before = requestsOf(url).length;
    isGiven(await load(page, url), file);
    const later = requestsOf(url).slice(before);
    assert.ok(later.every(({ range }) => !range.startsWith("bytes=0-")));
    const sent = later.reduce((sum, { sent }) => sum + sent, 0);
    assert.ok(sent >= LARGE - partly.bytes && sent < LARGE - partly.bytes + 8 * CHUNK, `${sent} for ${LARGE - partly.bytes}`);
    assert.equal((await list(page))[0].sha256, sha256(file.bytes));
  });

  for (const [name, query] of [
    ["ignores ranges", "noranges"], ["has another ETag each time", "newetag"], ["shows no ETag", "noetag"], ["sends another part", "wrongrange"],
    ["allows one connection", "connections=1"], ["allows two connections", "connections=2"], ["drops every connection", "drop=9000000"],
    ["has failures that pass", "status=500&times=1"], ["redirects", "redirect"],
  ]) {
    visit(`a large file from a host that ${name}`, async (page) => {
      const file = newFile(randomBytes(LARGE));
      const url = `${file.url}?rate=60000000&${query}`;
      isGiven(await load(page, url), file);
      const [model] = await list(page);
      assert.deepEqual([model.complete, model.sha256], [true, sha256(file.bytes)]);
      // It is not asked again and again for what it does not give.
      assert.ok(requestsOf(url).length <= 16, `${requestsOf(url).length} requests`);
    });
  }

  visit("a large file that is exchanged midway: one version or the other, never both", async (page) => {
    for (const query of ["rate=20000000", "rate=20000000&drop=30000000"]) {
      const file = newFile(randomBytes(LARGE));
      const url = `${file.url}?${query}`;
      const loading = load(page, url);
      while (requestsOf(url).length < 4) await page.waitForTimeout(10);
      const exchanged = randomBytes(LARGE);
      writeFileSync(`${file.path}.new`, exchanged);
      renameSync(`${file.path}.new`, file.path);
      const result = await loading;
      if (result.code) {
        assert.equal(result.code, "integrity");
        assert.match(result.message, /changed while|another version/);
        isGiven(await load(page, url.replace("&drop=30000000", "")), { bytes: exchanged });
      } else {
        isGiven(result, file);
      }
    }
  });

  /** A file of random bytes in pieces of 2 MiB, as `llava-web pack` makes them; its manifest's address. */
  function newPieces(size = SIZE) {
    const file = newFile(Buffer.concat([Buffer.from("GGUF"), randomBytes(size - 4)]));
    const out = mkdtempSync(path.join(folder, "pieces-"));
    const root = path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "../..");
    // With the crate beside it the command takes the engine as the Rust tests have compiled it.
    const run = (program, ...words) => execFileSync(program, words, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
    run("cargo", "build", "--quiet", "--package", "llava-web", "--package", "llava-web-cli", "--bin", "llava-web");
    run(path.join(root, "target/debug/llava-web"), "pack", file.path, "--size", "2", "--out", out);
    const pieces = readdirSync(out).filter((name) => name.endsWith(".piece")).sort().map((name) => path.join(out, name));
    const base = `${host.server.origin}/files/${path.basename(out)}`;
    return { ...file, pieces, manifest: path.join(out, `${file.name}.pieces.json`), url: `${base}/${file.name}.pieces.json`, requests: () => host.server.requests.filter(({ url }) => url.includes(`${path.basename(out)}/`) && url.endsWith(".piece")) };
  }

  visit("a model in pieces: loaded as one, kept as one, used offline", async (page, context) => {
    const packed = newPieces();
    assert.equal(packed.pieces.length, 5);
    isGiven(await load(page, packed.url), packed);
    assert.equal(packed.requests().length, 5);
    assert.deepEqual((await list(page)).map(({ name, url, complete, sha256 }) => [name, url, complete, sha256]), [[packed.name, packed.url, true, sha256(packed.bytes)]]);
    isGiven(await load(page, packed.url), packed);
    await context.route("**/files/**", (route) => route.abort());
    isGiven(await load(page, packed.url), packed);
    await context.unroute("**/files/**");
    assert.equal(packed.requests().length, 5, "what is kept is not fetched");
    isGiven(await load(page, packed.url, { cache: "none" }), packed);
    // A damaged chunk in the middle of a piece.
    await change(page, ".gguf", { flip: 5 * CHUNK + 7 });
    isGiven(await load(page, packed.url), packed);
    assert.deepEqual([packed.requests().length, packed.requests().at(-1).range], [11, `bytes=${CHUNK}-`]);
  });

  visit("pieces that are damaged, missing, exchanged or cut: refused, and by name", async (page) => {
    const spoil = async (use, expected) => {
      const packed = newPieces();
      use(packed);
      const { code, message } = await load(page, packed.url);
      assert.equal(code, expected.code, message);
      assert.match(message, expected.message);
      assert.ok((await list(page)).every(({ complete }) => !complete));
    };
    const flip = (file) => {
      const bytes = readFileSync(file);
      bytes[bytes.length >> 1] ^= 1;
      writeFileSync(file, bytes);
    };
    await spoil(({ pieces }) => flip(pieces[2]), { code: "integrity", message: /00003-of-00005\.piece.*SHA-256/ });
    await spoil(({ pieces }) => rmSync(pieces[1]), { code: "network", message: /00002-of-00005\.piece.*404/ });
    await spoil(({ pieces }) => writeFileSync(pieces[3], readFileSync(pieces[3]).subarray(0, 1000)), { code: "integrity", message: /00004-of-00005\.piece.*1000 bytes/ });
    await spoil(({ pieces }) => { renameSync(pieces[0], `${pieces[0]}.x`); renameSync(pieces[1], pieces[0]); renameSync(`${pieces[0]}.x`, pieces[1]); }, { code: "integrity", message: /00001-of-00005\.piece/ });
    await spoil(({ manifest }) => writeFileSync(manifest, "{"), { code: "integrity", message: /isn't JSON/ });
    await spoil(({ manifest }) => writeFileSync(manifest, readFileSync(manifest, "utf8").replace("pieces 1", "pieces 2")), { code: "integrity", message: /pieces 2/ });
  });

  visit("a large model in pieces: several at once, broken off and resumed", async (page, context) => {
    const packed = newPieces(LARGE);
    const tab = await openPage(context);
    await context.route("**/*.piece", async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 60));
      await route.continue();
    });
    await tab.evaluate((url) => void globalThis.load({ model: url }), packed.url);
    while (packed.requests().length < 12) await tab.waitForTimeout(20);
    await tab.close();
    await context.unroute("**/*.piece");
    const [partly] = await list(page);
    assert.ok(partly.bytes > 0 && !partly.complete);
    const before = packed.requests().length;
    isGiven(await load(page, packed.url), packed);
    assert.ok(packed.requests().length - before <= 36 - Math.floor(partly.bytes / (2 * CHUNK)) + 4);
    assert.equal((await list(page))[0].sha256, sha256(packed.bytes));
  });

  visit("what is no model is not kept", async (page) => {
    const { code } = await load(page, `${host.server.origin}/golden/images/astronaut.png`);
    assert.equal(code, "invalid_gguf");
    assert.deepEqual(await list(page), []);
  }, { real: true });
});
