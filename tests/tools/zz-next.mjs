// Builds an app with Next.js from the npm package and runs it in Chromium: a component for the browser that creates an engine and asks it, and a page
// that a server renders, importing all of the package. Not among the tests, for Next.js alone is a third of a gigabyte,
// and installing and building take longer than any of them.
//
// usage: node next.mjs [--webpack]   Next.js bundles with Turbopack by itself, or with webpack

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { openTab, start } from "../browser/support.mjs";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const folder = mkdtempSync(path.join(tmpdir(), "llava-web-next-"));
const app = path.join(folder, "app");
const bundler = process.argv.includes("--webpack") ? ["--webpack"] : [];

const FILES = {
  "package.json": JSON.stringify({ private: true }),
  "app/layout.jsx": "export default function Layout({ children }) { return <html lang=\"en\"><head><link rel=\"icon\" href=\"data:,\" /></head><body>{children}</body></html>; }\n",
  "app/page.jsx": `import { createEngine } from "llava-web";
import { openaiFetch } from "llava-web/openai";
import { LanguageModel } from "llava-web/prompt-api";
import Ask from "./ask.jsx";

export const dynamic = "force-dynamic";

export default async function Page() {
  const refused = await createEngine({ model: "x.gguf" }).catch(({ code }) => code);
  return <main><p id="server">{[refused, typeof openaiFetch, await LanguageModel.availability()].join(" ")}</p><Ask /></main>;
}
`,
  "app/ask.jsx": `"use client";
import { createEngine } from "llava-web";
import "llava-web/react";
import { useEffect, useState } from "react";

export default function Ask() {
  const [answer, setAnswer] = useState("");
  useEffect(() => {
    const site = new URL(location.href).searchParams.get("site");
    const controller = new AbortController();
    const asked = (async () => {
      const engine = await createEngine({ model: site + "models/house.gguf", mmproj: site + "models/house-mmproj.gguf", device: "cpu", cache: "none", signal: controller.signal });
      const image = await (await fetch(site + "examples/fruit.png")).blob();
      const reply = await engine.chat.completions.create({
        messages: [{ role: "user", content: [{ type: "image", image }, { type: "text", text: "What do you see?" }] }], temperature: 0, signal: controller.signal,
      });
      await engine.unload();
      setAnswer(reply.choices[0].message.content);
    })();
    asked.catch((error) => controller.signal.aborted || setAnswer(String(error)));
    return () => controller.abort();
  }, []);
  return <section><p id="answer">{answer}</p><llava-chat prompt="Hello" /></section>;
}
`,
};

/** Runs something and says how long it took. */
const timed = (/** @type {string} */ what, /** @type {() => void} */ run) => {
  const from = performance.now();
  run();
  console.log(`${what}: ${((performance.now() - from) / 1000).toFixed(1)} s`);
};
const next = path.join(app, "node_modules/next/dist/bin/next");
const env = { ...process.env, NEXT_TELEMETRY_DISABLED: "1" };

/** A port that nobody has. @returns {Promise<number>} */
const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
    server.close(() => resolve(port));
  });
});

let host;
let served;
try {
  execFileSync(process.execPath, [path.join(root, "tools/web/package.mjs"), "--uncompressed", "--out", path.join(folder, "dist")], { stdio: "ignore" });
  const archive = path.join(folder, "dist", readdirSync(path.join(folder, "dist")).find((name) => name.endsWith(".tgz")) ?? "");
  for (const [name, text] of Object.entries(FILES)) {
    mkdirSync(path.dirname(path.join(app, name)), { recursive: true });
    writeFileSync(path.join(app, name), text);
  }
  execFileSync("cp", ["-al", "/tmp/nextapp/node_modules", path.join(app, "node_modules")]);
  timed("npm install", () => execFileSync("npm", ["install", "--no-audit", "--no-fund", "--silent", "next", "react", "react-dom", archive], { cwd: app, stdio: "inherit" }));
  timed("next build", () => execFileSync(process.execPath, [next, "build", ...bundler], { cwd: app, env, stdio: ["ignore", "ignore", "inherit"] }));
  host = await start({ given: [/^http:\/\/localhost:\d+\//] });
  const port = await freePort();
  served = spawn(process.execPath, [next, "start", "--port", String(port)], { cwd: app, env, stdio: "ignore" });
  const address = `http://localhost:${port}/?site=${host.site}`;
  for (const end = Date.now() + 30_000; !await fetch(address).then(({ ok }) => ok, () => false);) {
    assert.ok(Date.now() < end, "the app does not answer");
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.match(await (await fetch(address)).text(), /unsupported_browser function unavailable/, "what the server rendered");
  const { page, complaints } = await openTab(host.browser);
  await page.goto(address);
  await page.waitForFunction(() => document.querySelector("#answer")?.textContent !== "", undefined, { timeout: 120_000 });
  const answer = await page.locator("#answer").textContent();
  assert.match(answer ?? "", /^[A-Z].{10,}/);
  assert.doesNotMatch(answer ?? "", /Error/);
  await page.getByRole("heading", { name: "Load a model" }).waitFor();
  assert.deepEqual(complaints, []);
  console.log(`It answered: ${answer}`);
} finally {
  served?.kill();
  await host?.close();
  rmSync(folder, { recursive: true });
}
