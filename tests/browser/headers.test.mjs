// The option `headers`: the host that a file's address names is sent them, with every request; nobody else is, wherever that host redirects to; and
// they are in no message and in nothing that the browser keeps. Files are read by a stand-in for the engine, which says what it was given.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { hub } from "../tools/hub.mjs";
import { golden, openTab, start, withoutEngine } from "./support.mjs";

const CHUNK = 1 << 20;
const TOKEN = "Bearer hf_secret-of-this-test";
const MODEL = "tiny-llava/tiny-llava-q4_0.gguf";
const MMPROJ = "tiny-llava/mmproj-legacy-f16.gguf";
const sha256 = (/** @type {Buffer} */ bytes) => createHash("sha256").update(bytes).digest("hex");

/** Reads each file to its end, and is called after their hashes. */
const STAND_IN = `
  import init, { Sha256 } from "./llava_web.js?real";
  export default (options) => init(options);
  export { Sha256 };
  export class Engine {
    static async load(model, mmproj, options, onProgress) {
      const engine = new Engine();
      engine.names = [];
      for (const file of [...model, ...(mmproj ?? [])]) {
        const hash = new Sha256();
        onProgress(JSON.stringify({ stage: "model", file: file.name, loaded: 0, total: file.size }));
        for (let at = 0; at < file.size; at += 1_500_000) hash.update(await file.read(at, Math.min(1_500_000, file.size - at)));
        engine.names.push(hash.digestHex());
      }
      return engine;
    }
    static simd() { return "simd128"; }
    info() { return JSON.stringify({ name: this.names.join(), vision: null, bytes: {} }); }
    free() {}
  }`;

