// Alt text for many pictures: a folder in, a table of descriptions out. Each description is stored as soon as it is there, so that hours of
// work are not lost with a reload; the pictures are not, and are chosen again to go on.

import { button, element, saveFile, setButtonText, setText } from "../base/dom.js";
import { deleteAltTexts, listAltTexts, putAltText } from "../conversation-store.js";
import { looksLikePicture } from "../talk/pictures.js";

/** Longer is no alt text. */
const MAX_TOKENS = 80;
/** So many names of what was left out are told. */
const NAMED = 3;
/** After these the next picture may well be described. */
const OF_ONE_PICTURE = ["invalid_image", "context_overflow", "invalid_request"];

/** @typedef {import("../base/image-urls.js").ImageUrls} ImageUrls */
/** @typedef {import("../base/dom.js").Text} Text */
/** @typedef {"waiting" | "working" | "done" | "failed"} State */
/**
 * One picture. `file`: null where it was described before the page was loaded anew, and has not been chosen again.
 * @typedef {{ key: string, name: string, file: File | null, state: State, text: string, finish: string, row: HTMLElement, body: HTMLElement }} Item
 */

export class AltTexts {
  /** @type {Item[]} */
  #items = [];
  /** @type {AbortController | null} */
  #running = null;
  #words;
  /** The prompt that stands there unless somebody writes another one. */
  #proposed = "";
  #handlers;
  #urls;
  /** Ends when the files that came so far are in the list. @type {Promise<unknown>} */
  #adding = Promise.resolve();
  /** Ends when what was stored is in the list. @type {Promise<void> | null} */
  #opened = null;
  #isSaveFailureTold = false;

