// What was asked and answered. A picture and the questions about it stand together: on wide screens side by side.

import { button, element, icon } from "../base/dom.js";
import { decimals, duration } from "../base/format.js";
import { MarkdownText } from "./markdown.js";

/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {import("../model/suggested.js").KnownModel} KnownModel */
/** @typedef {import("../model/suggested.js").Example} Example */
/** @typedef {{ onAgain: () => void, onEdit: () => void, onLooked: () => void, onClick: (event: MouseEvent) => void }} TurnHandlers */

/** Words for what happens before the first word of an answer. */
const STAGES = { image: "Looking at the picture", prefill: "Reading the question", recovering: "The GPU went away. Getting the model ready again" };

/** What is often asked, for whoever does not know what can be. */
const QUESTIONS = ["Describe this picture.", "What does the text in it say?", "What is unusual about it?"];

/** How close to the end somebody must be for the text to scroll along, in CSS pixels. */
const NEAR_END = 48;

/** One question with its answer. */
export class Turn {
  /** How the answer ended. */
  finish = "";
  /** @type {import("../../llava-web.js").Usage | undefined} */
  usage = undefined;
  /** The answer's tokens, and the length of its text with each. @type {{ id: number, end: number }[]} */
  tokens = [];
  #answer;

  /**
   * @param {string} question
   * @param {Picture[]} pictures  those that came with it
   * @param {TurnHandlers} handlers
   */
  constructor(question, pictures, { onAgain, onEdit, onLooked, onClick }) {
    this.question = question;
    this.pictures = pictures;
    this.answer = element("div", { class: "answer", part: "answer", dir: "auto", onclick: (/** @type {MouseEvent} */ event) => {
      if (!this.looked.hidden) onClick(event);
    } });
    this.#answer = new MarkdownText(this.answer);
    this.bar = element("progress", { class: "bar", part: "progress", max: "1", "aria-label": "Before the answer" });
    this.stage = element("p", { class: "stage" }, "Getting ready");
    this.waiting = element("div", { class: "waiting" }, this.stage, this.bar);
    this.note = element("span", { class: "note" });
    this.again = button({ text: "Ask again", icon: "again", class: "quiet", onclick: onAgain });
    this.looked = button({ text: "Where it looked", icon: "eye", class: "quiet", onclick: onLooked });
    this.looked.setAttribute("aria-pressed", "false");
    this.foot = element("div", { class: "turn-foot", hidden: true },
      button({ text: "Copy", icon: "copy", class: "quiet", onclick: (event) => this.#copy(event) }), this.again,
      button({ text: "Edit", icon: "edit", class: "quiet", onclick: onEdit }), this.looked, this.note);
    this.element = element("article", { class: "turn", part: "turn" },
      element("h2", { class: "question", part: "asked", dir: "auto" }, question), this.waiting, this.answer, this.foot);
  }

  get text() {
    return this.#answer.text;
  }

  /**
   * Before an answer, or before another one.
   * @param {{ json?: boolean }} [options]  `json`: it will be JSON, which is no Markdown
   */
  begin({ json = false } = {}) {
    this.#answer.clear({ code: json });
    this.tokens = [];
    this.foot.hidden = true;
    this.waiting.hidden = false;
    this.stage.textContent = "Getting ready";
    this.bar.removeAttribute("value");
    this.element.setAttribute("aria-busy", "true");
  }

  /** @param {import("../../llava-web.js").GenerationProgress} progress */
  progress({ stage, done, total }) {
    this.stage.textContent = stage === "prefill" ?
      `${STAGES.prefill} · ${done} of ${total} tokens` :
      `${STAGES[stage]}${total <= 1 ? "" : stage === "image" ? ` · ${done} of ${total}` : ` · ${Math.floor(100 * done / total)} %`}`;
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
   * @param {import("../../llava-web.js").Usage | undefined} usage
   */
  end(finish, usage) {
    this.#answer.flush();
    this.finish = finish;
    this.usage = usage;
    this.waiting.hidden = true;
    this.foot.hidden = false;
    this.looked.hidden = !usage || this.tokens.length === 0 || !this.element.closest(".with-picture");
    this.element.removeAttribute("aria-busy");
    const notes = [];
    if (finish === "abort") notes.push("Stopped");
    if (finish === "length") notes.push("Cut off: the answer reached the length limit");
    if (usage && usage.completion_tokens > 0 && usage.decode_ms > 0) {
      notes.push(`${usage.completion_tokens} tokens in ${duration(usage.decode_ms / 1000)}`);
    }
    this.note.textContent = notes.join(" · ");
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
      // No permission, or no https: then the text is at least marked for the person's own Ctrl+C.
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

export class Conversation {
  /** The section the next question goes to. @type {HTMLElement | null} */
  #turns = null;
  /** @type {Turn[]} */
  #all = [];
  /** @type {Set<string>} */
  #urls = new Set();
  #follow = true;
  /** Whether there is something to say of the model. */
  #hasKnown = false;
  #onQuestion;
  #onExample;

  /**
   * @param {{ onChoosePicture: () => void, onQuestion: (text: string) => void, onExample: (example: Example) => void,
   *   onDescribeFolder: () => void, onChangeModel: () => void }} handlers
   */
  constructor({ onChoosePicture, onQuestion, onExample, onDescribeFolder, onChangeModel }) {
    this.#onQuestion = onQuestion;
    this.#onExample = onExample;
    this.invite = element("button", { type: "button", class: "invite", part: "invite", onclick: onChoosePicture },
      icon("picture"), element("strong", {}, "Add a picture"), element("span", {}, "Choose, drop or paste one. It stays on this device."));
    this.folder = button({ text: "Describe a whole folder of pictures", icon: "folder", class: "quiet", onclick: onDescribeFolder });
    this.preview = element("div", { class: "previews" });
    this.questions = element("ul", { class: "examples", "aria-label": "Example questions" });
    this.samples = element("ul", { class: "samples", "aria-label": "Example pictures" });
    this.about = element("p", { class: "about", dir: "auto" });
    this.larger = button({ text: "Load a larger model", icon: "file", class: "quiet", onclick: onChangeModel });
    this.known = element("div", { class: "known-start" }, this.samples, this.about);
    this.other = element("div", { class: "other-starts" }, this.larger, this.folder);
    this.empty = element("div", { class: "empty" },
      element("div", { class: "empty-content" }, this.invite, this.known, this.other, this.preview, this.questions));
    this.setModel(undefined);
    // Read out as a whole by the announcer; word by word would drown everything else.
    this.element = element("div", { class: "log", part: "log", role: "log", "aria-live": "off", "aria-label": "Conversation", tabindex: "0" }, this.empty);
    this.element.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.element;
      this.#follow = scrollHeight - scrollTop - clientHeight < NEAR_END;
    }, { passive: true });
  }

  get turns() {
    return this.#all;
  }

  /**
   * What there is to ask at the beginning depends on what the model knows.
   * @param {KnownModel | undefined} known  undefined: a model that nobody here knows
   */
  setModel(known) {
    this.questions.replaceChildren(...(known?.questions ?? QUESTIONS).map((text) =>
      element("li", {}, button({ text, class: "plain example", part: "example", onclick: () => this.#onQuestion(text) }))));
    this.samples.replaceChildren(...(known?.examples ?? []).map((example) => {
      const image = element("img", { alt: example.alt, decoding: "async" });
      image.src = example.picture;
      return element("li", {}, element("button", { type: "button", class: "sample", part: "sample", onclick: () => this.#onExample(example) },
        image, element("span", { dir: "auto" }, example.question)));
    }));
    this.about.textContent = known?.about ?? "";
    this.#hasKnown = Boolean(known?.about || known?.examples?.length);
  }

  /**
   * While nothing was said: asks for a picture, or shows those that were chosen.
   * @param {boolean} vision  whether the model sees pictures
   * @param {Picture[]} pictures
   */
  setWaiting(vision, pictures) {
    this.empty.hidden = !vision || this.#all.length > 0;
    const has = pictures.length > 0;
    this.invite.hidden = this.other.hidden = has;
    this.known.hidden = has || !this.#hasKnown;
    this.larger.hidden = !this.#hasKnown;
    this.preview.hidden = this.questions.hidden = !has;
    this.preview.replaceChildren(...pictures.map(({ url }) => {
      const image = element("img", { class: "picture", alt: "" });
      image.src = url;
      return image;
    }));
    this.preview.classList.toggle("several", pictures.length > 1);
  }

  /**
   * @param {string} question
   * @param {Picture[]} pictures  new ones; without any, the question is about what came before
   * @param {TurnHandlers} handlers
   */
  add(question, pictures, handlers) {
    this.empty.hidden = true;
    const has = pictures.length > 0;
    if (has || !this.#turns) {
      this.#turns = element("div", { class: "turns" });
      const section = element("section", { class: has ? "exchange with-picture" : "exchange", part: "exchange" });
      if (has) {
        section.append(element("figure", { class: pictures.length > 1 ? "several" : "" }, ...pictures.map(({ url, name }) => {
          const image = element("img", { class: "picture", part: "image", alt: `The picture asked about: ${name}` });
          image.src = url;
          this.#urls.add(url);
          return image;
        })));
      }
      section.append(this.#turns);
      this.element.append(section);
    }
    const turn = new Turn(question, pictures, handlers);
    this.#all.push(turn);
    this.#offerAgain();
    this.#turns.append(turn.element);
    this.#follow = true;
    this.scrollAlong();
    return turn;
  }

  /**
   * Takes back a turn that failed; its pictures go back to the composer.
   * @param {Turn} turn
   */
  remove(turn) {
    for (const { url } of turn.pictures) this.#urls.delete(url);
    this.#take([turn]);
  }

  /**
   * Takes out a turn and all that follow it. What is given back puts them in again.
   * @param {Turn} turn
   */
  cut(turn) {
    const all = this.#all;
    const nodes = [...this.element.children];
    const places = all.map(({ element }) => /** @type {const} */ ([element, /** @type {HTMLElement} */ (element.parentElement)]));
    this.#take(all.slice(all.indexOf(turn)));
    return () => {
      for (const [node, parent] of places) parent.append(node);
      this.element.replaceChildren(...nodes);
      this.#all = all;
      this.#turns = places.at(-1)?.[1] ?? null;
      this.#offerAgain();
    };
  }

  /** @param {Turn[]} turns */
  #take(turns) {
    for (const turn of turns) {
      const section = turn.element.closest(".exchange");
      turn.element.remove();
      if (section && !section.querySelector(".turn")) section.remove();
    }
    this.#all = this.#all.filter((turn) => !turns.includes(turn));
    this.#turns = this.#all.at(-1)?.element.parentElement ?? null;
    this.#offerAgain();
  }

  clear() {
    for (const url of this.#urls) URL.revokeObjectURL(url);
    this.#urls.clear();
    this.#turns = null;
    this.#all = [];
    this.element.replaceChildren(this.empty);
  }

  /** Only the last question can be asked again: what follows it was said knowing the answer. */
  #offerAgain() {
    for (const turn of this.#all) turn.again.hidden = turn !== this.#all.at(-1);
  }

  /** Keeps the newest text in view for whoever is at the end. */
  scrollAlong() {
    if (this.#follow) this.element.scrollTop = this.element.scrollHeight;
  }
}

/**
 * The quiet line: on what it runs, how fast, in how much memory.
 * @param {import("../../llava-web.js").EngineInfo} info
 * @param {{ usage?: import("../../llava-web.js").Usage, firstTokenSeconds?: number }} last
 */
export function statusText(info, { usage, firstTokenSeconds }) {
  const { kind, adapter, threads = 1 } = info.device;
  const parts = ["On this device", kind === "webgpu" ? `GPU${adapter ? ` (${adapter})` : ""}` : `CPU, ${threads} ${threads === 1 ? "thread" : "threads"}`];
  if (usage && usage.decode_tokens_per_second > 0) parts.push(`${decimals(usage.decode_tokens_per_second)} tokens/s`);
  if (firstTokenSeconds !== undefined) parts.push(`first word after ${duration(firstTokenSeconds)}`);
  return parts;
}
