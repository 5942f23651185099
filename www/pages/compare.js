// Two reports of the benchmark side by side: how many times as fast the second one is.

import { element, setText } from "../chat/base/dom.js";
import { Complaint } from "../strings/language.js";
import { words } from "./words.js";

/** @typedef {import("./benchmark.js").Report} Report */
/** @typedef {import("../chat/base/dom.js").Text} Text */
/** @typedef {import("../strings/language.js").Key} Key */
/** @typedef {{ name: string, report: Report }} Opened */
/** A line of the table: what was measured, and both figures; the ratio is above 1 where the second is faster. @typedef {{ what: Text, before: number, after: number, ratio: number }} Line */

/** What should be the same, for the ratios to say something of the builds. @type {[Key, (report: Report) => unknown][]} */
const SAME = [
  ["compare.model", ({ model }) => `${model?.name} ${model?.quantization}`], ["compare.device", ({ device }) => `${device?.kind} ${device?.adapter ?? ""} ${device?.simd ?? ""}`],
  ["compare.threads", ({ device }) => device?.threads ?? 1], ["compare.browser", ({ userAgent }) => userAgent], ["compare.runs", ({ runs }) => runs],
];

export class Compare {
  /** @type {[Opened | null, Opened | null]} */
  #opened = [null, null];
  #problem = element("p", { role: "alert" });
  #note = element("p", { class: "note" });
  #table = element("tbody");
  #result = element("div", { hidden: true });

  constructor() {
    const slot = (/** @type {0 | 1} */ at, /** @type {Key} */ label) => {
      const input = element("input", { type: "file", accept: ".json,application/json", onchange: () => {
        const [file] = input.files ?? [];
        if (file) this.#take([file], at);
      } });
      return element("label", {}, element("span", {}, words.say(label)), input);
    };
    this.#result.append(this.#note, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": words.say("compare.figures") },
      element("table", {}, element("thead", {}, element("tr", {}, ...(/** @type {Key[]} */ (["compare.what", "compare.before", "compare.after", "compare.ratio"])).map((key) => element("th", { scope: "col" }, words.say(key))))), this.#table)));
    this.element = element("section", { class: "compare", "aria-labelledby": "compare-title" },
      element("h2", { id: "compare-title" }, words.say("compare.title")), element("p", { class: "muted" }, words.say("compare.hint")),
      element("div", { class: "grid" }, slot(0, "compare.first"), slot(1, "compare.second")), this.#problem, this.#result);
    document.addEventListener("dragover", (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
    document.addEventListener("drop", (event) => {
      const files = [...(event.dataTransfer?.files ?? [])].filter(({ name }) => name.endsWith(".json"));
      if (files.length === 0) return;
      event.preventDefault();
      // Two are the older and the newer; one takes the place that is free, else that of the newer.
      this.#take(files.slice(0, 2).sort((a, b) => a.lastModified - b.lastModified), files.length > 1 || !this.#opened[0] ? 0 : 1);
    });
  }

  /**
   * @param {File[]} files
   * @param {number} from  the place of the first
   */
  async #take(files, from) {
    setText(this.#problem, "");
    for (const [i, file] of files.entries()) {
      try {
        this.#opened[/** @type {0 | 1} */ (from + i)] = { name: file.name, report: await opened(file) };
      } catch (error) {
        setText(this.#problem, words.explain(error));
      }
    }
    this.#show();
  }

  #show() {
    const [before, after] = this.#opened;
    this.#result.hidden = !before || !after;
    if (!before || !after) return;
    const other = SAME.filter(([, of]) => String(of(before.report)) !== String(of(after.report))).map(([key]) => String(words.say(key)));
    const all = lines(before.report, after.report);
    setText(this.#note, words.join([
      words.say("compare.files", { before: before.name, after: after.name }), other.length > 0 && words.say("compare.other", { what: words.list(other) }), all.length === 0 && words.say("compare.nothing"),
    ], " "));
    this.#table.replaceChildren(...all.map(({ what, before, after, ratio }) => element("tr", {},
      element("th", { scope: "row" }, what), element("td", {}, words.figures(before)), element("td", {}, words.figures(after)), element("td", {}, words.say("compare.times", { ratio: words.figures(ratio) })))));
  }
}

/**
 * What both have measured.
 * @param {Report} before
 * @param {Report} after
 * @returns {Line[]}
 */
function lines(before, after) {
  /** @type {Line[]} */
  const all = [];
  const add = (/** @type {Text} */ what, /** @type {number} */ a, /** @type {number} */ b, /** @type {boolean} */ isTime) => {
    if (a > 0 && b > 0) all.push({ what, before: a, after: b, ratio: isTime ? a / b : b / a });
  };
  for (const a of before.rows) {
    const b = after.rows.find(({ context }) => context === a.context);
    if (!b) continue;
    add(words.say("compare.prompt", { count: a.context }), a.prefill_tokens_per_second, b.prefill_tokens_per_second, false);
    add(words.say("compare.answer", { count: a.context }), a.decode_tokens_per_second, b.decode_tokens_per_second, false);
  }
  for (const a of before.pictures ?? []) {
    // With fewer rows for the same picture a build is faster, too.
    const b = after.pictures?.find(({ pictures, side, detail }) => pictures === a.pictures && side === a.side && detail === a.detail);
    if (b) add(words.say("compare.picture", { count: a.rows }), a.first_token_ms, b.first_token_ms, true);
  }
  return all;
}

/** @param {File} file @returns {Promise<Report>} */
async function opened(file) {
  let report;
  try {
    report = JSON.parse(await file.text());
  } catch (cause) {
    throw new Complaint("compare.noJson", { name: file.name }, { cause });
  }
  const isNumber = (/** @type {unknown} */ value) => typeof value === "number" && value > 0;
  const isRow = (/** @type {any} */ row) => isNumber(row?.context) && isNumber(row.prefill_tokens_per_second) && isNumber(row.decode_tokens_per_second);
  const isPicture = (/** @type {any} */ row) => isNumber(row?.rows) && isNumber(row.first_token_ms);
  const pictures = report?.pictures ?? [];
  if (!Array.isArray(report?.rows) || !report.rows.every(isRow) || !Array.isArray(pictures) || !pictures.every(isPicture)) throw new Complaint("compare.noReport", { name: file.name });
  return report;
}
