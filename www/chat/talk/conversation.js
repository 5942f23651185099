// What was asked and answered. A picture and the questions about it stand together: on wide screens side by side.

import { button, element, icon, setText } from "../base/dom.js";
import { PhotographOffer } from "../model/offer.js";
import { Turn } from "./turn.js";

/** @typedef {import("../../strings/language.js").Language} Language */
/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {import("../base/image-urls.js").ImageUrls} ImageUrls */
/** Turns that were taken out. @typedef {{ turns: Turn[], putBack: () => void, release: () => void }} Cut */
/** @typedef {import("../model/catalogue.js").KnownModel} KnownModel */
/** @typedef {import("../model/catalogue.js").Example} Example */
/** @typedef {import("./turn.js").TurnHandlers} TurnHandlers */

/** What is often asked, for whoever does not know what can be. */
const QUESTIONS = /** @type {const} */ (["start.describe", "start.read", "start.unusual"]);

/** How close to the end somebody must be for the text to scroll along, in CSS pixels. */
const NEAR_END = 48;

export class Conversation {
  /** The section the next question goes to. @type {HTMLElement | null} */
  #turns = null;
  /** @type {Turn[]} */
  #all = [];
  #follow = true;
  /** Where the log was scrolled to when it was last looked at, in CSS pixels. */
  #scrolledTo = 0;
  /** The frame in which it scrolls along. */
  #frame = 0;
  /** The pictures that are shown before there is a conversation. @type {Picture[]} */
  #previewed = [];
  /** Whether there is something to say of the model, and whether it knows drawings only. */
  #hasKnown = false;
  #knowsDrawings = false;
  #words;
  #onQuestion;
  #onExample;
  #urls;

