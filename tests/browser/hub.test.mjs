// Models from a host that behaves as Hugging Face does: loaded with a click through its redirects, whose signatures expire, and what the page says
// and offers where a model is gated, moved, gone, or may not be read by pages. Also the maintainer's check of the list, against the same host.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { hub } from "../tools/hub.mjs";
import { golden, openTab, start, withoutEngine } from "./support.mjs";

const MODEL = "tiny-llava/tiny-llava-q4_0.gguf";
const MMPROJ = "tiny-llava/mmproj-legacy-f16.gguf";
const SIZES = { model: statSync(golden(MODEL)).size, mmproj: statSync(golden(MMPROJ)).size };
const CHECK = fileURLToPath(new URL("../tools/check_models.mjs", import.meta.url));
const question = (page) => page.getByRole("textbox", { name: "Your question" });

/** A small pair as a repository has it. */
const files = (query = {}) => ({
  "model.gguf": { file: golden(MODEL), at: `/golden/${MODEL}`, query },
  "mmproj.gguf": { file: golden(MMPROJ), at: `/golden/${MMPROJ}`, query },
});

/** The repositories, by what is wrong with them. */
const REPOSITORIES = {
  "maker/good": { files: files() },
  "maker/slow": { files: files({ drop: "600000", times: "1" }) },
  "maker/gated": { gated: true, files: files() },
  "maker/closed": { isOpen: false, files: files() },
  "maker/half": { files: { "model.gguf": files()["model.gguf"] } },
  "maker/cdn-closed": { files: files({ nocors: "" }) },
  "maker/no-ranges": { files: files({ noranges: "" }) },
  "maker/hidden": { files: files({ hidden: "" }) },
  "maker/expired": { uses: 0, files: files() },
  "maker/page": { files: files({ html: "" }) },
};