  /**
   * @param {import("../../strings/language.js").Language} words
   * @param {ImageUrls} urls
   * @param {{ onDescribe: (file: File, prompt: string, options: { maxTokens: number, signal: AbortSignal }) => Promise<{ text: string, finish: string }>,
   *   onBack: () => void, onTell: (message: Text) => void, onError: (message: Text) => void,
   *   onUndoable: (message: Text, what: { putBack: () => void, letGo: () => void }) => void }} handlers
   */
  constructor(words, urls, handlers) {
    this.#words = words;
    this.#urls = urls;
    this.#handlers = handlers;
    const picker = (/** @type {Record<string, Text | boolean>} */ more) => {
      const input = element("input", { type: "file", class: "visually-hidden", tabindex: "-1", multiple: true, ...more, onchange: () => {
        this.add([...(input.files ?? [])]);
        input.value = "";
      } });
      return input;
    };
    const folder = picker({ webkitdirectory: true, "aria-label": words.say("alt.pickFolder") });
    const files = picker({ accept: "image/*,.avif,.heic,.heif", "aria-label": words.say("alt.pickFiles") });
    this.prompt = element("textarea", { class: "field", id: "alt-prompt", rows: "3", dir: "auto" });
    this.propose();
    this.folderButton = button({ text: words.say("alt.folder"), icon: "folder", class: "plain", onclick: () => folder.click() });
    // Phones have no folders to choose.
    this.folderButton.hidden = !("webkitdirectory" in folder) || matchMedia("(hover: none) and (pointer: coarse)").matches;
    this.filesButton = button({ text: words.say("alt.files"), icon: "picture", class: "plain", onclick: () => files.click() });
    this.start = button({ text: words.say("alt.start"), class: "primary", onclick: () => this.#start() });
    this.stopButton = button({ text: words.say("do.stop"), icon: "stop", class: "plain", part: "stop", onclick: () => this.stop() });
    this.csv = button({ text: words.say("alt.csv"), icon: "save", class: "plain", onclick: () => saveFile("alt-texts.csv", csv(this.#done), "text/csv") });
    this.json = button({ text: words.say("alt.json"), icon: "save", class: "plain", onclick: () => saveFile("alt-texts.json", json(this.#done), "application/json") });
    this.clearButton = button({ text: words.say("alt.clear"), icon: "close", class: "quiet", onclick: () => this.#clear() });
    this.bar = element("progress", { class: "bar", part: "progress", max: "1", value: "0", "aria-label": words.say("alt.bar") });
    this.amount = element("p", { class: "amount" });
    this.list = element("ul", { class: "alt-list", "aria-label": words.say("alt.list") });
    this.element = element("section", { class: "alt-texts", part: "alt-texts", "aria-label": words.say("alt.section"), hidden: true },
      element("div", { class: "alt-head" },
        element("h2", { tabindex: "-1" }, words.say("alt.title")),
        element("p", { class: "hint" }, words.say("alt.hint")),
        element("div", { class: "card-actions" }, this.folderButton, folder, this.filesButton, files,
          button({ text: words.say("model.backToChat"), class: "quiet", onclick: () => {
            this.stop();
            handlers.onBack();
          } })),
        element("label", { for: "alt-prompt" }, words.say("alt.prompt")), this.prompt,
        element("div", { class: "card-actions" }, this.start, this.stopButton, this.csv, this.json, this.clearButton),
        this.bar, this.amount),
      this.list);
    this.#update();
  }

  /** A sentence that a screen reader can say where the picture stands; in the language that is read. */
  propose() {
    const now = String(this.#words.say("alt.promptText"));
    if (this.prompt.value === this.#proposed) this.prompt.value = now;
    this.#proposed = now;
  }

  focus() {
    (this.folderButton.hidden ? this.filesButton : this.folderButton).focus();
  }

  /** Shows what was described before the page was loaded anew. */
  open() {
    this.#opened ??= listAltTexts().then((stored) => {
      for (const { key, name, text, finish } of stored) {
        if (!this.#items.some((item) => item.key === key)) this.#set(this.#item(key, name, null), "done", text, finish);
      }
      this.#update();
    }, (error) => {
      console.warn(error);
      this.#saveFailed();
    });
    return this.#opened;
  }

  /** @param {File[]} files  those that are no pictures are left out, which is said */
  add(files) {
    this.#adding = this.#adding.then(() => this.#add(files));
  }

  /** @param {File[]} files */
  async #add(files) {
    await this.open();
    const left = [];
    const byName = (/** @type {File} */ a, /** @type {File} */ b) => nameOf(a).localeCompare(nameOf(b), "en", { numeric: true });
    for (const file of files.sort(byName)) {
      if (!await looksLikePicture(file)) {
        left.push(nameOf(file));
        continue;
      }
      const name = nameOf(file);
      const key = `${name}\n${file.size}\n${file.lastModified}`;
      const item = this.#items.find((item) => item.key === key) ?? this.#item(key, name, file);
      if (!item.file || !item.row.querySelector("img")) this.#showPicture(item, file);
    }
    if (left.length > 0 && left.length === files.length) this.#handlers.onError(this.#words.say("alt.noPictures"));
    else if (left.length > 0) {
      const names = left.slice(0, NAMED).join(", ") + (left.length > NAMED ? " …" : "");
      this.#handlers.onError(this.#words.say("alt.leftOut", { count: left.length, names }));
    }
    this.#update();
    if (!this.start.hidden && !this.start.disabled) this.start.focus();
  }

  /**
   * @param {string} key
   * @param {string} name
   * @param {File | null} file
   * @returns {Item}
   */
  #item(key, name, file) {
    const body = element("div", { class: "alt-body" });
    const row = element("li", { class: "alt-row" }, element("div", { class: "alt-picture" }), element("div", {}, element("bdi", { class: "name", title: name, lang: "" }, name), body));
    /** @type {Item} */
    const item = { key, name, file, state: "waiting", text: "", finish: "", row, body };
    this.#items.push(item);
    this.list.append(row);
    this.#set(item, "waiting", "");
    return item;
  }

  /** @param {Item} item @param {File} file */
  #showPicture(item, file) {
    item.file = file;
    const image = element("img", { alt: "", loading: "lazy", decoding: "async", width: 56, height: 56 });
    this.#urls.show(image, file);
    /** @type {HTMLElement} */ (item.row.firstElementChild).replaceChildren(image);
  }

  stop() {
    this.#running?.abort();
  }

  /** Takes everything out; until it is let go of, it can be put back. */
  #clear() {
    this.stop();
    const items = this.#items;
    this.#items = [];
    for (const { row } of items) row.remove();
    this.#update();
    this.focus();
    this.#handlers.onUndoable(this.#words.say("alt.cleared", { count: items.length }), {
      putBack: () => {
        // What came meanwhile comes after it.
        this.#items = [...items, ...this.#items];
        this.list.prepend(...items.map(({ row }) => row));
        this.#update();
        this.focus();
      },
      letGo: () => {
        for (const { row } of items) this.#urls.release(row);
        const kept = new Set(this.#done.map(({ key }) => key));
        deleteAltTexts(items.map(({ key }) => key).filter((key) => !kept.has(key))).catch((error) => {
          console.warn(error);
          this.#handlers.onError(this.#words.say("alt.notDeleted"));
        });
      },
    });
  }

  get #done() {
    return this.#items.filter(({ state }) => state === "done");
  }

  /** What can be described now: of what is left, that of which the file is at hand. */
  get #open() {
    return this.#items.filter(({ state, file }) => state !== "done" && file);
  }

  async #start() {
    const running = new AbortController();
    this.#running = running;
    // A tab that is closed by mistake would stop it.
    addEventListener("beforeunload", (event) => event.preventDefault(), { signal: running.signal });
    const startedAt = performance.now();
    let count = 0;
    for (const item of this.#open.filter(({ state }) => state === "failed")) this.#set(item, "waiting", "");
    this.#update();
    this.stopButton.focus();
    this.#handlers.onTell(this.#words.say("alt.describing"));
    for (let item; (item = this.#open.find(({ state }) => state === "waiting")) && !running.signal.aborted;) {
      this.#set(item, "working", "");
      this.#update(count > 0 ? (performance.now() - startedAt) / 1000 / count : undefined);
      try {
        const { text, finish } = await this.#handlers.onDescribe(/** @type {File} */ (item.file), this.prompt.value.trim() || this.#proposed, { maxTokens: MAX_TOKENS, signal: running.signal });
        // Half a sentence is none: it is asked again when one goes on.
        if (finish === "abort") this.#set(item, "waiting", "");
        else {
          this.#set(item, "done", text.replace(/\s+/g, " ").trim(), finish);
          this.#save(item);
        }
        count += 1;
      } catch (error) {
        const { code } = /** @type {{ code?: string }} */ (error);
        if (running.signal.aborted) {
          this.#set(item, "waiting", "");
          break;
        }
        this.#set(item, "failed", "", "", this.#words.explain(error));
        if (!OF_ONE_PICTURE.includes(code ?? "")) {
          this.#handlers.onError(this.#words.explain(error));
          break;
        }
      }
    }
    const stopped = running.signal.aborted;
    running.abort();
    this.#running = null;
    this.#update();
    const { length } = this.#done;
    this.#handlers.onTell(this.#words.say(stopped ? "alt.stopped" : "alt.done", { done: length, count: this.#items.length }));
    if (this.element.contains(/** @type {ShadowRoot} */ (this.element.getRootNode()).activeElement)) (this.start.hidden ? this.csv : this.start).focus();
  }

  /** @param {Item} item */
  #save({ key, name, text, finish }) {
    putAltText({ key, name, text, finish }).catch((error) => {
      console.warn(error);
      this.#saveFailed();
    });
  }

  #saveFailed() {
    if (this.#isSaveFailureTold) return;
    this.#isSaveFailureTold = true;
    this.#handlers.onError(this.#words.say("alt.notSaved"));
  }

  /**
   * @param {Item} item
   * @param {State} state
   * @param {string} text
   * @param {string} [finish]
   * @param {Text} [why]  it failed
   */
  #set(item, state, text, finish = "", why = "") {
    item.state = state;
    item.text = text;
    item.finish = finish;
    item.row.dataset.state = state;
    if (state !== "done") {
      const words = this.#words;
      item.body.replaceChildren(element("p", { class: "alt-text", dir: "auto" },
        state === "failed" ? words.say("alt.failed", { why }) : words.say(state === "working" ? "alt.working" : "alt.waiting")));
      return;
    }
    const cut = element("p", { class: "hint", hidden: finish !== "length" }, this.#words.say("alt.cut"));
    const field = element("textarea", { class: "field alt-text", rows: "2", dir: "auto", lang: "", "aria-label": this.#words.say("alt.description", { name: item.name }), onchange: () => {
      item.text = field.value.replace(/\s+/g, " ").trim();
      // Whoever edits it has seen to its end.
      item.finish = "edited";
      cut.hidden = true;
      this.#save(item);
      this.#update();
    } });
    field.value = text;
    item.body.replaceChildren(field, cut);
  }

  /** @param {number} [secondsEach] */
  #update(secondsEach) {
    const total = this.#items.length;
    const done = this.#done;
    const left = this.#open.length;
    const missing = this.#items.filter(({ state, file }) => state !== "done" && !file).length;
    const cut = done.filter(({ finish }) => finish === "length").length;
    const running = this.#running !== null;
    this.start.hidden = running || (total > 0 && left === 0);
    this.start.disabled = left === 0;
    setButtonText(this.start, this.#words.say(done.length > 0 && left > 0 ? "alt.continue" : "alt.start"));
    this.stopButton.hidden = !running;
    this.csv.hidden = this.json.hidden = running || done.length === 0;
    this.clearButton.hidden = running || total === 0;
    this.prompt.disabled = running;
    this.bar.hidden = total === 0;
    this.bar.value = total === 0 ? 0 : done.length / total;
    const words = this.#words;
    setText(this.amount, words.join([
      total === 0 ? words.say("alt.none") : words.say("alt.progress", { done: done.length, total }),
      cut > 0 && words.say("alt.cutCount", { count: cut }),
      missing > 0 && words.say("alt.missing", { count: missing }),
      running && secondsEach !== undefined && words.say("loading.left", { time: words.duration(Math.max(1, secondsEach * left)) }),
    ]));
  }
}

/** With its folders, where it came with one. @param {File} file */
function nameOf(file) {
  return file.webkitRelativePath || file.name;
}

/** As RFC 4180 has it; with a mark for the programs that would take UTF-8 for something else. @param {Item[]} items */
function csv(items) {
  // What a spreadsheet would compute as a formula is text: the words come from a model that has read a stranger's picture.
  const text = (/** @type {string} */ value) => (/^[=+\-@\t\r]/.test(value) ? `'${value}` : value);
  const cell = (/** @type {string} */ value) => `"${text(value).replaceAll('"', '""')}"`;
  return `\ufeff${[["file", "alt"], ...items.map(({ name, text }) => [name, text])].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** @param {Item[]} items */
function json(items) {
  return `${JSON.stringify(items.map(({ name, text, finish }) => ({ file: name, alt: text, ...(finish === "length" ? { cut: true } : {}) })), null, 2)}\n`;
}
