// The models that the page offers: what the list says of each, which of them fit which machine, and how one of them is loaded with a click.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { FAMILIES, fit, fitWords, forPhotographs, hasRoom, isLoadable, secondsToFirstWord, speedWords, totalBytes } from "../../www/chat/model/catalogue.js";
import { MODELS } from "../../www/models.js";
import { Language } from "../../www/strings/language.js";
import { standIn } from "./stand-in.mjs";
import { golden, openTab, start, withoutEngine } from "./support.mjs";

const GB = 1e9;
/** A laptop with Chrome and no GPU that WebGPU knows. */
const words = new Language();
const LAPTOP = { gpu: false, memory: 8 * GB, isAtLeast: true, free: 100 * GB, kept: new Set(), rate: null };

describe("the list of models", () => {
  test("has at least eight for photographs, each with what a person and the engine have to know", () => {
    assert.ok(MODELS.filter(({ purpose }) => purpose === "photographs").length >= 8);
    assert.equal(new Set(MODELS.map(({ name }) => String(name))).size, MODELS.length);
    assert.equal(MODELS[0].purpose, "drawings");
    const FILE = /^hf:[\w.-]+\/[\w.-]+\/[\w.-]+\.gguf$/;
    for (const { name, family, purpose, goodAt, licence, model, mmproj, bytes, memory, work, sampling = {} } of MODELS.slice(1)) {
      assert.match(model, FILE, name);
      assert.match(mmproj, FILE, name);
      assert.equal(model.split("/")[1], mmproj.split("/")[1], `${name}: both files of one repository`);
      assert.ok(bytes.model > bytes.mmproj && bytes.mmproj > 50e6, name);
      // Keys, values and scratch beside the weights; 16-bit vision files are loaded in 8 bits on the CPU.
      assert.ok(memory > 0.9 * (bytes.model + bytes.mmproj), `${name}: ${memory} bytes are less than the files`);
      assert.ok(family && licence && ["photographs", "documents"].includes(purpose), name);
      assert.match(String(goodAt), /^[A-Z].{30,110}\.$/, name);
      // A weight takes between 4 and 9 bits.
      const bits = (8 * bytes.model) / work.weights;
      assert.ok(bits > 4 && bits < 9, `${name}: ${bits} bits a weight`);
      assert.ok(work.picture > 1e11 && work.rows >= 64, name);
      assert.ok((sampling.temperature ?? 0) <= 1, name);
    }
    assert.ok(new Set(MODELS.map(({ family }) => family)).size >= 6, "of several families");
  });

  test("is in the order of size", () => {
    const sizes = MODELS.map(totalBytes);
    const sorted = [...sizes].sort((a, b) => a - b);
    // Rounded sizes may stand a little out of order.
    sizes.forEach((size, i) => assert.ok(Math.abs(size - sorted[i]) < 0.2 * sorted[i], `${MODELS[i].name}`));
  });

  test("offers nothing that the engine does not load", () => {
    assert.ok(isLoadable(MODELS[0]));
    for (const model of MODELS) assert.equal(isLoadable(model), FAMILIES.has(model.family), model.name);
    assert.equal(isLoadable({ name: "of a page's own", model: "x", bytes: 1 }), true);
    const only = new Set(["llava"]);
    assert.deepEqual(MODELS.filter((model) => isLoadable(model, only)).map(({ family }) => family), ["llava", "llava", "llava", "llava"]);
    assert.ok(forPhotographs(MODELS, LAPTOP).every((model) => FAMILIES.has(model.family)));
  });
});