describe("models on a hub", { skip: withoutEngine }, () => {
  let host;
  let models;
  before(async () => {
    host = await start({ given: [/^http:\/\/127\.0\.0\.1:\d+\/maker\/[\w.-]+\/resolve\/main\/[\w.-]+$/] });
    models = await hub({ repositories: REPOSITORIES, elsewhere: host.other.origin });
  });
  after(async () => {
    await host?.close();
    await models?.close();
  });

  const at = (repository) => ({ model: `${models.origin}/maker/${repository}/resolve/main/model.gguf`, mmproj: `${models.origin}/maker/${repository}/resolve/main/mmproj.gguf` });
  /** An entry of the list; the `size`th smallest. */
  const entry = (name, repository, size) => ({ name, family: "llava", purpose: "photographs", goodAt: "Says what is seen.", licence: "CC0", ...at(repository), bytes: SIZES, memory: 1e7 + size });
  const askedOf = (repository, file) => models.requests.filter(({ url }) => url === `/maker/${repository}/resolve/main/${file}`);

  /** The page with its own model loaded, and these beside it. */
  const visit = (name, entries, use) => test(name, { timeout: 90_000 }, async () => {
    const tab = await openTab(host.browser);
    const { page } = tab;
    page.setDefaultTimeout(20_000);
    try {
      await page.goto(host.site);
      await question(page).waitFor();
      await page.evaluate((more) => {
        const chat = document.querySelector("llava-chat");
        chat.models = [chat.models[0], ...more];
      }, entries());
      await use(page, tab);
      // The browser's own lines about answers with such a status, and about what it did not let the page read.
      assert.deepEqual(tab.complaints.filter((text) => !/status of 40[134]|CORS policy|net::ERR_FAILED/.test(text)), []);
    } finally {
      await tab.close();
    }
  });
  const load = (page, name) => page.getByRole("region", { name: /^For photographs/ }).getByRole("button", { name: `Load ${name}` }).click();
  const loaded = async (page) => {
    await question(page).waitFor();
    await page.waitForFunction(() => document.querySelector("llava-chat").engine?.info.vision?.imageSize === 56 || document.querySelector("llava-chat").engine?.info.name !== "llava-web house model");
  };
  const alert = (page) => page.getByRole("alert");

  visit("a click loads both files through the redirect; they are kept under the hub's address", () => [entry("Good", "good", 1)], async (page) => {
    await load(page, "Good");
    await loaded(page);
    const kept = await page.evaluate(async () => (await (await import(new URL("llava-web.js", location.href).href)).listCachedModels()).map(({ url, complete }) => [url, complete]));
    for (const url of Object.values(at("good"))) assert.ok(kept.some(([kept, complete]) => kept === url && complete), `${url} in ${JSON.stringify(kept)}`);
    const before = models.requests.length;
    await page.reload();
    await question(page).waitFor();
    await page.evaluate((more) => {
      const chat = document.querySelector("llava-chat");
      chat.models = [chat.models[0], more];
    }, entry("Good", "good", 1));
    await page.getByRole("region", { name: /^For photographs/ }).getByText(/on this device/).waitFor();
    await load(page, "Good");
    await loaded(page);
    assert.equal(models.requests.length, before, "nobody was asked again");
  });

  visit("a download that breaks off when its signature has expired goes on with a new one", () => [entry("Slow", "slow", 1)], async (page) => {
    await load(page, "Slow");
    await loaded(page);
    // Each signature holds for one request: after the break the hub was asked for another one, and only the rest was sent.
    assert.ok(askedOf("slow", "model.gguf").length >= 2);
    const ranges = host.other.requests.filter(({ url }) => url.startsWith(`/golden/${MODEL}?drop=600000`)).map(({ range }) => range);
    assert.ok(ranges.some((range) => /^bytes=[1-9]\d*-/.test(range ?? "")), JSON.stringify(ranges));
  });

  for (const { what, repository, says } of [
    { what: "gated", repository: "gated", says: /its publisher wants the terms accepted first.*choose it from disk/ },
    { what: "in a repository that is gone", repository: "gone", says: /no such repository, or it is private\. It may have been renamed/ },
    { what: "not to be read by pages", repository: "closed", says: /does not let web pages read its files \(CORS\).*choose it from disk/ },
    { what: "not to be read by pages where it comes from", repository: "cdn-closed", says: /does not let web pages read its files \(CORS\)/ },
    { what: "signed for too short a time", repository: "expired", says: /status 403/ },
    { what: "a web page instead of a file", repository: "page", says: /is a web page, not a model file/ },
  ]) {
    visit(`a model that is ${what}: said so, and the next one is a click away`, () => [entry("Broken", repository, 1), entry("Next", "good", 2)], async (page) => {
      await load(page, "Broken");
      await alert(page).getByText(/^Broken could not be downloaded\. /).waitFor();
      assert.match(await alert(page).textContent(), says);
      // On a phone, too, it is in view, and what can be done is the next stop.
      await page.setViewportSize({ width: 390, height: 700 });
      await page.keyboard.press("Tab");
      assert.match(await page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement.textContent), /^Load Next instead/);
      const { top, bottom } = await alert(page).evaluate((node) => node.getBoundingClientRect().toJSON());
      assert.ok(top >= 0 && bottom <= 700, `${top} to ${bottom}`);
      await alert(page).getByRole("button", { name: /^Load Next instead, 2\.\d+ MB$/ }).click();
      await loaded(page);
    });
  }

  visit("a file that was renamed: said so; both files are chosen by hand instead", () => [entry("Renamed", "half", 1)], async (page) => {
    await load(page, "Renamed");
    await alert(page).getByText(/the repository has no such file\. It may have been renamed: look at its list of files/).waitFor();
    assert.equal(await alert(page).getByRole("button", { name: /instead/ }).count(), 0, "there is no other one");
    const chooser = page.waitForEvent("filechooser");
    await alert(page).getByRole("button", { name: "Choose the two files" }).click();
    await (await chooser).setFiles([golden(MODEL), golden(MMPROJ)]);
    await page.getByText("mmproj-legacy-f16.gguf").waitFor();
    await page.getByRole("button", { name: "Load model" }).click();
    await loaded(page);
  });

  visit("cancelled: the page's own model is a click away", () => [{ ...entry("Slow", "good", 1), model: `${at("good").model}` }], async (page) => {
    // Nothing comes of it until it is cancelled.
    await page.context().route(`${host.other.origin}/**`, () => {});
    await load(page, "Slow");
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("button", { name: "Back to Built-in mini model" }).click();
    await question(page).waitFor();
    await page.getByRole("region", { name: /^For photographs/ }).waitFor();
  });
});

