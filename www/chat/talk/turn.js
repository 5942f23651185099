// One question with its answer, from the moment it is asked: what happens before the first word, the words, how it ended or why it failed.

import { Alert } from "../base/alert.js";
import { button, element, icon, setButtonText, setText } from "../base/dom.js";
import { MarkdownText } from "./markdown.js";

/** @typedef {import("../base/dom.js").Text} Text */
/** @typedef {import("../../strings/language.js").Language} Language */
/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {import("../../llava-web.js").Usage} Usage */
/** @typedef {{ onAgain: () => void, onEdit: () => void, onLooked: () => void, onClick: (event: MouseEvent) => void }} TurnHandlers */
/** Why there is no answer. @typedef {{ code: string, message: string }} Failure */
/** What the engine said, as far as it came. @typedef {{ text: string, finish: string, usage?: Usage, tokens: { id: number, end: number }[] }} Answer */

export class Turn {
  /** How the answer ended: "" while there is none. */
  finish = "";
  /** @type {Usage | undefined} */
  usage = undefined;
  /** The answer's tokens, and the length of its text with each. @type {{ id: number, end: number }[]} */
  tokens = [];
  /** @type {Failure | null} */
  failure = null;
  /** Tokens of the context that it takes, question and answer: see context.js. */
  cost = 0;
  /** Whether the model is no longer sent it: the context is full. */
  #isLeftOut = false;
  #words;
  #answer;
  #alert;
  /** What the page has to say beside the answer. */
  #remark;
  /** Its words; "" where there are none. @type {Text} */
  remark = "";
  /** The answer that another one is to replace. @type {Answer | null} */
  #before = null;

  /**
   * @param {Language} words
   * @param {string} question
   * @param {Picture[]} pictures  those that came with it
   * @param {TurnHandlers} handlers
   */
  constructor(words, question, pictures, { onAgain, onEdit, onLooked, onClick }) {
    this.#words = words;
    this.question = question;
    this.pictures = pictures;
    this.#alert = new Alert(words);
    this.#remark = new Alert(words, { role: "note", part: "remark", label: words.say("turn.remark") });
    this.answer = element("div", { class: "answer", part: "answer", dir: "auto", lang: "", onclick: (/** @type {MouseEvent} */ event) => {
      if (!this.looked.hidden) onClick(event);
    } });
    this.#answer = new MarkdownText(this.answer);
    this.bar = element("progress", { class: "bar", part: "progress", max: "1", "aria-label": words.say("turn.bar") });
    this.stage = element("p", { class: "stage" }, words.say("state.preparing"));
    this.waiting = element("div", { class: "waiting", hidden: true }, this.stage, this.bar);
    this.note = element("span", { class: "note" });
    this.again = button({ text: words.say("turn.again"), icon: "again", class: "quiet", onclick: onAgain });
    this.looked = button({ text: words.say("turn.looked"), icon: "eye", class: "quiet", onclick: onLooked });
    this.looked.setAttribute("aria-pressed", "false");
    this.copy = button({ text: words.say("turn.copy"), icon: "copy", class: "quiet", onclick: (event) => this.#copy(event) });
    this.foot = element("div", { class: "turn-foot", hidden: true },
      this.copy, this.again, button({ text: words.say("turn.edit"), icon: "edit", class: "quiet", onclick: onEdit }), this.looked, this.note);
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
    setText(this.stage, this.#words.say("state.preparing"));
    this.bar.removeAttribute("value");
    this.element.setAttribute("aria-busy", "true");
  }

  /** @param {import("../../llava-web.js").GenerationProgress} progress */
  progress({ stage, done, total }) {
    const words = this.#words;
    setText(this.stage,
      stage === "prefill" ? words.say("turn.prefill", { done, total }) :
      stage === "image" ? words.say(total <= 1 ? "turn.image" : "turn.imageOf", { done, total }) :
      total <= 1 ? words.say("turn.recovering") : words.say("turn.recoveringShare", { share: words.percent(done / total) }));
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
    const words = this.#words;
    const isTimed = usage && usage.completion_tokens > 0 && usage.decode_ms > 0;
    // Where pictures are cut, how finely they were.
    const isCut = usage && this.pictures.length > 0 && usage.image_tiles > nPictures;
    this.#settle(words.join([
      finish === "abort" && words.say("state.stopped"),
      finish === "length" && words.say("turn.cutOff"),
      isTimed && words.say("turn.tokens", { count: usage.completion_tokens, time: words.duration(usage.decode_ms / 1000) }),
      isCut && words.say("turn.tiles", { count: usage.image_tiles }),
    ]));
  }

  /**
   * There is no answer; if there was one before, it is there again.
   * @param {Failure} failure
   * @param {{ text: Text, onclick: () => void }[]} [actions]  what else can be done than asking once more
   * @param {Text} [shown]  what to say of it
   */
  fail(failure, actions = [], shown = this.#words.explain(failure)) {
    const before = this.#before;
    if (before) this.show(before);
    else this.#settle(this.#words.say("turn.notAnswered"));
    this.failure = failure;
    this.setLast(!this.again.hidden);
    this.#alert.show(shown, { actions, closable: before !== null });
  }

  /**
   * Says something beside the answer, whether or not it is finished.
   * @param {Text} message
   * @param {{ text: Text, onclick: () => void, quiet?: boolean }[]} actions
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

  /** Whether the model is no longer sent it. */
  get isLeftOut() {
    return this.#isLeftOut;
  }

  /** The model is no longer sent it, and it is no longer asked about. */
  leaveOut() {
    if (this.#isLeftOut) return;
    this.#isLeftOut = true;
    this.looked.hidden = true;
    this.element.classList.add("left-out");
    this.element.prepend(element("p", { class: "hint left-out-note" }, this.#words.say("turn.leftOut")));
  }

  /** Only the last question can be asked again: what follows it was said knowing the answer. @param {boolean} isLast */
  setLast(isLast) {
    this.again.hidden = !isLast;
    setButtonText(this.again, this.#words.say(this.isAnswered ? "turn.again" : "turn.retry"));
  }

  /** @param {Text} note */
  #settle(note) {
    this.#answer.flush();
    this.waiting.hidden = true;
    this.foot.hidden = false;
    this.copy.hidden = this.text === "";
    this.looked.hidden = this.#isLeftOut || !this.usage || this.tokens.length === 0 || !this.element.closest(".with-picture");
    this.element.removeAttribute("aria-busy");
    setText(this.note, note);
    this.setLast(!this.again.hidden);
  }

  /** @param {MouseEvent} event */
  async #copy(event) {
    const target = /** @type {HTMLButtonElement} */ (event.currentTarget);
    const before = target.querySelector(".icon");
    if (!before) return;
    try {
      await navigator.clipboard.writeText(this.text);
    } catch {
      // No permission, or no https: then the text is at least selected for the person's own Ctrl+C.
      getSelection()?.selectAllChildren(this.answer);
      return;
    }
    const done = icon("done");
    before.replaceWith(done);
    setButtonText(target, this.#words.say("turn.copied"));
    setTimeout(() => {
      done.replaceWith(before);
      setButtonText(target, this.#words.say("turn.copy"));
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
