// Where the model looked before it wrote a word: a map of its attention, drawn over the picture.
//
// An answer's words become buttons while somebody asks for it, and are text again afterwards: for whoever listens to an answer, a
// button for each word would drown it. A word belongs to the token that its first character came with.

import { Complaint } from "../../strings/language.js";
import { button, element } from "../base/dom.js";

/** @typedef {import("./turn.js").Turn} Turn */
/** @typedef {Awaited<ReturnType<import("../../llava-web.js").Engine["lookedAt"]>>} Looked */

/**
 * Colours from what was looked at least to most: from a dark veil to a bright glow, lighter and lighter, so that the order is seen on any
 * picture and without telling hues apart. Red, green, blue, and how much they cover, each 0 … 255.
 */
const COLOURS = [[8, 4, 28, 190], [66, 10, 104, 165], [158, 38, 96, 145], [233, 92, 42, 130], [250, 172, 32, 120], [252, 240, 150, 110]];
/** Below 1 it lifts what is little, which is most of a map. */
const GAMMA = 0.7;

/** What people call the parts of a picture, row by row. */
const PARTS = /** @type {const} */ ([
  ["looked.upperLeft", "looked.top", "looked.upperRight"],
  ["looked.left", "looked.middle", "looked.right"],
  ["looked.lowerLeft", "looked.bottom", "looked.lowerRight"],
]);

/** One answer at a time shows where its words looked. */
export class LookedAt {
  #language;
  #handlers;
  /** @type {Turn | null} */
  #turn = null;
  /** The words that can be asked about, with the index of each one's token. @type {Map<HTMLElement, number>} */
  #words = new Map();
  /** @type {HTMLElement | null} */
  #chosen = null;
  /** Elements over and under the pictures. @type {HTMLElement[]} */
  #drawn = [];
  #resized = new ResizeObserver(() => this.#place());
  /** Where each map belongs. @type {Map<HTMLElement, { image: HTMLImageElement, bounds: [number, number, number, number] }>} */
  #maps = new Map();

  /**
   * @param {import("../../strings/language.js").Language} words
   * @param {{ onAsk: (turn: Turn, index: number) => Promise<Looked>, onTell: (text: import("../base/dom.js").Text) => void, onError: (error: unknown) => void }} handlers
   *   `onAsk`: about the answer's token of this index
   */
  constructor(words, handlers) {
    this.#language = words;
    this.#handlers = handlers;
  }

  get isOpen() {
    return this.#turn !== null;
  }

  /** Makes an answer's words buttons, or text again. @param {Turn} turn */
  toggle(turn) {
    const same = this.#turn === turn;
    this.close();
    if (same) return;
    this.#open(turn);
    const first = this.#words.keys().next().value;
    first?.focus();
    this.#handlers.onTell(this.#language.say(first ? "looked.howTo" : "looked.noWords"));
  }

