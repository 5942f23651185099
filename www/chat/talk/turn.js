// One question with its answer, from the moment it is asked: what happens before the first word, the words, how it ended or why it failed.

import { Alert } from "../base/alert.js";
import { button, element, icon } from "../base/dom.js";
import { duration, percent } from "../base/format.js";
import { MarkdownText } from "./markdown.js";

/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {import("../../llava-web.js").Usage} Usage */
/** @typedef {{ onAgain: () => void, onEdit: () => void, onLooked: () => void, onClick: (event: MouseEvent) => void }} TurnHandlers */
/** Why there is no answer. @typedef {{ code: string, message: string }} Failure */
/** What the engine said, as far as it came. @typedef {{ text: string, finish: string, usage?: Usage, tokens: { id: number, end: number }[] }} Answer */

/** Words for what happens before the first word of an answer. */
const STAGES = { image: "Looking at the picture", prefill: "Reading the prompt", recovering: "The GPU was lost. Reloading the model" };

export class Turn {
  /** How the answer ended: "" while there is none. */
  finish = "";
  /** @type {Usage | undefined} */
  usage = undefined;
  /** The answer's tokens, and the length of its text with each. @type {{ id: number, end: number }[]} */
  tokens = [];
  /** @type {Failure | null} */
  failure = null;
  #answer;
  #alert = new Alert();
  /** What the page has to say beside the answer. */
  #remark = new Alert({ role: "note", part: "remark", label: "About this answer" });
  /** Its words; "" where there are none. */
  remark = "";
  /** The answer that another one is to replace. @type {Answer | null} */
  #before = null;

