// The benchmark's page, used as a person uses it.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { golden, openTab, SCREENSHOTS, start, withoutEngine } from "./support.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

describe("the benchmark's page", { skip: withoutEngine }, () => {
  let host;
  before(async () => {
    host = await start();
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  after(() => host.close());

  const run = async (tab, longest, runs = "1", before = async () => {}) => {
    const { page } = tab;
    await page.goto(`${host.site}benchmark.html`);
    await page.getByRole("combobox", { name: "Model" }).selectOption("Your own files or URLs");
    await page.getByLabel("Language model: a GGUF file").setInputFiles(golden("tiny-llava/tiny-llava-q4_0.gguf"));
    await page.getByLabel("Longest context").selectOption(longest);
    await page.getByLabel("Runs per length").selectOption(runs);
    await page.getByLabel("Device").selectOption("cpu");
    await before();
    await page.getByRole("button", { name: "Measure" }).press("Enter");
  };

  for (const { name, ...view } of [
    { name: "390", viewport: { width: 390, height: 844 }, hasTouch: true, colorScheme: "light" },
    { name: "1280-dark", viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
  ]) {
    test(`measures, draws and saves, ${name}`, async () => {
      const tab = await openTab(host.browser, { bypassCSP: false, ...view });
      const { page } = tab;
      await run(tab, "256");
      await page.getByText(/^Done:/).waitFor();
      const rows = await page.locator("tbody tr").allInnerTexts();
      assert.deepEqual(rows.map((row) => row.split(/\s+/)[0]), ["128", "256"]);
      for (const row of rows) for (const cell of row.split(/\s+/)) assert.ok(Number(cell) > 0, row);
      assert.equal(await page.locator("svg circle").count(), 4);
      const download = page.waitForEvent("download");
      await page.getByRole("button", { name: "Save as JSON" }).click();
      const report = JSON.parse(readFileSync(await (await download).path(), "utf8"));
      assert.equal(report.device.kind, "cpu");
      assert.equal(report.model.quantization, "Q4_0");
      assert.deepEqual(report.rows.map(({ context }) => context), [128, 256]);
      for (const row of report.rows) assert.ok(row.prefill_tokens_per_second > 0 && row.decode_tokens_per_second > 0);
      const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(inner <= outer, `${inner} pixels wide on a screen of ${outer}`);
      await page.screenshot({ path: path.join(SCREENSHOTS, `benchmark-${name}.png`), fullPage: true });
      assert.deepEqual(tab.complaints, []);
      await tab.close();
    });
  }

  test("at the first click it measures the page's own model, which is kept; the list has what the chat page offers", async () => {
    const tab = await openTab(host.browser);
    const { page } = tab;
    await page.goto(`${host.site}benchmark.html`);
    await page.getByText(/3\.81 MB to download · .*for drawings/).waitFor();
    const names = await page.getByRole("combobox", { name: "Model" }).locator("option").allTextContents();
    assert.ok(names.length > 5 && names[0] === "Built-in mini model" && names.includes("SmolVLM 256M") && names.at(-1) === "Your own files or URLs", names.join());
    await page.getByRole("button", { name: "Measure" }).click();
    await page.getByText(/^Done:/).waitFor();
    const contexts = await page.locator("tbody th").allInnerTexts();
    assert.equal(contexts[0], "128");
    // Only the language model was needed, and it is here now.
    assert.ok(tab.requests.some((url) => url.endsWith("/models/house.gguf")) && !tab.requests.some((url) => url.endsWith("/models/house-mmproj.gguf")));
    assert.equal(await page.locator("datalist option").getAttribute("value"), `${host.site}models/house.gguf`);
    await page.getByRole("link", { name: "Evaluate" }).click();
    await page.getByRole("heading", { name: "Evaluate a model" }).waitFor();
    assert.deepEqual(tab.complaints, []);
    await tab.close();
  });

  for (const { name, ...view } of [
    { name: "390", viewport: { width: 390, height: 844 }, hasTouch: true, colorScheme: "light" },
    { name: "1280-dark", viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
  ]) test(`the picture curve, and two results compared, ${name}`, async () => {
    const tab = await openTab(host.browser, { bypassCSP: false, ...view });
    const { page } = tab;
    await page.goto(`${host.site}benchmark.html`);
    await page.getByLabel("Longest context").selectOption("256");
    await page.getByLabel("Device").selectOption("cpu");
    await page.getByLabel("Pictures, too").check();
    await page.getByRole("button", { name: "Measure" }).click();
    await page.getByText(/^Done:/).waitFor();
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save as JSON" }).click();
    const report = JSON.parse(readFileSync(await (await download).path(), "utf8"));
    // The page's own model makes 64 rows of a picture, however large it is and however finely it is looked at.
    assert.deepEqual(report.pictures.map(({ rows, tiles, pictures }) => [rows, tiles, pictures]), [[64, 1, 1], [128, 2, 2], [192, 3, 3], [256, 4, 4]]);
    for (const { image_ms, prefill_ms, first_token_ms } of report.pictures) assert.ok(image_ms > 0 && prefill_ms > 0 && first_token_ms >= (image_ms + prefill_ms) * 0.9, JSON.stringify(report.pictures));
    assert.equal(await page.locator("#picture-chart circle").count(), 8);
    const cells = await page.locator("#picture-rows tr").allInnerTexts();
    assert.deepEqual(cells.map((row) => row.split("\t").slice(0, 2)), [["64", "1"], ["128", "2"], ["192", "3"], ["256", "4"]]);
    // The same twice as fast, on another browser, and without what the first one measured last.
    const faster = structuredClone(report);
    faster.rows = faster.rows.slice(0, 1).map((row) => ({ ...row, prefill_tokens_per_second: 2 * row.prefill_tokens_per_second }));
    faster.pictures = faster.pictures.slice(0, 3).map((row) => ({ ...row, first_token_ms: row.first_token_ms / 4 }));
    faster.userAgent = "Another browser";
    const file = (name, value) => ({ name, mimeType: "application/json", buffer: Buffer.from(typeof value === "string" ? value : JSON.stringify(value)) });
    await page.getByLabel("Before (JSON)").setInputFiles(file("old.json", report));
    await page.getByLabel("After (JSON)").setInputFiles(file("new.json", faster));
    const compared = page.getByRole("region", { name: "Compared figures" });
    await compared.waitFor();
    const rows = (await compared.locator("tbody tr").allInnerTexts()).map((row) => row.split("\t"));
    assert.deepEqual(rows.map(([what, , , ratio]) => [what, ratio]), [
      ["Prompt at 128, tokens/s", "2×"], ["Answer at 128, tokens/s", "1×"], ["First word after 64 picture tokens, ms", "4×"], ["First word after 128 picture tokens, ms", "4×"], ["First word after 192 picture tokens, ms", "4×"],
    ]);
    await page.getByText("“old.json” and “new.json”. They differ in more than the build: browser.").waitFor();
    const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(inner <= outer, `${inner} pixels wide on a screen of ${outer}`);
    await page.screenshot({ path: path.join(SCREENSHOTS, `benchmark-pictures-${name}.png`), fullPage: true });
    // What is none leaves what is there.
    for (const [content, said] of [["no json", /“bad.json” is not a JSON file/], ["{}", /“bad.json” is not a result of this page/], ['{"rows":[{"context":"x"}]}', /is not a result/], ['{"rows":[],"pictures":7}', /is not a result/]]) {
      await page.getByLabel("After (JSON)").setInputFiles(file("bad.json", content));
      await page.getByRole("alert").filter({ hasText: said }).waitFor();
      assert.equal(await compared.locator("tbody tr").count(), 5);
    }
    // Both dropped at once: the older one is the first.
    await page.evaluate(([older, newer]) => {
      const data = new DataTransfer();
      data.items.add(new File([newer], "b.json", { lastModified: 2000 }));
      data.items.add(new File([older], "a.json", { lastModified: 1000 }));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }, [JSON.stringify(faster), JSON.stringify(report)]);
    await page.getByText(/“a.json” and “b.json”/).waitFor();
    assert.equal(await compared.locator("tbody tr").first().locator("td").last().innerText(), "0.5×");
    assert.deepEqual(tab.complaints, []);
    await tab.close();
  });

  test("a model without a vision file: no pictures, which is said", async () => {
    const tab = await openTab(host.browser);
    await run(tab, "128", "1", () => tab.page.getByLabel("Pictures, too").check());
    await tab.page.getByText(/^Done: .* no vision file/).waitFor();
    assert.equal(await tab.page.locator("#picture-results").isVisible(), false);
    await tab.close();
  });

  test("no violation of accessibility rules", async () => {
    const tab = await openTab(host.browser, { bypassCSP: true });
    await tab.page.goto(`${host.site}benchmark.html`);
    await tab.page.getByLabel("Longest context").selectOption("128");
    await tab.page.getByLabel("Pictures, too").check();
    await tab.page.getByRole("button", { name: "Measure" }).click();
    await tab.page.getByText(/^Done:/).waitFor();
    const report = { name: "a.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify({ rows: [{ context: 128, prefill_tokens_per_second: 1, decode_tokens_per_second: 1 }] })) };
    for (const label of ["Before (JSON)", "After (JSON)"]) await tab.page.getByLabel(label).setInputFiles(report);
    await tab.page.getByRole("region", { name: "Compared figures" }).waitFor();
    await tab.page.addScriptTag({ content: axe });
    const { violations } = await tab.page.evaluate(() => /** @type {any} */ (globalThis).axe.run(document));
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), []);
    await tab.close();
  });

  test("says what is missing, and stops when told to", async () => {
    const tab = await openTab(host.browser);
    const { page } = tab;
    await page.goto(`${host.site}benchmark.html`);
    await page.getByRole("combobox", { name: "Model" }).selectOption("Your own files or URLs");
    await page.getByRole("button", { name: "Measure" }).click();
    await page.getByText("Choose a model file").waitFor();
    // Pressed in the page itself, as soon as it measures: so small a model is measured before a click from here comes.
    await run(tab, "256", "5", () => page.evaluate(() => {
      const stop = /** @type {HTMLButtonElement} */ ([...document.querySelectorAll("button")].find(({ textContent }) => textContent?.trim() === "Stop"));
      const observer = new MutationObserver(() => {
        if (![...document.querySelectorAll("p, output, [role=status]")].some(({ textContent }) => textContent?.startsWith("Measuring"))) return;
        observer.disconnect();
        stop.click();
      });
      observer.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
    }));
    await page.getByText("Stopped.").waitFor();
    assert.ok(await page.getByRole("button", { name: "Measure" }).isEnabled());
    await tab.close();
  });
});