describe("what fits", () => {
  const of = (memory, more = {}) => ({ name: "x", model: "x.gguf", bytes: memory / 1.2, memory, purpose: "photographs", ...more });

  test("by the machine's memory and WebAssembly's, and not known where the browser does not tell", () => {
    assert.equal(fit(of(0.4 * GB), LAPTOP), "fits");
    assert.equal(fit(of(3.5 * GB), LAPTOP), "fits");
    assert.equal(fit(of(5 * GB), LAPTOP), "too large");
    // With a GPU there is more than WebAssembly's memory, but nobody says how much.
    assert.equal(fit(of(5 * GB), { ...LAPTOP, gpu: true }), "unknown");
    assert.equal(fit(of(5 * GB), { ...LAPTOP, gpu: true, memory: 32 * GB }), "unknown");
    assert.equal(fit(of(1 * GB), { ...LAPTOP, gpu: true }), "fits");
    // Small enough for a CPU, but too slow on one.
    assert.equal(fit(of(1 * GB, { needsGpu: true }), LAPTOP), "too large");
    assert.equal(fit(of(1 * GB, { needsGpu: true }), { ...LAPTOP, gpu: true }), "fits");
    // A phone that tells its memory.
    const phone = { ...LAPTOP, memory: 2 * GB, isAtLeast: false };
    assert.equal(fit(of(0.4 * GB), phone), "fits");
    assert.equal(fit(of(1.4 * GB), phone), "tight");
    // Firefox and Safari tell nothing.
    const silent = { ...LAPTOP, memory: null, isAtLeast: false };
    assert.equal(fit(of(0.4 * GB), silent), "unknown");
    assert.equal(fit(of(5 * GB), silent), "too large");
    assert.equal(fit(MODELS[0], silent), "fits");
    assert.equal(String(fitWords(words, of(0.4 * GB), silent)), "can’t tell whether it fits this device");
    // Only the files' size is known.
    assert.equal(fit({ name: "x", model: "x", bytes: 3.2 * GB }, LAPTOP), "too large");
    assert.equal(fit({ name: "x", model: "x", bytes: 2.5 * GB }, LAPTOP), "fits");
  });

  test("the storage has room, or nobody knows", () => {
    assert.equal(hasRoom(of(1 * GB), { ...LAPTOP, free: 0.5 * GB }), false);
    assert.equal(hasRoom(of(1 * GB), { ...LAPTOP, free: 2 * GB }), true);
    assert.equal(hasRoom(of(1 * GB), { ...LAPTOP, free: null }), true);
  });

  test("the smallest that fits comes first; what is here already before it, what has no room after it", () => {
    const models = [of(2 * GB, { name: "two" }), of(0.4 * GB, { name: "small" }), of(9 * GB, { name: "huge" }), of(1 * GB, { name: "one" }),
      of(0.1 * GB, { name: "pages", purpose: "documents" }), of(0.2 * GB, { name: "unknown family", family: "none" })];
    const names = (facts, isHere) => forPhotographs(models, facts, isHere).map(({ name }) => name);
    assert.deepEqual(names(LAPTOP), ["small", "one", "two"]);
    assert.deepEqual(names({ ...LAPTOP, gpu: true }), ["small", "one", "two", "huge"]);
    assert.deepEqual(names(LAPTOP, ({ name }) => name === "two"), ["two", "small", "one"]);
    assert.deepEqual(names({ ...LAPTOP, memory: 1.5 * GB, isAtLeast: false }), ["small", "one", "two"]);
    assert.deepEqual(names({ ...LAPTOP, free: 0.01 * GB }), ["small", "one", "two"]);
    assert.deepEqual(names({ ...LAPTOP, free: 0.9 * GB }, ({ name }) => name === "one"), ["one", "small", "two"]);
    assert.deepEqual(names({ ...LAPTOP, memory: null }), ["small", "one", "two"]);
  });

  test("how fast: from what was measured, in words; not known where nothing was", () => {
    const model = { name: "x", model: "x", bytes: 1, work: { weights: 1e8, picture: 0.2e12, rows: 70 } };
    assert.equal(secondsToFirstWord(model, LAPTOP), null);
    assert.equal(String(speedWords(words, model, LAPTOP)), "speed not measured yet");
    assert.equal(String(speedWords(words, { ...model, work: undefined }, { ...LAPTOP, rate: 1e12 })), "speed not measured yet");
    assert.equal(secondsToFirstWord(model, { ...LAPTOP, rate: 22e9 }), 10);
    assert.equal(String(speedWords(words, model, { ...LAPTOP, rate: 220e9 })), "fast here: first words within 4 s");
    assert.equal(String(speedWords(words, model, { ...LAPTOP, rate: 22e9 })), "first words within about 10 s here");
    assert.equal(String(speedWords(words, model, { ...LAPTOP, rate: 22e9 / 3.2 })), "first words within about 35 s here");
    assert.equal(String(speedWords(words, model, { ...LAPTOP, rate: 2.2e9 })), "slow here: up to about 2 min to the first words");
  });
});