  /**
   * @param {string} question
   * @param {Picture[]} pictures  those that came with it
   * @param {TurnHandlers} handlers
   */
  constructor(question, pictures, { onAgain, onEdit, onLooked, onClick }) {
    this.question = question;
    this.pictures = pictures;
    this.answer = element("div", { class: "answer", part: "answer", dir: "auto", lang: "", onclick: (/** @type {MouseEvent} */ event) => {
      if (!this.looked.hidden) onClick(event);
    } });
    this.#answer = new MarkdownText(this.answer);
    this.bar = element("progress", { class: "bar", part: "progress", max: "1", "aria-label": "Preparing the answer" });
    this.stage = element("p", { class: "stage" }, "Preparing");
    this.waiting = element("div", { class: "waiting", hidden: true }, this.stage, this.bar);
    this.note = element("span", { class: "note" });
    this.again = button({ text: "Ask again", icon: "again", class: "quiet", onclick: onAgain });
    this.looked = button({ text: "Where the model looked", icon: "eye", class: "quiet", onclick: onLooked });
    this.looked.setAttribute("aria-pressed", "false");
    this.copy = button({ text: "Copy", icon: "copy", class: "quiet", onclick: (event) => this.#copy(event) });
    this.foot = element("div", { class: "turn-foot", hidden: true },
      this.copy, this.again, button({ text: "Edit", icon: "edit", class: "quiet", onclick: onEdit }), this.looked, this.note);
    this.element = element("article", { class: "turn", part: "turn" },
      element("h2", { class: "question", part: "asked", dir: "auto", lang: "" }, question), this.waiting, this.answer, this.#alert.element, this.foot, this.#remark.element);
  }

  get text() {
    return this.#answer.text;
  }

  /** Whether there is an answer, whole or in part, that ended without a failure. */
  get isAnswered() {
    return this.finish !== "";
  }

  /**
   * Before an answer, or before another one.
   * @param {{ json?: boolean }} [options]  `json`: it will be JSON, which is no Markdown
   */
  begin({ json = false } = {}) {
    this.#before = this.isAnswered ? { text: this.text, finish: this.finish, usage: this.usage, tokens: this.tokens } : null;
    this.#answer.clear({ code: json });
    this.tokens = [];
    this.finish = "";
    this.usage = undefined;
    this.failure = null;
    this.#alert.hide();
    this.#remark.hide();
    this.foot.hidden = true;
    this.waiting.hidden = false;
    this.stage.textContent = "Preparing";
    this.bar.removeAttribute("value");
    this.element.setAttribute("aria-busy", "true");
  }

  /** @param {import("../../llava-web.js").GenerationProgress} progress */
  progress({ stage, done, total }) {
    this.stage.textContent = stage === "prefill" ?
      `${STAGES.prefill} · ${done} of ${total} tokens` :
      `${STAGES[stage]}${total <= 1 ? "" : stage === "image" ? ` · ${done} of ${total}` : ` · ${percent(done / total)}`}`;
    // It may happen amid an answer.
    this.waiting.hidden = false;
    if (total > 0) this.bar.value = done / total;
    else this.bar.removeAttribute("value");
  }

  /**
   * @param {string} text
   * @param {number[]} [ids]  the tokens it came with
   */
  add(text, ids = []) {
    this.tokens.push(...ids.map((id) => ({ id, end: this.text.length + text.length })));
    if (text === "") return;
    if (!this.waiting.hidden) this.waiting.hidden = true;
    this.#answer.add(text);
  }

  /**
   * @param {string} finish
   * @param {Usage | undefined} usage
   * @param {number} [nPictures]  of the conversation so far, which the usage is of
   */
  end(finish, usage, nPictures = Infinity) {
    this.finish = finish;
    this.usage = usage;
    this.#before = null;
    const notes = [];
    if (finish === "abort") notes.push("Stopped");
    if (finish === "length") notes.push("Cut off: the answer reached its maximum length");
    if (usage && usage.completion_tokens > 0 && usage.decode_ms > 0) {
      notes.push(`${usage.completion_tokens} tokens in ${duration(usage.decode_ms / 1000)}`);
    }
    // Where pictures are cut, how finely they were.
    if (usage && this.pictures.length > 0 && usage.image_tiles > nPictures) notes.push(`pictures seen in ${usage.image_tiles} tiles`);
    this.#settle(notes.join(" · "));
  }

  /**
   * There is no answer; if there was one before, it is there again.
   * @param {Failure} failure
   * @param {{ text: string, onclick: () => void }[]} [actions]  what else can be done than asking once more
   */
  fail(failure, actions = []) {
    const before = this.#before;
    if (before) this.show(before);
    else this.#settle("Not answered");
    this.failure = failure;
    this.setLast(!this.again.hidden);
    this.#alert.show(failure.message, { actions, closable: before !== null });
  }

  /**
   * Says something beside the answer, whether or not it is finished.
   * @param {string} message
   * @param {{ text: string, onclick: () => void, quiet?: boolean }[]} actions
   */
  tell(message, actions) {
    this.#remark.show(message, { actions, notice: true, onGone: () => (this.remark = "") });
    this.remark = message;
  }

  /** Shows an answer that is there already. @param {Answer} answer */
  show({ text, finish, usage, tokens }) {
    this.#answer.clear({ code: isJson(text) });
    this.#answer.add(text);
    this.tokens = tokens;
    this.end(finish, usage);
  }

  /** Only the last question can be asked again: what follows it was said knowing the answer. @param {boolean} isLast */
  setLast(isLast) {
    this.again.hidden = !isLast;
    /** @type {HTMLElement} */ (this.again.querySelector("span")).textContent = this.isAnswered ? "Ask again" : "Try again";
  }

  /** @param {string} note */
  #settle(note) {
    this.#answer.flush();
    this.waiting.hidden = true;
    this.foot.hidden = false;
    this.copy.hidden = this.text === "";
    this.looked.hidden = !this.usage || this.tokens.length === 0 || !this.element.closest(".with-picture");
    this.element.removeAttribute("aria-busy");
    this.note.textContent = note;
    this.setLast(!this.again.hidden);
  }

  /** @param {MouseEvent} event */
  async #copy(event) {
    const target = /** @type {HTMLButtonElement} */ (event.currentTarget);
    const label = target.querySelector("span");
    const before = target.firstElementChild;
    if (!label || !before) return;
    try {
      await navigator.clipboard.writeText(this.text);
    } catch {
      // No permission, or no https: then the text is at least selected for the person's own Ctrl+C.
      getSelection()?.selectAllChildren(this.answer);
      return;
    }
    const done = icon("done");
    before.replaceWith(done);
    label.textContent = "Copied";
    setTimeout(() => {
      done.replaceWith(before);
      label.textContent = "Copy";
    }, 1500);
  }
}

/** Whether an answer is a JSON object or list, and not Markdown that happens to begin like one. @param {string} text */
export function isJson(text) {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}
