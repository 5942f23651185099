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

import { GOLDEN, openTab, start, withoutEngine } from "./support.mjs";
import { serve } from "../tools/serve.mjs";

const DIST = process.env.LLAVA_DIST ?? path.join(path.dirname(fileURLToPath(import.meta.url)), "../../dist");
const MODEL = "tiny-llava/tiny-llava-f16.gguf";
const MMPROJ = "tiny-llava/mmproj-legacy-f16.gguf";
const HASH = /^[0-9a-f]{12}$/;
const versionIn = (folder) => /"\.\/([0-9a-f]{12})\//.exec(readFileSync(path.join(folder, "llava-web.js"), "utf8"))[1];

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
    // What is published is gone when the requests are looked at; a page opened as a file asks for its files in vain.
    host = await start({ "/sub/path/": published, "/folder/": folder, given: [/^http:\/\/127\.0\.0\.1:\d+\/(sub\/path|folder)\/[\w./-]*(\?isolate|\?prompt=Hello)?$/, /^file:\/\/[\w./-]*\/published\/[\w./-]*$/] });
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
    // The page loads itself anew to be isolated, but not in the middle of a load, and what was loaded is kept.
    assert.equal(host.server.requests.filter(({ url }) => url.endsWith("/models/house.gguf")).length, 1);
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
    assert.deepEqual(host.server.requests.slice(count).map(({ url }) => url), [], "nothing went out");
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
    // The new one takes over once the last tab has left.
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await until(() => page.evaluate(async (site) => {
      const { waiting, active } = await navigator.serviceWorker.getRegistration(site);
      return !waiting && active.state === "activated";
    }, site()));
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

  visit("a folder beside other things: only its own pages are isolated, the others may show what other sites have", async (page) => {
    writeFileSync(path.join(published, "beside.html"), '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Beside</title></head><body><p>Beside</p></body></html>');
    await page.goto(site());
    await settled(page);
    const policies = async (name) => {
      const response = await page.goto(`${site()}${name}`);
      return ["cross-origin-opener-policy", "cross-origin-embedder-policy"].map((header) => response.headers()[header]);
    };
    assert.deepEqual(await policies("beside.html"), [undefined, undefined]);
    assert.equal(await page.evaluate(() => crossOriginIsolated), false);
    // Neither CORS nor a header that lets other sites show it.
    const loaded = await page.evaluate((url) => new Promise((resolve) => {
      const image = document.createElement("img");
      image.onload = () => resolve(true);
      image.onerror = () => resolve(false);
      image.src = url;
    }), `${host.other.origin}/golden/images/astronaut.png?nocors`);
    assert.equal(loaded, true);
    assert.deepEqual(await policies("benchmark.html"), ["same-origin", "credentialless"]);
    assert.deepEqual(await policies("?model="), ["same-origin", "credentialless"]);
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    rmSync(path.join(published, "beside.html"));
  });

  test("in German, whose texts are a file of their own; offline, too", async () => {
    const { page, complaints, requests, close } = await openTab(host.browser, { locale: "de-DE" });
    const question = page.getByRole("textbox", { name: "Ihre Frage" });
    await page.goto(site());
    await settled(page);
    await question.waitFor();
    assert.ok(requests.some((url) => /\/[0-9a-f]{12}\/de-\w+\.js$/.test(url)), requests.join("\n"));
    await page.context().setOffline(true);
    await page.reload();
    await question.waitFor();
    assert.deepEqual(complaints, []);
    await close();
  });

  visit("an error, or the page of a network that wants to be paid first, does not take the page's place", async (page) => {
    await page.goto(`${site()}?model=`);
    await settled(page);
    const index = path.join(published, "index.html");
    const whole = readFileSync(index);
    rmSync(index);
    await page.reload();
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    writeFileSync(index, "<!doctype html><title>Sign in</title><h1>Welcome to our hotel</h1>");
    await page.reload();
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    writeFileSync(index, whole);
  });

  visit("a host that shows pages without the ending of their names: they open, also offline", async (page) => {
    const bare = await serve({ root: published, bare: true });
    host.given.push(new RegExp(`^${bare.origin}/[\\w./-]*(\\?isolate|\\?model=)?$`));
    try {
      await page.goto(`${bare.origin}/?model=`);
      await settled(page);
      await page.goto(`${bare.origin}/benchmark.html`);
      await page.getByRole("heading", { level: 1 }).waitFor();
      assert.equal(await page.evaluate(() => crossOriginIsolated), true);
      await page.context().setOffline(true);
      for (const name of ["benchmark.html", "benchmark", "index.html", "?model="]) {
        await page.goto(`${bare.origin}/${name}`);
        await page.locator("main, llava-chat, h1").first().waitFor();
        assert.equal(await page.evaluate(() => crossOriginIsolated), true);
      }
    } finally {
      await bare.close();
    }
  });

  for (const [how, touch] of [
    ["the wheel is turned", (page) => page.mouse.wheel(0, 40)],
    ["something is pasted", (page) => page.evaluate(() => document.querySelector("llava-chat").dispatchEvent(new ClipboardEvent("paste", { bubbles: true, composed: true })))],
    ["it is touched", (page) => page.evaluate(() => document.body.dispatchEvent(new Event("touchstart", { bubbles: true })))],
  ]) {
    visit(`the first visit is left alone where ${how}`, async (page) => {
      await page.goto(`${site()}?model=`);
      await touch(page);
      // The worker has the page, and what would load it anew has had its turn.
      await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
      await page.evaluate(() => new Promise((resolve) => setTimeout(() => requestAnimationFrame(() => setTimeout(resolve)))));
      assert.equal(await page.evaluate(() => sessionStorage.getItem("llava-reloaded")), null);
      assert.equal(await page.evaluate(() => performance.getEntriesByType("navigation")[0].type), "navigate");
    });
  }

  test("the version that was published before stays beside the new one, an older one does not", { skip: withoutEngine }, () => {
    const out = path.join(folder, "again");
    for (const version of ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]) {
      execFileSync("mkdir", ["-p", path.join(out, version)]);
      writeFileSync(path.join(out, version, "x.js"), "1;\n");
    }
    writeFileSync(path.join(out, "llava-web.js"), 'export * from "./bbbbbbbbbbbb/llava-web.js";\n');
    writeFileSync(path.join(out, "gone.html"), "");
    execFileSync(process.execPath, [path.join(path.dirname(fileURLToPath(import.meta.url)), "../../tools/web/package.mjs"), "--out", out, "--uncompressed"], { stdio: ["ignore", "ignore", "inherit"] });
    const now = versionIn(out);
    assert.deepEqual(readdirSync(out).filter((name) => HASH.test(name)).sort(), [now, "bbbbbbbbbbbb"].sort());
    assert.ok(existsSync(path.join(out, "bbbbbbbbbbbb/x.js")));
    assert.ok(!existsSync(path.join(out, "gone.html")));
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
