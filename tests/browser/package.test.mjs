// dist/ as it is published: from a sub-path, offline, isolated, updated, from another origin, from disk; and the npm package.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { brotliDecompressSync, gunzipSync } from "node:zlib";

import { GOLDEN, openTab, start } from "./support.mjs";

const DIST = process.env.LLAVA_DIST ?? path.join(path.dirname(fileURLToPath(import.meta.url)), "../../dist");
const MODEL = "tiny-llava/tiny-llava-f16.gguf";
const MMPROJ = "tiny-llava/mmproj-legacy-f16.gguf";
const HASH = /^[0-9a-f]{12}$/;
const versionIn = (folder) => readdirSync(folder).find((name) => HASH.test(name));

const question = (page) => page.getByRole("textbox", { name: "Your question" });
async function load(page, origin) {
  await page.getByRole("textbox", { name: "Language model" }).fill(`${origin}/golden/${MODEL}`);
  await page.getByRole("textbox", { name: "Vision file" }).fill(`${origin}/golden/${MMPROJ}`);
  await page.getByRole("button", { name: "Load model" }).click();
  await question(page).waitFor();
}
async function ask(page) {
  await question(page).fill("What is it?");
  await question(page).press("Enter");
  await page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelector(".answer")?.textContent.length > 10);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
}
async function until(holds, patience = 20_000) {
  for (const end = Date.now() + patience; !await holds();) {
    assert.ok(Date.now() < end, `not within ${patience} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
/** Until the service worker has the page, and the page has come through it. */
async function settled(page) {
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null && crossOriginIsolated);
}

describe("the package", { skip: existsSync(DIST) ? false : "dist is not there: run ./build.sh package" }, () => {
  let host;
  let folder;
  let published;
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-"));
    published = path.join(folder, "published");
    cpSync(DIST, published, { recursive: true });
    host = await start({ "/sub/path/": published, "/folder/": folder });
  });
  after(async () => {
    await host?.close();
    rmSync(folder, { recursive: true });
  });
  const visit = (name, use) => test(name, async () => {
    const tab = await openTab(host.browser);
    try {
      await use(tab.page, tab);
    } finally {
      await tab.close();
    }
  });
  const site = () => `${host.server.origin}/sub/path/`;

  visit("from a sub-path: its own model ready at once, isolated without the host's help; then all of it offline", async (page, { complaints, requests }) => {
    await page.goto(site());
    await settled(page);
    await question(page).waitFor();
    await ask(page);
    assert.deepEqual(complaints, []);
    assert.deepEqual(requests.filter((url) => !url.startsWith(host.server.origin) && !/^(blob|data):/.test(url)), []);
    await page.context().setOffline(true);
    const count = host.server.requests.length;
    await page.reload();
    await question(page).waitFor();
    await page.getByRole("button", { name: /Is there a banana/ }).click();
    await page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelector(".answer")?.textContent.length > 5);
    // A link that names a model, or a question, is the same page.
    await page.goto(`${site()}?model=`);
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    await page.goto(`${site()}?prompt=Hello`);
    await question(page).waitFor();
    assert.equal(await question(page).inputValue(), "Hello");
    assert.equal(host.server.requests.length, count, "nothing went out");
  });

  visit("an update: every page is of one version, and the old one goes when nobody has it", async (page, { requests }) => {
    await page.goto(`${site()}?model=`);
    await settled(page);
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    const context = page.context();
    const old = versionIn(published);
    const now = "0123456789ab";
    renameSync(path.join(published, old), path.join(published, now));
    for (const name of ["index.html", "sw.js", "llava-chat.js", "llava-web.js"]) {
      const file = path.join(published, name);
      writeFileSync(file, readFileSync(file, "utf8").replaceAll(old, now));
    }
    const caches = () => page.evaluate(() => globalThis.caches.keys());
    // The old page lives on: what it loads only now is in its cache though the host has it no more.
    await load(page, host.server.origin);
    await ask(page);
    requests.length = 0;
    await page.reload();
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    await load(page, host.server.origin);
    await ask(page);
    const versions = new Set(requests.map((url) => new URL(url).pathname.split("/").find((part) => HASH.test(part))).filter(Boolean));
    assert.deepEqual([...versions], [now]);
    await until(() => page.evaluate(async () => Boolean((await navigator.serviceWorker.getRegistration()).waiting)));
    assert.deepEqual((await caches()).sort(), [`llava-web ${now}`, `llava-web ${old}`].sort());
    await page.goto("about:blank");
    await page.waitForTimeout(300);
    await page.goto(`${site()}?model=`);
    await until(async () => (await caches()).join() === `llava-web ${now}`);
    await context.setOffline(true);
    await page.reload();
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    await load(page, host.server.origin);
    // Back, for the tests after this one.
    renameSync(path.join(published, now), path.join(published, old));
    for (const name of ["index.html", "sw.js", "llava-chat.js", "llava-web.js"]) cpSync(path.join(DIST, name), path.join(published, name));
  });

  visit("the element from another origin, in a page with styles and a strict policy of its own", async (page, { complaints, requests }) => {
    const cdn = host.other.origin;
    writeFileSync(path.join(folder, "foreign.html"), `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Foreign</title>
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src ${cdn} 'wasm-unsafe-eval'; style-src 'self'; img-src blob:; connect-src ${cdn} ${host.server.origin} blob:; worker-src blob: ${cdn}; require-trusted-types-for 'script'; trusted-types dompurify llava-web">
      <link rel="stylesheet" href="foreign.css"><script type="module" src="${cdn}/sub/path/llava-chat.js"></script></head>
      <body><main><h1>Foreign</h1><llava-chat></llava-chat></main></body></html>`);
    writeFileSync(path.join(folder, "foreign.css"), "* { font: 40px/3 serif !important; } button, input, div, p { display: none !important; color: red; position: fixed; }");
    await page.goto(`${host.server.origin}/folder/foreign.html`);
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    await load(page, host.server.origin);
    await ask(page);
    const look = await page.evaluate(() => {
      const button = document.querySelector("llava-chat").shadowRoot.querySelector(".composer .button.primary");
      const { color, position, display } = getComputedStyle(button);
      return { color, position, display };
    });
    assert.deepEqual({ position: look.position, display: look.display }, { position: "static", display: "flex" });
    assert.deepEqual(complaints, []);
    assert.deepEqual(requests.filter((url) => ![cdn, host.server.origin].some((origin) => url.startsWith(origin)) && !/^(blob|data):/.test(url)), []);
  });

  visit("opened as a file: it says why not", async (page) => {
    await page.goto(pathToFileURL(path.join(published, "index.html")).href);
    const words = page.getByText(/If you opened it as a file, serve it from a web server instead/);
    await words.waitFor();
    assert.equal(await words.isVisible(), true);
  });

  test("compressed copies are what they are copies of; the core is small", () => {
    let count = 0;
    for (const name of readdirSync(published, { recursive: true })) {
      const ending = /\.(gz|br)$/.exec(name)?.[1];
      if (!ending || !statSync(path.join(published, name)).isFile()) continue;
      const copy = readFileSync(path.join(published, name));
      const original = readFileSync(path.join(published, name.slice(0, -3)));
      assert.ok((ending === "gz" ? gunzipSync(copy) : brotliDecompressSync(copy)).equals(original), name);
      assert.ok(copy.length < original.length, name);
      if (name.endsWith(".wasm.gz")) assert.ok(copy.length <= 1_600_000, `${name}: ${copy.length}`);
      count += 1;
    }
    assert.ok(count > 10);
  });

  test("the npm package: installs without scripts, resolves by its exports, has its types", () => {
    const project = path.join(folder, "project");
    const archive = readdirSync(published).find((name) => name.endsWith(".tgz"));
    execFileSync("mkdir", ["-p", project]);
    writeFileSync(path.join(project, "package.json"), '{ "private": true, "type": "module" }');
    execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", path.join(published, archive)], { cwd: project, stdio: "pipe" });
    const installed = path.join(project, "node_modules/llava-web");
    const { scripts, dependencies, version } = JSON.parse(readFileSync(path.join(installed, "package.json"), "utf8"));
    assert.deepEqual([scripts, dependencies], [undefined, undefined]);
    assert.match(archive, new RegExp(`^llava-web-${version.replaceAll(".", "\\.")}\\.tgz$`));
    for (const name of readdirSync(installed, { recursive: true })) assert.ok(!/node_modules|\.gguf$/.test(name), name);
    writeFileSync(path.join(project, "use.ts"), `
      import { createEngine, type Engine } from "llava-web";
      import { LlavaChat } from "llava-web/llava-chat.js";
      export async function use(): Promise<Engine> {
        const chat: LlavaChat = document.createElement("llava-chat");
        chat.addEventListener("llava-ready", ({ detail }) => console.log(detail.info.name));
        return createEngine({ model: chat.model, device: "cpu" });
      }`);
    const tsc = createRequire(import.meta.url).resolve("typescript/lib/tsc.js");
    execFileSync(process.execPath, [tsc, "--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--lib", "esnext,dom,dom.iterable,dom.asynciterable", "use.ts"],
      { cwd: project, stdio: "pipe" });
    const resolved = execFileSync(process.execPath, ["--input-type=module", "-e", 'console.log(import.meta.resolve("llava-web"), import.meta.resolve("llava-web/llava-chat.js"))'], { cwd: project, encoding: "utf8" });
    assert.match(resolved, /llava-web\/llava-web\.js .*llava-web\/llava-chat\.js/);
  });
});
