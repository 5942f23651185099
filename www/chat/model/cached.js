// The models that are kept in the browser's storage: to use again, to resume, to delete.

import { deleteCachedModel, listCachedModels, LlavaError, storageEstimate } from "../../llava-web.js";
import { button, element, setAttribute, setText } from "../base/dom.js";

/** @typedef {import("../../llava-web.js").CachedModel} CachedModel */
/** @typedef {import("../base/dom.js").Text} Text */
/**
 * What is one model to a person: a file, or all parts of a split one.
 * @typedef {{ name: string, fileName: string, where: string, address: string, files: CachedModel[], complete: boolean, bytes: number, allocated: number, total: number | null, lastUsed: number }} Stored
 */

/** llama.cpp's names for the parts of a split file. */
const PART = /-(\d{5})-of-(\d{5})(?=\.gguf)/;

export class StoredModels {
  #words;
  #handlers;
  #list = element("ul", { class: "stored-list" });
  #room = element("p", { class: "hint" });
  /** The rows that are shown, by the models' addresses. @type {Map<string, HTMLElement>} */
  #rows = new Map();
  /** Counts the refreshes, so that a slow one does not undo a later one. */
  #turn = 0;

  /**
   * @param {import("../../strings/language.js").Language} words
   * @param {{ onUse: (name: string, address: string) => void, onError: (message: Text) => void, onTell: (message: Text) => void,
   *   onEmpty: () => void }} handlers  `onEmpty`: the last one was deleted, and the focus went with it
   */
  constructor(words, handlers) {
    this.#words = words;
    this.#handlers = handlers;
    this.element = element("section", { class: "stored", part: "stored", "aria-labelledby": "stored-title", hidden: true },
      element("h3", { id: "stored-title" }, words.say("stored.title")), this.#list, this.#room);
  }

  async refresh() {
    const turn = ++this.#turn;
    /** @type {[CachedModel[], { usage: number, quota: number, persisted: boolean } | null]} */
    const [models, storage] = await Promise.all([listCachedModels().catch(() => []), storageEstimate().catch(() => null)]);
    if (turn !== this.#turn) return;
    this.#showRows(grouped(models));
    this.element.hidden = models.length === 0;
    this.#room.hidden = !storage;
    if (storage) {
      const words = this.#words;
      setText(this.#room, words.join([
        words.say("stored.room", { used: words.bytes(storage.usage), free: words.bytes(Math.max(0, storage.quota - storage.usage)) }),
        words.say(storage.persisted ? "stored.forGood" : "stored.forNow"),
      ], " "));
    }
  }

