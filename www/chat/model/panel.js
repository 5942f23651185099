// Before the conversation: which two files, and how far they are loaded.

import { button, element, setAttribute, setButtonText, setText } from "../base/dom.js";
import { KnownModels } from "./suggested.js";
import { kindOfName, sortFiles } from "./gguf-files.js";
import { addressOf, pairOf } from "./pairs.js";
import { StoredModels } from "./cached.js";

/** @typedef {"model" | "mmproj"} Slot */
/** @typedef {import("../base/dom.js").Text} Text */
/** @typedef {import("../../strings/language.js").Language} Language */

const SLOTS = /** @type {const} */ ({
  model: { title: "slot.model", hint: "slot.modelHint" },
  mmproj: { title: "slot.mmproj", hint: "slot.mmprojHint" },
});

/** What is being done, in the order in which it is done. */
const STAGES = /** @type {const} */ ({
  header: "loading.header", model: "loading.model", mmproj: "loading.mmproj", recovering: "loading.recovering", ready: "loading.ready",
});

/** Phones’ pickers know no files that end in .gguf, and would show all of them grey. */
const isPhone = () => matchMedia("(hover: none) and (pointer: coarse)").matches;

/** One of the two files: an address somebody typed, or files somebody chose. */
class FileSlot {
  /** @type {File[]} */
  #files = [];
  #words;
  #onChange;

  /**
   * @param {Language} words
   * @param {Slot} slot
   * @param {{ onFiles: (files: File[]) => void, onChange: () => void }} handlers
   */
  constructor(words, slot, { onFiles, onChange }) {
    this.#words = words;
    this.#onChange = onChange;
    const title = words.say(SLOTS[slot].title);
    const hint = words.say(SLOTS[slot].hint);
    this.input = element("input", {
      type: "text", id: slot, class: "field", part: "input", inputmode: "url", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
      placeholder: words.say("slot.placeholder"), "aria-describedby": `${slot}-hint`, oninput: onChange,
    });
    this.chosen = element("output", { class: "field chosen", for: slot, hidden: true });
    const picker = element("input", {
      type: "file", accept: isPhone() ? null : ".gguf", multiple: true, class: "visually-hidden", tabindex: "-1", "aria-label": words.say("slot.pick", { slot: title }), "data-slot": slot,
      onchange: () => {
        onFiles([...(picker.files ?? [])]);
        picker.value = "";
      },
    });
    this.choose = button({ text: words.say("slot.choose"), icon: "file", class: "plain", onclick: () => picker.click() });
    setAttribute(this.choose, "aria-label", words.say("slot.chooseFor", { slot: title }));
    this.clear = button({ label: words.say("slot.removeFrom", { slot: title }), icon: "close", class: "quiet round", onclick: () => {
      this.set([]);
      this.choose.focus();
    } });
    this.element = element("div", { class: "slot", part: "slot" },
      element("label", { for: slot }, title),
      element("div", { class: "slot-row" }, this.input, this.chosen, this.clear, this.choose, picker),
      element("p", { class: "hint", id: `${slot}-hint` }, hint));
    this.#show();
  }

  /** @param {File[]} files */
  set(files) {
    this.#files = files;
    this.#show();
    this.#onChange();
  }

  /** @param {string} address */
  setAddress(address) {
    this.#files = [];
    this.input.value = address;
    this.#show();
  }

  /** @returns {import("../../llava-web.js").Source | null} */
  get source() {
    const [first, ...others] = this.#files;
    if (first) return others.length === 0 ? first : this.#files;
    // Several addresses are the parts of a split file. A space within one is not followed by another's beginning.
    const addresses = this.input.value.trim().split(/\s+(?=(?:https?|hf):)/i);
    return addresses.length > 1 ? addresses : addresses[0] || null;
  }

