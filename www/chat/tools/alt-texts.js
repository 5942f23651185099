// Alternative texts for many pictures: a folder in, a table of captions out.

import { button, element, saveFile } from "../base/dom.js";
import { duration } from "../base/format.js";

/** A sentence that a screen reader can say where the picture stands. */
const PROMPT = "Describe this picture in one short sentence, for somebody who cannot see it.";
/** Longer is no alternative text. */
const MAX_TOKENS = 80;
const STATES = { waiting: "Waiting", working: "Looking at it", done: "", failed: "Failed" };

/**
 * @typedef {{ file: File, name: string, state: keyof typeof STATES, text: string, row: HTMLElement, textNode: HTMLElement }} Item
 */

export class AltTexts {
  /** @type {Item[]} */
  #items = [];
  /** @type {AbortController | null} */
  #running = null;
  #handlers;

  #urls;

  /**
   * @param {import("../base/image-urls.js").ImageUrls} urls
   * @param {{ onDescribe: (file: File, prompt: string, options: { maxTokens: number, signal: AbortSignal }) => Promise<{ text: string, finish: string }>,
   *   onBack: () => void, onTell: (message: string) => void, onError: (message: string) => void }} handlers
   */
  constructor(urls, handlers) {
    this.#urls = urls;
    this.#handlers = handlers;
    const picker = (/** @type {Record<string, string | boolean>} */ more) => {
      const input = element("input", { type: "file", class: "visually-hidden", tabindex: "-1", multiple: true, ...more, onchange: () => {
        this.add([...(input.files ?? [])]);
        input.value = "";
      } });
      return input;
    };
    const folder = picker({ webkitdirectory: true, "aria-label": "Choose a folder of pictures" });
    const files = picker({ accept: "image/*", "aria-label": "Choose several pictures" });
    this.prompt = element("textarea", { class: "field", id: "alt-prompt", rows: "3", dir: "auto" });
    this.prompt.value = PROMPT;
    this.folderButton = button({ text: "Choose a folder", icon: "folder", class: "plain", onclick: () => folder.click() });
    this.start = button({ text: "Describe them", class: "primary", onclick: () => this.#start() });
    this.stopButton = button({ text: "Stop", icon: "stop", class: "plain", part: "stop", onclick: () => this.stop() });
    this.csv = button({ text: "Save as CSV", icon: "save", class: "plain", onclick: () => saveFile("alt-texts.csv", csv(this.#done), "text/csv") });
    this.json = button({ text: "Save as JSON", icon: "save", class: "plain", onclick: () => saveFile("alt-texts.json", json(this.#done), "application/json") });
    this.bar = element("progress", { class: "bar", part: "progress", max: "1", value: "0", "aria-label": "Pictures that are described" });
    this.amount = element("p", { class: "amount" });
    this.list = element("ul", { class: "alt-list", "aria-label": "Pictures" });
    this.element = element("section", { class: "alt-texts", part: "alt-texts", "aria-label": "Alternative texts", hidden: true },
      element("div", { class: "alt-head" },
        element("h2", { tabindex: "-1" }, "Alternative texts for many pictures"),
        element("p", { class: "hint" }, "Each picture is asked about by itself. They stay on this device."),
        element("div", { class: "card-actions" }, this.folderButton, folder,
          button({ text: "Choose pictures", icon: "picture", class: "plain", onclick: () => files.click() }), files,
          button({ text: "Back to the chat", class: "quiet", onclick: () => {
            this.stop();
            handlers.onBack();
          } })),
        element("label", { for: "alt-prompt" }, "What is asked about each"), this.prompt,
        element("div", { class: "card-actions" }, this.start, this.stopButton, this.csv, this.json),
        this.bar, this.amount),
      this.list);
    this.#update();
  }

  focus() {
    this.folderButton.focus();
  }

  /** @param {File[]} files  those that are no pictures are left out */
  add(files) {
    const pictures = files.filter(({ type }) => type.startsWith("image/"));
    if (files.length > 0 && pictures.length === 0) return this.#handlers.onError("There is no picture among these files.");
    const byName = (/** @type {File} */ a, /** @type {File} */ b) => nameOf(a).localeCompare(nameOf(b), "en", { numeric: true });
    for (const file of pictures.sort(byName)) {
      const name = nameOf(file);
      if (this.#items.some((item) => item.name === name)) continue;
      const image = element("img", { alt: "", loading: "lazy", decoding: "async", width: 56, height: 56 });
      this.#urls.show(image, file);
      const textNode = element("p", { class: "alt-text", dir: "auto" }, STATES.waiting);
      const row = element("li", { class: "alt-row", "data-state": "waiting" }, image,
        element("div", {}, element("bdi", { class: "name", title: name }, name), textNode));
      this.#items.push({ file, name, state: "waiting", text: "", row, textNode });
      this.list.append(row);
    }
    this.#update();
    if (!this.start.hidden && !this.start.disabled) this.start.focus();
  }

  stop() {
    this.#running?.abort();
  }

  clear() {
    this.stop();
    this.#urls.release(this.list);
    this.#items = [];
    this.list.replaceChildren();
    this.#update();
  }

  get #done() {
    return this.#items.filter(({ state }) => state === "done");
  }

  async #start() {
    const running = new AbortController();
    this.#running = running;
    const startedAt = performance.now();
    let count = 0;
    for (const item of this.#items.filter(({ state }) => state === "failed")) this.#set(item, "waiting", "");
    this.#update();
    this.stopButton.focus();
    this.#handlers.onTell("Describing the pictures");
    for (let item; (item = this.#items.find(({ state }) => state === "waiting")) && !running.signal.aborted;) {
      this.#set(item, "working", "");
      item.row.scrollIntoView({ block: "nearest" });
      this.#update(count > 0 ? (performance.now() - startedAt) / 1000 / count : undefined);
      try {
        const { text, finish } = await this.#handlers.onDescribe(item.file, this.prompt.value.trim() || PROMPT, { maxTokens: MAX_TOKENS, signal: running.signal });
        // Half a sentence is none: it is asked again when one goes on.
        if (finish === "abort") this.#set(item, "waiting", "");
        else this.#set(item, "done", text.replace(/\s+/g, " ").trim());
        count += 1;
      } catch (error) {
        this.#set(item, "failed", error instanceof Error ? error.message : String(error));
        if (!["invalid_image", "context_overflow", "invalid_request"].includes(/** @type {any} */ (error).code)) {
          this.#handlers.onError(/** @type {Error} */ (error).message);
          break;
        }
      }
    }
    const stopped = running.signal.aborted;
    this.#running = null;
    this.#update();
    const { length } = this.#done;
    this.#handlers.onTell(`${stopped ? "Stopped" : "Done"}: ${length} of ${this.#items.length} pictures are described`);
    (this.start.hidden ? this.csv : this.start).focus();
  }

  /**
   * @param {Item} item
   * @param {keyof typeof STATES} state
   * @param {string} text
   */
  #set(item, state, text) {
    item.state = state;
    item.text = text;
    item.row.dataset.state = state;
    item.textNode.textContent = state === "failed" ? `${STATES.failed}: ${text}` : text || STATES[state];
  }

  /** @param {number} [secondsEach] */
  #update(secondsEach) {
    const total = this.#items.length;
    const done = this.#done.length;
    const left = this.#items.filter(({ state }) => state !== "done").length;
    const running = this.#running !== null;
    this.start.hidden = running || (total > 0 && left === 0);
    this.start.disabled = left === 0;
    /** @type {HTMLElement} */ (this.start.querySelector("span")).textContent = done > 0 && left > 0 ? "Go on" : "Describe them";
    this.stopButton.hidden = !running;
    this.csv.hidden = this.json.hidden = running || done === 0;
    this.prompt.disabled = running;
    this.bar.hidden = total === 0;
    this.bar.value = total === 0 ? 0 : done / total;
    const parts = total === 0 ? ["No pictures yet."] : [`${done} of ${total} described`];
    if (running && secondsEach !== undefined) parts.push(`about ${duration(Math.max(1, secondsEach * left))} left`);
    this.amount.textContent = parts.join(" · ");
  }
}

/** With its folders, where it came with one. @param {File} file */
function nameOf(file) {
  return file.webkitRelativePath || file.name;
}

/** As RFC 4180 has it; with a mark for the programs that would take UTF-8 for something else. @param {Item[]} items */
function csv(items) {
  const cell = (/** @type {string} */ text) => `"${text.replaceAll('"', '""')}"`;
  return `\ufeff${[["file", "alt"], ...items.map(({ name, text }) => [name, text])].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** @param {Item[]} items */
function json(items) {
  return `${JSON.stringify(items.map(({ name, text }) => ({ file: name, alt: text })), null, 2)}\n`;
}