  /**
   * A row that asks whether to delete stays as it is, where it is: a refresh must not take the button from under a click.
   * @param {Stored[]} models
   */
  #showRows(models) {
    const rows = new Map(models.map((model) => {
      const shown = this.#rows.get(model.address);
      return [model.address, shown?.querySelector(".asked") ? shown : this.#row(model)];
    }));
    for (const [address, row] of this.#rows) if (rows.get(address) !== row) row.remove();
    let next = this.#list.firstChild;
    for (const row of rows.values()) {
      if (row === next) next = next.nextSibling;
      else this.#list.insertBefore(row, next);
    }
    this.#rows = rows;
  }

  /** @param {Stored} model */
  #row(model) {
    const words = this.#words;
    const row = element("li", { class: "stored-row" });
    const use = button({ text: words.say(model.complete ? "stored.use" : "stored.resume"), class: "plain", onclick: () => this.#handlers.onUse(model.name, model.address) });
    setAttribute(use, "aria-label", words.say(model.complete ? "stored.useModel" : "stored.resumeModel", { model: model.name }));
    const remove = button({ text: words.say("do.delete"), class: "quiet", onclick: () => this.#confirm(model, row, show) });
    setAttribute(remove, "aria-label", words.say("stored.deleteModel", { model: model.name }));
    const here = words.bytes(model.bytes);
    const size = model.complete ? words.bytes(model.allocated) :
      model.total ? words.say("stored.incompleteOf", { here, total: words.bytes(model.total) }) : words.say("stored.incomplete", { here });
    // Room is reserved for what is still to come, and stays so for a moment where a tab was closed.
    const reserved = !model.complete && model.allocated > model.bytes && words.say("stored.reserved", { size: words.bytes(model.allocated) });
    const used = model.lastUsed > 0 && words.say("stored.used", { when: words.ago(model.lastUsed) });
    const show = () => {
      row.replaceChildren(
        element("div", { class: "stored-text" },
          element("bdi", { class: "name", title: model.address }, model.fileName),
          element("span", { class: "size" }, words.join([size, reserved, used, model.where]))),
        use, remove);
    };
    show();
    return row;
  }

  /**
   * Asks in the row itself.
   * @param {Stored} model
   * @param {HTMLElement} row
   * @param {() => void} show  puts the row back
   */
  #confirm(model, row, show) {
    const words = this.#words;
    const keep = () => {
      show();
      /** @type {HTMLElement | null} */ (row.querySelector(".quiet"))?.focus();
    };
    const no = button({ text: words.say("do.keep"), class: "plain", onclick: keep });
    const yes = button({ text: words.say("do.delete"), class: "danger", onclick: () => this.#delete(model, row, show) });
    setAttribute(no, "aria-label", words.say("stored.keepModel", { model: model.name }));
    setAttribute(yes, "aria-label", words.say("stored.deleteForGood", { model: model.name }));
    const size = words.bytes(model.allocated);
    const question = element("p", { class: "stored-text" }, words.say("stored.deleteFrees", { model: element("bdi", {}, model.fileName), size }));
    const asked = element("div", { class: "stored-row asked", role: "group", "aria-label": words.say("stored.deleteAsk", { model: model.name }), onkeydown: (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      keep();
    } }, question, yes, no);
    row.replaceChildren(asked);
    // The safe one: a key that is held down must not answer.
    no.focus();
    this.#handlers.onTell(words.say("stored.deleteFrees", { model: model.name, size }));
  }

  /**
   * @param {Stored} model
   * @param {HTMLElement} row
   * @param {() => void} show  puts the row back
   */
  async #delete(model, row, show) {
    const at = [...this.#list.children].indexOf(row);
    try {
      for (const { url } of model.files) await deleteCachedModel(url);
      this.#handlers.onTell(this.#words.say("stored.deleted", { model: model.name }));
    } catch (error) {
      // What another tab has deleted is as gone as it should be.
      if (!(error instanceof LlavaError && error.code === "invalid_request")) this.#handlers.onError(this.#words.explain(error));
    }
    show();
    await this.refresh();
    const next = this.#list.children[Math.min(at, this.#list.children.length - 1)];
    if (next) /** @type {HTMLElement | null} */ (next.querySelector("button"))?.focus();
    else this.#handlers.onEmpty();
  }
}

/** @param {string} pathname */
function lastPart(pathname) {
  const last = pathname.slice(pathname.lastIndexOf("/") + 1);
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

/**
 * The parts of a split model as one, where the first of them stands.
 * @param {CachedModel[]} models
 * @returns {Stored[]}
 */
function grouped(models) {
  /** @type {Map<string, CachedModel[]>} */
  const groups = new Map();
  for (const model of models) {
    const key = model.url.replace(PART, "-*-of-$2");
    groups.set(key, [...(groups.get(key) ?? []), model]);
  }
  return [...groups.values()].flatMap((files) => {
    const [first] = files;
    if (!first) return [];
    const count = Number(PART.exec(first.url)?.[2] ?? 1);
    const urls = Array.from({ length: count }, (_, i) => first.url.replace(PART, `-${String(i + 1).padStart(5, "0")}-of-$2`));
    const { host, pathname } = new URL(first.url);
    const fileName = lastPart(pathname).replace(PART, "");
    return {
      name: first.name.replace(PART, ""),
      fileName,
      // Only where it tells two of a name apart.
      where: fileName === first.name.replace(PART, "") ? "" : host + pathname.slice(0, pathname.lastIndexOf("/")),
      address: urls.join(" "),
      files,
      complete: files.length === count && files.every(({ complete }) => complete),
      bytes: files.reduce((sum, file) => sum + file.bytes, 0),
      allocated: files.reduce((sum, file) => sum + file.allocated, 0),
      total: files.length === count && files.every(({ total }) => total !== null) ? files.reduce((sum, { total }) => sum + (total ?? 0), 0) : null,
      lastUsed: Math.max(...files.map(({ lastUsed }) => lastUsed)),
    };
  });
}
