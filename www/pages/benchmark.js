// The benchmark's page: measures a model at growing lengths of the context, draws the curves, saves the figures.

import { createEngine, detectDevice } from "../llava-web.js";

/** Tokens written after each prompt. */
const GENERATED_TOKENS = 32;
const SHORTEST = 128;

/**
 * @typedef {{ context: number, prefill_tokens_per_second: number, decode_tokens_per_second: number, dispatchesPerToken?: number,
 *   submitsPerToken?: number, bytesPerSecond?: number }} Row
 */

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);
const [form, file, url, start, stop, save, status, results] =
  ["settings", "file", "url", "start", "stop", "export", "status", "results"].map(element);

/** What was measured last. @type {{ rows: Row[] } | null} */
let report = null;
/** Ends the measurement under way. @type {(() => void) | null} */
let cancel = null;

form.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  measure();
});
stop.addEventListener("click", () => cancel?.());
save.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(report, null, 2)], { type: "application/json" }));
  link.download = "llava-web-benchmark.json";
  link.click();
  // Not at once: some browsers begin to read it a little later.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});

async function measure() {
  const model = file.files[0] ?? url.value.trim();
  if (!model) return say("Choose a model file, or enter its URL.");
  const longest = Number(element("longest").value);
  const runs = Number(element("runs").value);
  const threads = element("threads").value;
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
    say("Loading the model …");
    const began = performance.now();
    engine = await createEngine({
      model, device: element("device").value, cache: "none", contextSize: longest + GENERATED_TOKENS, signal: abort.signal,
      ...(threads ? { threads: Number(threads) } : {}),
      onProgress: ({ loaded, total }) => total > 0 && say(`Loading the model: ${Math.round((100 * loaded) / total)} %`),
    });
    const loadMs = performance.now() - began;
    const { name, quantization, parameters, device, bytes } = engine.info;
    report = {
      rows: [],
      ...{ model: { name, quantization, parameters }, device, bytes, load_ms: Math.round(loadMs), runs, generated_tokens: GENERATED_TOKENS },
      ...{ machine: await detectDevice(), userAgent: navigator.userAgent, cores: navigator.hardwareConcurrency, date: new Date().toISOString() },
    };
    draw(report.rows);
    for (let context = SHORTEST; context <= longest; context *= 2) {
      say(`Measuring ${context} tokens on ${describe(device)} …`);
      const speed = await engine.benchmark({ promptTokens: context, generatedTokens: GENERATED_TOKENS, runs });
      report.rows.push({ context, ...speed });
      draw(report.rows);
    }
    say(`Done: ${name}, ${quantization}, on ${describe(device)}.`);
  } catch (error) {
    say(stopped ? "Stopped." : /** @type {Error} */ (error).message);
  } finally {
    engine?.unload();
    cancel = null;
    setRunning(false);
  }
}

/** @param {{ kind: string, threads?: number, simd?: string, adapter?: string }} device */
function describe({ kind, threads = 1, simd, adapter }) {
  return kind === "cpu" ? `the CPU (${threads} ${threads === 1 ? "thread" : "threads"}, ${simd})` : `WebGPU${adapter ? ` (${adapter})` : ""}`;
}

/** @param {boolean} running */
function setRunning(running) {
  start.disabled = running;
  stop.disabled = !running;
  save.disabled = !report?.rows.length;
}

/** @param {string} text */
function say(text) {
  status.textContent = text;
}

/** @param {Row[]} rows */
function draw(rows) {
  results.hidden = rows.length === 0;
  element("rows").replaceChildren(...rows.map((row) => {
    const tr = document.createElement("tr");
    const cells = [row.context, row.prefill_tokens_per_second, row.decode_tokens_per_second, ...milliseconds(row)];
    for (const [i, value] of cells.entries()) {
      const cell = document.createElement(i === 0 ? "th" : "td");
      if (i === 0) /** @type {HTMLTableCellElement} */ (cell).scope = "row";
      cell.textContent = i === 0 ? String(value) : number(value);
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

/** @param {number} value */
function number(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** Both axes start at zero: a curve that bends up is a cost that grows. @param {Row[]} rows */
function drawChart(rows) {
  const chart = element("chart");
  const [left, right, top, bottom] = [52, 628, 12, 286];
  const most = Math.max(...rows.flatMap(milliseconds), 1e-9);
  const step = roundStep(most / 4);
  const last = Math.max(...rows.map(({ context }) => context), SHORTEST);
  const x = (/** @type {number} */ context) => left + ((right - left) * context) / last;
  const y = (/** @type {number} */ ms) => bottom - ((bottom - top) * ms) / (step * Math.ceil(most / step));
  const shapes = [chart.querySelector("title")];
  for (let ms = 0; ms <= step * Math.ceil(most / step) + 1e-9; ms += step) {
    shapes.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(ms), y2: y(ms) }));
    shapes.push(svg("text", { x: left - 8, y: y(ms) + 4, "text-anchor": "end" }, String(Number(ms.toPrecision(3)))));
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
 * @param {string} [text]
 */
function svg(name, attributes, text = "") {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, String(value));
  if (text) shape.textContent = text;
  return shape;
}
