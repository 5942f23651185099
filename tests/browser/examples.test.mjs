// The examples of examples/web: each runs as its README says, with the page's own model. The plain pages from a checkout, the others with the npm package,
// built by Vite with their own configuration.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { build as viteBuild } from "vite";

import { openTab, start, withoutEngine } from "./support.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, "../..");
const examples = path.join(root, "examples/web");
const drawing = path.join(root, "www/examples/fruit.png");

describe("examples", { skip: withoutEngine }, () => {
  let host;
  let folder;
  /** What the example `page` is, opened in a tab of its own, whose complaints fail the test. @type {(address: string, body: (page: import("playwright-core").Page) => Promise<void>) => Promise<void>} */
  let inTab;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-examples-"));
    host = await start({ isolated: true, "/checkout/": root, "/apps/": folder, given: [/^http:\/\/llava-web\.invalid\//] });
    inTab = async (address, body) => {
      const { page, complaints, close } = await openTab(host.browser);
      // Some builds of Chromium have a Prompt API, with no model behind it.
      await page.addInitScript(() => void delete globalThis.LanguageModel);
      await page.goto(`${host.server.origin}${address}`);
      await body(page);
      assert.deepEqual(complaints, []);
      await close();
    };
  });

  after(async () => {
    await host?.close();
    rmSync(folder, { recursive: true });
  });

  /** Waits until an element says something like this. @param {import("playwright-core").Page} page @param {string} selector @param {RegExp} text */
  const says = async (page, selector, text) => {
    const found = page.locator(selector).filter({ hasText: text });
    await found.waitFor({ timeout: 30_000 }).catch(async () => assert.fail(`${selector} says ${JSON.stringify(await page.locator(selector).allTextContents())}, not ${text}`));
  };

  test("what is to be seen now: three drawings in turn, and another question", () => inTab("/checkout/examples/web/watch.html", async (page) => {
    await page.getByRole("button", { name: "Three drawings" }).click();
    for (const what of [/dog/, /banana/, /bus/]) await says(page, "#answer", what);
    await page.getByRole("textbox", { name: "Question" }).fill("Is there a dog?");
    await page.keyboard.press("Enter");
    await says(page, "#answer", /^(Yes|No)\b/);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.waitForFunction(() => document.querySelector("#stop").disabled);
  }));

  test("the element in a static page", () => inTab("/checkout/examples/web/element.html", async (page) => {
    await page.getByRole("button", { name: "Load model" }).click();
    await says(page, "#log", /^Loaded .* on (cpu|webgpu)\.$/);
    const answer = await page.evaluate(async () => {
      const picture = await (await fetch("../../www/examples/fruit.png")).blob();
      return await document.querySelector("llava-chat").ask("Is there a banana?", picture);
    });
    assert.match(answer, /banana/);
    await says(page, "#log", /^The last answer took \d+ tokens\.$/);
  }));

  test("alt texts for a blog post", () => inTab("/checkout/examples/web/alt-texts.html", async (page) => {
    await page.getByRole("button", { name: "Write the missing alt texts" }).click();
    await says(page, "#progress", /^Done/);
    const alts = await page.locator("article img").evaluateAll((images) => images.map((image) => image.getAttribute("alt")));
    assert.match(alts[0], /dog/);
    assert.match(alts[1], /apple|banana/);
    assert.match(alts[2], /this text was here before/);
    assert.equal((await page.locator("#html").textContent()).match(/<img [^>]*alt="[^"]+"/g).length, 3);
  }));

  test("a page for the Prompt API", () => inTab("/checkout/examples/web/prompt-api.html", async (page) => {
    await page.getByRole("button", { name: "Ask" }).click();
    await says(page, "output", /apple.*\.$/i);
    // Of another picture, the same way.
    await page.getByLabel("Another picture").setInputFiles(path.join(root, "www/examples/pets.png"));
    await page.getByLabel("Question").fill("Is there a dog?");
    await page.getByRole("button", { name: "Ask" }).click();
    await says(page, "output", /dog.*\.$/i);
  }));

  describe("with the npm package", () => {
    before(() => {
      const out = path.join(folder, "dist");
      execFileSync(process.execPath, [path.join(root, "tools/web/package.mjs"), "--uncompressed", "--out", out], { stdio: "pipe" });
      execFileSync("tar", ["xzf", path.join(out, readdirSync(out).find((name) => name.endsWith(".tgz"))), "-C", folder]);
    });

    test("npm would publish it as it is", () => {
      const tarball = path.join(folder, "dist", readdirSync(path.join(folder, "dist")).find((name) => name.endsWith(".tgz")));
      // Of no registry: a dry run asks none. It speaks, even where the npm that runs these tests was told to be silent.
      const { status, stdout, stderr } = spawnSync("npm", ["publish", "--dry-run", "--ignore-scripts", "--offline", "--loglevel=notice", "--registry=http://127.0.0.1:9", tarball], { encoding: "utf8", cwd: folder });
      assert.equal(status, 0, stderr);
      assert.match(stdout, /^\+ llava-web@\d+\.\d+\.\d+$/m);
      // What npm would correct, or doubts; but not that nobody is logged in.
      assert.deepEqual(stderr.split("\n").filter((line) => /^npm (warn|error)/i.test(line) && !/requires you to be logged in/.test(line)), []);
    });

    /** Installs and builds an example, and says where it is then. @param {string} name @param {string[]} packages  what it has of npm beside llava-web */
    const built = async (name, packages) => {
      const app = path.join(folder, name);
      cpSync(path.join(examples, name), app, { recursive: true, filter: (file) => !/node_modules|dist/.test(path.basename(file)) });
      mkdirSync(path.join(app, "node_modules"));
      for (const one of packages) symlinkSync(path.join(root, "tests/node_modules", one), path.join(app, "node_modules", one));
      cpSync(path.join(folder, "package"), path.join(app, "node_modules/llava-web"), { recursive: true });
      await viteBuild({ root: app, base: "./", logLevel: "error", publicDir: path.join(root, "www/models"), build: { target: "esnext" } });
      return `/apps/${name}/dist/index.html`;
    };

    test("the openai client", async () => inTab(await built("openai", ["openai"]), async (page) => {
      await page.getByLabel("A drawing").setInputFiles(drawing);
      await says(page, "pre", /^\s*\{.*\}$/s);
      assert.match(await page.locator("output").textContent(), /apple|banana/);
      assert.equal(typeof JSON.parse(await page.locator("pre").textContent()).animal, "boolean");
    }));

    test("React", async () => inTab(await built("react", ["react", "react-dom", "scheduler"]), async (page) => {
      await page.getByLabel("A drawing").setInputFiles(drawing);
      await page.getByRole("button", { name: "Ask" }).click();
      await says(page, "output", /(apple|banana).*\.$/);
    }));
  });
});
