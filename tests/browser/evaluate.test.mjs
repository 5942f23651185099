// The evaluation page: its counting, held to training/evaluate.py's, and the page as a person uses it.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { askEndpoint, chosen, keywordScore, readDataset, runBench, runScienceQa, scienceQaPrompt } from "../../www/pages/evaluation.js";
import { golden, openTab, SCREENSHOTS, start, withoutEngine } from "./support.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const DATA = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../training/tests/data");
const json = (name) => JSON.parse(readFileSync(path.join(DATA, name), "utf8"));

/** Files as a folder chooser gives them. */
function folder(name, paths) {
  return paths.map((file) => {
    const made = new File([readFileSync(path.join(DATA, name, file))], path.basename(file));
    Object.defineProperty(made, "webkitRelativePath", { value: `${name}/${file}` });
    return made;
  });
}

const SCIENCEQA = ["problems.json", "pid_splits.json", "test/1/image.png", "test/2/image.png", "test/3/image.png"];
const BENCH = ["questions.jsonl", "context.jsonl", "answers.jsonl", "images/red-circle.png", "images/circle-and-square.png"];

describe("evaluation", () => {
  test("answers are read, and words counted, as by the script", () => {
    const table = json("scoring.json");
    for (const [text, expected] of table.chosen.cases) assert.equal(chosen(text, table.chosen.choices), expected, text);
    for (const [reference, answer, expected] of table.keyword) assert.ok(Math.abs(keywordScore(reference, answer) - expected) < 1e-9, answer);
  });

  test("the prompt is the paper's", () => {
    assert.equal(scienceQaPrompt(json("scienceqa/problems.json")["2"]),
      "Context: Count the squares.\nQuestion: How many squares are there?\nOptions: (A) one (B) two (C) three (D) four\nAnswer with the option's letter from the given choices directly.");
  });

  test("accuracy by subject, context and grade", async () => {
    const { splits } = await readDataset(folder("scienceqa", SCIENCEQA));
    const { rows, unread } = await runScienceQa(splits.test, async () => "B");
    assert.deepEqual(rows.map(({ kind, value }) => [kind, Math.round(1000 * value)]),
      [["all", 667], ["NAT", 667], ["SOC", 1000], ["LAN", 500], ["TXT", 500], ["IMG", 1000], ["NO", 500], ["G1-6", 1000], ["G7-12", 0]]);
    assert.equal(unread, 0);
  });

  test("a second model helps or decides", async () => {
    const { splits } = await readDataset(folder("scienceqa", SCIENCEQA));
    const second = async (question) => (question.includes("mammal") ? "C" : question.includes("passage") || question.includes("Two answers") ? "A" : "B");
    const first = async (_, image) => (image ? "B" : "I cannot tell.");
    const all = async (options) => (await runScienceQa(splits.test, first, options)).rows[0].value;
    assert.equal(await all({}), 0.5);
    assert.equal(await all({ second, ensemble: "complement" }), 1);
    const judged = await runScienceQa(splits.test, async () => "A", { second: async () => "B", ensemble: "judge" });
    assert.equal(judged.rows[0].value, 4 / 6);
  });

  test("the relative score, by shared words and by a judge", async () => {
    const { questions } = await readDataset(folder("llava-bench", BENCH));
    const truth = async (prompt) => questions.find((question) => question.prompt === prompt).reference;
    assert.equal((await runBench(questions, truth)).rows[0].value, 1);
    const judged = await runBench(questions, truth, { judge: async (prompt) => (prompt.includes("Describe") ? "8 6\nShort." : prompt.includes("What is") ? "no" : "10 10") });
    assert.equal(judged.rows[0].value, 16 / 18);
    assert.equal(judged.unread, 1);
  });

  test("a folder that is neither is said to be so, and one that lacks a picture too", async () => {
    await assert.rejects(readDataset(folder("scienceqa", SCIENCEQA.slice(2))), { code: "invalid_request", message: /neither ScienceQA/ });
    await assert.rejects(readDataset(folder("scienceqa", SCIENCEQA.slice(0, 4))), { code: "invalid_request", message: /test\/3\/image.png/ });
    await assert.rejects(readDataset(folder("scienceqa", SCIENCEQA.slice(0, 2))), { code: "invalid_request", message: /pictures of any split/ });
  });

  test("an endpoint answers, or its fault is named", async () => {
    const seen = [];
    const server = createServer((request, response) => {
      let body = "";
      request.on("data", (part) => (body += part));
      request.on("end", () => {
        seen.push([request.url, request.headers.authorization, JSON.parse(body)]);
        response.statusCode = seen.length > 1 ? 401 : 200;
        response.end(JSON.stringify(seen.length > 1 ? { error: "no" } : { choices: [{ message: { content: "B" } }] }));
      });
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${server.address().port}/v1/`;
    try {
      const ask = askEndpoint({ url, model: "m", key: "k" });
      assert.equal(await ask("Which?", null), "B");
      assert.deepEqual([seen[0][0], seen[0][1], seen[0][2].messages], ["/v1/chat/completions", "Bearer k", [{ role: "user", content: "Which?" }]]);
      await assert.rejects(ask("Again?", null), { code: "network", message: /401/ });
    } finally {
      server.close();
      server.closeAllConnections();
    }
    await assert.rejects(askEndpoint({ url, model: "m" })("x", null), { code: "network", message: /cannot be reached/ });
  });
});

describe("the evaluation page", { skip: withoutEngine }, () => {
  let world;
  before(async () => {
    world = await start();
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  after(() => world.close());

  for (const { name, ...view } of [
    { name: "390", viewport: { width: 390, height: 844 }, hasTouch: true, colorScheme: "light" },
    { name: "1280-dark", viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
  ]) {
    test(`at the first click it evaluates the page's own model on the example questions, ${name}`, async () => {
      const { page, complaints, close } = await openTab(world.browser, view);
      await page.goto(`${world.site}evaluate.html`);
      await page.getByText(/3\.81 MB to download/).waitFor();
      await page.getByRole("button", { name: "Evaluate" }).click();
      await page.getByText("Done.").waitFor({ timeout: 120_000 });
      const rows = await page.locator("#results tbody tr").evaluateAll((rows) => rows.map((row) => [...row.children].map(({ textContent }) => textContent)));
      assert.deepEqual(rows.map(([kind, , of]) => [kind, of]), [["all", "12"], ["presence", "4"], ["count", "3"], ["color", "3"], ["description", "2"]]);
      // It was made for such questions.
      assert.ok(Number(rows[0][1]) > 80, JSON.stringify(rows));
      const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(inner <= outer, `${inner} pixels wide on a screen of ${outer}`);
      await page.screenshot({ path: path.join(SCREENSHOTS, `evaluate-${name}.png`), fullPage: true });
      assert.deepEqual(complaints, []);
      await close();
    });
  }

  test("evaluates a model on a folder, stops, and says what is wrong", async () => {
    const { page, complaints, requests, close } = await openTab(world.browser, { bypassCSP: true });
    await page.goto(`${world.site}evaluate.html`);
    await page.getByRole("combobox", { name: "Model" }).selectOption("Your own files or URLs");
    await page.getByLabel("Language model: a GGUF file").setInputFiles(golden("tiny-llava/tiny-llava-f16.gguf"));
    await page.getByLabel("Vision file (mmproj): a GGUF file").setInputFiles(golden("tiny-llava/mmproj-legacy-f16.gguf"));
    await page.getByRole("combobox", { name: "Data set" }).selectOption("A folder on this device");
    await page.getByRole("button", { name: "Evaluate" }).click();
    await page.getByText("Choose the folder of a data set first.").waitFor();
    await page.getByLabel("Data set folder").setInputFiles(path.join(DATA, "scienceqa/test"));
    await page.getByText("neither ScienceQA").waitFor();
    await page.getByLabel("Data set folder").setInputFiles(path.join(DATA, "scienceqa"));
    await page.getByText("ScienceQA.", { exact: true }).waitFor();
    await page.getByLabel("Maximum number of questions").fill("2");
    await page.getByRole("button", { name: "Evaluate" }).click();
    await page.getByText(/^Done\./).waitFor({ timeout: 120_000 });
    const cells = await page.locator("#results tbody tr").first().locator("th, td").allTextContents();
    assert.deepEqual([cells[0], cells[2]], ["all", "2"]);
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save results" }).click();
    const saved = JSON.parse(readFileSync(await (await download).path(), "utf8"));
    assert.equal(saved.records.length, 2);
    await page.getByLabel("Data set folder").setInputFiles(path.join(DATA, "llava-bench"));
    await page.getByText("LLaVA-Bench: 3 questions.").waitFor();
    await page.getByLabel("Maximum number of questions").fill("");
    await page.getByRole("button", { name: "Evaluate" }).click();
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText("Stopped.").waitFor({ timeout: 60_000 });
    assert.deepEqual(complaints, []);
    const { violations } = await page.addScriptTag({ content: axe }).then(() => page.evaluate(() => globalThis.axe.run(document)));
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), []);
    assert.ok(requests.every((url) => url.startsWith(world.server.origin) || url.startsWith("blob:")), "nothing leaves the device");
    await close();
  });
});
