// At the beginning of a conversation with a model that knows drawings: the model for photographs that fits this machine, one click away.

import { button, element, setButtonText, setText } from "../base/dom.js";

/** @typedef {import("../base/dom.js").Text} Text */
/** @typedef {import("./catalogue.js").KnownModel} KnownModel */

export class PhotographOffer {
  #title = element("h2", { id: "offer-title" });
  #goodAt = element("p", {});
  #line = element("p", { class: "hint" });
  /** @type {KnownModel | null} */
  #model = null;
  #words;

  /**
   * @param {import("../../strings/language.js").Language} words
   * @param {{ onLoad: (model: KnownModel) => void, onMore: () => void }} handlers
   */
  constructor(words, { onLoad, onMore }) {
    this.#words = words;
    this.load = button({ text: words.say("known.load"), icon: "file", class: "plain", part: "offer-load", onclick: () => this.#model && onLoad(this.#model) });
    this.more = button({ text: words.say("known.more"), class: "quiet", onclick: onMore });
    this.element = element("section", { class: "offer", part: "offer", "aria-labelledby": "offer-title", hidden: true },
      element("div", { class: "offer-text" }, this.#title, this.#goodAt, this.#line),
      element("div", { class: "offer-actions" }, this.load, this.more));
  }

  /**
   * @param {KnownModel | undefined} model  undefined: the list has none that is not too large
   * @param {Text} line  what is to be said of it on this machine
   */
  show(model, line) {
    this.#model = model ?? null;
    const words = this.#words;
    setText(this.#title, model ? words.say("known.offer", { model: model.name }) : words.say("known.offerTitle"));
    setText(this.#goodAt, model ? model.goodAt ?? "" : words.say("known.noneFits"));
    setText(this.#line, line);
    this.#line.hidden = line === "";
    this.load.hidden = !model;
    if (model) setButtonText(this.load, words.say("known.loadModel", { model: model.name }));
  }
}
