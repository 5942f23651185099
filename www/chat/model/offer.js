// At the beginning of a conversation with a model that knows drawings: the model for photographs that fits this machine, one click away.

import { button, element } from "../base/dom.js";

/** @typedef {import("./catalogue.js").KnownModel} KnownModel */

export class PhotographOffer {
  #title = element("h2", { id: "offer-title" });
  #goodAt = element("p", {});
  #line = element("p", { class: "hint" });
  /** @type {KnownModel | null} */
  #model = null;

  /** @param {{ onLoad: (model: KnownModel) => void, onMore: () => void }} handlers */
  constructor({ onLoad, onMore }) {
    this.load = button({ text: "Load", icon: "file", class: "plain", part: "offer-load", onclick: () => this.#model && onLoad(this.#model) });
    this.more = button({ text: "More models", class: "quiet", onclick: onMore });
    this.element = element("section", { class: "offer", part: "offer", "aria-labelledby": "offer-title", hidden: true },
      element("div", { class: "offer-text" }, this.#title, this.#goodAt, this.#line),
      element("div", { class: "offer-actions" }, this.load, this.more));
  }

  /**
   * @param {KnownModel | undefined} model  undefined: the list has none that is not too large
   * @param {string} line  what is to be said of it on this machine
   */
  show(model, line) {
    this.#model = model ?? null;
    this.#title.textContent = model ? `For photographs: ${model.name}` : "For photographs";
    this.#goodAt.textContent = model?.goodAt ?? "No model of the list fits this device and browser. You can still load files of your own.";
    this.#line.textContent = line;
    this.#line.hidden = line === "";
    this.load.hidden = !model;
    if (!model) return;
    /** @type {HTMLElement} */ (this.load.querySelector("span")).textContent = `Load ${model.name}`;
  }
}