  /**
   * A click on an answer whose words are buttons. Any other answer is text, to be read and selected.
   * @param {Turn} turn
   * @param {MouseEvent} event
   */
  clicked(turn, event) {
    if (this.#turn !== turn || event.detail > 1 || !(event.target instanceof Element)) return;
    const word = event.target.closest(".word");
    if (word instanceof HTMLElement && this.#words.has(word)) this.#choose(word);
  }

  /** Ends it. @param {{ focus?: boolean }} [options]  `focus`: goes back to the button that began it */
  close({ focus = false } = {}) {
    this.#erase();
    const turn = this.#turn;
    this.#turn = null;
    for (const word of this.#words.keys()) word.replaceWith(...word.childNodes);
    this.#words.clear();
    if (!turn) return;
    turn.answer.normalize();
    turn.answer.classList.remove("asked-about");
    turn.looked.setAttribute("aria-pressed", "false");
    if (focus) turn.looked.focus();
  }

  /** @param {Turn} turn */
  #open(turn) {
    this.#turn = turn;
    turn.looked.setAttribute("aria-pressed", "true");
    turn.answer.classList.add("asked-about");
    const { text, tokens } = turn;
    const nodes = document.createTreeWalker(turn.answer, NodeFilter.SHOW_TEXT);
    /** @type {Text[]} */
    const all = [];
    while (nodes.nextNode()) all.push(/** @type {Text} */ (nodes.currentNode));
    let from = 0;
    for (const node of all) {
      /** @type {(Node | string)[]} */
      const parts = [];
      const isLink = node.parentElement?.closest("a");
      for (const { word, isWord } of segments(node.data)) {
        // What is shown stands in the same order in what was written, with marks between.
        const at = isWord ? text.indexOf(word, from) : -1;
        const index = at < 0 ? -1 : tokens.findIndex(({ end }) => end > at);
        if (at >= 0) from = at + word.length;
        if (index < 0 || isLink) {
          parts.push(word);
          continue;
        }
        /** @type {HTMLElement} */
        const span = element("span", {
          class: "word", part: "word", role: "button", tabindex: this.#words.size === 0 ? "0" : "-1", "aria-pressed": "false",
          onkeydown: (event) => this.#pressed(event, span),
        }, word);
        this.#words.set(span, index);
        parts.push(span);
      }
      node.replaceWith(...parts);
    }
  }

  /**
   * @param {KeyboardEvent} event
   * @param {HTMLElement} word
   */
  #pressed(event, word) {
    const words = [...this.#words.keys()];
    const at = words.indexOf(word);
    const isLeftToRight = getComputedStyle(word).direction === "ltr";
    /** @type {HTMLElement | undefined} */
    let next;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") next = words[at + ((event.key === "ArrowRight") === isLeftToRight ? 1 : -1)];
    else if (event.key === "Home") [next] = words;
    else if (event.key === "End") next = words.at(-1);
    else if (event.key === "Enter" || event.key === " ") this.#choose(word);
    else if (event.key === "Escape") this.close({ focus: true });
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (!next) return;
    this.#focusable(next);
    next.focus();
  }

  /** The one word that Tab leads to. @param {HTMLElement} word */
  #focusable(word) {
    for (const other of this.#words.keys()) other.tabIndex = other === word ? 0 : -1;
  }

  /** @param {HTMLElement} word */
  async #choose(word) {
    const turn = /** @type {Turn} */ (this.#turn);
    const again = this.#chosen === word;
    this.#erase();
    // The same once more takes it away.
    if (again) return;
    this.#chosen = word;
    this.#focusable(word);
    word.setAttribute("aria-pressed", "true");
    word.setAttribute("aria-busy", "true");
    try {
      const looked = await this.#handlers.onAsk(turn, this.#words.get(word) ?? 0);
      if (this.#chosen === word) this.#draw(turn, word.textContent, looked);
    } catch (error) {
      if (this.#chosen !== word) return;
      this.close();
      this.#handlers.onError(error);
    } finally {
      word.removeAttribute("aria-busy");
    }
  }

  /**
   * @param {Turn} turn
   * @param {string} word
   * @param {Looked} looked
   */
  #draw(turn, word, { images: maps }) {
    const words = this.#language;
    const figure = turn.element.closest(".exchange")?.querySelector("figure");
    const images = [...figure?.querySelectorAll("img") ?? []];
    // Those of earlier questions come before.
    const own = maps.slice(-images.length);
    if (!figure || own.length < images.length || images.length === 0) throw new Complaint("looked.notShown");
    for (const [i, image] of images.entries()) {
      const map = /** @type {Looked["images"][number]} */ (own[i]);
      const canvas = element("canvas", { width: map.shape[1], height: map.shape[0] });
      paint(canvas, map);
      const veil = element("div", { class: "heat", part: "heat", role: "img", "aria-label": words.say("looked.map", { word, part: words.say(part(map)) }) }, canvas);
      this.#maps.set(veil, { image, bounds: map.bounds });
      this.#resized.observe(image);
      this.#drawn.push(veil);
    }
    const share = own.reduce((sum, map) => sum + map.share, 0);
    const most = own.reduce((best, map, i) => (map.share > (own[best]?.share ?? 0) ? i : best), 0);
    const isOne = images.length === 1;
    const scale = element("canvas", { class: "heat-scale", width: "64", height: "1", "aria-hidden": "true" });
    paint(scale, { salience: Float32Array.from({ length: 64 }, (_, i) => i / 63), shape: [1, 64] });
    const legend = element("div", { class: "heat-legend", part: "heat-legend", role: "group", "aria-label": words.say("turn.looked") },
      element("p", {}, words.say(isOne ? "looked.before" : "looked.beforeSeveral", { word: element("bdi", {}, words.say("looked.word", { word })), share: words.percent(share) })),
      element("div", { class: "heat-key" }, element("span", {}, words.say("looked.less")), scale, element("span", {}, words.say("looked.more"))),
      button({ label: words.say("looked.hide"), icon: "close", class: "quiet round", onclick: () => {
        this.#erase();
        (this.#words.keys().next().value ? [...this.#words.keys()].find(({ tabIndex }) => tabIndex === 0) : turn.looked)?.focus();
      } }));
    this.#drawn.push(legend);
    figure.classList.add("with-heat");
    figure.append(...this.#drawn);
    this.#place();
    // On a phone the picture is often above what is read.
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    images[most]?.scrollIntoView({ block: "nearest", behavior: isStill ? "auto" : "smooth" });
    const where = words.say(part(/** @type {Looked["images"][number]} */ (own[most])));
    this.#handlers.onTell(words.say(isOne ? "looked.mostly" : "looked.mostlyOf", { word, part: where, number: most + 1, share: words.percent(share) }));
  }

  /** Puts each map where its picture is. */
  #place() {
    for (const [veil, { image, bounds: [left, top, right, bottom] }] of this.#maps) {
      const frame = image.getBoundingClientRect();
      const around = /** @type {HTMLElement} */ (image.parentElement).getBoundingClientRect();
      // Among several, a picture is fitted into its frame.
      const scale = Math.min(frame.width / image.naturalWidth, frame.height / image.naturalHeight);
      const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
      Object.assign(veil.style, {
        left: `${frame.left - around.left + (frame.width - width) / 2}px`, top: `${frame.top - around.top + (frame.height - height) / 2}px`,
        width: `${width}px`, height: `${height}px`,
      });
      const canvas = /** @type {HTMLElement} */ (veil.firstElementChild);
      Object.assign(canvas.style, {
        left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%`,
      });
    }
  }

  #erase() {
    this.#chosen?.setAttribute("aria-pressed", "false");
    this.#chosen = null;
    this.#resized.disconnect();
    this.#maps.clear();
    for (const node of this.#drawn) {
      node.parentElement?.classList.remove("with-heat");
      node.remove();
    }
    this.#drawn = [];
  }
}

/**
 * A text's words and what is between them.
 * @param {string} text
 * @returns {{ word: string, isWord: boolean }[]}
 */
function segments(text) {
  return Array.from(new Intl.Segmenter(undefined, { granularity: "word" }).segment(text), ({ segment, isWordLike }) => ({ word: segment, isWord: isWordLike === true }));
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{ salience: Float32Array, shape: [number, number] }} map
 */
function paint(canvas, { salience, shape: [rows, cols] }) {
  const context = canvas.getContext("2d");
  if (!context) return;
  const pixels = new ImageData(cols, rows);
  for (const [i, value] of salience.entries()) {
    const at = Math.min(1, Math.max(0, value)) ** GAMMA * (COLOURS.length - 1);
    const low = Math.min(Math.floor(at), COLOURS.length - 2);
    const [from, to] = [COLOURS[low] ?? [], COLOURS[low + 1] ?? []];
    pixels.data.set(from.map((x, c) => x + (at - low) * ((to[c] ?? x) - x)), 4 * i);
  }
  context.putImageData(pixels, 0, 0);
}

/** In which part of the picture the middle of a map is. @param {Looked["images"][number]} map */
function part({ salience, shape: [rows, cols], bounds: [left, top, right, bottom] }) {
  let [sum, x, y] = [0, 0, 0];
  for (const [i, value] of salience.entries()) {
    sum += value;
    x += value * (left + (i % cols + 0.5) / cols * (right - left));
    y += value * (top + (Math.floor(i / cols) + 0.5) / rows * (bottom - top));
  }
  const third = (/** @type {number} */ at) => Math.min(2, Math.max(0, Math.floor(3 * at / (sum || 1))));
  return PARTS[third(y)]?.[third(x)] ?? "looked.middle";
}
