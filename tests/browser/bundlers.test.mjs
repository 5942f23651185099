// The npm package as people take it in: bundled by Vite (built, and as it serves while one writes), webpack and esbuild, not bundled at all, in a
// browser's extension, and on a server, where there is no browser. Each of these programs is then run: it loads the page's own model and asks it.
// And what tools read of the package: its exports, its types, its manifest of elements. Next.js is tests/tools/next.mjs's, for its size.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { chromium } from "playwright-core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { build as viteBuild, createServer } from "vite";
import webpack from "webpack";

import { openTab, start, withoutEngine } from "./support.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, "../..");
const { build: esbuild } = createRequire(path.join(root, "tools/web/package.json"))("esbuild");

/** A program that uses the package; `assets` where its bundler does not bring the engine's files along. */
const program = (/** @type {string | undefined} */ assets) => `
import { createEngine } from "llava-web";
import "llava-web/element";
import { openaiFetch } from "llava-web/openai";
import { LanguageModel } from "llava-web/prompt-api";

globalThis.ask = async (site, options) => {
  const engine = await createEngine({
    model: site + "models/house.gguf", mmproj: site + "models/house-mmproj.gguf", device: "cpu", cache: "none", ...options${assets === undefined ? "" : `, assets: ${JSON.stringify(assets)}`},
  });
  const image = await (await fetch(site + "examples/fruit.png")).blob();
  const reply = await engine.chat.completions.create({
    messages: [{ role: "user", content: [{ type: "image", image }, { type: "text", text: "What do you see?" }] }], temperature: 0,
  });
  const { threads } = engine.info.device;
  await engine.unload();
  return { text: reply.choices[0].message.content, threads, element: customElements.get("llava-chat") !== undefined, doors: [typeof openaiFetch, typeof LanguageModel] };
};
`;
const PAGE = (/** @type {string} */ script) => `<!doctype html><meta charset="utf-8"><title>An app</title><link rel="icon" href="data:,"><script type="module" src="${script}"></script>`;