  #show() {
    const files = this.#files;
    const has = files.length > 0;
    this.input.hidden = has;
    this.chosen.hidden = !has;
    this.clear.hidden = !has;
    this.choose.hidden = has;
    const size = files.reduce((sum, file) => sum + file.size, 0);
    this.chosen.replaceChildren(
      element("bdi", { class: "name" }, files.length > 1 ? this.#words.say("slot.several", { file: files[0]?.name ?? "", count: files.length - 1 }) : files[0]?.name ?? ""),
      element("span", { class: "size" }, has ? this.#words.bytes(size) : ""));
  }
}

export class ModelPanel {
  /** @type {Record<Slot, FileSlot>} */
  #slots;
  #words;
  #handlers;
  /** When what is being read began to come from where it comes from. */
  #startedAt = 0;
  /** Whether the last bytes came from the storage, and how many had when the network took over. */
  #from = { cached: false, stage: "", resumed: 0 };

  /**
   * @param {Language} words
   * @param {{ onLoad: (sources: { model: any, mmproj: any }) => void, onCancel: () => void, onBack: () => void, onSettings: () => void, onError: (message: Text) => void,
   *   onOthers: (files: Promise<File[]>) => void, onTell: (message: Text) => void, onKnown: () => void }} handlers  `onOthers`: files that were chosen
   *   and are no models, as soon as that is known; `onTell`: for screen readers; `onKnown`: something else is to be said of
   *   the models that the page offers
   */
  constructor(words, handlers) {
    this.#words = words;
    this.#handlers = handlers;
    const slotHandlers = { onFiles: (/** @type {File[]} */ files) => this.#take(files), onChange: () => this.#update() };
    this.#slots = { model: new FileSlot(words, "model", slotHandlers), mmproj: new FileSlot(words, "mmproj", slotHandlers) };
    this.known = new KnownModels(words, { onUse: (model) => this.load(model), onChange: () => {
      this.#update();
      handlers.onKnown();
    } });
    this.submit = button({ text: words.say("model.load"), class: "primary", type: "submit", part: "load" });
    this.back = button({ text: words.say("model.back"), class: "plain", onclick: handlers.onBack });
    this.back.hidden = true;
    this.lead = element("p", { class: "lead" });
    this.own = element("div", { class: "own-files" }, element("h3", {}, words.say("model.ownFiles")), element("p", { class: "hint" }, words.say("model.twoFiles")));
    this.form = element("form", { novalidate: true, onsubmit: (event) => this.#submit(event) },
      element("h2", {}, words.say("model.title")),
      this.lead,
      this.known.element,
      this.own,
      this.#slots.model.element,
      this.#slots.mmproj.element,
      element("slot", { name: "note" }),
      element("div", { class: "card-actions" }, this.submit, this.back, button({ text: words.say("bar.settings"), icon: "settings", class: "quiet", onclick: handlers.onSettings })));

    this.what = element("h2", { tabindex: "-1" }, words.say("loading.title"));
    this.bar = element("progress", { class: "bar", part: "progress", max: "1", value: "0", "aria-label": words.say("loading.bar") });
    this.amount = element("p", { class: "amount" });
    this.progress = element("div", { class: "loading", hidden: true },
      this.what, this.bar, this.amount,
      element("div", { class: "card-actions" }, button({ text: words.say("do.cancel"), class: "plain", part: "cancel", onclick: handlers.onCancel })));

    this.stored = new StoredModels(words, {
      onUse: (name, address) => this.#use(name, address),
      onError: handlers.onError,
      onTell: handlers.onTell,
      onEmpty: () => this.focus(),
    });
    this.card = element("div", { class: "card", part: "card" }, this.form, this.stored.element, this.progress);
    const intro = element("slot", { name: "intro", onslotchange: () => intro.classList.toggle("filled", intro.assignedElements().length > 0) });
    this.element = element("section", { class: "model", part: "model" }, element("div", { class: "model-columns" }, intro, this.card));
    this.#update();
  }

  /** Addresses as the element's attributes have them. @param {{ model: string, mmproj: string }} addresses */
  setAddresses({ model, mmproj }) {
    this.#slots.model.setAddress(model);
    this.#slots.mmproj.setAddress(mmproj);
    this.#update();
  }

  /** Loads a model that the page offers; its addresses stand in the form, should it be shown again. @param {import("./catalogue.js").KnownModel} known */
  load({ model, mmproj }) {
    this.setAddresses({ model, mmproj: mmproj ?? "" });
    this.#handlers.onLoad({ model, mmproj });
  }

  /** Asks for files instead of addresses. */
  choose() {
    this.setAddresses({ model: "", mmproj: "" });
    this.#slots.model.choose.click();
  }

  /** @param {Text | null} text  where there is a way back; null where there is none */
  setBack(text) {
    this.back.hidden = text === null;
    setButtonText(this.back, text ?? "");
  }

  /** Whether a dropped file belongs here. @param {File} file */
  static accepts(file) {
    return /\.gguf$/i.test(file.name);
  }

  /** @param {File[]} files */
  drop(files) {
    this.#take(files);
  }

  swap() {
    const { model, mmproj } = this.#slots;
    const [a, b] = [model.source, mmproj.source];
    for (const [slot, source] of /** @type {const} */ ([[model, b], [mmproj, a]])) {
      const addresses = [source].flat().filter((part) => part !== null);
      if (addresses.every((part) => typeof part === "string")) slot.setAddress(addresses.join(" "));
      else slot.set(/** @type {File[]} */ (Array.isArray(source) ? source : [source]));
    }
    this.#update();
  }

  showForm() {
    this.progress.hidden = true;
    this.form.hidden = false;
    this.#update();
    this.refresh();
  }

  /** Looks again what is in the browser's storage. */
  refresh() {
    this.known.refresh();
    this.stored.refresh().then(() => {
      if (this.form.hidden) this.stored.element.hidden = true;
    });
  }

  /** Puts the focus where the person goes on. */
  focus() {
    if (!this.progress.hidden) this.what.focus();
    else if (this.submit.disabled) this.#slots.model.choose.focus();
    else this.submit.focus();
  }

  showProgress() {
    this.form.hidden = true;
    this.stored.element.hidden = true;
    this.progress.hidden = false;
    this.#startedAt = performance.now();
    this.#from = { cached: false, stage: "", resumed: 0 };
    setText(this.what, this.#words.say("state.preparing"));
    setText(this.amount, this.#words.say("loading.engine"));
    this.bar.removeAttribute("value");
  }

  /** @param {import("../../llava-web.js").LoadProgress} progress */
  update({ stage, file, loaded, total, bytesPerSecond, cached }) {
    const waiting = stage === "header" && total > 0;
    const words = this.#words;
    const what = words.say(waiting ? "loading.otherTab" : STAGES[stage]);
    if (this.what.textContent !== String(what)) setText(this.what, what);
    if (stage !== this.#from.stage) this.#from = { cached, stage, resumed: 0 };
    if (cached !== this.#from.cached) {
      this.#from = { cached, stage, resumed: cached ? 0 : loaded };
      this.#startedAt = performance.now();
    }
    const counted = total > 0 && (stage !== "header" || waiting);
    if (counted) this.bar.value = Math.min(1, loaded / total);
    else this.bar.removeAttribute("value");
    /** @type {Text[]} */
    const parts = [file];
    if (counted) parts.push(words.say("loading.of", { done: words.bytes(loaded), total: words.bytes(total) }));
    if (cached && stage !== "ready") parts.push(words.say("loading.fromHere"));
    if (this.#from.resumed > 0) parts.push(words.say("loading.resumed", { size: words.bytes(this.#from.resumed) }));
    if (bytesPerSecond > 0 && stage !== "ready") parts.push(words.say("loading.rate", { size: words.bytes(bytesPerSecond) }));
    // A guess after one second only: before, it would jump about.
    if (bytesPerSecond > 0 && total > loaded && performance.now() - this.#startedAt > 1000) {
      parts.push(words.say("loading.left", { time: words.duration(Math.max(1, (total - loaded) / bytesPerSecond)) }));
    }
    setText(this.amount, words.join(parts));
  }

  /**
   * Puts each file where it belongs, wherever it was chosen or dropped.
   * @param {File[]} files
   */
  async #take(files) {
    if (files.length === 0) return;
    const sorting = sortFiles(files);
    // At once: what becomes of the others matters to a question that is asked before they are looked at.
    this.#handlers.onOthers(sorting.then(({ other }) => other));
    const sorted = await sorting.catch(() => null);
    if (!sorted) return;
    if (sorted.model.length > 0) this.#slots.model.set(sorted.model);
    if (sorted.mmproj.length > 0) this.#slots.mmproj.set(sorted.mmproj.slice(0, 1));
    if (!this.submit.disabled) this.submit.focus();
  }

  /**
   * Fills in what was chosen from the list, with the vision file that belongs to it where that is known; loading it stays a step of its own.
   * @param {string} name
   * @param {string} address
   */
  #use(name, address) {
    const slot = kindOfName(name);
    this.#slots[slot].setAddress(address);
    const known = this.known.models.find(({ model }) => addressOf(model) === address);
    const other = slot === "model" ? known?.mmproj ?? pairOf(address) : undefined;
    if (other) this.#slots.mmproj.setAddress(other);
    this.#update();
    this.#handlers.onTell(this.#words.say("slot.filled", { slot: this.#words.say(SLOTS[slot].title), file: name }));
    this.focus();
  }

  #update() {
    const offersModels = this.known.models.length > 0;
    setText(this.lead, this.#words.say(offersModels ? "model.lead" : "model.twoFiles"));
    this.own.hidden = !offersModels;
    this.submit.disabled = this.#slots.model.source === null;
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    const { model, mmproj } = this.#slots;
    if (model.source !== null) this.#handlers.onLoad({ model: model.source, mmproj: mmproj.source ?? undefined });
  }
}
