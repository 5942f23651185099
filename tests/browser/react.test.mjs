// React mounts what it is told to, takes it out, and puts it in again: in strict mode each effect twice, and as often as somebody saves a file while
// they write. However often that is, there is one engine, one download at a time, and no worker left.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { openTab, start, withoutEngine } from "./support.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const { build: esbuild } = createRequire(path.join(here, "../../tools/web/package.json"))("esbuild");
const MODEL = "tiny-llava/tiny-llava-f16.gguf";
const MMPROJ = "tiny-llava/mmproj-legacy-f16.gguf";

/** As its documentation has effects: what one begins, its end undoes. */
const APP = `
import { createElement, StrictMode, useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";

const options = { model: "/golden/${MODEL}", mmproj: "/golden/${MMPROJ}", device: "cpu", cache: "none" };

function Engine({ name }) {
  const [state, setState] = useState("loading");
  useEffect(() => {
    const controller = new AbortController();
    const loading = globalThis.api.createEngine({ ...options, signal: controller.signal });
    loading.then(() => setState("ready " + name), ({ code }) => code === "aborted" || setState(code));
    return () => {
      controller.abort();
      loading.then((engine) => engine.unload(), () => {});
    };
  }, [name]);
  return createElement("p", { id: "engine" }, state);
}

function Chat() {
  const chat = useRef(null);
  const [seen, setSeen] = useState(0);
  return createElement("llava-chat", { ref: chat, model: options.model, mmproj: options.mmproj, device: "cpu", autoload: true, "onllava-ready": () => setSeen((seen) => seen + 1), "data-seen": seen });
}

const COMPONENTS = { Engine, Chat };
globalThis.mount = (name, props) => {
  globalThis.root ??= createRoot(document.body.appendChild(document.createElement("main")));
  globalThis.root.render(createElement(StrictMode, null, createElement(COMPONENTS[name], props)));
};
globalThis.unmount = () => {
  globalThis.root.unmount();
  globalThis.root = undefined;
};
`;

describe("in React", { skip: withoutEngine }, () => {
  let host;
  let folder;
  let tab;
  let page;
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-react-"));
    writeFileSync(path.join(folder, "app.js"), APP);
    writeFileSync(path.join(folder, "index.html"), '<!doctype html><meta charset="utf-8"><title>An app</title><link rel="icon" href="data:,">');
    await esbuild({ entryPoints: [path.join(folder, "app.js")], bundle: true, format: "esm", outfile: path.join(folder, "bundle.js"), nodePaths: [path.join(here, "../node_modules")], define: { "process.env.NODE_ENV": '"development"' }, logLevel: "error" });
    host = await start({ "/react/": folder, given: [/^http:\/\/127\.0\.0\.1:\d+\/(react\/(bundle\.js|index\.html)|some\/folder\/llava-chat\.js\?v=\d)$/] });
    tab = await openTab(host.browser);
    ({ page } = tab);
    page.setDefaultTimeout(20_000);
    await page.goto(`${host.server.origin}/react/index.html`);
    await page.evaluate(async (site) => {
      globalThis.api = await import(`${site}llava-web.js`);
      await import(`${site}llava-chat.js`);
      await import("/react/bundle.js");
    }, host.site);
  });
  after(async () => {
    await host?.close();
    rmSync(folder, { recursive: true });
  });

  /** Workers come and go a moment after who made them. */
  const workers = async (/** @type {number} */ count) => {
    let since = Date.now();
    for (const end = since + 10_000; Date.now() - since < 500;) {
      await page.waitForTimeout(50);
      if (page.workers().length === count) continue;
      since = Date.now();
      assert.ok(since < end, `${page.workers().length} workers, not ${count}`);
    }
  };
  const ready = (/** @type {number} */ name) => page.waitForFunction((text) => document.querySelector("#engine")?.textContent === text, `ready ${name}`);
  const chatReady = () => page.waitForFunction(() => document.querySelector("llava-chat")?.engine);

  test("an effect that creates an engine: mounted twice in strict mode, again with other properties, taken out, put back", async () => {
    await page.evaluate(() => globalThis.mount("Engine", { name: 1 }));
    await ready(1);
    await workers(1);
    // As when somebody saves the file: the effect ends and begins anew.
    for (const name of [2, 3, 4]) await page.evaluate((name) => globalThis.mount("Engine", { name }), name);
    await ready(4);
    await workers(1);
    await page.evaluate(() => globalThis.unmount());
    await workers(0);
    await page.evaluate(() => {
      for (let i = 0; i < 3; i++) {
        globalThis.mount("Engine", { name: i });
        globalThis.unmount();
      }
      globalThis.mount("Engine", { name: 9 });
    });
    await ready(9);
    await workers(1);
    await page.evaluate(() => globalThis.unmount());
    await workers(0);
  });

  test("the element: one engine while it is there, none when it is not, and its event reaches the component", async () => {
    await page.evaluate(() => globalThis.mount("Chat", {}));
    await chatReady();
    await workers(1);
    await page.waitForFunction(() => document.querySelector("llava-chat").dataset.seen === "1");
    await page.evaluate(() => globalThis.unmount());
    await workers(0);
    // Put in and taken out in one go, while it loads, and put in for good.
    await page.evaluate(async () => {
      globalThis.mount("Chat", {});
      await new Promise(requestAnimationFrame);
      globalThis.unmount();
      globalThis.mount("Chat", {});
    });
    await chatReady();
    await workers(1);
    assert.deepEqual(tab.complaints, []);
  });

  test("an element's module that is loaded once more leaves the element as it is", async () => {
    const { same, engine } = await page.evaluate(async (site) => {
      const known = customElements.get("llava-chat");
      await import(`${site}llava-chat.js?v=2`);
      return { same: customElements.get("llava-chat") === known, engine: Boolean(document.querySelector("llava-chat").engine) };
    }, host.site);
    assert.deepEqual([same, engine], [true, true]);
    await page.evaluate(() => globalThis.unmount());
    await workers(0);
    assert.deepEqual(tab.complaints, []);
  });
});