describe("bundlers", { skip: withoutEngine }, () => {
  let folder;
  let archive;
  let host;
  let tab;
  let expected;
  let vite;

  /** A new app with the package installed. */
  const app = (/** @type {string} */ name, /** @type {string | undefined} */ assets) => {
    const at = path.join(folder, name);
    mkdirSync(at, { recursive: true });
    writeFileSync(path.join(at, "package.json"), '{ "private": true, "type": "module" }');
    writeFileSync(path.join(at, "main.js"), program(assets));
    writeFileSync(path.join(at, "index.html"), PAGE("./main.js"));
    mkdirSync(path.join(at, "node_modules"));
    cpSync(path.join(folder, "package"), path.join(at, "node_modules/llava-web"), { recursive: true });
    return at;
  };
  /** What the app at an address answers. @param {string} address @param {object} [options] */
  const run = async (address, options = {}) => {
    const { page, complaints } = tab;
    complaints.length = 0;
    await page.goto(address);
    await page.waitForFunction(() => typeof globalThis.ask === "function");
    const seen = await page.evaluate(({ site, options }) => globalThis.ask(site, options), { site: host.site, options });
    assert.deepEqual(complaints, []);
    return seen;
  };
  /** Holds an answer against the one without a bundler. */
  const isRight = (/** @type {any} */ seen) => {
    assert.equal(seen.text, expected);
    assert.deepEqual([seen.element, ...seen.doors], [true, "function", "function"]);
  };

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-bundlers-"));
    const out = path.join(folder, "dist");
    execFileSync(process.execPath, [path.join(root, "tools/web/package.mjs"), "--uncompressed", "--out", out], { stdio: "pipe" });
    archive = path.join(out, readdirSync(out).find((name) => name.endsWith(".tgz")));
    execFileSync("tar", ["xzf", archive, "-C", folder]);
    host = await start({ isolated: true, "/apps/": folder, given: [/^(http|ws):\/\/localhost:\d+\//] });
    tab = await openTab(host.browser);
    await tab.page.goto(`${host.server.origin}/tests/blank.html`);
    expected = await tab.page.evaluate(async ({ site }) => {
      const { createEngine } = await import(`${site}llava-web.js`);
      const engine = await createEngine({ model: `${site}models/house.gguf`, mmproj: `${site}models/house-mmproj.gguf`, device: "cpu", cache: "none" });
      const image = await (await fetch(`${site}examples/fruit.png`)).blob();
      const reply = await engine.chat.completions.create({ messages: [{ role: "user", content: [{ type: "image", image }, { type: "text", text: "What do you see?" }] }], temperature: 0 });
      await engine.unload();
      return reply.choices[0].message.content;
    }, { site: host.site });
    assert.ok(expected.length > 10);
  });

  after(async () => {
    await vite?.close();
    await host?.close();
    rmSync(folder, { recursive: true });
  });

  test("Vite, built without configuration", async () => {
    const at = app("vite");
    await viteBuild({ root: at, base: "./", configFile: false, logLevel: "error", build: { target: "esnext" } });
    isRight(await run(`${host.server.origin}/apps/vite/dist/index.html`));
  });

  test("threads start in a bundled program, too", async (t) => {
    if (!existsSync(path.join(folder, "package/pkg-threads"))) return t.skip("the modules with threads are not built");
    const seen = await run(`${host.server.origin}/apps/vite/dist/index.html`, { threads: 2 });
    isRight(seen);
    assert.equal(seen.threads, 2);
  });

  test("Vite, as it serves while one writes, with the line that docs/embed.md names", async () => {
    const at = app("vite-dev");
    vite = await createServer({
      root: at, configFile: false, logLevel: "error", server: { host: "localhost", hmr: false, headers: { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" } },
      optimizeDeps: { exclude: ["llava-web"] },
    });
    await vite.listen();
    isRight(await run(`http://localhost:${vite.httpServer.address().port}/`));
  });

  test("webpack 5 without configuration", async () => {
    const at = app("webpack");
    await new Promise((resolve, reject) => {
      webpack({ mode: "production", context: at, entry: "./main.js", output: { path: path.join(at, "dist") }, performance: { hints: false } }, (error, stats) => {
        if (error || stats.hasErrors()) reject(error ?? new Error(stats.toString("errors-only")));
        else resolve(undefined);
      });
    });
    writeFileSync(path.join(at, "dist/index.html"), PAGE("main.js").replace(' type="module"', ""));
    isRight(await run(`${host.server.origin}/apps/webpack/dist/index.html`));
  });

  test("esbuild, with the engine's files in a folder of their own", async () => {
    const at = app("esbuild", "./llava-web/");
    await esbuild({ absWorkingDir: at, entryPoints: ["main.js"], bundle: true, format: "esm", splitting: true, outdir: "dist", logLevel: "error" });
    cpSync(path.join(folder, "package"), path.join(at, "dist/llava-web"), { recursive: true });
    writeFileSync(path.join(at, "dist/index.html"), PAGE("main.js"));
    isRight(await run(`${host.server.origin}/apps/esbuild/dist/index.html`));
  });

  test("a folder that is none is refused by name, and one without the engine's files too", async () => {
    await tab.page.goto(`${host.server.origin}/tests/blank.html`);
    const failures = await tab.page.evaluate(async ({ site }) => {
      const { createEngine } = await import(`${site}llava-web.js`);
      const load = (assets) => createEngine({ model: `${site}models/house.gguf`, assets }).then(() => null, ({ code, message }) => ({ code, message }));
      return [await load(7), await load(""), await load("javascript:0"), await load(site)];
    }, { site: host.site });
    assert.deepEqual(failures.map((failure) => failure?.code), ["invalid_request", "invalid_request", "invalid_request", undefined]);
    for (const { message } of failures.slice(0, 3)) assert.match(message, /assets/);
  });

  test("on a server every module can be imported, and says where it works", () => {
    const at = app("server");
    const script = `
      const [web, element, openai, prompt] = await Promise.all(["llava-web", "llava-web/element", "llava-web/openai", "llava-web/prompt-api"].map((name) => import(name)));
      const failed = (promise) => promise.then(() => null, ({ code, message }) => ({ code, message }));
      console.log(JSON.stringify({ created: await failed(web.createEngine({ model: "x.gguf" })), available: await prompt.LanguageModel.availability(), doors: typeof openai.openaiFetch, element: typeof element }));`;
    const seen = JSON.parse(execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: at, encoding: "utf8" }));
    assert.equal(seen.created.code, "unsupported_browser", seen.created.message);
    assert.deepEqual([seen.available, seen.doors, seen.element], ["unavailable", "function", "object"]);
  });

  test("not bundled at all, from another origin, as from a CDN", async () => {
    const at = app("plain");
    const map = (/** @type {string} */ base) => JSON.stringify({ imports: Object.fromEntries([["", "llava-web"], ["/element", "llava-chat"], ["/openai", "openai"], ["/prompt-api", "prompt-api"]].map(([entry, file]) => [`llava-web${entry}`, `${base}${file}.js`])) });
    writeFileSync(path.join(at, "index.html"), PAGE("./main.js").replace("<script", `<script type="importmap">${map(`${host.other.origin}/apps/package/`)}</script><script`));
    isRight(await run(`${host.server.origin}/apps/plain/index.html`));
  });

  test("an extension's page (manifest version 3), with the line that its policy needs; without it, that is said", { timeout: 90_000 }, async () => {
    for (const policy of ["script-src 'self' 'wasm-unsafe-eval'; object-src 'self'", null]) {
      const at = app(policy ? "extension" : "extension-without");
      await esbuild({ absWorkingDir: at, entryPoints: ["main.js"], bundle: true, format: "esm", outfile: "bundle.js", logLevel: "error" });
      cpSync(path.join(folder, "package"), path.join(at, "llava-web"), { recursive: true });
      rmSync(path.join(at, "node_modules"), { recursive: true });
      writeFileSync(path.join(at, "index.html"), PAGE("./bundle.js"));
      writeFileSync(path.join(at, "manifest.json"), JSON.stringify({
        manifest_version: 3, name: "An extension", version: "1", host_permissions: [`${host.server.origin}/*`], ...(policy ? { content_security_policy: { extension_pages: policy } } : {}),
      }));
      // An extension that is not packed has its name from where it is.
      const id = [...createHash("sha256").update(at).digest("hex").slice(0, 32)].map((digit) => String.fromCharCode(97 + parseInt(digit, 16))).join("");
      const context = await chromium.launchPersistentContext(path.join(at, "profile"), {
        executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true,
        args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", `--disable-extensions-except=${at}`, `--load-extension=${at}`],
        ignoreDefaultArgs: ["--disable-extensions"],
      });
      try {
        const page = await context.newPage();
        await page.goto(`chrome-extension://${id}/index.html`);
        await page.waitForFunction(() => typeof globalThis.ask === "function");
        const seen = await page.evaluate(({ site, options }) => globalThis.ask(site, options).catch(({ code, message }) => ({ code, message })), { site: host.site, options: { assets: `chrome-extension://${id}/llava-web/` } });
        if (policy) isRight(seen);
        else assert.match(`${seen.code} ${seen.message}`, /^unsupported_browser .*'wasm-unsafe-eval'/);
      } finally {
        await context.close();
      }
    }
  });

  test("publint has nothing to say about it", async () => {
    const { messages, pkg } = await publint({ pkgDir: path.join(folder, "package"), pack: false, strict: true });
    assert.deepEqual(messages.map((message) => formatMessage(message, pkg, { color: false })), []);
  });

  test("its types are right wherever modules are", async () => {
    const { problems } = await checkPackage(createPackageFromTarballData(new Uint8Array(readFileSync(archive))));
    // What is left out: that it is ES modules only, and that TypeScript's resolution of before 2020 knows no exports.
    const wrong = problems.filter(({ kind, resolutionKind }) => kind !== "CJSResolvesToESM" && resolutionKind !== "node10");
    assert.deepEqual(wrong, []);
  });

  test("the element is known in JSX: of React, Preact and Solid", () => {
    const at = app("jsx");
    mkdirSync(path.join(at, "node_modules/@types"));
    for (const name of ["react", "@types/react", "csstype", "preact", "solid-js"]) symlinkSync(path.join(here, "../node_modules", name), path.join(at, "node_modules", name));
    const component = (/** @type {string} */ source, /** @type {string} */ entry, /** @type {string} */ attributes) => `
      /** @jsxImportSource ${source} */
      import type { LlavaChat } from "llava-web/${entry}";
      export const use = (chat: LlavaChat) => chat.ask("What is it?");
      export const App = () => <main>
        <llava-chat model="a.gguf" mmproj="b.gguf" device="auto" image-detail="low" autoload ${attributes}><p slot="intro">Hello</p></llava-chat>
        {/* @ts-expect-error: there is no such device */}
        <llava-chat device="gpu" />
      </main>;`;
    writeFileSync(path.join(at, "react.tsx"), component("react", "react", 'className="x" models={[]} onllava-ready={({ detail }) => console.log(detail.info.name.length)}'));
    writeFileSync(path.join(at, "preact.tsx"), component("preact", "preact", 'class="x" models={[]} onllava-error={({ detail }) => console.log(detail.code.length)}'));
    writeFileSync(path.join(at, "solid.tsx"), component("solid-js", "solid", 'class="x" prop:models={[]} on:llava-message={({ detail }) => console.log(detail.content.length)}'));
    const tsc = createRequire(import.meta.url).resolve("typescript/lib/tsc.js");
    const { status, stdout } = spawnSync(process.execPath, [tsc, "--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--jsx", "react-jsx",
      "--lib", "esnext,dom,dom.iterable,dom.asynciterable", "react.tsx", "preact.tsx", "solid.tsx"], { cwd: at, encoding: "utf8" });
    assert.equal(status, 0, stdout);
  });
});
