// The evaluation page: files in, a table out. What is asked and counted is evaluation.js's.

import { toLlavaError } from "../api/errors.js";
import { askEndpoint, readDataset, runBench, runScienceQa } from "./evaluation.js";
import { createEngine } from "../llava-web.js";
import { element } from "../chat/base/dom.js";

/** Enough for a detailed description; a letter takes one. */
const MAX_TOKENS = 256;

/** @template {HTMLElement} T @param {string} id @returns {T} */
const at = (id) => /** @type {T} */ (document.getElementById(id));
const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (at(id));
const split = /** @type {HTMLSelectElement} */ (at("split"));

/** @type {import("./evaluation.js").Dataset | null} */
let dataset = null;
/** @type {AbortController | null} */
let running = null;
/** @type {object | null} */
let saved = null;

/** @param {string} text */
function say(text) {
  at("status").textContent = text;
}

/** The message of a failure, without what only a programmer would read. @param {unknown} thrown */
function explain(thrown) {
  return toLlavaError(thrown).message;
}

input("folder").addEventListener("change", async () => {
  dataset = null;
  split.replaceChildren();
  split.disabled = true;
  try {
    dataset = await readDataset([...(input("folder").files ?? [])]);
    if (dataset.kind === "scienceqa") {
      const splits = Object.entries(dataset.splits);
      split.append(...splits.map(([name, questions]) => element("option", { value: name, selected: name === "test" }, `${name} (${questions.length})`)));
      split.disabled = false;
      at("found").textContent = "ScienceQA.";
    } else {
      at("found").textContent = `LLaVA-Bench: ${dataset.questions.length} questions.`;
    }
  } catch (error) {
    at("found").textContent = explain(error);
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

/** @param {{ kind: string, value: number, of: number }[]} rows @param {string} caption @param {boolean} relative */
function show(rows, caption, relative) {
  const table = /** @type {HTMLTableElement} */ (at("results"));
  table.hidden = false;
  table.caption?.replaceChildren(caption);
  table.tBodies[0]?.replaceChildren(...rows.map(({ kind, value, of }) =>
    element("tr", {}, element("td", {}, kind), element("td", {}, relative ? (100 * value).toFixed(1) : `${(100 * value).toFixed(1)} %`), element("td", {}, String(of)))));
}

/** @param {AbortSignal} signal */
async function evaluate(signal) {
  if (!dataset) throw new Error("no data set");
  const file = (/** @type {string} */ id) => /** @type {File} */ (input(id).files?.[0]);
  say("Loading the model …");
  const engine = await createEngine({
    model: file("model"),
    mmproj: file("mmproj"),
    device: /** @type {"auto"} */ (input("device").value),
    signal,
    onProgress: ({ loaded, total }) => say(`Loading the model: ${total > 0 ? Math.floor((100 * loaded) / total) : 0} %`),
  });
  try {
    const ask = askEngine(engine, signal);
    const url = input("endpoint").value.trim();
    const other = url ? askEndpoint({ url, model: input("endpoint-model").value || "default", key: input("key").value }, signal) : null;
    const limit = input("limit").valueAsNumber || Infinity;
    const name = `${engine.info.name}, ${engine.info.quantization}, ${engine.info.device.kind}`;
    const count = (/** @type {number} */ of) => (/** @type {number} */ done) => say(`${done} of ${of} questions`);
    let result;
    if (dataset.kind === "scienceqa") {
      const questions = (dataset.splits[split.value] ?? []).slice(0, limit);
      const ensemble = /** @type {"judge" | "complement"} */ (input("ensemble").value);
      result = await runScienceQa(questions, ask, { second: other, ensemble, onAnswer: count(questions.length), signal });
      show(result.rows, `ScienceQA, ${split.value}: ${name}${other ? `, with ${url} (${ensemble})` : ""}`, false);
      say(`Done. ${result.unread} answers chose none of the options and count as wrong.`);
    } else {
      const questions = dataset.questions.slice(0, limit);
      result = await runBench(questions, ask, { judge: other, onAnswer: count(questions.length), signal });
      show(result.rows, `LLaVA-Bench, relative score: ${name}; ${other ? `judged by ${url}` : "judged by shared words alone, not comparable with published scores"}`, true);
      say(result.unread > 0 ? `Done. The judge gave no two numbers for ${result.unread} questions; they are left out.` : "Done.");
    }
    saved = { model: engine.info, dataset: dataset.kind, ...result };
    input("save").disabled = false;
  } finally {
    await engine.unload();
  }
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return;
  if (!dataset) {
    say("Choose the folder of a data set first.");
    return;
  }
  running = new AbortController();
  input("run").disabled = true;
  input("stop").disabled = false;
  try {
    await evaluate(running.signal);
  } catch (error) {
    say(running.signal.aborted ? "Stopped." : explain(error));
  } finally {
    running = null;
    input("run").disabled = false;
    input("stop").disabled = true;
  }
});

at("stop").addEventListener("click", () => running?.abort());

at("save").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([JSON.stringify(saved, null, 1)], { type: "application/json" }));
  const link = element("a", { href: url, download: "evaluation.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
});
