// The models that a page offers, as a list in the model panel: the page's own, the one suggested for photographs, and behind a button the rest.

import { sourceSpecs } from "../../api/sources.js";
import { button, element, setAttribute, setText } from "../base/dom.js";
import { fit, fitWords, forPhotographs, hasRoom, isLoadable, speedWords, totalBytes } from "./catalogue.js";
import { isKept, machineFacts } from "./facts.js";

/** @typedef {import("./catalogue.js").KnownModel} KnownModel */
/** @typedef {import("./catalogue.js").Facts} Facts */
/** @typedef {import("../../llava-web.js").Source} Source */

/**
 * A pair's addresses in one text; null where it comes from elsewhere, or one of them is none.
 * @param {Source} model
 * @param {Source} [mmproj]
 */
function addressesOf(model, mmproj) {
  try {
    const specs = [sourceSpecs(model, "model"), mmproj ? sourceSpecs(mmproj, "mmproj") : []];
    return specs.flat().every(({ kind }) => kind === "url") ? JSON.stringify(specs.map((files) => files.map((spec) => (spec.kind === "url" ? spec.url : "")))) : null;
  } catch {
    return null;
  }
}

export class KnownModels {
  /** @type {KnownModel[]} */
  #models = [];
  /** What is known of the machine; null before it was asked. @type {Facts | null} */
  #facts = null;
  /** See speed.js. @type {number | null} */
  #rate = null;
  #first = element("ul", { class: "stored-list" });
  #others = element("ul", { class: "stored-list" });
  #turn = 0;
  #words;
  #handlers;

  /**
   * @param {import("../../strings/language.js").Language} words
   * @param {{ onUse: (model: KnownModel) => void, onChange: () => void }} handlers  `onChange`: something else is to be suggested, or said of it
   */
  constructor(words, handlers) {
    this.#words = words;
    this.#handlers = handlers;
    this.summary = element("summary", { class: "button quiet more" }, words.say("known.more"));
    this.more = element("details", { class: "more-models", part: "more", hidden: true }, this.summary, this.#others);
    this.element = element("section", { class: "known", part: "known", "aria-labelledby": "known-title", hidden: true },
      element("h3", { id: "known-title" }, words.say("known.title")), this.#first, this.more);
  }

  get models() {
    return this.#models;
  }

  /** @param {KnownModel[]} models */
  set(models) {
    this.#models = models;
    this.refresh();
  }

  /** What this machine computes. @param {number | null} rate  operations a second */
  setRate(rate) {
    this.#rate = rate;
    if (this.#facts) this.#facts = { ...this.#facts, rate };
    this.#show();
  }

  /**
   * The one that these files are, however their addresses are written: a stored file is asked for by its whole one.
   * @param {Source} model
   * @param {Source} [mmproj]
   */
  find(model, mmproj) {
    const wanted = addressesOf(model, mmproj);
    return wanted === null ? undefined : this.#models.find((known) => addressesOf(known.model, known.mmproj) === wanted);
  }

  /** The models for photographs, the best for this machine first; empty until it is known. */
  get photographs() {
    const facts = this.#facts;
    return facts ? forPhotographs(this.#models, facts, (model) => this.isHere(model)) : [];
  }

  /** What to try where this one could not be had: the next one for photographs. @param {KnownModel} model */
  after(model) {
    const ranked = this.photographs;
    return ranked[ranked.indexOf(model) + 1] ?? (ranked[0] === model ? undefined : ranked[0]);
  }

  /** Whether it need not be downloaded. @param {KnownModel} model */
  isHere(model) {
    return this.#facts !== null && isKept(model, this.#facts.kept);
  }

  /**
   * What there is to say of a model on this machine, in a line.
   * @param {KnownModel} model
   */
  line(model) {
    const words = this.#words;
    const facts = this.#facts;
    const here = this.isHere(model);
    const size = words.say(model.roundedBytes ? "known.about" : "known.size", { size: words.bytes(totalBytes(model)) });
    return words.join([
      here ? size : words.say("known.toDownload", { size }),
      here && words.say("known.here"),
      facts && !(here && fit(model, facts) === "fits") && fitWords(words, model, facts),
      facts && !here && !hasRoom(model, facts) && words.say("known.noRoom"),
      facts && model.work && model.purpose !== "drawings" && fit(model, facts) !== "too large" && speedWords(words, model, facts),
      model.description,
      model.purpose !== "drawings" && model.licence && words.say("known.licence", { licence: model.licence }),
    ]);
  }

  async refresh() {
    this.element.hidden = this.#models.length === 0;
    if (this.#models.length === 0) return;
    const turn = ++this.#turn;
    const facts = await machineFacts();
    if (turn !== this.#turn) return;
    this.#facts = { ...facts, rate: this.#rate };
    this.#show();
  }

  /** Opens the rest of the list, and puts the focus there. */
  showMore() {
    this.more.open = true;
    this.summary.focus();
    this.element.scrollIntoView({ block: "nearest" });
  }

  #show() {
    if (!this.#facts) return;
    const [suggested] = this.photographs;
    const loadable = this.#models.filter((model) => isLoadable(model));
    // Models without a purpose are a page's own choice: all of them are in the first list.
    const isFirst = (/** @type {KnownModel} */ model) => model === suggested || model.purpose === undefined || model.purpose === "drawings";
    const rest = loadable.filter((model) => !isFirst(model));
    this.#first.replaceChildren(...loadable.filter(isFirst).map((model) => this.#row(model, model === suggested)));
    this.#others.replaceChildren(...rest.map((model) => this.#row(model, false)));
    this.more.hidden = rest.length === 0;
    setText(this.summary, this.#words.say("known.moreCount", { count: rest.length }));
    this.#handlers.onChange();
  }

  /**
   * @param {KnownModel} model
   * @param {boolean} isSuggested
   */
  #row(model, isSuggested) {
    const words = this.#words;
    const use = button({ text: words.say("known.load"), class: "plain", onclick: () => this.#handlers.onUse(model) });
    setAttribute(use, "aria-label", words.say("known.loadModel", { model: model.name }));
    return element("li", { class: "stored-row known-row" },
      element("div", { class: "stored-text" },
        element("bdi", { class: "name" }, model.name, isSuggested ? element("span", { class: "tag" }, words.say("known.forPhotographs")) : null),
        model.goodAt ? element("span", { class: "good-at" }, model.goodAt) : null,
        element("span", { class: "size wrap" }, this.line(model))),
      use);
  }
}