describe("headers for a model's files", { skip: withoutEngine }, () => {
  let host;
  let models;
  let folder;
  let file;
  let large;
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-"));
    const make = (name, size) => {
      const bytes = Buffer.concat([Buffer.from("GGUF"), randomBytes(size)]);
      writeFileSync(path.join(folder, name), bytes);
      return { bytes, hash: sha256(bytes) };
    };
    file = make("model.gguf", 2 * CHUNK + 77);
    // Worth several connections.
    large = make("large.gguf", 34 * CHUNK + 77);
    const { bytes } = file;
    // The small one in pieces.
    const cuts = [0, CHUNK, 2 * CHUNK, bytes.length];
    const pieces = cuts.slice(1).map((end, i) => ({ file: `model-${i}.piece`, size: end - cuts[i], sha256: sha256(bytes.subarray(cuts[i], end)) }));
    pieces.forEach((piece, i) => writeFileSync(path.join(folder, piece.file), bytes.subarray(cuts[i], cuts[i + 1])));
    writeFileSync(path.join(folder, "model.gguf.pieces.json"), JSON.stringify({ format: "llava-web pieces 1", size: bytes.length, sha256: file.hash, pieces }));
    host = await start({
      "/files/": folder,
      given: [/\/pkg-relaxed\/llava_web\.js\?real$/, /^http:\/\/127\.0\.0\.1:\d+\/maker\/[\w.-]+\/(resolve|raw)\/main\/[\w.-]+$/, /^http:\/\/127\.0\.0\.1:\d+\/files\/[\w.-]+(\?[^ ]{0,400})?$/,
        /^https:\/\/huggingface\.co\/owner\/repo\/(raw|resolve)\/v1\/model\.gguf$/],
    });
    // Whatever a page of another origin may be about to send, where the files come from would take it.
    const at = (name, query = {}) => ({ file: path.join(folder, name), at: `/files/${name}`, query: { allow: "authorization,x-api-key", ...query } });
    const all = { "model.gguf": at("model.gguf"), "large.gguf": at("large.gguf"), "model.gguf.pieces.json": at("model.gguf.pieces.json"), ...Object.fromEntries(pieces.map((piece) => [piece.file, at(piece.file)])) };
    models = await hub({
      elsewhere: host.other.origin,
      repositories: {
        "maker/gated": { gated: TOKEN, files: all },
        "maker/breaks": { gated: TOKEN, files: { "model.gguf": at("model.gguf", { drop: "1500000", times: "1" }) } },
        "maker/real": { gated: TOKEN, files: { "model.gguf": { file: golden(MODEL), at: `/golden/${MODEL}` }, "mmproj.gguf": { file: golden(MMPROJ), at: `/golden/${MMPROJ}` } } },
        "maker/nobody": { gated: true, files: all },
      },
    });
  });
  after(async () => {
    await host?.close();
    await models?.close();
    rmSync(folder, { recursive: true });
  });

  const on = (repository, name = "model.gguf") => `${models.origin}/maker/${repository}/resolve/main/${name}`;
  const direct = (query) => `${host.other.origin}/files/model.gguf?${new URLSearchParams(query)}`;

  const visit = (name, use, { real = false, address = "/tests/blank.html" } = {}) => test(name, { timeout: 60_000 }, async () => {
    const tab = await openTab(host.browser);
    const { page } = tab;
    page.setDefaultTimeout(20_000);
    for (const { requests } of [models, host.other]) requests.length = 0;
    try {
      if (!real) await page.context().route("**/pkg*/llava_web.js", (route) => route.fulfill({ contentType: "text/javascript", body: STAND_IN }));
      await page.goto(host.server.origin + address);
      await page.evaluate(async (site) => {
        globalThis.api = await import(`${site}llava-web.js`);
        globalThis.load = async (options) => {
          try {
            const engine = await globalThis.api.createEngine({ device: "cpu", ...options });
            const { name } = engine.info;
            await engine.unload();
            return { name };
          } catch ({ code, message }) {
            return { code, message };
          }
        };
      }, host.site);
      await use(page, tab);
    } finally {
      await tab.close();
    }
  });
  const load = (page, options) => page.evaluate((options) => globalThis.load(options), options);
  /** Each request that the hub answered had the token, and none elsewhere had anything of it. */
  const onlyTheHubKnows = () => {
    const asked = models.requests.filter(({ method }) => method !== "OPTIONS");
    assert.ok(asked.length > 0 && asked.every(({ authorization }) => authorization === TOKEN), JSON.stringify(asked));
    assert.ok(host.other.requests.length > 0);
    for (const { method, url, headers } of host.other.requests) {
      assert.notEqual(method, "OPTIONS", `${url} was asked whether a header may come`);
      assert.doesNotMatch(JSON.stringify(headers), /secret|authorization/i);
    }
  };

  visit("through a redirect to another origin: several ranges at once, and what is kept is used without them", async (page) => {
    const options = { model: on("gated", "large.gguf"), headers: { Authorization: TOKEN } };
    assert.deepEqual(await load(page, { ...options, sha256: { model: large.hash } }), { name: large.hash });
    onlyTheHubKnows();
    assert.ok(new Set(host.other.requests.map(({ range }) => range)).size >= 3, "several ranges");
    const count = models.requests.length;
    assert.deepEqual(await load(page, { model: options.model }), { name: large.hash });
    assert.equal(models.requests.length, count);
    // Nothing that the browser keeps has the token.
    const kept = await page.evaluate(async () => {
      const texts = [JSON.stringify(localStorage), JSON.stringify(sessionStorage), JSON.stringify(await indexedDB.databases()), JSON.stringify(await caches.keys()), JSON.stringify(await globalThis.api.listCachedModels())];
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("llava-web");
      let logs = 0;
      for await (const [name, handle] of folder) {
        if (!name.endsWith(".log")) continue;
        logs += 1;
        texts.push(name, await (await handle.getFile()).text());
      }
      return { logs, texts: texts.join("\n") };
    });
    assert.equal(kept.logs, 1);
    assert.doesNotMatch(kept.texts, /secret|authorization/i);
  });

  visit("a download that breaks off goes on with them, where its signature has expired too", async (page) => {
    assert.deepEqual(await load(page, { model: on("breaks"), headers: [["authorization", TOKEN]], cache: "none" }), { name: file.hash });
    onlyTheHubKnows();
    assert.ok(host.other.requests.some(({ range }) => /^bytes=[1-9]/.test(range ?? "")));
  });

  visit("a model in pieces", async (page) => {
    assert.deepEqual(await load(page, { model: on("gated", "model.gguf.pieces.json"), headers: { Authorization: TOKEN } }), { name: file.hash });
    onlyTheHubKnows();
    assert.equal(new Set(models.requests.map(({ url }) => url)).size, 4);
  });

  visit("any other header: with the host's own answers, never through a redirect", async (page) => {
    const headers = { "X-Api-Key": "secret" };
    assert.deepEqual(await load(page, { model: direct({ needs: "x-api-key:secret", allow: "x-api-key", drop: "1500000", times: "1" }), headers }), { name: file.hash });
    const asked = host.other.requests.filter(({ method }) => method === "GET");
    assert.ok(asked.length >= 2 && asked.every(({ headers }) => headers["x-api-key"] === "secret"));
    host.other.requests.length = 0;
    const { code, message } = await load(page, { model: on("gated"), headers: { ...headers, Authorization: TOKEN }, cache: "none" });
    assert.equal(code, "network");
    assert.match(message, /redirect.*x-api-key.*Give the token as Authorization/);
    assert.doesNotMatch(message, /secret/);
    assert.deepEqual(host.other.requests, [], "nobody else was asked anything");
  });

  visit("a function says which file gets what; hf: addresses", async (page) => {
    /** @type {Record<string, string | undefined>} */
    const seen = {};
    await page.context().route("https://huggingface.co/**", async (route) => {
      const request = route.request();
      seen[request.url()] = (await request.allHeaders()).authorization;
      const isPointer = request.url().includes("/raw/");
      await route.fulfill({ status: isPointer ? 200 : 206, headers: {
        "access-control-allow-origin": "*", "access-control-expose-headers": "content-range", "content-type": "application/octet-stream", ...(isPointer ? {} : { "content-range": `bytes 0-${file.bytes.length - 1}/${file.bytes.length}` }),
      },
        body: isPointer ? `version https://git-lfs.github.com/spec/v1\noid sha256:${file.hash}\nsize ${file.bytes.length}\n` : file.bytes });
    });
    const result = await page.evaluate(async ({ other, token }) => {
      const asked = [];
      const headers = async (url) => {
        asked.push(url);
        return new URL(url).hostname === "huggingface.co" ? new Headers({ Authorization: token }) : null;
      };
      return { ...await globalThis.load({ model: "hf:owner/repo@v1/model.gguf", mmproj: other, headers }), asked };
    }, { other: direct({}), token: TOKEN });
    const address = (how) => `https://huggingface.co/owner/repo/${how}/v1/model.gguf`;
    assert.deepEqual(result, { name: `${file.hash},${file.hash}`, asked: [address("resolve"), direct({})] });
    assert.deepEqual(seen, { [address("resolve")]: TOKEN, [address("raw")]: TOKEN });
    assert.ok(host.other.requests.length > 0 && host.other.requests.every(({ headers }) => headers.authorization === undefined));
  });

  visit("the same for files of two origins is refused, before anything is asked", async (page) => {
    const { code, message } = await load(page, { model: on("gated"), mmproj: direct({}), headers: { Authorization: TOKEN } });
    assert.equal(code, "invalid_request");
    assert.ok(message.includes(models.origin) && message.includes(host.other.origin) && message.includes("function"), message);
    assert.doesNotMatch(message, /secret/);
    assert.deepEqual([...models.requests, ...host.other.requests], []);
  });

  visit("a refusal says that a token may be missing, or wrong", async (page) => {
    const without = await load(page, { model: on("nobody") });
    assert.match(`${without.code} ${without.message}`, /^network .*gated.*headers.*Bearer/);
    const plain = await load(page, { model: direct({ needs: "authorization:x", allow: "authorization" }) });
    assert.match(`${plain.code} ${plain.message}`, /^network .*may be gated or private.*headers.*Bearer/);
    const wrong = await load(page, { model: on("gated"), headers: { Authorization: "Bearer hf_secret-but-wrong" } });
    assert.match(`${wrong.code} ${wrong.message}`, /^network .*token may be wrong or have expired/);
    assert.doesNotMatch(wrong.message, /secret/);
  });

  visit("a host that does not let pages send them: said so, with their names", async (page) => {
    const { code, message } = await load(page, { model: direct({}), headers: { "X-Api-Key": "secret" } });
    assert.match(`${code} ${message}`, /^network .*x-api-key \(Access-Control-Allow-Headers\)/);
    assert.doesNotMatch(message, /secret/);
    assert.ok(host.other.requests.every(({ method }) => method === "OPTIONS"));
  }, { real: true });

  visit("what is no header is refused, without showing what it holds", async (page) => {
    const outcomes = await page.evaluate(async (model) => {
      const all = [];
      for (const headers of ["secret", 7, { Range: "bytes=0-5" }, { cookie: "secret" }, { "Sec-Secret": "x" }, { Authorization: "Bearer secret\nX: y" }, { "a b": "secret" }, { Authorization: undefined }, { Authorization: 5 },
        () => "secret", () => ({ Host: "secret" })]) all.push(await globalThis.load({ model, headers }));
      return all;
    }, direct({}));
    for (const [i, { code, message }] of outcomes.entries()) {
      assert.equal(code, "invalid_request", `${i}: ${message}`);
      assert.match(message, /headers/);
      if (i !== 4) assert.doesNotMatch(message, /secret/);
    }
    assert.deepEqual(host.other.requests, []);
    assert.deepEqual(await load(page, { model: direct({}), headers: {} }), { name: file.hash });
    assert.deepEqual(await load(page, { model: direct({}), headers: null }), { name: file.hash });
  });

  visit("through a service worker that fetches for its page", async (page) => {
    await page.evaluate(async () => {
      await navigator.serviceWorker.register("/tests/passing-service-worker.js", { scope: "/tests/" });
      await navigator.serviceWorker.ready;
      if (!navigator.serviceWorker.controller) await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
    });
    assert.deepEqual(await load(page, { model: on("gated"), headers: { Authorization: TOKEN } }), { name: file.hash });
    onlyTheHubKnows();
  });

  visit("the element's load() takes them; the real engine", async (page) => {
    const name = await page.evaluate(async ({ model, mmproj, headers, site }) => {
      await import(`${site}llava-chat.js`);
      const chat = document.body.appendChild(document.createElement("llava-chat"));
      await chat.load({ model, mmproj, headers, device: "cpu" });
      return chat.engine.info.vision?.imageSize;
    }, { model: on("real"), mmproj: on("real", "mmproj.gguf"), headers: { Authorization: TOKEN }, site: host.site });
    assert.equal(name, 56);
    onlyTheHubKnows();
  }, { real: true });
});