describe("check_models.mjs", () => {
  let host;
  let models;
  let folder;
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-list-"));
    host = await start();
    models = await hub({ repositories: Object.fromEntries(Object.entries(REPOSITORIES).map(([name, repository]) => [name, { uses: 2, ...repository }])), elsewhere: host.other.origin });
  });
  after(async () => {
    await host?.close();
    await models?.close();
    rmSync(folder, { recursive: true });
  });

  /** What the program says of a list, and how it ends. @returns {Promise<{ code: number, text: string }>} */
  const check = (entries, ...args) => new Promise((resolve) => {
    const list = path.join(folder, `list-${entries.length}-${entries[0].name.replaceAll(" ", "-")}.mjs`);
    writeFileSync(list, `export const MODELS = ${JSON.stringify(entries)};`);
    execFile("node", [CHECK, "--list", list, "--hub", models.origin, ...args], (error, text) => resolve({ code: error ? Number(error.code) : 0, text }));
  });
  const entry = (name, more = {}) => ({ name, model: `hf:maker/${name}/model.gguf`, mmproj: `hf:maker/${name}/mmproj.gguf`, bytes: SIZES, ...more });

  test("a good entry is good, with exact sizes, rounded ones, and their sum", async () => {
    const { code, text } = await check([entry("good"), entry("good", { bytes: SIZES.model + SIZES.mmproj }),
      entry("good", { bytes: { model: SIZES.model * 1.02, mmproj: SIZES.mmproj * 0.98 }, roundedBytes: true })]);
    assert.equal(code, 0, text);
    assert.equal(text.match(/^ok /gm).length, 6, text);
    assert.match(text, /6 files of 3 models, 0 at fault/);
    // Nothing but the first bytes was fetched.
    assert.ok(host.other.requests.filter(({ method }) => method === "GET").every(({ range }) => range === "bytes=0-3"));
  });

  for (const [name, fault, more] of [
    ["gated", /gated \(401\): its terms have to be accepted first/],
    ["gone", /no such repository, or a private one \(401\)/],
    ["half", /no such file \(404\)\. Look at http:\/\/[\d.:]+\/maker\/half\/tree\/main/],
    ["closed", /127\.0\.0\.1:\d+ does not let pages of other origins read it \(CORS\)/],
    ["cdn-closed", /127\.0\.0\.1:\d+ does not let pages of other origins read it \(CORS\)/],
    ["no-ranges", /ranges are not known/],
    ["hidden", /pages are not shown etag/],
    ["expired", /not public \(403\)/],
    ["page", /no GGUF file: it begins with "<!do"/],
    ["good", /2\d* bytes, where the list says 5/, { bytes: { model: SIZES.model, mmproj: 5 } }],
    ["good", /both files together: \d+ bytes, where the list says 7/, { bytes: 7 }],
    ["good", /where the list says/, { bytes: { model: SIZES.model * 1.2, mmproj: SIZES.mmproj }, roundedBytes: true }],
    ["good", /could not be asked: /, { model: "http://127.0.0.1:9/model.gguf" }],
    ["good", /there is no such file in this folder/, { model: "models/nothing.gguf" }],
  ]) {
    test(`a fault is named: ${fault.source.slice(0, 60)}`, async () => {
      const { code, text } = await check([entry(name, more)]);
      assert.equal(code, 1, text);
      assert.match(text, /^FAULT /m);
      assert.match(text, fault);
    });
  }

  test("the page's own model is as large as the list says; an empty choice is no success", async () => {
    const run = (...args) => new Promise((resolve) => execFile("node", [CHECK, ...args], (error, text) => resolve({ code: error ? Number(error.code) : 0, text })));
    const { code, text } = await run("built-in");
    assert.equal(code, 0, text);
    assert.match(text, /2 files of 1 models, 0 at fault/);
    assert.equal((await run("no such model")).code, 1);
  });
});
