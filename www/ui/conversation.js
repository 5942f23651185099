// What was asked and answered. A picture and the questions about it stand together: on wide screens side by side.

import { button, element, icon } from "./dom.js";
import { decimals, duration } from "./format.js";

/** @typedef {import("./composer.js").Picture} Picture */

/** Words for what happens before the first word of an answer. */
const STAGES = { image: "Looking at the picture", prefill: "Reading the question", recovering: "The GPU went away. Getting the model ready again" };

/** How close to the end somebody must be for the text to scroll along, in CSS pixels. */
const NEAR_END = 48;

/** One question with its answer. */
export class Turn {
  #text = document.createTextNode("");

  /**
   * @param {string} question
   * @param {{ onAgain: () => void }} handlers
   */
  constructor(question, { onAgain }) {
    this.answer = element("div", { class: "answer", part: "answer", dir: "auto" }, this.#text);
    this.bar = element("progress", { class: "bar", part: "progress", max: "1", "aria-label": "Before the answer" });
    this.stage = element("p", { class: "stage" }, "Getting ready");
    this.waiting = element("div", { class: "waiting" }, this.stage, this.bar);
    this.note = element("span", { class: "note" });
    this.again = button({ text: "Ask again", icon: "again", class: "quiet", onclick: onAgain });
    this.foot = element("div", { class: "turn-foot", hidden: true },
      button({ text: "Copy", icon: "copy", class: "quiet", onclick: (event) => this.#copy(event) }), this.again, this.note);
    this.element = element("article", { class: "turn", part: "turn" },
      element("h2", { class: "question", part: "asked", dir: "auto" }, question), this.waiting, this.answer, this.foot);
  }

  get text() {
    return this.#text.data;
  }

  /** Before an answer, or before another one. */
  begin() {
    this.#text.data = "";
    this.foot.hidden = true;
    this.waiting.hidden = false;
    this.stage.textContent = "Getting ready";
    this.bar.removeAttribute("value");
    this.element.setAttribute("aria-busy", "true");
  }

  /** @param {import("../llava-web.js").GenerationProgress} progress */
  progress({ stage, done, total }) {
    this.stage.textContent = stage === "prefill" ?
      `${STAGES.prefill} · ${done} of ${total} tokens` :
      `${STAGES[stage]}${total <= 1 ? "" : stage === "image" ? ` · ${done} of ${total}` : ` · ${Math.floor(100 * done / total)} %`}`;
    // It may happen amid an answer.
    this.waiting.hidden = false;
    if (total > 0) this.bar.value = done / total;
    else this.bar.removeAttribute("value");
  }

  /** @param {string} text */
  add(text) {
    if (text === "") return;
    if (!this.waiting.hidden) this.waiting.hidden = true;
    this.#text.appendData(text);
  }

  /**
   * @param {string} finish
   * @param {import("../llava-web.js").Usage | undefined} usage
   */
  end(finish, usage) {
    this.waiting.hidden = true;
    this.foot.hidden = false;
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
  /** @type {string[]} */
  #urls = [];
  #follow = true;

  /** @param {{ onChoosePicture: () => void }} handlers */
  constructor({ onChoosePicture }) {
    this.invite = element("button", { type: "button", class: "invite", part: "invite", onclick: onChoosePicture },
      icon("picture"), element("strong", {}, "Add a picture"), element("span", {}, "Choose, drop or paste one. It stays on this device."));
    this.preview = element("img", { class: "picture", alt: "" });
    this.empty = element("div", { class: "empty" }, this.invite, this.preview);
    // Read out as a whole by the announcer; word by word would drown everything else.
    this.element = element("div", { class: "log", part: "log", role: "log", "aria-live": "off", "aria-label": "Conversation", tabindex: "0" }, this.empty);
    this.element.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.element;
      this.#follow = scrollHeight - scrollTop - clientHeight < NEAR_END;
    }, { passive: true });
  }

  /**
   * While nothing was said: asks for a picture, or shows the one that was chosen.
   * @param {boolean} vision  whether the model sees pictures
   * @param {Picture | null} picture
   */
  setWaiting(vision, picture) {
    this.empty.hidden = !vision || this.#all.length > 0;
    this.invite.hidden = picture !== null;
    this.preview.hidden = picture === null;
    if (picture) this.preview.src = picture.url;
    else this.preview.removeAttribute("src");
  }

  /**
   * @param {string} question
   * @param {Picture | null} picture  a new one; without, the question is about what came before
   * @param {{ onAgain: () => void }} handlers
   */
  add(question, picture, handlers) {
    this.empty.hidden = true;
    if (picture || !this.#turns) {
      this.#turns = element("div", { class: "turns" });
      const section = element("section", { class: picture ? "exchange with-picture" : "exchange", part: "exchange" });
      if (picture) {
        const image = element("img", { class: "picture", part: "image", alt: `The picture asked about: ${picture.name}` });
        image.src = picture.url;
        this.#urls.push(picture.url);
        section.append(element("figure", {}, image));
      }
      section.append(this.#turns);
      this.element.append(section);
    }
    const turn = new Turn(question, handlers);
    this.#all.push(turn);
    this.#offerAgain();
    this.#turns.append(turn.element);
    this.#follow = true;
    this.scrollAlong();
    return turn;
  }

  /**
   * Takes back a turn that failed; its picture goes back to the composer.
   * @param {Turn} turn
   */
  remove(turn) {
    const section = turn.element.closest(".exchange");
    turn.element.remove();
    this.#all = this.#all.filter((other) => other !== turn);
    this.#offerAgain();
    const turns = [...this.element.querySelectorAll(".turns")];
    if (section && !section.querySelector(".turn")) {
      section.remove();
      this.#urls.pop();
      turns.pop();
    }
    this.#turns = /** @type {HTMLElement | undefined} */ (turns.at(-1)) ?? null;
  }

  clear() {
    for (const url of this.#urls) URL.revokeObjectURL(url);
    this.#urls = [];
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
 * @param {import("../llava-web.js").EngineInfo} info
 * @param {{ usage?: import("../llava-web.js").Usage, firstTokenSeconds?: number }} last
 */
export function statusText(info, { usage, firstTokenSeconds }) {
  const { kind, adapter, threads = 1 } = info.device;
  const parts = ["On this device", kind === "webgpu" ? `GPU${adapter ? ` (${adapter})` : ""}` : `CPU, ${threads} ${threads === 1 ? "thread" : "threads"}`];
  if (usage && usage.decode_tokens_per_second > 0) parts.push(`${decimals(usage.decode_tokens_per_second)} tokens/s`);
  if (firstTokenSeconds !== undefined) parts.push(`first word after ${duration(firstTokenSeconds)}`);
  return parts;
}
