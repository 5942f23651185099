// The benchmark's page: measures a model at growing lengths of the context, draws the curves, saves the figures.

// The language first.
import "./site.js";
import { toLlavaError } from "../api/errors.js";
import { saveFile, setText } from "../chat/base/dom.js";
import { createEngine, detectDevice } from "../llava-web.js";
import { ModelChoice } from "./model-choice.js";
import { words } from "./words.js";

/** Tokens written after each prompt. */
const GENERATED_TOKENS = 32;
const SHORTEST = 128;

/**
 * @typedef {{ context: number, prefill_tokens_per_second: number, decode_tokens_per_second: number, dispatchesPerToken?: number,
 *   submitsPerToken?: number, bytesPerSecond?: number }} Row
 */

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
const [form, start, stop, save, status, results] = ["settings", "start", "stop", "export", "status", "results"].map(at);
const choice = new ModelChoice({ vision: false });
form.prepend(choice.element);

/** What was measured last. @type {{ rows: Row[] } | null} */
let report = null;
/** Ends the measurement under way. @type {(() => void) | null} */
let cancel = null;

form.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  measure();
});
stop.addEventListener("click", () => cancel?.());
save.addEventListener("click", () => saveFile("llava-web-benchmark.json", JSON.stringify(report, null, 2), "application/json"));

async function measure() {
  const chosen = choice.value;
  if (!chosen) return say(words.say("site.noModel"));
  const wanted = Number(at("longest").value);
  const runs = Number(at("runs").value);
  const threads = at("threads").value;
  const abort = new AbortController();
  let stopped = false;
  /** @type {Awaited<ReturnType<typeof createEngine>> | null} */
  let engine = null;
  cancel = () => {
    stopped = true;
    abort.abort();
    engine?.unload();
  };
  setRunning(true);
  try {
    say(words.say("site.loading"));
    const began = performance.now();
    engine = await createEngine({
      // What is measured is the language model.
      ...chosen, mmproj: undefined, sha256: chosen.sha256?.model ? { model: chosen.sha256.model } : undefined,
      device: at("device").value, contextSize: wanted + GENERATED_TOKENS, signal: abort.signal,
      ...(threads ? { threads: Number(threads) } : {}),
      onProgress: ({ loaded, total }) => total > 0 && say(words.say("site.loadingShare", { share: words.percent(loaded / total) })),
    });
    const loadMs = performance.now() - began;
    const { name, quantization, parameters, device, bytes, contextSize } = engine.info;
    report = {
      rows: [],
      ...{ model: { name, quantization, parameters }, device, bytes, load_ms: Math.round(loadMs), runs, generated_tokens: GENERATED_TOKENS },
      ...{ machine: await detectDevice(), userAgent: navigator.userAgent, cores: navigator.hardwareConcurrency, date: new Date().toISOString() },
    };
    draw(report.rows);
    // A model may have been made for less than was asked for.
    const longest = Math.min(wanted, contextSize - GENERATED_TOKENS);
    for (const context of lengths(longest)) {
      say(words.say("bench.measuring", { count: context, device: describe(device) }));
      const speed = await engine.benchmark({ promptTokens: context, generatedTokens: GENERATED_TOKENS, runs });
      report.rows.push({ context, ...speed });
      draw(report.rows);
    }
    say(words.say(longest < wanted ? "bench.doneShorter" : "bench.done", { model: name, quantization, device: describe(device), count: contextSize }));
  } catch (error) {
    say(stopped ? words.say("site.stopped") : words.explain(toLlavaError(error)));
  } finally {
    engine?.unload();
    cancel = null;
    setRunning(false);
    choice.refresh();
  }
}

/** Doubling from the shortest on; the longest one is measured in any case. @param {number} longest */
function lengths(longest) {
  const all = [];
  for (let context = SHORTEST; context < longest; context *= 2) all.push(context);
  return [...all, longest];
}

/** @param {{ kind: string, threads?: number, simd?: string, adapter?: string }} device */
function describe({ kind, threads = 1, simd = "", adapter }) {
  return kind === "cpu" ? words.say("bench.cpu", { count: threads, simd }) : adapter ? words.say("bench.gpuNamed", { adapter }) : words.say("bench.gpu");
}

/** @param {boolean} running */
function setRunning(running) {
  start.disabled = running;
  stop.disabled = !running;
  save.disabled = !report?.rows.length;
}

/** @param {import("../chat/base/dom.js").Text} text */
function say(text) {
  setText(status, text);
}

/** @param {Row[]} rows */
function draw(rows) {
  results.hidden = rows.length === 0;
  at("rows").replaceChildren(...rows.map((row) => {
    const tr = document.createElement("tr");
    const cells = [row.context, row.prefill_tokens_per_second, row.decode_tokens_per_second, ...milliseconds(row)];
    for (const [i, value] of cells.entries()) {
      const cell = document.createElement(i === 0 ? "th" : "td");
      if (i === 0) /** @type {HTMLTableCellElement} */ (cell).scope = "row";
      setText(cell, i === 0 ? String(value) : words.figures(value));
      tr.append(cell);
    }
    return tr;
  }));
  drawChart(rows);
}

/** For reading and for writing. @param {Row} row */
function milliseconds(row) {
  return [1000 / row.prefill_tokens_per_second, 1000 / row.decode_tokens_per_second];
}

/** Both axes start at zero: a curve that bends up is a cost that grows. @param {Row[]} rows */
function drawChart(rows) {
  const chart = at("chart");
  const [left, right, top, bottom] = [52, 628, 12, 286];
  const most = Math.max(...rows.flatMap(milliseconds), 1e-9);
  const step = roundStep(most / 4);
  const last = Math.max(...rows.map(({ context }) => context), SHORTEST);
  const x = (/** @type {number} */ context) => left + ((right - left) * context) / last;
  const y = (/** @type {number} */ ms) => bottom - ((bottom - top) * ms) / (step * Math.ceil(most / step));
  const shapes = [chart.querySelector("title")];
  for (let ms = 0; ms <= step * Math.ceil(most / step) + 1e-9; ms += step) {
    shapes.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(ms), y2: y(ms) }));
    shapes.push(svg("text", { x: left - 8, y: y(ms) + 4, "text-anchor": "end" }, words.figures(ms)));
  }
  for (const { context } of rows) {
    // The short ones would stand in each other's way.
    if (context * 8 >= last) shapes.push(svg("text", { x: x(context), y: bottom + 20, "text-anchor": "middle" }, String(context)));
  }
  for (const [i, kind] of ["prefill", "decode"].entries()) {
    /** @type {[number, number][]} */
    const points = rows.map((row) => [x(row.context), y(milliseconds(row)[i] ?? 0)]);
    shapes.push(svg("polyline", { class: kind, points: points.join(" ") }));
    for (const [cx, cy] of points) shapes.push(svg("circle", { class: kind, cx, cy, r: 4 }));
  }
  chart.replaceChildren(...shapes);
}

/** The next of 1, 2, 5, 10, … @param {number} value */
function roundStep(value) {
  const ten = 10 ** Math.floor(Math.log10(value));
  return ten * ([1, 2, 5].find((factor) => factor * ten >= value) ?? 10);
}

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {import("../chat/base/dom.js").Text} [text]
 */
function svg(name, attributes, text = "") {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, String(value));
  if (text) setText(shape, text);
  return shape;
}
