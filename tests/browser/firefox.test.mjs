// The main way, in Firefox: load, attach, ask, stop, ask on, reload without a network. Driven over WebDriver BiDi, which Firefox speaks itself.

import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import puppeteer from "puppeteer-core";

import { serve } from "../tools/serve.mjs";
import { golden, GOLDEN, SCREENSHOTS } from "./support.mjs";

const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
const here = path.dirname(fileURLToPath(import.meta.url));
const DIST = process.env.LLAVA_DIST ?? path.join(here, "../../dist");
const skip = !existsSync(FIREFOX) ? `${FIREFOX} is not there: install Firefox, or set FIREFOX to where it is` :
  existsSync(DIST) ? false : "dist is not there: run ./build.sh package";

describe("in Firefox", { skip }, () => {
  let browser;
  let server;
  before(async () => {
    server = await serve({ root: here, mounts: { "/site/": DIST, "/golden/": GOLDEN } });
    browser = await puppeteer.launch({ browser: "firefox", executablePath: FIREFOX, headless: true, protocol: "webDriverBiDi" });
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  test("load, attach, ask, stop, ask on; then all of it without a network", { timeout: 240_000 }, async () => {
    const page = await browser.newPage();
    await page.setViewport({ width: 1280, height: 800 });
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(message.text());
    });
    const inside = (selector) => page.waitForSelector(`llava-chat >>> ${selector}`, { visible: true, timeout: 60_000 });
    const fill = async (selector, text) => {
      const field = await inside(selector);
      await field.click();
      await page.keyboard.type(text);
    };
    const answers = () => page.evaluate(() => [...document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer")].map((node) => node.textContent));
    const ask = async (text) => {
      const before = (await answers()).length;
      await fill(".question-field", text);
      await page.keyboard.press("Enter");
      await page.waitForFunction((n) => document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer")[n]?.textContent.length > 10, {}, before);
      await page.keyboard.press("Escape");
      await inside("[part~=ask]");
    };

    await page.goto(`${server.origin}/site/`);
    // The service worker reloads the page once, to isolate it.
    await page.waitForFunction(() => globalThis.crossOriginIsolated && navigator.serviceWorker.controller !== null, { timeout: 60_000 });
    await inside(".question-field");
    const picker = await page.waitForSelector('llava-chat >>> input[aria-label="Choose pictures"]');
    await picker.uploadFile(golden("images/astronaut.jpg"));
    await inside(".thumb");
    await ask("What is in this picture?");
    await ask("And what else?");
    assert.equal((await answers()).length, 2);
    const status = await page.evaluate(() => document.querySelector("llava-chat").shadowRoot.querySelector(".status").textContent);
    assert.match(status, /tokens\/s/);
    await page.screenshot({ path: path.join(SCREENSHOTS, "firefox-answered.png") });
    const info = await page.evaluate(() => document.querySelector("llava-chat").engine.info.device);
    assert.equal(info.kind, "cpu");
    // How many threads there are is measured; that there may be some is seen by the module.
    if (availableParallelism() > 1) assert.ok(server.requests.some(({ url }) => /\/pkg(-relaxed)?-threads\//.test(url)), "the module with threads");
    assert.deepEqual(complaints, []);

    await server.close();
    await page.goto(`${server.origin}/site/`);
    await ask("Without a network?");
    assert.equal((await answers()).length, 1);
    await (await inside('button[title="Change model"]')).click();
    await inside(".stored .stored-row");
  });
});
