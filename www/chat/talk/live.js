// What is watched, and what is said of it: a camera, a shared screen or a video, and under it or beside it the answer to the question in the
// composer, renewed in place. What it does is in watching.js.

import { button, element, setText } from "../base/dom.js";

/** @typedef {import("../../strings/language.js").Language} Language */
/** @typedef {import("../base/dom.js").Text} Text */
/** @typedef {import("../../llava-web.js").WatchAnswer} WatchAnswer */
/** @typedef {"camera" | "screen" | "video"} Kind */

/** Over so many milliseconds it is counted how many answers there are in a second. */
const COUNTED = 5000;
/** The figures change no more often than this, in milliseconds, so that they can be read. */
const FIGURES_AFTER = 500;
/** Answers that take less than this, in milliseconds, are shown when they are whole: half of one would only flicker. */
const FLICKER = 600;
/** A screen reader is told of another answer no more often than this, in milliseconds. */
const TOLD_AFTER = 6000;

export class Live {
  #words;
  #onTell;
  /** When the last answers were whole. @type {number[]} */
  #times = [];
  #figuresAt = 0;
  /** What screen readers were told last, when, and what is to be told next. */
  #told = "";
  #toldAt = 0;
  #timer = 0;
  #isWatching = false;

  /**
   * @param {Language} words
   * @param {{ onStart: (kind: Kind, file?: File) => void, onSwitch: () => void, onKeep: () => void, onBack: () => void, onTell: (message: Text) => void }} handlers
   */
  constructor(words, { onStart, onSwitch, onKeep, onBack, onTell }) {
    this.#words = words;
    this.#onTell = onTell;
    this.picker = element("input", {
      type: "file", accept: "video/*", class: "visually-hidden", tabindex: "-1", "aria-label": words.say("live.pick"),
      onchange: () => {
        const [file] = this.picker.files ?? [];
        this.picker.value = "";
        if (file) onStart("video", file);
      },
    });
    // Where a page may not ask, there is nothing to ask with.
    const media = /** @type {Partial<MediaDevices>} */ (navigator.mediaDevices ?? {});
    this.camera = button({ text: words.say("live.camera"), icon: "camera", class: "plain", part: "live-camera", onclick: () => onStart("camera") });
    this.camera.hidden = !media.getUserMedia;
    // Phones have none.
    this.screen = button({ text: words.say("live.screen"), icon: "screen", class: "plain", part: "live-screen", onclick: () => onStart("screen") });
    this.screen.hidden = !media.getDisplayMedia;
    this.file = button({ text: words.say("live.video"), icon: "file", class: "plain", part: "live-video", onclick: () => this.picker.click() });
    this.sources = element("div", { class: "card-actions", role: "group", "aria-label": words.say("live.sources") }, this.camera, this.screen, this.file, this.picker);
    this.problem = element("p", { class: "problem", role: "alert" });
    this.video = element("video", { class: "live-video", part: "video", playsinline: true, "aria-label": words.say("live.seen") });
    this.video.muted = true;
    this.answer = element("p", { class: "live-answer", part: "answer", dir: "auto", lang: "" });
    this.figures = element("p", { class: "live-figures amount" });
    this.note = element("p", { class: "hint", role: "status" });
    this.keep = button({ text: words.say("live.keep"), icon: "picture", class: "plain", part: "live-keep", onclick: onKeep });
    this.switch = button({ text: words.say("camera.switch"), icon: "again", class: "quiet", onclick: onSwitch });
    this.back = button({ text: words.say("model.backToChat"), class: "quiet", onclick: onBack });
    this.stage = element("div", { class: "live-stage", hidden: true },
      element("figure", {}, this.video),
      element("section", { class: "live-said", "aria-label": words.say("live.answer") },
        element("h3", { class: "live-question", dir: "auto", lang: "" }), this.answer, this.figures, element("div", { class: "card-actions" }, this.keep, this.switch)));
    this.question = /** @type {HTMLElement} */ (this.stage.querySelector("h3"));
    this.element = element("section", { class: "live", part: "live", "aria-label": words.say("live.title"), hidden: true },
      element("div", { class: "live-head" },
        element("div", { class: "live-title" }, element("h2", { tabindex: "-1" }, words.say("live.title")), this.back),
        element("p", { class: "hint" }, words.say("live.hint")),
        this.sources,
        media.getUserMedia ? null : element("p", { class: "hint" }, words.say("live.insecure")),
        this.problem, this.note),
      this.stage);
  }

