// The model store in Firefox, in small: its storage opens a file for one reader only, and says otherwise what is open elsewhere.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import puppeteer from "puppeteer-core";

import { serve } from "../tools/serve.mjs";
import { GOLDEN, withoutEngine, WWW } from "./support.mjs";

const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
const here = path.dirname(fileURLToPath(import.meta.url));
const skip = existsSync(FIREFOX) ? withoutEngine : `${FIREFOX} is not there: install Firefox, or set FIREFOX to where it is`;
const MODEL = "golden/tiny-llava/tiny-llava-f16.gguf";

describe("the model store in Firefox", { skip }, () => {
  let browser;
  let server;
  before(async () => {
    server = await serve({ root: here, mounts: { "/site/": WWW, "/golden/": GOLDEN, "/tests/": here } });
    browser = await puppeteer.launch({ browser: "firefox", executablePath: FIREFOX, headless: true, protocol: "webDriverBiDi" });
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  async function openPage() {
    const page = await browser.newPage();
    await page.goto(`${server.origin}/tests/blank.html`);
    await page.evaluate(async (site) => {
      globalThis.api = await import(`${site}llava-web.js`);
      globalThis.load = async (model, signal) => {
        try {
          const engine = await globalThis.api.createEngine({ model, device: "cpu", threads: 1, signal });
          const { warnings = [] } = engine.info;
          await engine.unload();
          return { warnings };
        } catch ({ code, message }) {
          return { code, message };
        }
      };
    }, `${server.origin}/site/`);
    return page;
  }
  const load = (page, url) => page.evaluate((url) => globalThis.load(url), url);
  const list = (page) => page.evaluate(() => globalThis.api.listCachedModels());
  const requestsOf = (url) => server.requests.filter((request) => url.endsWith(request.url));

  test("kept, read by several at once, deleted", { timeout: 240_000 }, async () => {
    const page = await openPage();
    const url = `${server.origin}/${MODEL}?kept`;
    assert.deepEqual(await load(page, url), { warnings: [] });
    const [model] = await list(page);
    assert.deepEqual([model.complete, model.bytes, model.allocated], [true, model.total, model.total]);
    assert.match(model.sha256, /^[0-9a-f]{64}$/);
    const other = await openPage();
    for (const result of await Promise.all([load(page, url), load(page, url), load(other, url)])) assert.deepEqual(result, { warnings: [] });
    assert.equal(requestsOf(url).length, 1);
    await page.evaluate((url) => globalThis.api.deleteCachedModel(url), url);
    assert.deepEqual(await list(page), []);
    await other.close();
    await page.close();
  });

  test("stopped, and gone on with: what is there is not fetched again, and no room stays reserved", { timeout: 240_000 }, async () => {
    const page = await openPage();
    const url = `${server.origin}/${MODEL}?rate=3000000`;
    const code = await page.evaluate(async (url) => {
      const controller = new AbortController();
      const stopped = globalThis.load(url, controller.signal);
      while (!((await globalThis.api.listCachedModels())[0]?.bytes > 1e6)) await new Promise((resolve) => setTimeout(resolve, 20));
      controller.abort();
      return (await stopped).code;
    }, url);
    assert.equal(code, "aborted");
    const [partly] = await list(page);
    assert.ok(!partly.complete && partly.bytes > 1e6 && partly.allocated < partly.total, JSON.stringify(partly));
    assert.deepEqual(await load(page, url), { warnings: [] });
    assert.match(requestsOf(url)[1].range, /^bytes=[1-9]\d+-$/);
    assert.equal((await list(page))[0].complete, true);
    await page.close();
  });
});
