// Which model a page measures or evaluates: one of those that the chat page offers, with what is known of it here, or files of one's own.

import { element, setText } from "../chat/base/dom.js";
import { isLoadable } from "../chat/model/catalogue.js";
import { KnownModels } from "../chat/model/suggested.js";
import { listCachedModels } from "../llava-web.js";
import { MODELS } from "../models.js";
import { words } from "./words.js";

/** @typedef {import("../strings/language.js").Key} Key */
/** @typedef {import("../llava-web.js").EngineOptions} EngineOptions */
/** Enough to load it. @typedef {Pick<EngineOptions, "model" | "mmproj" | "sha256" | "cache" | "contextSize" | "chatTemplate" | "quantizeMmproj" | "kvFormat">} Chosen */

/** The choice of files of one's own. */
const OWN = "own";

export class ModelChoice {
  #known;
  #models = MODELS.filter((model) => isLoadable(model));
  #select = element("select", { id: "model" });
  #line = element("p", { class: "note" });
  #stored = element("datalist", { id: "stored-files" });
  #slots;

  /** @param {{ vision: boolean }} options  whether the vision file is asked for, too */
  constructor({ vision }) {
    this.#known = new KnownModels(words, { onUse: () => {}, onChange: () => this.#show() });
    this.#slots = {
      model: slot("model", "site.file", "site.url"),
      mmproj: vision ? slot("mmproj", "site.mmprojFile", "site.mmprojUrl") : null,
    };
    this.#select.append(
      element("optgroup", { label: words.say("site.catalogue") }, ...this.#models.map(({ name }, i) => element("option", { value: i }, name))),
      element("option", { value: OWN }, words.say("site.own")));
    this.#select.addEventListener("change", () => this.#show());
    this.own = element("div", { class: "own", hidden: true }, ...this.#slots.model.nodes, ...(this.#slots.mmproj?.nodes ?? []), this.#stored);
    this.element = element("div", { class: "model-choice" },
      element("label", {}, element("span", {}, words.say("site.model")), this.#select), this.#line, this.own);
    this.#known.set(MODELS);
    this.refresh();
  }

  /** Looks again what this browser keeps. */
  async refresh() {
    this.#known.refresh();
    const stored = await listCachedModels().catch(() => []);
    this.#stored.replaceChildren(...stored.filter(({ complete }) => complete).map(({ url, name }) => element("option", { value: url }, words.join([name, words.say("site.stored")]))));
  }

  /** What was chosen; null where it is nothing yet. @returns {Chosen | null} */
  get value() {
    const known = this.#models[Number(this.#select.value)];
    if (known) return { model: known.model, mmproj: known.mmproj, sha256: known.sha256, ...known.options };
    const { model, mmproj } = this.#slots;
    const source = model.value;
    // Files that are given here are not put into the storage: they are here already, or only tried.
    return source === null ? null : { model: source, mmproj: mmproj?.value ?? undefined, cache: "none" };
  }

  #show() {
    const known = this.#models[Number(this.#select.value)];
    this.own.hidden = known !== undefined;
    this.#line.hidden = known === undefined;
    if (known) setText(this.#line, words.join([known.goodAt, this.#known.line(known)], " "));
  }
}

/**
 * A file, or its address.
 * @param {string} id
 * @param {Key} fileLabel
 * @param {Key} urlLabel
 */
function slot(id, fileLabel, urlLabel) {
  const file = element("input", { type: "file", id: `${id}-file`, accept: ".gguf" });
  const url = element("input", { type: "text", id: `${id}-url`, inputmode: "url", autocomplete: "off", spellcheck: "false", placeholder: words.say("slot.placeholder"), list: "stored-files" });
  return {
    nodes: [element("label", {}, element("span", {}, words.say(fileLabel)), file), element("label", {}, element("span", {}, words.say(urlLabel)), url)],
    get value() {
      return file.files?.[0] ?? (url.value.trim() || null);
    },
  };
}