  /**
   * @param {Language} words
   * @param {ImageUrls} urls
   * @param {{ onChoosePicture: () => void, onQuestion: (text: string) => void, onExample: (example: Example) => void,
   *   onDescribeFolder: () => void, onLive: () => void, onChangeModel: () => void, onLoadKnown: (model: KnownModel) => void, onMoreModels: () => void }} handlers
   */
  constructor(words, urls, { onChoosePicture, onQuestion, onExample, onDescribeFolder, onLive, onChangeModel, onLoadKnown, onMoreModels }) {
    this.#words = words;
    this.#urls = urls;
    this.#onQuestion = onQuestion;
    this.#onExample = onExample;
    this.invite = element("button", { type: "button", class: "invite", part: "invite", onclick: onChoosePicture },
      icon("picture"), element("strong", {}, words.say("start.addPicture")), element("span", {}, words.say("start.howTo")));
    this.folder = button({ text: words.say("start.folder"), icon: "folder", class: "quiet", onclick: onDescribeFolder });
    this.live = button({ text: words.say("start.live"), icon: "live", class: "quiet", onclick: onLive });
    this.preview = element("div", { class: "previews" });
    this.questions = element("ul", { class: "examples", "aria-label": words.say("start.questions") });
    this.samples = element("ul", { class: "samples", "aria-label": words.say("start.pictures") });
    this.about = element("p", { class: "about", dir: "auto" });
    this.larger = button({ text: words.say("start.larger"), icon: "file", class: "quiet", onclick: onChangeModel });
    this.offer = new PhotographOffer(words, { onLoad: onLoadKnown, onMore: onMoreModels });
    this.known = element("div", { class: "known-start" }, this.samples, this.about, this.offer.element);
    this.other = element("div", { class: "other-starts" }, this.larger, this.live, this.folder);
    this.empty = element("div", { class: "empty" },
      element("div", { class: "empty-content" }, this.invite, this.known, this.other, this.preview, this.questions));
    this.setModel(undefined);
    // Read out as a whole by the announcer; word by word would drown everything else.
    this.element = element("div", { class: "log", part: "log", role: "log", "aria-live": "off", "aria-label": words.say("chat.log"), tabindex: "0" }, this.empty);
    this.element.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.element;
      // Only whoever scrolls up leaves the end: it also moves away when something above turns out to be higher than was thought.
      if (scrollHeight - scrollTop - clientHeight < NEAR_END) this.#follow = true;
      else if (scrollTop < this.#scrolledTo) this.#follow = false;
      this.#scrolledTo = scrollTop;
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
    const questions = known?.questions ?? QUESTIONS.map((key) => this.#words.say(key));
    this.questions.replaceChildren(...questions.map((text) =>
      element("li", {}, button({ text, class: "plain example", part: "example", onclick: () => this.#onQuestion(String(text)) }))));
    this.samples.replaceChildren(...(known?.examples ?? []).map((example) => {
      const image = element("img", { alt: example.alt, decoding: "async" });
      image.src = example.picture;
      return element("li", {}, element("button", { type: "button", class: "sample", part: "sample", onclick: () => this.#onExample(example) },
        image, element("span", { dir: "auto" }, example.question)));
    }));
    setText(this.about, known?.about ?? "");
    this.#hasKnown = Boolean(known?.about || known?.examples?.length);
    this.#knowsDrawings = known?.purpose === "drawings";
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
    this.larger.hidden = !this.#hasKnown || this.#knowsDrawings;
    this.offer.element.hidden = !this.#knowsDrawings;
    this.preview.hidden = this.questions.hidden = !has;
    this.#preview(this.empty.hidden ? [] : pictures);
    this.preview.classList.toggle("several", pictures.length > 1);
  }

  /** @param {Picture[]} pictures */
  #preview(pictures) {
    const same = pictures.length === this.#previewed.length && pictures.every((picture, i) => picture === this.#previewed[i]);
    if (same) return;
    this.#previewed = pictures;
    this.#urls.release(this.preview);
    this.preview.replaceChildren(...pictures.map(({ file }) => {
      const image = element("img", { class: "picture", alt: "" });
      this.#urls.show(image, file);
      return image;
    }));
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
        section.append(element("figure", { class: pictures.length > 1 ? "several" : "" }, ...pictures.map(({ file, name }) => {
          const image = element("img", { class: "picture", part: "image", alt: this.#words.say("turn.picture", { name }) });
          this.#urls.show(image, file);
          return image;
        })));
      }
      section.append(this.#turns);
      this.element.append(section);
    }
    const turn = new Turn(this.#words, question, pictures, handlers);
    this.#all.push(turn);
    this.#turns.append(turn.element);
    this.#update();
    this.#follow = true;
    this.scrollAlong();
    return turn;
  }

  /**
   * Takes out a turn and all that follow it, or all turns. What is given back puts them in again, or lets go of them.
   * @param {Turn} [first]
   * @returns {Cut}
   */
  cut(first = this.#all[0]) {
    const from = first ? this.#all.indexOf(first) : this.#all.length;
    const turns = this.#all.slice(from);
    this.#all = this.#all.slice(0, from);
    const places = turns.map(({ element }) => /** @type {const} */ ([element, /** @type {HTMLElement} */ (element.parentElement)]));
    const sections = new Set(places.map(([, parent]) => /** @type {HTMLElement} */ (parent.parentElement)));
    for (const [node] of places) node.remove();
    // A section goes with the last of its turns.
    for (const section of sections) if (!section.querySelector(".turn")) section.remove();
    this.#update();
    return {
      turns,
      putBack: () => {
        const later = this.#all.splice(from);
        // Each before what was said since.
        const next = later[0]?.element ?? null;
        const nextSection = next?.closest(".exchange") ?? null;
        for (const [node, parent] of places) {
          const section = /** @type {HTMLElement} */ (parent.parentElement);
          if (section.parentNode === null) this.element.insertBefore(section, nextSection);
          parent.insertBefore(node, next?.parentElement === parent ? next : null);
        }
        this.#all.push(...turns, ...later);
        this.#update();
      },
      release: () => {
        for (const [node] of places) this.#urls.release(node);
        for (const section of sections) if (!section.querySelector(".turn")) this.#urls.release(section);
      },
    };
  }

  #update() {
    this.#turns = this.#all.at(-1)?.element.parentElement ?? null;
    for (const turn of this.#all) turn.setLast(turn === this.#all.at(-1));
  }

  /** Keeps the newest text in view for whoever is at the end: once a frame, for it takes a layout. */
  scrollAlong() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#follow) this.element.scrollTop = this.element.scrollHeight;
    });
  }
}

/**
 * The quiet line: on what it runs, how fast.
 * @param {Language} words
 * @param {import("../../llava-web.js").EngineInfo} info
 * @param {{ usage?: import("../../llava-web.js").Usage, firstTokenSeconds?: number }} last
 */
export function statusText(words, info, { usage, firstTokenSeconds }) {
  const { kind, adapter, threads = 1 } = info.device;
  const device = kind === "cpu" ? words.say("status.cpu", { count: threads }) : adapter ? words.say("status.gpuNamed", { adapter }) : words.say("status.gpu");
  const parts = [words.say("status.here"), device];
  if (usage && usage.decode_tokens_per_second > 0) parts.push(words.say("status.rate", { rate: words.figures(usage.decode_tokens_per_second) }));
  if (firstTokenSeconds !== undefined) parts.push(words.say("status.first", { time: words.duration(firstTokenSeconds) }));
  return parts;
}