/** A small pair of each family that the engine is said to load. */
const SMALL = {
  llava: ["tiny-llava/tiny-llava-q4_0.gguf", "tiny-llava/mmproj-legacy-f16.gguf"],
  idefics3: ["tiny-smolvlm/tiny-smolvlm-q4_0.gguf", "tiny-smolvlm/mmproj-f16.gguf"],
  internvl: ["tiny-internvl3/tiny-internvl3-q4_0.gguf", "tiny-internvl3/mmproj-f16.gguf"],
  ldp: ["tiny-llava/tiny-llava-q4_0.gguf", "tiny-mobilevlm/mmproj-ldp-f16.gguf"],
  ldpv2: ["tiny-llava/tiny-llava-q4_0.gguf", "tiny-mobilevlm/mmproj-ldpv2-f16.gguf"],
  lfm2: ["tiny-lfm2vl/tiny-lfm2vl-q4_0.gguf", "tiny-lfm2vl/mmproj-f16.gguf"],
  qwen2vl: ["tiny-qwen2vl/tiny-qwen2vl-q4_0.gguf", "tiny-qwen2vl/mmproj-f16.gguf"],
  qwen3vl: ["tiny-qwen3vl/tiny-qwen3vl-q4_0.gguf", "tiny-qwen3vl/mmproj-f16.gguf"],
  gemma3: ["tiny-gemma3/tiny-gemma3-q4_0.gguf", "tiny-gemma3/mmproj-f16.gguf"],
};