  focus() {
    const first = [this.camera, this.screen, this.file].find(({ hidden }) => !hidden);
    first?.focus({ preventScroll: true });
  }

  /** @param {boolean} isAsking  whether the person is being asked for permission */
  setAsking(isAsking) {
    // Not disabled: that would take the focus away from whoever is asked.
    this.sources.setAttribute("aria-busy", String(isAsking));
  }

  /**
   * Something is watched from now on.
   * @param {Kind} kind
   * @param {string} question
   */
  begin(kind, question) {
    this.#isWatching = true;
    this.#times = [];
    this.#told = "";
    this.#toldAt = 0;
    setText(this.problem, "");
    setText(this.note, "");
    this.sources.hidden = true;
    this.stage.hidden = false;
    this.video.controls = kind === "video";
    this.video.loop = kind === "video";
    this.switch.hidden = true;
    this.keep.disabled = true;
    this.ask(question);
    setText(this.figures, "");
  }

  /** Another question: what stands there is no answer to it. @param {string} question */
  ask(question) {
    setText(this.question, question);
    setText(this.answer, this.#words.say("live.looking"));
    this.answer.classList.add("muted");
  }

  /** @param {WatchAnswer} answer */
  show({ text, done, skipped, latency }) {
    const { firstToken, whole } = latency;
    const isQuick = this.#lastWhole < FLICKER;
    if (done || (text !== "" && !isQuick)) {
      this.answer.classList.remove("muted");
      if (this.answer.textContent !== text) setText(this.answer, text);
    }
    if (!done) return;
    const now = performance.now();
    if (!skipped) {
      this.#lastWhole = whole ?? 0;
      this.#times.push(now);
      this.keep.disabled = false;
    }
    this.#times = this.#times.filter((time) => time > now - COUNTED);
    if (now - this.#figuresAt > FIGURES_AFTER) {
      this.#figuresAt = now;
      this.#showFigures({ firstToken, whole, skipped });
    }
    this.#tell(text);
  }

  #lastWhole = Infinity;

  /** @param {{ firstToken: number | null, whole: number | null, skipped: boolean }} last */
  #showFigures({ firstToken, whole, skipped }) {
    const words = this.#words;
    const [first = 0] = this.#times;
    const span = (this.#times.at(-1) ?? 0) - first;
    const rate = span > 0 ? (1000 * (this.#times.length - 1)) / span : null;
    setText(this.figures, words.join([
      firstToken !== null && words.say("status.first", { time: words.duration(firstToken / 1000) }),
      whole !== null && words.say("live.whole", { time: words.duration(whole / 1000) }),
      skipped ? words.say("live.same") : rate !== null && words.say("live.rate", { rate: words.figures(rate) }),
    ]));
  }

  /** Politely: another answer, when the one before has been read out. @param {string} text */
  #tell(text) {
    if (text === this.#told || text === "") {
      clearTimeout(this.#timer);
      return;
    }
    const left = this.#toldAt + TOLD_AFTER - performance.now();
    clearTimeout(this.#timer);
    if (left > 0) {
      this.#timer = setTimeout(() => this.#tell(text), left);
      return;
    }
    this.#told = text;
    this.#toldAt = performance.now();
    this.#onTell(text);
  }

  /** @param {Text} [why]  what went wrong, or what can be done now */
  end(why = "") {
    this.#isWatching = false;
    clearTimeout(this.#timer);
    this.sources.hidden = false;
    this.stage.hidden = true;
    setText(this.problem, why);
    setText(this.note, "");
  }

  get isWatching() {
    return this.#isWatching;
  }
}
