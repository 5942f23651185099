// The evaluation page: files in, a table out. What is asked and counted is evaluation.js's.

// The language first.
import "./site.js";
import { toLlavaError } from "../api/errors.js";
import { element, saveFile, setText } from "../chat/base/dom.js";
import { createEngine } from "../llava-web.js";
import { Complaint } from "../strings/language.js";
import { askEndpoint, readDataset, runBench, runScienceQa } from "./evaluation.js";
import { exampleQuestions } from "./example-questions.js";
import { ModelChoice } from "./model-choice.js";
import { words } from "./words.js";

/** Enough for a detailed description; a letter takes one. */
const MAX_TOKENS = 256;

/** @typedef {import("../chat/base/dom.js").Text} Text */

/** @template {HTMLElement} T @param {string} id @returns {T} */
const at = (id) => /** @type {T} */ (document.getElementById(id));
const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (at(id));
const split = /** @type {HTMLSelectElement} */ (at("split"));
const choice = new ModelChoice({ vision: true });
at("choice").append(choice.element);

/** The folder that was chosen. @type {import("./evaluation.js").Dataset | null} */
let own = null;
/** @type {AbortController | null} */
let running = null;
/** @type {object | null} */
let saved = null;

/** @param {Text} text */
function say(text) {
  setText(at("status"), text);
}

/** What failed, for a person. @param {unknown} thrown */
function explain(thrown) {
  return words.explain(thrown instanceof Complaint ? thrown : toLlavaError(thrown));
}

const isOwn = () => input("dataset").value === "own";

function showDataset() {
  at("own-dataset").hidden = !isOwn();
}
input("dataset").addEventListener("change", showDataset);
// Browsers remember what was chosen before a reload.
showDataset();

input("folder").addEventListener("change", async () => {
  own = null;
  split.replaceChildren();
  split.disabled = true;
  try {
    own = await readDataset([...(input("folder").files ?? [])]);
    if (own.kind === "scienceqa") {
      const splits = Object.entries(own.splits);
      split.append(...splits.map(([name, questions]) => element("option", { value: name, selected: name === "test" }, `${name} (${questions.length})`)));
      split.disabled = false;
      setText(at("found"), words.say("eval.foundScienceQa"));
    } else {
      setText(at("found"), words.say("eval.foundBench", { count: own.questions.length }));
    }
  } catch (error) {
    setText(at("found"), explain(error));
  }
});

/** @param {import("../llava-web.d.ts").Engine} engine @param {AbortSignal} signal @returns {import("./evaluation.js").Ask} */
function askEngine(engine, signal) {
  return async (prompt, image) => {
    const reply = await engine.chat.completions.create({
      messages: [{ role: "user", content: [...(image ? [/** @type {const} */ ({ type: "image", image })] : []), { type: "text", text: prompt }] }],
      temperature: 0,
      max_tokens: MAX_TOKENS,
      signal,
    });
    signal.throwIfAborted();
    return /** @type {import("../llava-web.d.ts").ChatCompletion} */ (reply).choices[0].message.content ?? "";
  };
}

/** @param {{ kind: string, value: number, of: number }[]} rows @param {Text} caption @param {boolean} relative */
function show(rows, caption, relative) {
  const table = /** @type {HTMLTableElement} */ (at("results"));
  table.hidden = false;
  if (table.caption) setText(table.caption, caption);
  table.tBodies[0]?.replaceChildren(...rows.map(({ kind, value, of }) =>
    element("tr", {}, element("th", { scope: "row" }, kind), element("td", {}, relative ? words.tenths(100 * value) : words.percent(value, 1)), element("td", {}, String(of)))));
}

/** @param {AbortSignal} signal */
async function evaluate(signal) {
  const chosen = choice.value;
  if (!chosen) throw new Complaint("site.noModel");
  if (isOwn() && !own) throw new Complaint("eval.chooseFolder");
  say(words.say("site.loading"));
  const dataset = isOwn() ? /** @type {NonNullable<typeof own>} */ (own) : await readDataset(await exampleQuestions());
  const engine = await createEngine({
    ...chosen,
    device: /** @type {"auto"} */ (input("device").value),
    signal,
    onProgress: ({ loaded, total }) => say(words.say("site.loadingShare", { share: words.percent(total > 0 ? loaded / total : 0) })),
  });
  try {
    const ask = askEngine(engine, signal);
    const url = input("endpoint").value.trim();
    const other = url ? askEndpoint({ url, model: input("endpoint-model").value || "default", key: input("key").value }, signal) : null;
    const limit = input("limit").valueAsNumber || Infinity;
    const model = [engine.info.name, engine.info.quantization, engine.info.device.kind].join(", ");
    const count = (/** @type {number} */ total) => (/** @type {number} */ done) => say(words.say("eval.progress", { done, total }));
    let result;
    if (dataset.kind === "scienceqa") {
      const questions = (dataset.splits[split.value] ?? []).slice(0, limit);
      const ensemble = /** @type {"judge" | "complement"} */ (input("ensemble").value);
      result = await runScienceQa(questions, ask, { second: other, ensemble, onAnswer: count(questions.length), signal });
      show(result.rows, words.say(other ? "eval.captionScienceQaWith" : "eval.captionScienceQa", { split: split.value, model, url, role: ensemble }), false);
      say(words.say("eval.doneUnread", { count: result.unread }));
    } else {
      const questions = dataset.questions.slice(0, limit);
      result = await runBench(questions, ask, { judge: other, onAnswer: count(questions.length), signal });
      show(result.rows, words.say(other ? "eval.captionBenchJudged" : "eval.captionBench", { model, url }), true);
      say(result.unread > 0 ? words.say("eval.doneUnjudged", { count: result.unread }) : words.say("eval.done"));
    }
    saved = { model: engine.info, dataset: dataset.kind, ...result };
    input("save").disabled = false;
  } finally {
    await engine.unload();
    choice.refresh();
  }
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return;
  running = new AbortController();
  input("run").disabled = true;
  input("stop").disabled = false;
  try {
    await evaluate(running.signal);
  } catch (error) {
    say(running.signal.aborted ? words.say("site.stopped") : explain(error));
  } finally {
    running = null;
    input("run").disabled = false;
    input("stop").disabled = true;
  }
});

at("stop").addEventListener("click", () => running?.abort());
at("save").addEventListener("click", () => saveFile("evaluation.json", JSON.stringify(saved, null, 1), "application/json"));