describe("models in the page", { skip: withoutEngine }, () => {
  let host;
  before(async () => {
    host = await start();
  });
  after(() => host?.close());

  const visit = (name, use, options = {}) => test(name, { timeout: 60_000 }, async () => {
    const tab = await openTab(host.browser, options);
    tab.page.setDefaultTimeout(15_000);
    try {
      await use(tab.page, tab);
      assert.deepEqual(tab.complaints, []);
    } finally {
      await tab.close();
    }
  });
  const question = (page) => page.getByRole("textbox", { name: "Your question" });
  const url = (name) => `${host.server.origin}/golden/${name}`;
  const LLAVA = () => ({ model: url(SMALL.llava[0]), mmproj: url(SMALL.llava[1]) });
  /** Gives the page other models than its own, with the files of a small one. */
  const offer = (page, models) => page.evaluate((models) => {
    document.querySelector("llava-chat").models = models;
  }, models);

  for (const family of FAMILIES) {
    const [model, mmproj] = SMALL[family] ?? [];
    const missing = model && !existsSync(golden(model)) ? `${path.dirname(model)} is not among the reference data` : false;
    test(`the engine loads the family ${family}`, { skip: missing }, async () => {
      assert.ok(model, `name a small pair of ${family} in this file: what is offered has been seen to load`);
      const tab = await openTab(host.browser);
      await tab.page.goto(`${host.server.origin}/tests/blank.html`);
      const vision = await tab.page.evaluate(async ([site, model, mmproj]) => {
        const { createEngine } = await import(new URL("llava-web.js", site).href);
        const engine = await createEngine({ model, mmproj, cache: "none" });
        const { vision } = engine.info;
        await engine.unload();
        return vision;
      }, [host.site, url(model), url(mmproj)]);
      assert.ok(vision);
      await tab.close();
    });
  }

  visit("a page's own list: how large, whether they fit, whether they are kept; a click loads", async (page) => {
    await page.context().route("**/pkg*/llava_web.js", (route) => route.fulfill({ contentType: "text/javascript", body: standIn() }));
    await page.goto(host.chooser);
    await offer(page, [
      { name: "Tiny", description: "For a first try", ...LLAVA(), bytes: 7e6, options: { contextSize: 512, chatTemplate: "chatml" }, sampling: { temperature: 0.3, top_k: 7 } },
      { name: "Huge", model: "hf:owner/repo/huge.gguf", bytes: 5e9 },
      { name: "Later", model: "hf:owner/repo/later.gguf", bytes: 5e6, family: "of the future" },
    ]);
    const offered = page.getByRole("region", { name: "Suggested models" });
    await offered.getByRole("listitem").filter({ hasText: "Tiny" }).waitFor();
    assert.match(await offered.getByRole("listitem").filter({ hasText: "Tiny" }).textContent(), /7 MB to download · fits this device · For a first try/);
    assert.match(await offered.getByRole("listitem").filter({ hasText: "Huge" }).textContent(), /5 GB to download · too large for this browser without WebGPU/);
    assert.equal(await offered.getByText("Later").count(), 0, "the engine does not load it");
    assert.equal(await offered.getByText(/^More models/).isVisible(), false, "there are no more");
    await offered.getByRole("button", { name: "Load Tiny" }).click();
    // What the entry says for the engine and for the answers holds, where the person has set nothing else.
    await question(page).fill("echo");
    await question(page).press("Enter");
    await page.locator(".turn .note").filter({ hasText: "tokens in" }).waitFor();
    const told = JSON.parse(await page.locator(".answer").textContent());
    const options = JSON.parse(told.options);
    assert.deepEqual([told.temperature, told.top_k, options.contextSize, options.chatTemplate], [0.3, 7, 512, "chatml"]);
    await page.evaluate(() => localStorage.setItem("llava-web settings", JSON.stringify({ contextSize: 1024, top_k: 9 })));
    await page.reload();
    await offer(page, [{ name: "Tiny", ...LLAVA(), bytes: 7e6, options: { contextSize: 512 }, sampling: { temperature: 0.3, top_k: 7 } }]);
    await page.getByRole("button", { name: "Load Tiny" }).click();
    await question(page).fill("echo");
    await question(page).press("Enter");
    await page.locator(".turn .note").filter({ hasText: "tokens in" }).waitFor();
    const mine = JSON.parse(await page.locator(".answer").textContent());
    assert.deepEqual([mine.temperature, mine.top_k, JSON.parse(mine.options).contextSize], [0.3, 9, 1024]);
    // It is the same model where its addresses are written otherwise, as relative ones are.
    await page.evaluate(() => localStorage.clear());
    await page.reload();
    await offer(page, [{ name: "Tiny", ...LLAVA(), bytes: 7e6, sampling: { top_k: 7 } }]);
    for (const [field, name] of [["Language model", SMALL.llava[0]], ["Vision file", SMALL.llava[1]]]) await page.getByRole("textbox", { name: field }).fill(`../../golden/${name}`);
    await page.getByRole("button", { name: "Load model" }).click();
    await question(page).fill("echo");
    await question(page).press("Enter");
    await page.locator(".turn .note").filter({ hasText: "tokens in" }).waitFor();
    assert.equal(JSON.parse(await page.locator(".answer").textContent()).top_k, 7);
  });

  visit("one click from the first screen to a model for photographs, and the way back; the others behind a button", async (page) => {
    await page.goto(host.site);
    await question(page).waitFor();
    await page.evaluate((own) => {
      const chat = document.querySelector("llava-chat");
      const work = { weights: 1e8, picture: 1e11, rows: 64 };
      chat.models = [chat.models[0],
        { name: "Big eyes", purpose: "photographs", family: "llava", goodAt: "Sees much.", licence: "MIT", model: "hf:owner/repo/big.gguf", mmproj: "hf:owner/repo/mmproj.gguf", bytes: 2e9, memory: 2.2e9, work },
        { name: "Small eyes", purpose: "photographs", family: "llava", goodAt: "Sees a little.", licence: "CC0", ...own, bytes: { model: 2e6, mmproj: 4e5 }, memory: 5e6, work }];
    }, LLAVA());
    const card = page.getByRole("region", { name: "For photographs: Small eyes" });
    await card.getByText("Sees a little.").waitFor();
    await card.getByText(/2\.4 MB to download · fits this device · .* · license: CC0/).waitFor();
    // By keyboard: the list, opened, has the focus where it goes on.
    await card.getByRole("button", { name: "More models" }).focus();
    await page.keyboard.press("Enter");
    const list = page.getByRole("region", { name: "Suggested models" });
    await list.getByText("More models (1)").waitFor();
    assert.equal(await page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement.textContent), "More models (1)");
    await list.getByRole("listitem").filter({ hasText: "Big eyes" }).getByText("Sees much.").waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement.getAttribute("aria-label")), "Load Big eyes");
    await page.getByRole("button", { name: "Back to the chat" }).click();
    await card.getByRole("button", { name: "Load Small eyes" }).click();
    await page.waitForFunction(() => document.querySelector("llava-chat").engine?.info.vision?.imageSize !== 128 && document.querySelector("llava-chat").engine);
    await question(page).waitFor();
    assert.equal(await card.count(), 0, "it is for photographs itself");
    await page.getByRole("button", { name: "Change model" }).click();
    await list.getByRole("listitem").filter({ hasText: "Small eyes" }).getByText(/on this device/).waitFor();
    // Files of one's own are asked for beside the list.
    await page.getByRole("heading", { name: "Your own files" }).waitFor();
    await page.getByRole("button", { name: "Language model: choose file" }).waitFor();
  });

  visit("no model fits: said so, with the way to files of one's own", async (page) => {
    await page.goto(host.site);
    await question(page).waitFor();
    await page.evaluate(() => {
      const chat = document.querySelector("llava-chat");
      chat.models = [chat.models[0], { name: "Huge", purpose: "photographs", model: "hf:owner/repo/huge.gguf", bytes: 9e9 }];
    });
    const card = page.getByRole("region", { name: "For photographs" });
    await card.getByText("None of the suggested models fits this device and browser. You can still load files of your own.").waitFor();
    assert.equal(await card.getByRole("button", { name: /^Load/ }).count(), 0);
    await card.getByRole("button", { name: "More models" }).click();
    await page.getByRole("button", { name: "Language model: choose file" }).waitFor();
  });

  /** The page with a stand-in for the engine, which says what it measures. */
  const withStandIn = async (page, source = standIn()) => {
    await page.context().route("**/pkg*/llava_web.js", (route) => route.fulfill({ contentType: "text/javascript", body: source }));
    await page.goto(host.chooser);
    // It hashes nothing.
    await page.evaluate(() => {
      const chat = document.querySelector("llava-chat");
      chat.models = chat.models.map(({ sha256, ...model }) => model);
    });
    await page.getByRole("button", { name: "Load Built-in mini model" }).click();
    await question(page).waitFor();
  };

  visit("how fast it will be follows from what the engine measures with the page's own model", async (page) => {
    await withStandIn(page);
    // 4000 tokens of 2.8 million weights a second, of which each is a product and a sum.
    const seconds = (MODELS[1].work.picture + 2 * MODELS[1].work.weights * (MODELS[1].work.rows + 30)) / (4000 * 2 * MODELS[0].work.weights);
    await page.getByRole("region", { name: /^For photographs/ }).getByText(`first words within about ${Math.ceil(seconds)} s here`).waitFor();
  });

  visit("a measurement makes way for the first question", async (page) => {
    // One that goes on until it is ended.
    const endless = standIn().replace(/async benchmark\(\) \{/, "async benchmark() { for (;;) await this.pause();");
    assert.notEqual(endless, standIn());
    await withStandIn(page, endless);
    await page.getByRole("region", { name: /^For photographs/ }).getByText("speed not measured yet").waitFor();
    await question(page).fill("say:Good day.");
    await question(page).press("Enter");
    await page.locator(".answer").getByText("Good day.").waitFor();
  });
});
