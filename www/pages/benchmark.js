// The benchmark's page: measures a model at growing lengths of the context, draws the curves, saves the figures.

// The language first.
import "./site.js";
import { toLlavaError } from "../api/errors.js";
import { element, saveFile, setText } from "../chat/base/dom.js";
import { createEngine, detectDevice } from "../llava-web.js";
import { drawChart } from "./chart.js";
import { Compare } from "./compare.js";
import { ModelChoice } from "./model-choice.js";
import { measurePictures } from "./picture-curve.js";
import { words } from "./words.js";

/** Tokens written after each prompt. */
const GENERATED_TOKENS = 32;
const SHORTEST = 128;
/** Room for the pictures that are measured. */
const PICTURE_CONTEXT = 4096;

/**
 * @typedef {{ context: number, prefill_tokens_per_second: number, decode_tokens_per_second: number, dispatchesPerToken?: number,
 *   submitsPerToken?: number, bytesPerSecond?: number }} Row
 * @typedef {import("./picture-curve.js").PictureRow} PictureRow
 * @typedef {import("../llava-web.js").EngineInfo} EngineInfo
 */
/**
 * What is saved, and compared.
 * @typedef {{ rows: Row[], pictures?: PictureRow[], model?: Pick<EngineInfo, "name" | "quantization" | "parameters">, device?: EngineInfo["device"], bytes?: EngineInfo["bytes"],
 *   load_ms?: number, runs?: number, generated_tokens?: number, machine?: object, userAgent?: string, cores?: number, date?: string }} Report
 */

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
const [form, start, stop, save, status, results] = ["settings", "start", "stop", "export", "status", "results"].map(at);
const choice = new ModelChoice({ vision: true });
form.prepend(choice.element);
at("compare").replaceWith(new Compare().element);

/** What was measured last. @type {Report | null} */
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
  const withPictures = at("pictures").checked;
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
      ...chosen,
      // Without pictures what is measured is the language model alone.
      ...(!withPictures && { mmproj: undefined, sha256: chosen.sha256?.model ? { model: chosen.sha256.model } : undefined }),
      device: at("device").value, contextSize: withPictures ? Math.max(wanted + GENERATED_TOKENS, PICTURE_CONTEXT) : wanted + GENERATED_TOKENS, signal: abort.signal,
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
    draw(report);
    // A model may have been made for less than was asked for.
    const longest = Math.min(wanted, contextSize - GENERATED_TOKENS);
    for (const context of lengths(longest)) {
      say(words.say("bench.measuring", { count: context, device: describe(device) }));
      const speed = await engine.benchmark({ promptTokens: context, generatedTokens: GENERATED_TOKENS, runs });
      report.rows.push({ context, ...speed });
      draw(report);
    }
    if (withPictures) await lookAtPictures(engine, report, { runs, signal: abort.signal });
    say(words.say(withPictures && !engine.info.vision ? "bench.doneBlind" : longest < wanted ? "bench.doneShorter" : "bench.done", { model: name, quantization, device: describe(device), count: contextSize }));
  } catch (error) {
    say(stopped ? words.say("site.stopped") : words.explain(toLlavaError(error)));
  } finally {
    engine?.unload();
    cancel = null;
    setRunning(false);
    choice.refresh();
  }
}

/**
 * @param {import("../llava-web.js").Engine} engine
 * @param {Report} report
 * @param {{ runs: number, signal: AbortSignal }} options
 */
async function lookAtPictures(engine, report, options) {
  say(words.say("bench.measuringPictures", { device: describe(engine.info.device) }));
  await measurePictures(engine, { ...options, onRow: (rows) => {
    report.pictures = rows;
    draw(report);
  } });
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

/** @param {Report} report */
function draw({ rows, pictures = [] }) {
  results.hidden = rows.length === 0;
  fill("rows", rows.map((row) => [String(row.context), ...[row.prefill_tokens_per_second, row.decode_tokens_per_second, ...milliseconds(row)].map((value) => words.figures(value))]));
  const line = (/** @type {string} */ kind, /** @type {0 | 1} */ i) => ({ kind, points: rows.map((row) => ({ x: row.context, y: milliseconds(row)[i] ?? 0 })) });
  drawChart(at("chart"), [line("prefill", 0), line("decode", 1)], SHORTEST);
  at("picture-results").hidden = pictures.length === 0;
  fill("picture-rows", pictures.map((row) => [
    String(row.rows), String(row.tiles), words.say("bench.pictureOf", { count: row.pictures, side: row.side }), words.say(DETAILS[row.detail]),
    ...[row.image_ms, row.prefill_ms, row.first_token_ms].map((value) => words.figures(value)),
  ]));
  const curve = (/** @type {string} */ kind, /** @type {"image_ms" | "first_token_ms"} */ name) => ({ kind, points: pictures.map((row) => ({ x: row.rows, y: row[name] })) });
  drawChart(at("picture-chart"), [curve("prefill", "first_token_ms"), curve("decode", "image_ms")]);
}

/** @type {Record<import("../llava-web.js").ImageDetail, import("../strings/language.js").Key>} */
const DETAILS = { high: "set.detailHigh", low: "bench.detailLow", auto: "set.automatic" };

/**
 * @param {string} id  of a table's body
 * @param {import("../chat/base/dom.js").Text[][]} rows  the first of each is what the row is about
 */
function fill(id, rows) {
  at(id).replaceChildren(...rows.map(([first = "", ...others]) => element("tr", {}, element("th", { scope: "row" }, first), ...others.map((text) => element("td", {}, text)))));
}

/** For reading and for writing. @param {Row} row */
function milliseconds(row) {
  return [1000 / row.prefill_tokens_per_second, 1000 / row.decode_tokens_per_second];
}
